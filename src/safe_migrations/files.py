"""Replacing files: all or none."""

import importlib.util
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory


def replace_files(contents: Mapping[Path, bytes], removed: Collection[Path] = ()) -> None:
    """Write and remove files. If that fails, all files are as before.

    Args:
        contents: of each file to write, which may exist; its folder exists.
        removed: the files to remove.

    Raises:
        OSError: a file can't be written; nothing was changed.
    """
    with ExitStack() as folders, ExitStack() as undo:
        # In the folder of each file, so that it can be renamed. Written before anything moves: a full disk changes
        # nothing.
        aside = {
            folder: Path(folders.enter_context(TemporaryDirectory(dir=folder, prefix=".replace-")))
            for folder in sorted({path.parent for path in (*contents, *removed)})
        }
        for path, content in contents.items():
            new = aside[path.parent] / path.name
            new.write_bytes(content)
            if path.exists():
                shutil.copymode(path, new)
        for path in {*contents, *removed}:
            if path.is_file():  # a folder in the place of a file is an error
                _rename(path, aside[path.parent] / f"{path.name}.old", undo)
        for path in contents:
            _rename(aside[path.parent] / path.name, path, undo)
            # Python uses its bytecode if time (in seconds) and size of the file are the same.
            Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)
        undo.pop_all()


def _rename(source: Path, target: Path, undo: ExitStack) -> None:
    os.rename(source, target)
    undo.callback(os.rename, target, source)

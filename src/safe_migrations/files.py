"""Replacing files: all or none; loading a file of Python."""

import importlib.util
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType


def load_module(name: str, path: str | Path) -> ModuleType:
    """Run a file of Python as a new module, which no import finds.

    Raises:
        ImportError: it is not a Python file.
    """
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def replace_files(contents: Mapping[Path, bytes], removed: Collection[Path] = ()) -> None:
    """Write and remove files. If that fails, all files are as before; no file that is written is missing in between.

    Args:
        contents: of each file to write, which may exist; its folder exists.

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
        for path in removed:
            if path.is_file():
                os.rename(path, old := aside[path.parent] / f"{path.name}.old")
                undo.callback(os.rename, old, path)
        for path in contents:
            _replace(path, aside[path.parent], undo)
            # Python uses its bytecode if time (in seconds) and size of the file are the same.
            Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)
        undo.pop_all()


def _replace(path: Path, aside: Path, undo: ExitStack) -> None:
    """Replace a file in one moment: whoever reads it gets the old or the new one."""
    if path.is_file():
        shutil.copy2(path, old := aside / f"{path.name}.old", follow_symlinks=False)
        undo.callback(os.replace, old, path)
    else:
        undo.callback(path.unlink, missing_ok=True)
    os.replace(aside / path.name, path)  # an error if path is a folder

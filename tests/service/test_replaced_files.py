"""Replacing files: all or none, and none is missing in between."""

import os
from pathlib import Path
from typing import Any

import pytest

from safe_migrations.files import replace_files


def test_all_or_none(tmp_path: Path) -> None:
    kept, removed, folder, new = (tmp_path / name for name in ("kept", "removed", "folder", "new"))
    kept.write_bytes(b"1")
    removed.write_bytes(b"2")
    folder.mkdir()
    with pytest.raises(OSError, match="folder"):
        replace_files({kept: b"3", new: b"4", folder: b"5"}, [removed])
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "removed", "folder"}
    assert (kept.read_bytes(), removed.read_bytes()) == (b"1", b"2")
    replace_files({kept: b"3", new: b"4"}, [removed])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == {
        "kept": b"3",
        "new": b"4",
    }


def test_a_file_is_never_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, seen = tmp_path / "page.html", list[bytes]()
    file.write_bytes(b"old")
    for name in ("rename", "replace"):
        function = getattr(os, name)

        def moved(source: Path, target: Path, function: Any = function) -> None:
            function(source, target)
            seen.append(file.read_bytes() if file.exists() else b"missing")

        monkeypatch.setattr(os, name, moved)
    replace_files({file: b"new"})
    assert seen == [b"new"]

"""Rename a file of the template in a service: edits are kept, and a deleted file is not created again.

Copier alone would render the new file, and delete the old one with its edits. So a release that renames a
file has in copier.yml:

    _migrations:
      - version: 2.0.0
        command: ["{{ _copier_python }}", "{{ _copier_conf.src_path }}/hooks/rename.py", database.py, engine.py]
        when: true

Copier calls it in the service's folder, before and after the merge, and only if the update crosses that version.
Calling it again changes nothing.
"""

import os
import subprocess
import sys
from pathlib import Path


def main(old: str, new: str) -> None:
    """Move a file by git; or keep it deleted.

    Args:
        old: the old path, relative to the service's folder.
        new: the new path.
    """
    if os.environ["STAGE"] == "before":
        move(Path(old), Path(new))
    elif not committed(old) and not committed(new):
        Path(new).unlink(missing_ok=True)


def move(old: Path, new: Path) -> None:
    """Rename the file, unless the service has deleted it."""
    if not old.exists():
        return
    if new.exists():
        sys.exit(f"{old} is renamed to {new}, which already exists. Rename your file, commit, and update again.")
    new.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "mv", "--", old, new], check=True)  # noqa: S607


def committed(path: str) -> bool:
    """Whether the last commit contains a file."""
    return subprocess.run(["git", "cat-file", "-e", f"HEAD:./{path}"], capture_output=True).returncode == 0  # noqa: S607


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A file of the template has got another name: a service's edits go along, and where it was deleted it stays so.

Copier alone would render the new file beside the edits, and delete them with the old one. So a release that renames a
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
    """Move a file, with what git knows of it; or keep it deleted.

    Args:
        old: its path until now, from the service's folder.
        new: its path from now on.
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
        sys.exit(f"{old} is to become {new}, which is there already: rename yours, commit, and update again.")
    new.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "mv", "--", old, new], check=True)  # noqa: S607


def committed(path: str) -> bool:
    """Whether the last commit has a file."""
    return subprocess.run(["git", "cat-file", "-e", f"HEAD:./{path}"], capture_output=True).returncode == 0  # noqa: S607


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The post-write hook of `alembic.ini`: a new revision file is recorded in HEAD, and formatted."""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from alembic.util import CommandError

from safe_migrations.errors import NotInstalledError
from safe_migrations.history.numbering import keep_head


def finish(path: str) -> None:
    """Let HEAD name the new revision, and format it.

    Args:
        path: the new revision file.

    Raises:
        CommandError: ruff is not installed, or can't read the file, which stays.
    """
    keep_head(path)
    format_with_ruff(path)


def find_ruff() -> str | None:
    """The path of ruff: beside this Python first, because ../../.venv/bin/alembic runs without its folder on PATH."""
    return shutil.which("ruff", path=sysconfig.get_path("scripts")) or shutil.which("ruff")


def format_with_ruff(path: str) -> None:
    """Sort the imports, drop those not used, format.

    Args:
        path: the new file.

    Raises:
        CommandError: ruff is not installed, or can't read the file, which stays.
    """
    ruff = find_ruff()
    if ruff is None:
        raise CommandError(
            f"{path} is written but not formatted. {NotInstalledError('ruff', 'lint')} Then pdm run format"
        )
    # One that is still to be written by hand keeps what it will need; a merge needs nothing.
    text = Path(path).read_text()
    unwritten = " op." not in text and not re.search(r"^down_revision.*= \(", text, re.MULTILINE)
    for arguments in (["check", "--fix-only", *(["--ignore", "F401"] if unwritten else [])], ["format"]):
        if subprocess.run([ruff, *arguments, "--quiet", path]).returncode != 0:
            raise CommandError(
                f"{path} is written but not formatted, because of what ruff says above: correct the file"
            )

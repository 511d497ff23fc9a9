"""The post-write hook of `alembic.ini`, which records a new revision file in HEAD and formats it."""

import subprocess
from pathlib import Path

from alembic.util import CommandError

from safe_migrations.env_files import environment_of_programs, find_program
from safe_migrations.errors import NotInstalledError
from safe_migrations.history.numbering import keep_head
from safe_migrations.revisions import assigned


def finish(path: str) -> None:
    """Record a new revision file in HEAD, and format it.

    Raises:
        CommandError: ruff is not installed, or can't read the file, which is kept.
    """
    keep_head(path)
    format_with_ruff(path)


def format_with_ruff(path: str) -> None:
    """Sort the imports, remove unused ones, and format; raises as `finish` does."""
    ruff = find_program("ruff")
    if ruff is None:
        raise CommandError(
            f"{path} was written but not formatted. {NotInstalledError('ruff', 'lint')} Then run:\n"
            "ruff check --fix-only . && ruff format ."
        )
    # A file that its author will write keeps the imports that it will need; a merge needs none.
    text = Path(path).read_text()
    unwritten = " op." not in text and len(assigned(text, "down_revision")) < 2
    for arguments in (["check", "--fix-only", *(["--ignore", "F401"] if unwritten else [])], ["format"]):
        if subprocess.run([ruff, *arguments, "--quiet", path], env=environment_of_programs()).returncode != 0:
            raise CommandError(f"{path} was written but not formatted. Fix the error that ruff reports above.")

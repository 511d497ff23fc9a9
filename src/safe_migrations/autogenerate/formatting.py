"""The post-write hook of `alembic.ini`, which records a new revision file in HEAD and formats it."""

import subprocess
from collections.abc import Sequence
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
    # A file that its author will write keeps the imports that it will need; a merge needs none.
    text = Path(path).read_text()
    unwritten = " op." not in text and len(assigned(text, "down_revision")) < 2
    format_with_ruff([path], ["--ignore", "F401"] if unwritten else [])


def format_with_ruff(paths: Sequence[str], options: Sequence[str] = ()) -> None:
    """Sort the imports, remove unused ones, and format; raises as `finish` does.

    Args:
        options: of `ruff check`.
    """
    ruff = find_program("ruff")
    written = f"Written but not formatted: {', '.join(paths)}."
    if ruff is None:
        raise CommandError(
            f"{written} {NotInstalledError('ruff', 'lint')} Then run:\nruff check --fix-only . && ruff format ."
        )
    for arguments in (["check", "--fix-only", *options], ["format"]):
        if subprocess.run([ruff, *arguments, "--quiet", *paths], env=environment_of_programs()).returncode != 0:
            raise CommandError(f"{written} Correct the error that ruff reports above.")

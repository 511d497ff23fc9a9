"""Asking a person; where nobody can answer, the answer is no."""

import sys

from safe_migrations.errors import MigrationError


def confirm(warning: str, question: str, *, yes: bool, how: str) -> None:
    """Go on only if somebody agrees.

    Args:
        warning: what will happen, as sentences; shown in any case.
        question: what is asked, without the question mark.
        yes: whether somebody has agreed already, on the command line.
        how: what to write on the command line to agree, such as `--yes`.

    Raises:
        MigrationError: nobody has.
    """
    if yes:
        print(warning, file=sys.stderr)
        return
    if not sys.stdin or not sys.stdin.isatty():
        raise MigrationError(f"{warning} Nothing was changed: nobody can answer here. To agree, add {how}.")
    print(f"{warning}\n{question}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise MigrationError("Nothing was changed.")

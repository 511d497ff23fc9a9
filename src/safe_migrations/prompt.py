"""Asking a person; where nobody can answer, the answer is no."""

import signal
import sys
import threading

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
    if _answer().strip().lower() not in ("y", "yes"):
        raise MigrationError("Nothing was changed.")


def _answer() -> str:
    """Read a line; Ctrl-C ends it at once, and not after the line, as the handler of asyncio would."""
    if threading.current_thread() is not threading.main_thread():
        return sys.stdin.readline()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, handler)

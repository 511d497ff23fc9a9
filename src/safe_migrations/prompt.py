"""Asking the user; without a terminal, the answer is no."""

import signal
import sys
import threading

from safe_migrations.errors import NotConfirmedError


def confirm(warning: str, question: str, *, yes: bool, how: str) -> None:
    """Go on only if the user agrees.

    Args:
        warning: what will happen, as sentences; shown in any case.
        question: to ask, without the question mark.
        yes: whether the user has already agreed, on the command line.
        how: what to add to the command line to agree, such as `--yes`.

    Raises:
        NotConfirmedError: the user did not agree.
    """
    if yes:
        print(warning, file=sys.stderr)
        return
    if not sys.stdin or not sys.stdin.isatty():
        raise NotConfirmedError(f"{warning} Nothing was changed, because no terminal can be asked. To agree, add {how}")
    print(f"{warning}\n{question}? [y/N] ", end="", file=sys.stderr, flush=True)
    if _answer().strip().lower() not in ("y", "yes"):
        raise NotConfirmedError("Nothing was changed.")


def _answer() -> str:
    """Read a line; Ctrl-C ends this at once, not after the line, as the handler of asyncio would."""
    if threading.current_thread() is not threading.main_thread():
        return sys.stdin.readline()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, handler)

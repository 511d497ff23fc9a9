"""Asking the user; without a terminal, the answer is no."""

import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from safe_migrations.errors import NotConfirmedError


def confirm(warning: str, question: str, *, yes: bool, command: str = "") -> None:
    """Go on only if the user agrees.

    Args:
        warning: what will happen, as sentences; shown in any case.
        question: to ask, without the question mark.
        command: which agrees; by default this one with `--yes`.

    Raises:
        NotConfirmedError: the user did not agree.
    """
    if yes:
        print(warning, file=sys.stderr)
        return
    if not can_ask():
        command = command or shlex.join(["safe-migrations", *sys.argv[1:], "--yes"])
        command = re.sub(r"(?<=://)\S*(?=@)", "***", command)  # a URL may have a password
        raise NotConfirmedError(
            f"{warning} This was not done: without a terminal, the question can't be asked. To agree:\n{command}"
        )
    print(warning, file=sys.stderr)
    if not ask_whether(question):
        raise NotConfirmedError("This was not done.")


def can_ask() -> bool:
    """Whether there is a terminal."""
    return bool(sys.stdin) and sys.stdin.isatty()


def ask_whether(question: str) -> bool:
    """Ask on the terminal for yes or no; an empty answer is no.

    Args:
        question: without the question mark.

    Raises:
        NotConfirmedError: the input has ended.
    """
    return ask(f"{question}? [y/N] ").lower() in ("y", "yes")


def ask(question: str) -> str:
    """Ask on the terminal, and return the answer without spaces around it.

    Raises:
        NotConfirmedError: the input has ended.
    """
    with _interruptible():
        print(question, end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
    if not answer:
        print(file=sys.stderr)
        raise NotConfirmedError("The input has ended without an answer. Nothing was changed.")
    return answer.strip()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end this at once, not after the line, as the handler of asyncio would."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)

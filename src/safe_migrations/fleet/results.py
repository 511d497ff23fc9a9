"""The results of the services: progress during the work, then a table, and the output of failed services."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from safe_migrations.command_line import as_table
from safe_migrations.fleet.processes import Outcome
from safe_migrations.fleet.progress import progress
from safe_migrations.printable import printable

_SHOWN = 30  # lines of the output of one service
_INTERRUPTED = (130, 143)  # by SIGINT or SIGTERM


@contextmanager
def shown(what: str, total: int) -> Iterator[Callable[[Outcome], None]]:
    """Show the work on standard error: a bar on a terminal, else a line for each service.

    Yields:
        A function that takes each outcome.
    """
    with progress(what, total) as advance:

        def ended(outcome: Outcome) -> None:
            if not sys.stderr.isatty():
                print(f"{_name(outcome)}: {result_of(outcome)}", file=sys.stderr, flush=True)
            advance()

        yield ended


def result_of(outcome: Outcome) -> str:
    """The result of a service, in a few words."""
    if outcome.result:
        return printable(outcome.result)
    if outcome.exit_status is None:
        return "not started"
    if outcome.exit_status in _INTERRUPTED:
        return "interrupted"
    return f"failed, exit status {outcome.exit_status}" if outcome.exit_status else "completed"


def summary(outcomes: Sequence[Outcome]) -> str:
    """A table, then the output of each service that failed."""
    rows = [(_name(outcome), result_of(outcome), _seconds(outcome)) for outcome in outcomes]
    parts = [as_table(("service", "result", "seconds"), rows)] if rows else []
    return "\n\n".join([*parts, *(_output(outcome) for outcome in outcomes if outcome.exit_status)])


def _seconds(outcome: Outcome) -> str:
    return "" if outcome.exit_status is None else f"{outcome.seconds:.1f}"


def _output(outcome: Outcome) -> str:
    """The end of a service's output, where the reason is."""
    lines = [printable(line.expandtabs()) for line in outcome.output.splitlines()]
    more = [f"… {len(lines) - _SHOWN} more lines before these"] if len(lines) > _SHOWN else []
    begin = f"{_name(outcome)}, in this folder:\ncd {shlex.quote(str(outcome.member.folder))}"
    return "\n".join([begin, *(f"  {line}".rstrip() for line in [*more, *lines[-_SHOWN:]])])


def _name(outcome: Outcome) -> str:
    return printable(outcome.member.path)

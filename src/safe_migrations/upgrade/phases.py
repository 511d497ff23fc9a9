"""Before or after the new code: the phase of a revision, and the dangers that somebody has to acknowledge.

The way of expand and contract: https://martinfowler.com/bliki/ParallelChange.html
"""

import os
import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from alembic.script import Script

from safe_migrations.errors import MigrationError

EXPAND, CONTRACT = "expand", "contract"

_UNACKNOWLEDGED = re.compile(r"""^#\s*acknowledged\s*=\s*(["'])(.*?)\1\s*(#.*)?$""", re.MULTILINE)


def phase_of(script: Script) -> str | None:
    """What a revision declares: `expand`, `contract`, or nothing.

    Args:
        script: the revision.

    Raises:
        MigrationError: it declares something else, which would count as nothing.
    """
    phase: str | None = getattr(script.module, "phase", None)
    if phase not in (EXPAND, CONTRACT, None):
        raise MigrationError(
            f'{os.path.relpath(script.path)} declares the phase {phase!r}: write "{EXPAND}" or "{CONTRACT}", then run '
            "the same command again."
        )
    return phase


def up_to_contract(pending: Iterable[Script], *, contract: bool = False) -> list[Script]:
    """The revisions that may run while the code is what it is: those before the next contract revision.

    Args:
        pending: revisions to run, in order.
        contract: whether the code that the next contract revisions wait for runs everywhere. What comes after them, up
            to those of the release after, may run then, too.
    """
    runs = [(phase, list(scripts)) for phase, scripts in groupby(pending, phase_of)]
    first = next((index for index, (phase, _) in enumerate(runs) if phase == CONTRACT), len(runs))
    if contract:
        first = next((index for index in range(first + 1, len(runs)) if runs[index][0] == CONTRACT), len(runs))
    return [script for _, scripts in runs[:first] for script in scripts]


def unacknowledged(path: Path) -> tuple[int, str] | None:
    """The line of a revision file that asks for an acknowledgement, and what it says; None where nothing is asked.

    Args:
        path: the revision file.
    """
    text = path.read_text(encoding="utf-8")
    line = _UNACKNOWLEDGED.search(text)
    return (text.count("\n", 0, line.start()) + 1, line[2]) if line else None


def refuse_unacknowledged(scripts: Iterable[Script]) -> None:
    """Stop before a revision whose danger nobody has acknowledged.

    Args:
        scripts: revisions that are about to run.

    Raises:
        MigrationError: names the file and the line; nothing was changed.
    """
    for script in scripts:
        asked = unacknowledged(Path(script.path))
        if asked is not None:
            line, danger = asked
            raise MigrationError(
                f"{os.path.relpath(script.path)}:{line}: nobody has acknowledged the danger of this revision: "
                f"{danger}. Nothing was changed. If that is wanted, uncomment line {line}, and run it again."
            )

"""The phase of a revision (before or after the new code), and the dangers that a developer has to acknowledge.

Expand and contract: https://martinfowler.com/bliki/ParallelChange.html
"""

import os
import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from alembic.script import Script
from alembic.util import to_tuple

from safe_migrations import revisions
from safe_migrations.errors import RevisionError

EXPAND, CONTRACT = revisions.EXPAND, revisions.CONTRACT

_UNACKNOWLEDGED = re.compile(r"""^#\s*acknowledged\s*=\s*(["'])(.*?)\1\s*(#.*)?$""", re.MULTILINE)


def phase_of(script: Script) -> str | None:
    """The phase that a revision declares: `expand`, `contract`, or none.

    Raises:
        RevisionError: the revision declares another phase.
    """
    phase: str | None = getattr(script.module, "phase", None)
    if phase not in (EXPAND, CONTRACT, None):
        raise RevisionError(
            f'{os.path.relpath(script.path)} declares phase = {phase!r}. Write "{EXPAND}" or "{CONTRACT}", then run '
            "the same command again."
        )
    return phase


def declared(script: Script, name: str) -> tuple[str, ...]:
    """What a revision file declares under a name, which is one string or several."""
    return to_tuple(getattr(script.module, name, None), default=())


def up_to_contract(pending: Iterable[Script], *, contract: bool = False) -> list[Script]:
    """The revisions that may run beside the code that runs now: those before the next contract revision.

    Args:
        contract: whether the code that the next contract revisions wait for runs everywhere. Then these revisions may
            run, and so may the following ones, up to the contract revisions of the next release.
    """
    runs = [(phase, list(scripts)) for phase, scripts in groupby(pending, phase_of)]
    first = next((index for index, (phase, _) in enumerate(runs) if phase == CONTRACT), len(runs))
    if contract:
        first = next((index for index in range(first + 1, len(runs)) if runs[index][0] == CONTRACT), len(runs))
    return [script for _, scripts in runs[:first] for script in scripts]


def unacknowledged(script: Script) -> tuple[int, str] | None:
    """The line of a revision file that asks for an acknowledgement, and the danger it names; None without such a line.

    Args:
        script: the revision; one that has an acknowledgement asks for none.
    """
    if getattr(script.module, "acknowledged", None):
        return None
    text = Path(script.path).read_text(encoding="utf-8")
    line = _UNACKNOWLEDGED.search(text)
    return (text.count("\n", 0, line.start()) + 1, line[2]) if line else None

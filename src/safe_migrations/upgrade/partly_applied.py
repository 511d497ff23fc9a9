"""Revisions of which a run has completed some steps, and not all: what is left, and how to complete them."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple
from sqlalchemy import Connection

from safe_migrations.ddl.step_records import Direction, StepRecords
from safe_migrations.printable import printable
from safe_migrations.upgrade.steps import step_names


@dataclass(frozen=True)
class PartlyApplied:
    """A revision whose upgrade or downgrade was interrupted between two steps.

    Attributes:
        revision: its id.
        direction: which function was interrupted.
        completed: the steps that are completed, in order.
        remaining: the other steps, as far as the file names them.
        script: the revision; None where this code does not have it.
    """

    revision: str
    direction: Direction
    completed: tuple[str, ...]
    remaining: tuple[str, ...]
    script: Script | None

    @property
    def file(self) -> str | None:
        """The revision's file."""
        return os.path.relpath(self.script.path) if self.script else None

    @property
    def command(self) -> str:
        """What completes the revision."""
        if self.script is None:
            return shlex.join(["git", "log", "--all", "--oneline", "-S", self.revision, "--", "alembic/versions"])
        below = to_tuple(self.script.down_revision, default=())
        target = self.revision if self.direction == "upgrade" else below[0] if below else f"{self.revision}@base"
        return shlex.join(["alembic", self.direction, target])

    def __str__(self) -> str:
        """The steps, in a sentence."""
        how = "applied" if self.direction == "upgrade" else "undone"
        remaining = f"; remaining: {_listed(self.remaining)}" if self.remaining else ""
        name = self.file or f"The revision {printable(self.revision)}, which this code does not have,"
        return f"{name} is partly {how}. Completed steps: {_listed(self.completed)}{remaining}."

    @property
    def explained(self) -> str:
        """The sentence, and how to go on."""
        if self.script is None:
            return f"{self} Complete the revision from the release that has its file. To find it:\n{self.command}"
        return f"{self} Complete the {self.direction} first, which goes on at the next step:\n{self.command}"


def read_partly_applied(
    connection: Connection, script: ScriptDirectory, options: Mapping[str, Any]
) -> tuple[PartlyApplied, ...]:
    """Read which revisions are partly applied; nothing is changed."""
    known = {known.revision: known for known in script.walk_revisions()}
    records = StepRecords.read(connection, options)
    return tuple(
        PartlyApplied(
            revision,
            direction,
            tuple(completed),
            tuple(
                name
                for name in (revision in known and step_names(known[revision], direction)) or ()
                if name not in completed
            ),
            known.get(revision),
        )
        for (revision, direction), completed in records.completed.items()
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{printable(name)}"' for name in names)

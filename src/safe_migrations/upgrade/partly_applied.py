"""Revisions of which a run has completed only some steps: which steps remain, and how to complete the revision."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple
from sqlalchemy import Connection

from safe_migrations.ddl.step_records import Direction, StepRecords
from safe_migrations.printable import printable
from safe_migrations.upgrade.project import version_folders
from safe_migrations.upgrade.revision_names import search_command
from safe_migrations.upgrade.steps import step_names


@dataclass(frozen=True)
class PartlyApplied:
    """A revision whose upgrade or downgrade was interrupted between two steps.

    Attributes:
        revision: its id.
        direction: which function was interrupted.
        completed: the steps that are completed, in order.
        remaining: the other steps, as far as the file names them.
        script: the revision; None where this code does not have the revision.
        folders: of the revision files.
    """

    revision: str
    direction: Direction
    completed: tuple[str, ...]
    remaining: tuple[str, ...]
    script: Script | None
    folders: Sequence[Path]

    @property
    def file(self) -> str | None:
        """The revision's file."""
        return os.path.relpath(self.script.path) if self.script else None

    @property
    def command(self) -> str:
        """What completes the revision, or finds its file."""
        if self.script is None:
            return search_command(self.revision, self.folders)
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
        """The steps, and how to complete the revision."""
        if self.script is None:
            return f"{self} Complete the revision from a release that has its file. To find the file:\n{self.command}"
        return f"{self} First complete the {self.direction}, which continues at the next step:\n{self.command}"


def read_partly_applied(
    connection: Connection, script: ScriptDirectory, options: Mapping[str, Any]
) -> tuple[PartlyApplied, ...]:
    """Read which revisions are partly applied; nothing is changed."""
    known = {known.revision: known for known in script.walk_revisions()}
    folders = version_folders(script)
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
            folders,
        )
        for (revision, direction), completed in records.completed.items()
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{printable(name)}"' for name in names)

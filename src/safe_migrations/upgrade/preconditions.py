"""What revisions need before the first one runs: acknowledgements and complete backfills, all in one message."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alembic.runtime.migration import RevisionStep
from alembic.script import Script
from sqlalchemy import Connection

from safe_migrations.backfill.definition import (
    NothingThereError,
    backfill_command,
    can_run,
    is_complete,
    load_backfill,
    required_backfills,
)
from safe_migrations.ddl.step_records import TABLE, StepRecords
from safe_migrations.ddl.steps import IN_TRANSACTION
from safe_migrations.errors import BackfillError, ConfigurationError, MigrationError, NotConfirmedError
from safe_migrations.postgres.own_tables import missing_privilege
from safe_migrations.postgres.rollback import rolled_back
from safe_migrations.upgrade.phases import unacknowledged
from safe_migrations.upgrade.steps import direction_of, step_names


def refuse_unprepared(
    connection: Connection, scripts: Sequence[Script], folder: Path, options: Mapping[str, Any]
) -> None:
    """Refuse revisions if one of them would stop the upgrade because an acknowledgement or a backfill is missing.

    A backfill that an earlier one of these revisions makes possible is checked when its revision is reached.

    Raises:
        NotConfirmedError: the danger of a revision is not acknowledged.
        BackfillError: a backfill is not complete, or can't be read.
    """
    needed: dict[Script, list[str]] = {}
    records = StepRecords.read(connection, options)
    for number, script in enumerate(scripts):
        if records.of(script.revision, "upgrade"):  # a revision that has begun may have dropped the columns
            continue
        with rolled_back(connection):
            needed[script] = _incomplete(connection, script, folder, is_next=number == 0)
    _refuse(scripts, needed)


def refuse_unrecordable(connection: Connection, steps: Iterable[RevisionStep], *, is_in_transaction: bool) -> None:
    """Refuse revisions with several steps if completed steps can't be recorded.

    Args:
        is_in_transaction: whether the caller of Alembic has begun the transaction.

    Raises:
        ConfigurationError: the caller has begun it; nothing was changed.
        MigrationError: the user lacks a privilege; nothing was changed.
    """
    missing = missing_privilege(connection, TABLE)
    if missing is None and not is_in_transaction:
        return
    for step in steps:
        if len(step_names(step.revision, direction_of(step)) or ()) > 1:
            several = f"{os.path.relpath(step.revision.path)} has several steps. Nothing was changed."
            if is_in_transaction:
                raise ConfigurationError(f"{several} {IN_TRANSACTION}")
            raise MigrationError(f"{several} {missing}")


def refuse_unacknowledged(scripts: Iterable[Script]) -> None:
    """Refuse revisions whose danger is not acknowledged.

    Raises:
        NotConfirmedError: names each file and line; nothing was changed.
    """
    _refuse(scripts, {})


def _incomplete(connection: Connection, script: Script, folder: Path, *, is_next: bool) -> list[str]:
    """The backfills that a revision needs and that can be run now, or have to be if it is the next revision."""
    missing: list[str] = []
    for name in required_backfills(script):
        try:
            backfill = load_backfill(folder, name)
            if not is_complete(connection, backfill, name) and (is_next or can_run(connection, backfill)):
                missing.append(name)
        except NothingThereError:
            if is_next:
                raise
            return []  # an earlier revision creates the missing objects
        except BackfillError as error:
            raise BackfillError(f"{os.path.relpath(script.path)} needs a backfill. {error}") from error
    return missing


def _refuse(scripts: Iterable[Script], needed: Mapping[Script, Sequence[str]]) -> None:
    requests: list[str] = []
    backfills: list[str] = []
    for script in scripts:
        file = os.path.relpath(script.path)
        if (request := unacknowledged(script)) is not None:
            line, danger = request
            requests.append(f"{file}:{line}: the danger of this revision is not acknowledged: {danger}.")
        for name in needed.get(script, ()):
            backfills.append(name)
            requests.append(f"{file} needs the backfill {name}, which is not complete.")
    if not requests:
        return
    lines = [*requests, "Nothing was changed."]
    is_danger = len(requests) > len(backfills)
    if is_danger:
        lines.append("To acknowledge a danger, uncomment the named line. Then run the same command again.")
    if backfills:
        lines.append("Complete the backfills, then run the same command again:")
        lines += [backfill_command(name) for name in dict.fromkeys(backfills)]
    message = "\n".join(lines)
    raise NotConfirmedError(message) if is_danger else BackfillError(message)

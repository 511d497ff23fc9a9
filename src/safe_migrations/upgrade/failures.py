"""The error messages for a revision that failed: what happened, what that means, and what to do next."""

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alembic.runtime.migration import RevisionStep

from safe_migrations.ddl.steps import RecordedSteps
from safe_migrations.errors import ConnectionFailedError, LockedError, MigrationError, RevisionError
from safe_migrations.postgres.catalog import Session
from safe_migrations.postgres.server_errors import (
    DEPENDENT_OBJECTS,
    INSUFFICIENT_PRIVILEGE,
    QUERY_CANCELED,
    READ_ONLY,
    SERVER_TROUBLE,
    VIOLATIONS,
    duplicates_query,
    is_disconnect,
    reason,
    sqlstate,
)
from safe_migrations.postgres.timeouts import Timeouts, duration_text
from safe_migrations.postgres.transaction import RevisionTransaction
from safe_migrations.printable import printable
from safe_migrations.service import Service
from safe_migrations.upgrade.steps import direction_of, step_names


@dataclass(frozen=True)
class Failure:
    """A try that failed.

    Attributes:
        step: what was to be applied.
        steps: in the revision's function; None before it has begun.
        is_running: whether the revision had begun; before that, Alembic reads its version table.
        left_transaction: whether the revision has left its transaction, so that the try is not rolled back as a whole.
        transaction: of the revision; None before its first statement.
        applied: the files of the revisions that were applied before.
        tries: the number of tries.
        blocking: the sessions that blocked the revision.
        timeouts: of the migration.
        service: the owner of the database; messages name its variables.
    """

    step: RevisionStep
    steps: RecordedSteps | None
    is_running: bool
    left_transaction: bool
    transaction: RevisionTransaction | None
    applied: Sequence[str]
    tries: int
    blocking: Sequence[Session]
    timeouts: Timeouts
    service: Service

    def gave_up(self, error: Exception) -> LockedError:
        """The error after the last try for a lock."""
        window = duration_text(self.timeouts.retry_window)
        tries = f" Tries: {self.tries}, each of at most {duration_text(self.timeouts.lock_timeout)}."
        undone = f"Each try was rolled back{self._not_undone()}."
        if self.transaction is not None and self.transaction.is_suspended:  # a concurrent build is one long try
            tries, undone = "", " ".join(getattr(error, "__notes__", ["The unfinished operation was undone."]))
        following = "To see the blocking sessions:\nsafe-migrations locks"
        if self.blocking:
            following = f"To end the blocking transaction{self.blocking[0].how_to_end}"
        return LockedError(
            f"{running_name(self.step, self.steps)} did not get its locks within {window} (MIGRATION_RETRY_WINDOW"
            f"{blocked_by(self.blocking)}).{tries} {undone} {self._progress} Wait until the blocking transaction ends, "
            f"or end that transaction. Then run the same command again. {following}"
        )

    def _not_undone(self) -> str:
        finished = self.transaction is not None and self.transaction.has_left
        return ", except for its concurrent operations, which are complete" if finished else ""

    def explained(self, error: Exception) -> MigrationError:
        """The error for a try that is not repeated."""
        step, what = self.step, reason(error)
        if isinstance(error, LockedError) and not self.left_transaction:
            return LockedError(f"{running_name(step, self.steps)} did not get its locks. {self._progress} {error}")
        if is_disconnect(error):
            return ConnectionFailedError(
                f"The connection to PostgreSQL was lost while {running_name(step, self.steps)} ran ({what}). "
                f"{self._after_a_lost_connection()}"
            )
        if self.left_transaction:
            return RevisionError(
                f"{self._place(error)} failed: {what}. The revision had ended its transaction (COMMIT, or an "
                f"autocommit_block), so its changes may be committed. {self._progress} Check the database before you "
                "run the same command again."
            )
        then = f"{what}. {self._progress} {self._advice(error, what)}, then run the same command again."
        if self.is_running:
            then = " ".join([*getattr(error, "__notes__", ()), then])
            if query := duplicates_query(error):
                then = f"{then} To list the duplicates, in psql (safe-migrations db-shell):\n{query}"
            return RevisionError(f"{self._place(error)} failed and was rolled back{self._not_undone()}: {then}")
        return MigrationError(f"Reading Alembic's version table failed: {then}")

    def _after_a_lost_connection(self) -> str:
        if self.left_transaction:
            return (
                f"The revision had ended its transaction, so its changes may be committed. {self._progress} Check "
                "the database before you run the same command again."
            )
        return (
            f"The server rolls back what was not committed. {self._progress} When PostgreSQL answers, run the same "
            "command again."
        )

    def _advice(self, error: Exception, what: str) -> str:
        """What to do before the next run."""
        if "extension" in what and "is not available" in what:
            return "Install the extension on the server (the revision needs no change)"
        if (sqlstate(error) or "").startswith(SERVER_TROUBLE):
            return "Correct the cause on the server (the revision needs no change)"
        advice = {
            DEPENDENT_OBJECTS: "Drop or change the dependent objects first, in this revision or in an earlier one",
            INSUFFICIENT_PRIVILEGE: f"Migrate as the owner of the tables ({self.service.migration_url}), or grant the "
            "user the missing privilege, or the owner's role where the owner is required",
            READ_ONLY: f"Migrate on the server that accepts writes ({self.service.migration_url})",
            QUERY_CANCELED: "If the statement took longer than MIGRATION_STATEMENT_TIMEOUT "
            f"({duration_text(self.timeouts.statement_timeout)}), raise the timeout, or split the revision",
            **dict.fromkeys(VIOLATIONS, "Correct the rows that violate the constraint"),
        }
        return advice.get(sqlstate(error) or "", "Correct the revision" if self.is_running else "Correct the cause")

    def _place(self, error: Exception) -> str:
        """The revision's file and its step, with the line that failed where that is known."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [str(frame.lineno) for frame in frames if frame.filename == self.step.revision.path]
        return _joined(":".join([file_of(self.step), *lines[-1:]]), step_text(self.step, self.steps))

    @property
    def _progress(self) -> str:
        steps = self.steps
        if steps is None or not steps.completed or steps.current is None:
            return progress(self.applied, self.step)
        completed = ", ".join(f'"{printable(name)}"' for name in steps.completed)
        return (
            f'Completed steps of this revision: {completed}; the next run continues at "{printable(steps.current)}". '
            f"{progress(self.applied, self.step)}"
        )


def progress(files: Sequence[str], step: RevisionStep) -> str:
    """How many revisions were applied, or undone."""
    did = "applied" if step.is_upgrade else "undone"
    if not files:
        return f"No revision was {did} before."
    if len(files) == 1:
        return f"1 revision was {did} before ({files[0]})."
    return f"{len(files)} revisions were {did} before (the last: {files[-1]})."


def blocked_by(blocking: Sequence[Session]) -> str:
    """The sessions that block, for the end of a clause."""
    return f"; blocked by {'; '.join(map(str, blocking))}" if blocking else ""


def log_fields(
    step: RevisionStep, steps: RecordedSteps | None, seconds: float, blocking: Sequence[Session]
) -> dict[str, Any]:
    """The fields of a JSON log line about the revision that runs."""
    return {
        "revision": step.revision.revision,
        "phase": getattr(step.revision.module, "phase", None),
        "step": steps.current if steps is not None else None,
        "seconds": round(seconds, 3),
        "blockers": [session.fields for session in blocking],
    }


def running_name(step: RevisionStep, steps: RecordedSteps | None) -> str:
    """The revision's file, with the step that runs."""
    return _joined(file_of(step), step_text(step, steps))


def step_text(step: RevisionStep, steps: RecordedSteps | None) -> str:
    """The step that runs, such as `step 2 of 3 "index ix_item_sku"`; empty where there is none."""
    if steps is None or steps.current is None:
        return ""
    names = step_names(step.revision, direction_of(step))
    of = f" of {len(names)}" if names else ""
    return f'step {steps.names.index(steps.current) + 1}{of} "{printable(steps.current)}"'


def file_of(step: RevisionStep) -> str:
    """The revision's file."""
    return os.path.relpath(step.revision.path)


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)

"""A command that changes a database, and the steps that it takes from the state of the database."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alembic import context
from alembic.runtime.migration import RevisionStep
from alembic.script import Script
from sqlalchemy import Connection

from safe_migrations.errors import LockedError
from safe_migrations.postgres.advisory_lock import lock_key
from safe_migrations.postgres.catalog import version_table
from safe_migrations.service import Service
from safe_migrations.upgrade.data_loss import confirm_data_loss
from safe_migrations.upgrade.downgrade_check import AS_FAR_AS_POSSIBLE, refuse_unreachable
from safe_migrations.upgrade.explanations import refusal, refuse_partly_applied, refuse_unsafe
from safe_migrations.upgrade.preconditions import refuse_unprepared, refuse_unrecordable
from safe_migrations.upgrade.revision_ids import refuse_long_ids
from safe_migrations.upgrade.revision_names import explained_destination
from safe_migrations.upgrade.running_command import effect_on_database
from safe_migrations.upgrade.states import State, read_state


@dataclass(frozen=True)
class Request:
    """A command that changes a database.

    Attributes:
        command: `upgrade`, `downgrade` or `stamp`.
        function: Alembic's, which returns the steps from the current revisions.
        destination: as it was given, such as `head` or `-1`.
        service: whose database it is.
        options: what `context.configure` takes.
    """

    command: str
    function: Callable[..., Iterable[RevisionStep]]
    destination: str
    service: Service
    options: dict[str, Any]

    @classmethod
    def of_alembic(cls, service: Service, options: dict[str, Any]) -> "Request | None":
        """The request of the running command; None for one that is known to change nothing in the database."""
        opts = context.get_context().opts
        effect = effect_on_database(opts)
        return None if effect is None else cls(effect, opts["fn"], str(opts.get("destination_rev")), service, options)

    def lock_key(self, purpose: str) -> int:
        """The key of a lock on this history; each database has its own locks."""
        return lock_key(*version_table(self.options), purpose)

    def read_state(self, connection: Connection) -> State:
        """The database's state; heads of one branch do not matter to a downgrade to a named revision."""
        state = read_state(connection, context.script, self.options)
        named = self.command == "downgrade" and not self.destination.startswith("-")
        return replace(state, unmerged=()) if named else state

    def steps(self, state: State) -> list[RevisionStep]:
        """The steps from this state."""
        with explained_destination(context.script, self.destination):
            return list(self.function(state.current, context.get_context()))

    def plan(self, connection: Connection, before: State | None = None) -> list[RevisionStep]:
        """The steps from the database's state, if they are safe; none for a stamp.

        A relative destination counts from the state before this run waited for the lock.
        """
        state = self.read_state(connection)
        refuse_partly_applied(state, self.command)
        if self.command == "stamp":  # a stamp repairs most states, and with --purge an unknown revision, too
            if state.unknown and not context.get_context().opts.get("purge"):
                raise refusal(state, self.service)
            destination = context.get_context().opts.get("destination_rev", ())  # none of `alembic ensure_version`
            with explained_destination(context.script, *destination):
                recorded = context.script.get_revisions(destination)
            refuse_long_ids(connection, recorded, self.options)
            return []
        # A downgrade completes the interrupted downgrades.
        state = replace(state, partly_applied=tuple(state.interrupted("upgrade")))
        refuse_unsafe(replace(state, invalid=()), self.service)
        if before is not None and before.current != state.current and self.destination.split("@")[-1][:1] in "+-":
            raise LockedError(
                "While this process waited for the lock, another process migrated the database from "
                f"{before.revisions} to {state.revisions}. The relative destination {self.destination} would count "
                "from there, so nothing was changed. Name a revision as the destination. To see the current "
                "revision:\nalembic current"
            )
        steps = self.steps(state)
        refuse_unsafe(state.excusing([step.revision for step in steps]), self.service)
        refuse_long_ids(connection, [step.revision for step in steps if step.is_upgrade], self.options)
        return steps

    def refuse_unprepared(self, connection: Connection, steps: list[RevisionStep], callers: bool = False) -> None:
        """Refuse the steps if one of them would stop the run."""
        refuse_unrecordable(connection, steps, is_in_transaction=callers)
        upgrades = [step.revision for step in steps if step.is_upgrade]
        refuse_unprepared(connection, upgrades, Path(context.script.dir, "backfills"), self.options)

    def confirmed_plan(self, connection: Connection) -> list[Script]:
        """The revisions of a downgrade, after asking if it loses rows."""
        steps = self.plan(connection)
        arguments = context.get_x_argument(as_dictionary=True)
        if AS_FAR_AS_POSSIBLE not in arguments:
            refuse_unreachable(connection, steps, self.destination, self.options)
        agreed = arguments.get("yes") == ""
        confirm_data_loss(connection, steps, self.destination, self.options, yes=agreed)
        return [step.revision for step in steps]

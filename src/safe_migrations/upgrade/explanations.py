"""What a state means, what to do next, and which commands a state does not allow."""

import shlex

from safe_migrations import revisions
from safe_migrations.backfill.definition import COMMAND, required_backfills
from safe_migrations.errors import RefusedError
from safe_migrations.printable import printable
from safe_migrations.service import Service
from safe_migrations.upgrade.loading import search_command
from safe_migrations.upgrade.phases import up_to_contract
from safe_migrations.upgrade.states import (
    AT_HEAD,
    BEHIND,
    EXIT_STATUS,
    FRESH,
    INVALID_OBJECTS,
    PARTLY_UNDONE,
    SHOWN,
    UNTRACKED,
    State,
)


def refuse_unsafe(state: State, service: Service) -> None:
    """Refuse an upgrade or a downgrade that could do harm in this state.

    Args:
        state: the database's.
        service: whose database it is, to name its variables in an error.

    Raises:
        RefusedError: what the state means and what to do next; its exit status is the state's.
    """
    if state.name not in (FRESH, BEHIND, AT_HEAD):
        raise refusal(state, service)


def refuse_partly_applied(state: State, command: str) -> None:
    """Refuse to go back while an upgrade is interrupted between two steps, and to go forward while a downgrade is.

    Args:
        state: the database's.
        command: `upgrade`, `downgrade` or `stamp`.

    Raises:
        RefusedError: names the steps, and the command that completes the revision.
    """
    for revision in state.partly_applied:
        if revision.direction != command:
            status = EXIT_STATUS[BEHIND if revision.direction == "upgrade" else PARTLY_UNDONE]
            raise RefusedError(f"Nothing was changed. {revision.explained}", status)


def refusal(state: State, service: Service) -> RefusedError:
    """The error for a state that does not allow a command."""
    meaning, following = explain_state(state, service)
    return RefusedError(f"{meaning} Nothing was changed. {following}", EXIT_STATUS[state.name])


def explain_state(state: State, service: Service) -> tuple[str, str]:
    """What the state means, and what to do next, with each command on a line of its own."""
    url = service.settings
    name, database = state.name, repr(state.database)
    partly = list(map(str, state.interrupted("upgrade")))
    if name == revisions.SEVERAL_HEADS:
        return (
            f"This code has several heads ({revisions.named(state.rivals, state.files)}): two branches have each added "
            "a revision.",
            "If no database has your revision yet, move it behind the other one:\nsafe-migrations rebase\n"
            'If a database has it, merge the heads:\nalembic merge -m "merge heads" heads',
        )
    if name == revisions.UNKNOWN_REVISION:
        return (
            f"The database {database} is at revision {printable(', '.join(state.unknown))}, which this code does not "
            "have: the database is newer than this code, or belongs to another service.",
            f"Run this command from the release that has the revision, or correct {url}. To find that release:\n"
            f"{search_command(state.unknown[0], 'alembic/versions')}",
        )
    if state.baseline is not None:
        return _explain_replaced(state, state.baseline)
    if name == UNTRACKED:
        shown = printable(", ".join(state.relations[:SHOWN])) + (", …" if len(state.relations) > SHOWN else "")
        return (
            f"The database {database} has tables but no revision ({len(state.relations)}: {shown}): it was built "
            "without migrations, or belongs to another service.",
            f"If it is the wrong database, correct {url}. If it is the right one, adopt it: the next command "
            "writes a baseline and models, unless the project has its own, proves that they make the same schema, and "
            "records the revision:\nsafe-migrations adopt",
        )
    if name == PARTLY_UNDONE:
        undone = state.interrupted("downgrade")[0]
        return f"A downgrade of the database {database} was interrupted between two steps.", undone.explained
    if name == INVALID_OBJECTS:
        indexes = printable(", ".join(f"{index.name} on {index.table}" for index in state.invalid))
        repair = "\n".join(
            f"{'REINDEX' if index.base_name == index.bare_name else 'DROP'} INDEX CONCURRENTLY {printable(index.name)};"
            for index in state.invalid
        )
        return (
            f"The database {database} has invalid indexes, left by a failed concurrent build ({indexes}): writes "
            "maintain them, and no query uses them.",
            f"Repair them in psql (safe-migrations db-shell), then run the same command again:\n{repair}",
        )
    if name == FRESH:
        return f"The database {database} is empty.", f"Build the schema:\nalembic upgrade {state.target}"
    if name == BEHIND:
        behind = f"The database {database} is at revision {state.revisions}; revisions to run: {len(state.pending)}."
        behind = " ".join([behind, *partly])
        if len(up_to_contract(state.pending)) == len(state.pending):
            return behind, f"Run them:\nalembic upgrade {state.target}"
        return behind, _next_phase(state)
    at_head = f"The database {database} is at head, revision {state.revisions}."
    return " ".join([at_head, *partly]), "There is nothing to do."


def _explain_replaced(state: State, baseline: revisions.Baseline) -> tuple[str, str]:
    old, new = printable(", ".join(state.unknown)), baseline.revision
    if baseline.deploy_first:
        release = f"Deploy {printable(baseline.deploy_first)} first, which has these revisions. With its code:"
    else:
        release = (
            "Deploy a release first that has these revisions. To find one:\n"
            f"{search_command(state.unknown[0], 'alembic/versions')}\nWith its code:"
        )
    return (
        f"The database {state.database!r} is at revision {old}. This code no longer has the revisions from there to "
        f"{new}: the baseline {state.files[new].name} has replaced them, and runs on an empty database only.",
        f"{release}\nalembic upgrade {new}\nThen run the same command again.",
    )


def _next_phase(state: State) -> str:
    """What to run before and after the new code is deployed; a revision that has begun needs no backfill any more."""
    begun = {partly.revision for partly in state.partly_applied}
    waiting = [script for script in state.pending if script.revision not in begun]
    names = sorted({name for script in waiting for name in required_backfills(script)})
    expands = bool(up_to_contract(state.pending))
    lines = ["Before you deploy the new code:", "safe-migrations deploy"] if expands else []
    lines.append("When the new code runs everywhere:")
    lines.extend(f"{COMMAND} {shlex.quote(name)}" for name in names)
    lines.append("safe-migrations deploy --contract")
    if expands and not names:
        lines.extend(["All at once, if no old code runs:", f"alembic upgrade {state.target}"])
    return "\n".join(lines)

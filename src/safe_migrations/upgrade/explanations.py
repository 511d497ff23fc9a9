"""What a state means, what to do next, and which commands a state does not allow."""

import shlex

from safe_migrations import revisions
from safe_migrations.backfill.definition import backfill_command, required_backfills
from safe_migrations.errors import RefusedError
from safe_migrations.printable import printable
from safe_migrations.service import Service
from safe_migrations.upgrade.phases import up_to_contract
from safe_migrations.upgrade.revision_names import search_command
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

    Raises:
        RefusedError: what the state means and what to do next, with the exit status of the state.
    """
    if state.name not in (FRESH, BEHIND, AT_HEAD):
        raise refusal(state, service)


def refuse_partly_applied(state: State, command: str) -> None:
    """Refuse to go back while an upgrade is interrupted between two steps, and to go forward while a downgrade is.

    Args:
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
    if state.name == revisions.REPLACED_REVISION and state.baseline is not None:
        return _explain_replaced(state, state.baseline)
    explain = {
        revisions.SEVERAL_HEADS: _explain_several_heads,
        revisions.UNKNOWN_REVISION: _explain_unknown,
        UNTRACKED: _explain_untracked,
        PARTLY_UNDONE: _explain_partly_undone,
        INVALID_OBJECTS: _explain_invalid,
        FRESH: _explain_fresh,
        BEHIND: _explain_behind,
        AT_HEAD: _explain_at_head,
    }[state.name]
    return explain(state, service)


def _explain_several_heads(state: State, _service: Service) -> tuple[str, str]:
    return (
        f"This code has several heads ({revisions.named(state.unmerged, state.files)}): two branches have each added "
        "a revision.",
        "If no database has your revision yet, move your revision behind the other one:\nsafe-migrations rebase\n"
        'If a database has your revision, merge the heads:\nalembic merge -m "merge heads" heads',
    )


def _explain_unknown(state: State, service: Service) -> tuple[str, str]:
    return (
        f"The database {state.database!r} is at revision {printable(', '.join(state.unknown))}, which this code does "
        "not have: the database is newer than this code, or belongs to another service.",
        f"Run this command from a release that has the revision, or correct {service.settings}. To find the "
        f"release:\n{search_command(state.unknown[0], state.folders)}",
    )


def _explain_replaced(state: State, baseline: revisions.Baseline) -> tuple[str, str]:
    old, new = printable(", ".join(state.unknown)), baseline.revision
    if baseline.deploy_first:
        release = f"First deploy {printable(baseline.deploy_first)}, which has these revisions. "
    else:
        search = search_command(state.unknown[0], state.folders)
        release = f"First deploy a release that has these revisions. To find the release:\n{search}\n"
    return (
        f"The database {state.database!r} is at revision {old}. This code does not have the revisions up to {new}: the "
        f"baseline {state.files[new].name} replaces these revisions, and runs only on an empty database.",
        f"{release}With the code of that release, run:\nalembic upgrade {shlex.quote(new)}\n"
        "Then run the same command again.",
    )


def _explain_untracked(state: State, service: Service) -> tuple[str, str]:
    shown = printable(", ".join(state.relations[:SHOWN])) + (", …" if len(state.relations) > SHOWN else "")
    return (
        f"The database {state.database!r} has tables but no revision ({len(state.relations)}: {shown}): it was built "
        "without migrations, or belongs to another service.",
        f"If this is the wrong database, correct {service.settings}. Otherwise adopt the database. The next command "
        "writes a baseline and models (unless the project has its own), proves that both make the same schema, and "
        "records the revision:\nsafe-migrations adopt",
    )


def _explain_partly_undone(state: State, _service: Service) -> tuple[str, str]:
    undone = state.interrupted("downgrade")[0]
    return f"A downgrade of the database {state.database!r} was interrupted between two steps.", undone.explained


def _explain_invalid(state: State, _service: Service) -> tuple[str, str]:
    indexes = printable(", ".join(f"{index.name} on {index.table}" for index in state.invalid))
    repair = "\n".join(
        f"{'REINDEX' if index.base_name == index.bare_name else 'DROP'} INDEX CONCURRENTLY {printable(index.name)};"
        for index in state.invalid
    )
    return (
        f"The database {state.database!r} has invalid indexes, left by a failed concurrent build ({indexes}). Writes "
        "maintain these indexes, but no query uses them.",
        f"Repair the indexes in psql (safe-migrations db-shell), then run the same command again:\n{repair}",
    )


def _explain_fresh(state: State, _service: Service) -> tuple[str, str]:
    return f"The database {state.database!r} is empty.", f"To build the schema:\nalembic upgrade {state.target}"


def _explain_behind(state: State, _service: Service) -> tuple[str, str]:
    behind = (
        f"The database {state.database!r} is at revision {state.revisions}; revisions to run: {len(state.pending)}."
    )
    behind = " ".join([behind, *map(str, state.interrupted("upgrade"))])
    if len(up_to_contract(state.pending)) == len(state.pending):
        return behind, f"To run these revisions:\nalembic upgrade {state.target}"
    return behind, _next_phase(state)


def _explain_at_head(state: State, _service: Service) -> tuple[str, str]:
    at_head = f"The database {state.database!r} is at head, revision {state.revisions}."
    return " ".join([at_head, *map(str, state.interrupted("upgrade"))]), "There is nothing to do."


def _next_phase(state: State) -> str:
    """What to run before and after the deployment of the new code; a revision that has begun needs no backfill."""
    begun = {partly.revision for partly in state.partly_applied}
    waiting = [script for script in state.pending if script.revision not in begun]
    names = sorted({name for script in waiting for name in required_backfills(script)})
    expands = bool(up_to_contract(state.pending))
    lines = ["Before you deploy the new code:", "safe-migrations deploy"] if expands else []
    lines.append("When the new code runs everywhere:")
    lines.extend(backfill_command(name) for name in names)
    lines.append("safe-migrations deploy --contract")
    if expands and not names:
        lines.extend(["To run all revisions at once, if no old code runs:", f"alembic upgrade {state.target}"])
    return "\n".join(lines)

"""The deployment of a schema in one command: state, backup, upgrade, verification."""

import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from alembic import command
from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple
from sqlalchemy.exc import DBAPIError

from safe_migrations.backfill.definition import refuse_incomplete
from safe_migrations.errors import MigrationError, RefusedError
from safe_migrations.operate.backup import backup
from safe_migrations.operate.status import Report, read_report
from safe_migrations.postgres.connection import Database, connected, explain, run_async
from safe_migrations.upgrade.phases import CONTRACT, refuse_unacknowledged, up_to_contract
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.states import AT_HEAD, BEHIND, DRIFT, FRESH


def deploy(
    project: Project,
    backup_file: Path | None,
    tell: Callable[[str], None],
    *,
    contract: bool = False,
) -> Report:
    """Bring a database as far as the code that runs allows, and stop at the first thing that is not as it has to be.

    Args:
        project: the service's.
        backup_file: where the backup goes; None for none.
        tell: shows a sentence.
        contract: whether the new code runs everywhere, so that nothing waits for it.

    Returns:
        The database's state afterwards.

    Raises:
        MigrationError: a step failed; the message ends with the way back.
    """
    before = read_report(project)
    if before.state in (AT_HEAD, DRIFT):
        tell(f"State: {before.as_text()}")
        return before
    tell(f"State: {before.state}.")
    if before.state not in (FRESH, BEHIND):
        raise RefusedError(f"{before.found} Nothing was changed. {before.next}", before.exit_status)
    ready = _ready(project.script, before, contract=contract)
    if not ready:
        tell(_waiting(before))
        return before
    refuse_unacknowledged(ready)
    if before.state != FRESH:
        run_async(_refuse_incomplete(project.database, ready[0], project.backfills))
    if backup_file is not None and before.state != FRESH:
        run_async(backup(project.database, backup_file))
        tell(f"Backup: {backup_file}")
    else:
        backup_file = None
        tell("Backup: none, because the database is empty." if before.state == FRESH else "Backup: none, as you said.")
    try:
        for target in _last(ready):
            command.upgrade(project.config, target)
        after = read_report(project)
    except KeyboardInterrupt:
        tell(_way_back(project, before, backup_file))
        raise
    except MigrationError as error:
        raise RefusedError(f"{error} {_way_back(project, before, backup_file)}", error.exit_status) from error
    if after.state == BEHIND:
        tell(f"Verified: {after.found}")
        tell(_waiting(after))
        return after
    tell(f"Verified: {after.as_text()}")
    if after.state != AT_HEAD:
        tell(_way_back(project, before, backup_file))
    return after


def _ready(script: ScriptDirectory, before: Report, *, contract: bool) -> list[Script]:
    """The revisions to run now; a database without any revision has no code that could depend on it."""
    pending = list(script.get_revisions([str(each["revision"]) for each in before.pending]))
    return pending if before.state == FRESH else up_to_contract(pending, contract=contract)


async def _refuse_incomplete(database: Database, first: Script, folder: Path) -> None:
    """Before a backup is made for nothing; of later revisions only the upgrade can tell."""
    try:
        async with connected(database) as connection:
            await connection.run_sync(refuse_incomplete, first, folder)
    except DBAPIError as error:
        raise MigrationError(explain(error, database)) from error


def _last(ready: list[Script]) -> list[str]:
    """Those that none of the others follows."""
    followed = {revision for each in ready for revision in to_tuple(each.down_revision, default=())}
    return [each.revision for each in ready if each.revision not in followed]


def waits_for_code(report: Report) -> bool:
    """Whether all that is pending comes after the new code, so that this can be deployed now.

    Args:
        report: the database's state.
    """
    return report.state == BEHIND and all(each["phase"] == CONTRACT for each in report.pending)


def _waiting(report: Report) -> str:
    waiting = ", ".join(str(each["revision"]) for each in report.pending)
    if not waits_for_code(report):
        return (
            "Not yet the new code: what it needs waits behind a contract revision of the release before. When that "
            "release runs everywhere: safe-migrations deploy --contract; then deploy the new code. "
            f"Until then these wait: {waiting}"
        )
    return f"Now deploy the new code. {report.next} Until then these wait: {waiting}"


def _way_back(project: Project, before: Report, backup_file: Path | None) -> str:
    with suppress(MigrationError):
        if read_report(project).current == before.current:
            return "The database is at the revision at which it was."
    ways = [f"alembic downgrade {revision}" for revision in before.current or ("base",)]
    if backup_file is not None:
        backup = shlex.quote(str(backup_file))
        ways.append(f"the backup in a new database: safe-migrations restore {backup}")
    return f"The way back: {'; or '.join(ways)}"

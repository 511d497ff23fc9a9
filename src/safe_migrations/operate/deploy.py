"""The deployment of a schema in one command: state, backup, upgrade, verification."""

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

from alembic import command
from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple

from safe_migrations.errors import BackupError, MigrationError, RefusedError
from safe_migrations.operate.backup import backup
from safe_migrations.operate.status import Report, read_report
from safe_migrations.postgres.connection import run_async, with_connection
from safe_migrations.postgres.database import Database
from safe_migrations.postgres.server_errors import explained
from safe_migrations.printable import printable
from safe_migrations.upgrade.phases import CONTRACT, up_to_contract
from safe_migrations.upgrade.preconditions import refuse_unprepared
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.revision_names import full_name
from safe_migrations.upgrade.states import AT_HEAD, BEHIND, DRIFT, FRESH

_UNCHANGED = "The revision of the database did not change."


def deploy(
    project: Project, backup_file: Path | None, report: Callable[[str], None], *, contract: bool = False
) -> Report:
    """Upgrade a database up to the first contract revision, and stop at the first failure.

    Args:
        backup_file: where to write the backup; None to make no backup.
        contract: whether the new code runs everywhere, so that the next contract revisions may run.

    Returns:
        The database's state afterwards.

    Raises:
        MigrationError: a step failed; the message ends with how to revert.
    """
    before = read_report(project)
    if before.state in (AT_HEAD, DRIFT):
        report(f"State: {before.as_text()}")
        return before
    report(f"State: {before.state}: {before.meaning}" if before.partly_applied else f"State: {before.state}.")
    if before.state not in (FRESH, BEHIND):
        raise RefusedError(f"{before.meaning} Nothing was changed. {before.next}", before.exit_status)
    ready = _ready(project.script, before, contract=contract)
    if not ready:
        report(_waiting(before))
        return before
    with explained(project.database):
        run_async(with_connection(project.database, refuse_unprepared, ready, project.backfills, project.options))
    report("\n".join(["Revisions to run:", *map(full_name, ready)]))
    if before.state == FRESH or backup_file is None:
        backup_file = None
        report("Backup: none, the database is empty." if before.state == FRESH else "Backup: none (--without-backup).")
    else:
        _back_up(project.database, backup_file, report, contract=contract)
    way_back = partial(_way_back, project, before, backup_file)
    after = _upgrade(project, ready, way_back, report)
    _report_verified(after, way_back, report)
    return after


def _report_verified(after: Report, way_back: Callable[[], str], report: Callable[[str], None]) -> None:
    if after.state == BEHIND:
        report(f"Verified: {after.meaning}")
        report(_waiting(after))
        return
    report(f"Verified: {after.as_text()}")
    if after.state != AT_HEAD:
        report(way_back())


def _ready(script: ScriptDirectory, before: Report, *, contract: bool) -> list[Script]:
    """The revisions to run now: all of them where the database is empty, because no code depends on it."""
    pending = list(script.get_revisions([str(revision["revision"]) for revision in before.pending]))
    return pending if before.state == FRESH else up_to_contract(pending, contract=contract)


def _back_up(database: Database, file: Path, report: Callable[[str], None], *, contract: bool) -> None:
    """Make the backup, or say how to deploy without one, as in an image without pg_dump."""
    try:
        run_async(backup(database, file))
    except BackupError as error:
        command = ["safe-migrations", "deploy", *["--contract"] * contract, "--without-backup"]
        raise BackupError(
            f"{error}\nNothing was changed. If the database is backed up in another way:\n{shlex.join(command)}"
        ) from error
    report(f"Backup: {file}")


def _upgrade(
    project: Project, ready: list[Script], way_back: Callable[[], str], report: Callable[[str], None]
) -> Report:
    """Run the revisions; if that fails, report how to revert."""
    try:
        for target in _last(ready):
            command.upgrade(project.config, target)
        return read_report(project)
    except MigrationError as error:
        back = way_back()
        # The command to run is on the last line.
        error.args = ("\n".join([back, str(error)] if back == _UNCHANGED else [str(error), back]),)
        raise
    except BaseException:  # an interrupt, or an error of Alembic's own: the command line shows it
        report(way_back())
        raise


def _last(ready: list[Script]) -> list[str]:
    """The revisions that no other revision follows."""
    followed = {below for script in ready for below in to_tuple(script.down_revision, default=())}
    return [script.revision for script in ready if script.revision not in followed]


def waits_for_code(report: Report) -> bool:
    """Whether only contract revisions are pending, so that the new code can be deployed."""
    return report.state == BEHIND and all(revision["phase"] == CONTRACT for revision in report.pending)


def _waiting(state: Report) -> str:
    waiting = "\n".join(map(printable, state.pending_names))
    if not waits_for_code(state):
        return (
            "Do not deploy the new code yet: its revisions wait behind a contract revision of the previous release. "
            f"Pending:\n{waiting}\nWhen the previous release runs everywhere, run this command, then deploy the new "
            "code:\nsafe-migrations deploy --contract"
        )
    return f"Deploy the new code now. Pending:\n{waiting}\n{state.next}"


def _ends(script: ScriptDirectory, before: Report) -> list[str]:
    """Where to downgrade to: the revisions before, and the base of each branch that had none."""
    if not before.current:
        return ["base"]
    pending = script.get_revisions([str(revision["revision"]) for revision in before.pending])
    return [*before.current, *(f"{script.revision}@base" for script in pending if script.down_revision is None)]


def _way_back(project: Project, before: Report, backup_file: Path | None) -> str:
    lines: list[str] = []
    try:
        after = read_report(project)
        if after.partly_applied:
            lines = [f"{after.meaning} Complete the upgrade before you revert: run the same command again."]
        elif after.current == before.current:
            return _UNCHANGED
    except (Exception, SystemExit) as error:  # this error must not hide why the deployment failed
        lines = [f"The revision of the database can't be read: {error}"]
    lines += [f"To revert:\nalembic downgrade {shlex.quote(revision)}" for revision in _ends(project.script, before)]
    if backup_file is not None:
        command = shlex.join(["safe-migrations", "restore", str(backup_file)])
        lines.append(f"To restore the backup into a new database:\n{command}")
    return "\n".join(lines)

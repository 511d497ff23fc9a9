"""`fleet upgrade`, `fleet deploy` and `fleet backfill`: a plan, a question, the command in each service, a summary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from safe_migrations.command_line import as_table
from safe_migrations.fleet.processes import Jobs, Outcome
from safe_migrations.fleet.progress import progress
from safe_migrations.fleet.results import shown, summary
from safe_migrations.fleet.services import Member
from safe_migrations.fleet.status import ServiceStatus, read_statuses
from safe_migrations.printable import printable
from safe_migrations.prompt import confirm
from safe_migrations.revisions import COULD_NOT_TELL
from safe_migrations.upgrade.phases import CONTRACT
from safe_migrations.upgrade.states import AT_HEAD, DRIFT, FRESH

_NOTHING_PENDING = (AT_HEAD, DRIFT, COULD_NOT_TELL)


@dataclass(frozen=True)
class Pass:
    """A command in some of the services.

    Attributes:
        what: the work, such as `Upgrading`.
        module: `safe_migrations` or `alembic`.
        command: with its options.
        concerns: whether a service has work for the command.
    """

    what: str
    module: str
    command: tuple[str, ...]
    concerns: Callable[[ServiceStatus], bool]


def upgrade() -> list[Pass]:
    """Upgrade to head."""
    return [Pass("Upgrading", "alembic", ("upgrade", "heads"), _is_behind)]


def deploy(*, contract: bool, without_backup: bool) -> list[Pass]:
    """Deploy what the new code needs, in all services; then, where asked, the contract revisions.

    Args:
        contract: whether the new code runs everywhere, so that contract revisions may run.
    """
    options = ["--without-backup"] * without_backup
    expand = Pass("Deploying", "safe_migrations", ("deploy", *options), _has_expand if contract else _waits_for_deploy)
    if not contract:
        return [expand]
    return [expand, Pass("Contracting", "safe_migrations", ("deploy", "--contract", *options), _has_contract)]


def backfill() -> list[Pass]:
    """Run the incomplete backfills."""
    return [Pass("Backfilling", "safe_migrations", ("backfill",), lambda status: bool(status.backfills))]


def run(members: Sequence[Member], passes: Sequence[Pass], jobs: Jobs, *, yes: bool) -> int:
    """Show a plan, ask, and run one pass after the other: each begins only if the pass before succeeded everywhere.

    Returns:
        The exit status.

    Raises:
        NotConfirmedError: the user did not agree.
    """
    with progress("Reading", len(members)) as read:
        statuses = read_statuses(members, read)
    unread = [_unread(status) for status in statuses if status.problem]
    planned = [status for status in statuses if not status.problem and any(work.concerns(status) for work in passes)]
    if planned:
        confirm(_plan(planned, unread), f"Go on with {len(planned)} services", yes=yes)
    outcomes = _run(planned, passes, jobs, may_continue=not unread)
    rows = [*outcomes, *unread]
    if rows:
        print(summary(rows))
    print(f"{len(statuses) - len(rows)} of {len(statuses)} services had nothing to do.")
    print(_next(planned, outcomes, passes), end="")
    return jobs.exit_status(rows)


def _run(planned: Sequence[ServiceStatus], passes: Sequence[Pass], jobs: Jobs, *, may_continue: bool) -> list[Outcome]:
    """The last outcome in each service."""
    last = {status.path: Outcome(status.member, None) for status in planned}
    for number, work in enumerate(passes):
        concerned = [status.member for status in planned if work.concerns(status)]
        if number and not may_continue:
            last |= {member.path: _not_contracted(last[member.path]) for member in concerned}
            break
        with shown(work.what, len(concerned)) as ended:
            outcomes = jobs.in_each(concerned, partial(_command, work, jobs), ended)
        last |= {outcome.member.path: outcome for outcome in outcomes}
        may_continue = may_continue and not any(outcome.exit_status != 0 for outcome in outcomes)
    return list(last.values())


async def _command(work: Pass, jobs: Jobs, member: Member) -> Outcome:
    return await jobs.run_module(member, work.module, *work.command)


def _not_contracted(outcome: Outcome) -> Outcome:
    """A service whose contract revisions wait, because they begin only after all services are expanded."""
    if outcome.exit_status:
        return outcome
    begun = "its contract revisions were not started" if outcome.exit_status == 0 else "not started"
    return replace(outcome, exit_status=None, result=f"{begun}: another service is not ready")


def _is_behind(status: ServiceStatus) -> bool:
    return status.state not in _NOTHING_PENDING


def _waits_for_deploy(status: ServiceStatus) -> bool:
    """Whether anything but contract revisions is pending; `deploy` says where one of these comes first."""
    return _is_behind(status) and not (status.phases.keys() == {CONTRACT} and status.state != FRESH)


def _has_expand(status: ServiceStatus) -> bool:
    """Whether something may run before the contract revisions; of an empty database, all may."""
    return _is_behind(status) and (status.state == FRESH or next(iter(status.phases), None) != CONTRACT)


def _has_contract(status: ServiceStatus) -> bool:
    return _is_behind(status) and status.state != FRESH and CONTRACT in status.phases


def _unread(status: ServiceStatus) -> Outcome:
    return Outcome(status.member, status.exit_status, status.problem or "", result="its state can't be read")


def _plan(planned: Sequence[ServiceStatus], unread: Sequence[Outcome]) -> str:
    rows = [(printable(status.path), status.state, _pending(status), _backfills(status)) for status in planned]
    unread_line = f"\nNot read: {', '.join(printable(outcome.member.path) for outcome in unread)}" if unread else ""
    return as_table(("service", "state", "pending", "backfills"), rows) + unread_line


def _pending(status: ServiceStatus) -> str:
    return ", ".join(f"{number} {phase or 'without a phase'}" for phase, number in status.phases.items())


def _backfills(status: ServiceStatus) -> str:
    return ", ".join(
        printable(str(backfill["name"])) + (f" {backfill['percent']} %" if backfill["percent"] is not None else "")
        for backfill in status.backfills
    )


def _next(planned: Sequence[ServiceStatus], outcomes: Sequence[Outcome], passes: Sequence[Pass]) -> str:
    """What is left after a deployment without contract revisions."""
    succeeded = {outcome.member.path for outcome in outcomes if outcome.exit_status == 0}
    waiting = [status for status in planned if status.path in succeeded and _has_contract(status)]
    if not waiting or passes[0].command[0] != "deploy" or len(passes) > 1:
        return ""
    names = ", ".join(printable(status.path) for status in waiting)
    return (
        f"\nContract revisions wait in {names}. When the new code runs everywhere:\n"
        "safe-migrations fleet backfill\nsafe-migrations fleet deploy --contract\n"
    )

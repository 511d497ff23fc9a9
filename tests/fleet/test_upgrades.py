"""`fleet upgrade`, `deploy` and `backfill` with real databases: expand everywhere before contract anywhere."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import URL

from safe_migrations.errors import NotConfirmedError
from safe_migrations.fleet import upgrades
from safe_migrations.fleet.processes import Jobs, Outcome
from safe_migrations.fleet.services import Member, find_services
from safe_migrations.fleet.status import ServiceStatus
from safe_migrations.fleet.upgrades import Pass, backfill, deploy, upgrade
from small_service import add_revision, make_service
from support import NewDatabase, as_text, fetch, tables

EXPAND, CONTRACT = 'phase = "expand"', 'phase = "contract"'
BACKFILL = """
import sqlalchemy as sa
from safe_migrations.backfills import Backfill

table = sa.table("t1", sa.column("id"), sa.column("filled"))
backfill = Backfill(table=table, key=("id",), where=table.c.filled.is_(None), values={"filled": 1})
"""
Databases = dict[str, URL]


@pytest.fixture
def databases(tmp_path: Path, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> Databases:
    """Three services, of which each has its first revision."""
    made = {name: new_database() for name in ("billing", "orders", "users")}
    for name, url in made.items():
        make_service(tmp_path / name)
        monkeypatch.setenv(f"{name.upper()}_DATABASE_URL", as_text(url))
        fetch(url, "CREATE TABLE t1 (id integer PRIMARY KEY, filled integer)")
        fetch(url, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        fetch(url, "INSERT INTO alembic_version VALUES ('r1')")
    return made


def run(root: Path, passes: list[Pass]) -> int:
    return upgrades.run(find_services(root), passes, Jobs(2), yes=True)


@pytest.mark.usefixtures("forked_copier")
def test_contract_begins_when_all_are_expanded(
    databases: Databases, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passes = deploy(contract=True, without_backup=True)
    for name in ("billing", "orders"):
        add_revision(tmp_path / name, 2, EXPAND)
        add_revision(tmp_path / name, 3, CONTRACT)
    broken = add_revision(tmp_path / "orders", 2, EXPAND, "CREATE TABLE t1 (id integer)")
    assert run(tmp_path, passes) == 15
    captured = capsys.readouterr()
    assert "1 expand, 1 contract" in captured.err, "the plan"
    assert "users" not in captured.out + captured.err, "it is only counted"
    assert "1 of 3" in captured.out
    assert "t1" in captured.out, "the reason"
    assert tables(databases["billing"]) - {"alembic_version"} == {"t1", "t2"}

    broken.unlink()
    add_revision(tmp_path / "orders", 2, EXPAND)
    assert run(tmp_path, passes) == 0
    assert "t3" in tables(databases["orders"])
    assert "t3" in tables(databases["billing"])


PENDING = {"behind": ["expand", "contract"], "late": ["contract", "expand"], "last": ["contract"], "head": []}


@pytest.mark.parametrize(
    ("contract", "problem", "commands"),
    [
        (False, None, [{"behind", "late"}]),
        (True, None, [{"behind"}, {"behind", "late", "last"}]),
        (True, "It can't be reached.", [{"behind"}]),
    ],
)
def test_which_services_a_deployment_concerns(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    contract: bool,
    problem: str | None,
    commands: list[set[str]],
) -> None:
    """The last service can't be read: its expand revisions may be missing."""
    statuses = []
    for name, phases in PENDING.items():
        make_service(tmp_path / name)
        (member,) = find_services(tmp_path, [name])
        state = "behind" if phases else "at head"
        revisions = tuple({"phase": phase} for phase in phases)
        statuses.append(ServiceStatus(member, name, name, state=state, exit_status=0, pending=revisions))
    statuses.append(replace(statuses[-1], problem=problem, exit_status=12 if problem else 0))
    monkeypatch.setattr(upgrades, "read_statuses", lambda members, ended: statuses)
    called: dict[tuple[str, ...], set[str]] = {}

    async def command(work: Pass, jobs: Jobs, member: Member) -> Outcome:
        called.setdefault(work.command, set()).add(member.path)
        return Outcome(member, 0)

    monkeypatch.setattr(upgrades, "_command", command)
    passes = deploy(contract=contract, without_backup=False)
    with pytest.raises(NotConfirmedError, match=r"(?s)behind.*--yes"):
        upgrades.run(find_services(tmp_path), passes, Jobs(2), yes=False)
    assert not called
    assert run(tmp_path, passes) == (12 if problem else 0)
    assert list(called.values()) == commands
    assert ("fleet deploy --contract" in capsys.readouterr().out) is not contract


@pytest.mark.usefixtures("forked_copier")
def test_upgrades_and_backfills_run_where_there_is_work(databases: Databases, tmp_path: Path) -> None:
    add_revision(tmp_path / "billing", 2)
    tmp_path.joinpath("orders", "alembic", "backfills").mkdir()
    tmp_path.joinpath("orders", "alembic", "backfills", "fill.py").write_text(BACKFILL)
    fetch(databases["orders"], "INSERT INTO t1 (id) VALUES (1), (2)")
    assert run(tmp_path, upgrade()) == 0
    assert "t2" in tables(databases["billing"])
    assert run(tmp_path, backfill()) == 0
    assert fetch(databases["orders"], "SELECT count(*) FROM t1 WHERE filled = 1") == [(2,)]

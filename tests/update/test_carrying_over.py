"""From 1.x, whose services carried the machinery, to the library: old files, old replicas and old work go on."""

import json
import os
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL

from blocking_statement import AT_THE_GATE, GATE, WAITING_FOR_THE_LOCK, open_gate, wait_for
from releases import LAST_OF_1, Releases, change, commit, git, own_update
from support import MypyCache, Process, Service, alone, as_text, fetch, tables
from warm_python import warm_program

BACKFILL = """
import sqlalchemy as sa

from safe_migrations.backfills import Backfill

number = sa.table("number", sa.column("id"), sa.column("value"))
backfill = Backfill(table=number, key=("id",), values={"value": number.c.value + 1}, batch_size=100)
"""
ROWS = 10_000


@dataclass
class Carried:
    """A service of 1.x, and the same after its update.

    Attributes:
        old: as it was, with its own machinery.
        new: after `template-update`.
        alembic: Alembic's program, for the old one.
        python: likewise.
    """

    old: Service
    new: Service
    alembic: str
    python: str

    def add_revision(self, slug: str, upgrade: str, downgrade: str = "pass") -> None:
        """The same revision for both."""
        for service in (self.old, self.new):
            service.add_revision(slug, upgrade, downgrade)


@pytest.fixture(scope="session")
def folders(request: pytest.FixtureRequest, folder_of_run: Path) -> tuple[Path, Path]:
    """A service of 1.x, and a copy that has updated itself, from beginning to end; once for all workers."""
    folder = folder_of_run / "carried"
    with alone(folder):
        if not folder.exists():
            folder.mkdir()
            update_itself(request.getfixturevalue("releases"), folder)
    return folder / "old", folder / "new"


def update_itself(releases: Releases, folder: Path) -> None:
    old = releases.service(folder / "old", LAST_OF_1)
    new = Service(folder / "new", "ORDERS")
    shutil.copytree(old.folder, new.folder)
    process = own_update(new, folder / "programs")
    assert process.returncode == 0, process.stderr
    assert "git add --all" in process.stdout
    called = (folder / "programs" / "called").read_text().splitlines()
    assert called == ["install", "run lint", "run typecheck", "run test"]
    commit(new.folder)


@pytest.fixture
def carried(folders: tuple[Path, Path], tmp_path: Path, database: URL, without_library: Path) -> Carried:
    """A service of 1.x and its update, on the same empty database."""
    old, new = (Service(tmp_path / folder.name, "ORDERS") for folder in folders)
    for service, folder in ((old, folders[0]), (new, folders[1])):
        shutil.copytree(folder, service.folder)
        service.configure(database)
    return Carried(old, new, alembic=str(without_library / "alembic"), python=str(without_library / "python"))


def ended(process: Process) -> str:
    """What a process has said that ends well."""
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, output + errors
    return output + errors


def test_the_folder_goes_and_the_library_comes(carried: Carried) -> None:
    """What Python has compiled of the old folder is left on the disk, and is in nobody's way."""
    new = carried.new
    assert {path.name for path in new.folder.joinpath("safe_migrations").iterdir()} == {"__pycache__"}
    assert git(new.folder, "ls-files", "safe_migrations", "answers.py") == ""
    assert '"alembic-safe-migrations' in new.folder.joinpath("pyproject.toml").read_text()
    new.succeed("alembic", "upgrade", "head")


@pytest.mark.thorough("the test of the README, which updates from the first release and runs the same checks")
def test_the_services_own_checks_pass_after_the_update(carried: Carried, server: URL, mypy_cache: MypyCache) -> None:
    new = carried.new
    new.succeed("ruff", "check", ".")
    new.succeed("ruff", "format", "--check", ".")
    with mypy_cache() as cache:
        new.succeed("mypy", "--cache-dir", cache, ".")
    new.environment["ORDERS_TEST_DATABASE_URL"] = as_text(server)
    new.succeed("pytest", "-p", "no:cacheprovider")


def test_upgrades_of_both_exclude_each_other(carried: Carried, database: URL) -> None:
    def start_old() -> Process:
        return carried.old.start(carried.alembic, "upgrade", "head")

    def start_new() -> Process:
        return carried.new.start("alembic", "upgrade", "head")

    carried.new.succeed("alembic", "upgrade", "head")
    for number, (first, second) in enumerate([(start_old, start_new), (start_new, start_old)], 2):
        fetch(database, "CREATE TABLE gate ()")
        carried.add_revision("gate", f'{GATE}op.execute("DROP TABLE gate")')
        one = first()
        wait_for(database, AT_THE_GATE)
        two = second()
        wait_for(database, WAITING_FOR_THE_LOCK)
        assert (one.poll(), two.poll()) == (None, None)
        open_gate(database)
        assert "Running upgrade" in ended(one)
        assert "Running upgrade" not in ended(two), "nothing is left to do"
        assert fetch(database, "SELECT version_num FROM alembic_version") == [(f"000{number}_gate",)]


def test_half_a_backfill_goes_on(carried: Carried, database: URL) -> None:
    carried.new.succeed("alembic", "upgrade", "head")
    fetch(database, "CREATE TABLE number (id bigint PRIMARY KEY, value bigint DEFAULT 0)")
    fetch(database, "INSERT INTO number SELECT generate_series(1, :rows)", rows=ROWS)
    for service in (carried.old, carried.new):
        file = service.folder / "alembic" / "backfills" / "number.py"
        file.parent.mkdir()
        file.write_text(BACKFILL)
    process = carried.old.start(carried.python, "-m", "safe_migrations", "backfill", "--nice-ratio", "1")
    wait_for(database, "SELECT 1 FROM number WHERE value = 1 LIMIT 1")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 0 < len(fetch(database, "SELECT 1 FROM number WHERE value = 1")) < ROWS
    (result,) = json.loads(carried.new.succeed("safe-migrations", "backfill", "--nice-ratio", "0", "--json"))
    assert (result["rows"], result["already_complete"]) == (ROWS, False), "with those that were done before"
    assert [tuple(row) for row in fetch(database, "SELECT value, count(*) FROM number GROUP BY 1")] == [(1, ROWS)]
    assert carried.old.succeed(carried.python, "-m", "safe_migrations", "backfill").startswith("number was ")


def test_the_database_goes_on_and_old_replicas_beside_the_new_code(carried: Carried, database: URL) -> None:
    carried.add_revision(
        "index",
        'op.create_index_concurrently("ix_item_created_at", "item", ["created_at"])',
        'op.drop_index_concurrently("ix_item_created_at")',
    )
    for service in (carried.old, carried.new):
        change(
            service.folder / "models_db.py", "mapped_column(server_default", "mapped_column(index=True, server_default"
        )
    carried.old.succeed(carried.python, "-m", "safe_migrations", "deploy", "--without-backup")
    new = carried.new
    assert "0002_index" in new.succeed("safe-migrations", "state"), "it is at head"

    change(new.folder / "models_db.py", "    name: ", "    note: Mapped[str | None]\n    name: ")
    new.add_revision("own", "op.add_column('item', sa.Column('note', sa.Text(), nullable=True))")
    new.succeed("safe-migrations", "deploy", "--without-backup")
    new.succeed("alembic", "check")
    for command in (("-m", "database"), ("-m", "safe_migrations", "state", "--quick")):
        process = carried.old.run(carried.python, *command)
        assert "0003_own" in process.stdout, process.stderr
        assert "newer than this code" in process.stdout
        assert "database" not in command or process.returncode == 0, "they are ready"
    assert "0003_own" in new.succeed("python", "-m", "database")
    new.succeed("alembic", "downgrade", "base")
    assert tables(database) == {"alembic_version"}


CURRENT, STATE, READY = ("alembic", "current"), ("safe-migrations", "state"), ("python", "-m", "database")


@pytest.mark.parametrize(
    "kept",
    [
        {"alembic/env.py": {CURRENT, STATE}, "database.py": {READY}},
        {"config.py": {CURRENT, STATE, READY}, "answers.py": set(), "alembic.ini": set()},
    ],
    ids=["code", "settings"],
)
def test_files_that_a_service_keeps_run_and_say_what_to_write(
    carried: Carried, kept: dict[str, set[tuple[str, ...]]]
) -> None:
    """Each beside new ones: the files, and the commands that warn of them."""
    new = carried.new
    new.succeed("alembic", "upgrade", "head")
    git(new.folder, "checkout", "HEAD~", "--", *kept)
    (variable,) = new.environment.items()
    new.environment.clear()
    new.folder.joinpath(".env").write_text("=".join(variable))
    for command in (CURRENT, STATE, READY):
        process = new.run(*command)
        assert process.returncode == 0, process.stderr
        warned = re.findall(r"FutureWarning: (\S+) comes from template 1\.x", process.stderr)
        assert sorted(set(warned)) == [name for name in kept if command in kept[name]]
        assert len(warned) == process.stderr.count("FutureWarning")
        assert not warned or "from safe_migrations import " in process.stderr
    change(new.folder / "models_db.py", "    name: ", "    note: Mapped[str | None]\n    name: ")
    new.succeed("alembic", "revision", "--autogenerate", "-m", "note")
    assert new.revisions()[-1].endswith("_0002_note.py")
    new.succeed("alembic", "upgrade", "head")
    new.succeed("alembic", "check")


def test_fixtures_that_a_service_keeps_say_what_to_write(carried: Carried) -> None:
    git(carried.new.folder, "checkout", "HEAD~", "--", "tests/conftest.py")
    process = carried.new.run("pytest", "-p", "no:cacheprovider")
    assert process.returncode != 0
    for what in ("tests/conftest.py", 'pytest_plugins = ["safe_migrations.testing"]'):
        assert what in process.stderr


def test_a_service_of_1_beside_the_library_is_told_to_update(carried: Carried) -> None:
    """In a monorepo, whose services share one environment; or where the update has left edited machinery."""
    for command in (("alembic", "upgrade", "head"), (str(warm_program("safe-migrations")), "state")):
        message = carried.old.fail(*command)
        assert "safe_migrations/__init__.py" in message
        assert "safe-migrations template-update" in message


def test_machinery_that_is_kept_hides_nothing(carried: Carried) -> None:
    carried.new.succeed("alembic", "upgrade", "head")
    carried.new.folder.joinpath("safe_migrations", "errors.py").write_text("raise RuntimeError")
    carried.new.succeed("python", "-m", "safe_migrations", "state")

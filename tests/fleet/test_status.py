"""The status of services in real databases, by real workers; the services have modules of the same names."""

import asyncio
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from safe_migrations.errors import ConfigurationError, ConnectionFailedError
from safe_migrations.fleet import databases, status_table, worker_pool
from safe_migrations.fleet.releases import library_release, newest_releases, read_template, waits
from safe_migrations.fleet.services import Member, find_services
from safe_migrations.fleet.status import ServiceStatus, as_json, read_statuses
from safe_migrations.revisions import read_revisions
from safe_migrations.service import Service
from support import ROOT, NewDatabase, as_text, bare_environment, fetch
from warm_python import warm_path

INI = "[alembic]\nscript_location = %(here)s/alembic\nprepend_sys_path = %(here)s\n[safe_migrations]\n"
MODELS = (
    "import sqlalchemy as sa\nmetadata = sa.MetaData()\nsa.Table({name!r}, metadata, sa.Column('id', sa.Integer))\n"
)
ENV = """
import logging, os, sys
from pathlib import Path
from safe_migrations import load_env_files, run_env
from models_db import metadata

assert os.environ.get("OWN") in (None, "{name}")
load_env_files(Path(__file__).parents[1])
{first}
run_env(target_metadata=metadata, database_url=lambda: os.environ["{prefix}_DATABASE_URL"])
"""
BACKFILL = """
import sqlalchemy as sa
from safe_migrations.backfills import Backfill

table = sa.table("b", sa.column("id"))
backfill = Backfill(table=table, key=("id",), where=table.c.id > 0, values={})
"""
HANG = """
import subprocess
process = subprocess.Popen(["sleep", "1000"])
Path("process").write_text(str(process.pid))
process.wait()
"""
SECRET = "a_secret_word"


def revision(folder: Path, number: int, declarations: str = "") -> None:
    after = repr(f"r{number - 1}") if number > 1 else None
    text = f'"""change {number}"""\n\nrevision = "r{number}"\ndown_revision = {after}\n{declarations}\n'
    versions = folder / "alembic" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    functions = "\n\ndef upgrade():\n    pass\n\n\ndef downgrade():\n    pass\n"
    versions.joinpath(f"20260101_{number:04d}_change.py").write_text(text + functions)


def service(root: Path, name: str, url: URL | str, *, first: str = "", prefix: bool = True) -> Path:
    folder = root / name
    revision(folder, 1)
    variables = f"env_prefix = {name.upper()}\n" if prefix else ""
    folder.joinpath("alembic.ini").write_text(f"{INI}service = {name}\ndatabase_port = 15432\n{variables}")
    folder.joinpath("models_db.py").write_text(MODELS.format(name=name))
    folder.joinpath("alembic", "env.py").write_text(ENV.format(first=first, name=name, prefix=name.upper()))
    text = url if isinstance(url, str) else as_text(url)
    folder.joinpath(".env").write_text(f"{name.upper()}_DATABASE_URL={text}\nOWN={name}\n")
    return folder


def at_first_revision(url: URL, table: str) -> URL:
    fetch(url, f"CREATE TABLE {table} (id integer)")
    fetch(url, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    fetch(url, "INSERT INTO alembic_version VALUES ('r1')")
    return url


@pytest.fixture
def statuses(tmp_path: Path, new_database: NewDatabase, forked_copier: None) -> dict[str, ServiceStatus]:
    head = at_first_revision(new_database(), "a")
    fetch(head, "CREATE TABLE stock (id integer)")
    service(tmp_path, "a", head)
    b = service(tmp_path, "b", behind := at_first_revision(new_database(), "b"))
    revision(b, 2, 'phase = "expand"')
    revision(b, 3, 'phase: str = "contract"\nrequires_backfill = "fill"')
    b.joinpath("alembic", "backfills").mkdir()
    b.joinpath("alembic", "backfills", "fill.py").write_text(BACKFILL)
    fetch(behind, "INSERT INTO b SELECT generate_series(1, 60)")
    fetch(behind, "CREATE SCHEMA safe_migrations")
    fetch(behind, "CREATE TABLE safe_migrations.backfill (name text, rows bigint, finished_at timestamptz)")
    fetch(behind, "INSERT INTO safe_migrations.backfill VALUES ('fill', 40)")
    service(tmp_path, "crash", head, first="os._exit(3)")
    service(tmp_path, "error", head, first=f"raise RuntimeError('postgresql://user:{SECRET}@host')")
    service(tmp_path, "missing", head, first="import no_such_module")
    service(tmp_path, "missing_behind", behind, first="import no_such_module")
    revision(tmp_path / "missing_behind", 2, 'phase = "expand"')
    service(tmp_path, "stock", head, prefix=False)
    service(tmp_path, "unreachable", f"postgresql://user:{SECRET}@127.0.0.1:1/x")
    broken = tmp_path / "broken"
    broken.mkdir()
    broken.joinpath("alembic.ini").write_text("[safe_migrations]\ncolour = red\n")
    return {status.path: status for status in read_statuses(find_services(tmp_path))}


def test_each_service_has_its_row(statuses: dict[str, ServiceStatus]) -> None:
    states = {path: (status.state, status.exit_status) for path, status in statuses.items()}
    assert states == {
        "a": ("drift", 8),  # the table that `stock` has
        "b": ("behind", 4),
        "broken": ("could not tell", 11),
        "crash": ("at head", 0),
        "error": ("at head", 0),
        "missing": ("at head", 0),
        "missing_behind": ("behind", 4),
        "stock": ("drift", 8),
        "unreachable": ("could not tell", 12),
    }
    assert statuses["a"].drift == ("remove_table stock",)  # its own models, not those of another service
    assert statuses["stock"].drift == ("remove_table a",)
    for path in ("crash", "error", "missing"):
        assert statuses[path].drift is None
        assert statuses[path].not_compared
    assert "no_such_module" in statuses["missing"].not_compared[0]
    assert [(row["name"], row["phase"]) for row in statuses["b"].pending] == [
        ("0002 change 2", "expand"),
        ("0003 change 3", "contract"),
    ]
    assert [row["phase"] for row in statuses["missing_behind"].pending] == ["expand"]  # by the files alone
    assert [(row["name"], row["percent"]) for row in statuses["b"].backfills] == [("fill", 40)]
    assert [(row["name"], row["percent"]) for row in statuses["missing_behind"].backfills] == [("fill", None)]
    assert statuses["a"].last_applied is not None
    assert statuses["a"].last_applied["name"] == "0001 change 1"
    assert statuses["a"].last_applied["at"]
    assert (statuses["unreachable"].database, statuses["unreachable"].port) == ("x", 1)
    text = status_table.as_text([*statuses.values()])
    assert all(path in text for path in statuses)
    assert SECRET not in text + checked_json(statuses)
    table, *_ = text.split("\n\n")
    assert max(map(len, table.splitlines())) <= 100


def checked_json(statuses: dict[str, ServiceStatus]) -> str:
    text = as_json([*statuses.values()])
    keys = {"service", "path", "template", "library", "database", "port", "state", "pending", "backfills", "next"}
    assert all(keys <= row.keys() for row in json.loads(text))
    return text


def test_an_endless_loop_costs_one_answer(tmp_path: Path, database: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    url = at_first_revision(database, "good")
    service(tmp_path, "good", url)
    service(tmp_path, "hanging", url, first=HANG)
    good, hanging = find_services(tmp_path)

    async def answers() -> list[dict[str, Any]]:
        async with worker_pool.Workers(1) as process:
            first = await process.ask(good)  # the process has started, so that the bound holds for env.py alone
            monkeypatch.setattr(worker_pool, "TIMEOUT", 2)
            second = await process.ask(hanging)
            monkeypatch.undo()
            return [first, second, await process.ask(good)]

    first, second, third = asyncio.run(answers())
    assert first["report"]["state"] == third["report"]["state"] == "at head"
    assert second.keys() == {"not_compared"}
    process = Path("/proc", tmp_path.joinpath("hanging", "process").read_text(), "cmdline")
    assert not process.exists() or not process.read_bytes(), "what env.py has started has ended as well"


def test_the_commands_of_the_how_to(tmp_path: Path, database: URL) -> None:
    page = ROOT.joinpath("docs", "how-to", "fleet.md").read_text()
    blocks = re.findall("```sh\n(.*?)```", page, re.DOTALL)
    script = "".join(block for block in blocks if re.search("fleet (status|page)", block))
    service(tmp_path, "orders", at_first_revision(database, "orders"))
    environment = bare_environment(PATH=warm_path())
    process = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "at head" in process.stdout
    assert not process.stderr
    assert "0001 change 1" in tmp_path.joinpath("fleet.html").read_text()


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], cwd=folder, check=True)


def member(root: Path, name: str, answers: str = "") -> Member:
    folder = root / name
    folder.mkdir(parents=True)
    folder.joinpath("alembic.ini").write_text("[safe_migrations]\n")
    if answers:
        folder.joinpath(".copier-answers.yml").write_text(answers)
    return Member(name, folder / "alembic.ini", None)


def test_the_newest_release_of_a_template(tmp_path: Path) -> None:
    repository = tmp_path / "template"
    repository.mkdir()
    git(repository, "init", "--quiet")
    git(repository, "commit", "--quiet", "--allow-empty", "--message=x")
    for tag in ("2.0.0", "v2.9.0", "2.10.0", "3.0.0rc1", "other"):
        git(repository, "tag", tag)
    absolute = read_template(member(tmp_path, "a", f"_commit: 2.0.0\n_src_path: {repository}\n"))
    relative = read_template(member(tmp_path, "b", "_commit: 2.0.0\n_src_path: ../template\n"))
    gone = read_template(
        member(tmp_path, "c", f"_commit: v2.0.0\n_src_path: https://user:{SECRET}@127.0.0.1:1/gone.git\n")
    )
    assert absolute and relative and gone
    assert read_template(member(tmp_path, "d")) is None
    strange = [replace(gone, source=source) for source in ("a\0b", "~nobody-has-this-name/template")]
    newest = asyncio.run(newest_releases([absolute, relative, gone, *strange]))
    assert newest.pop(str(repository)) == "2.10.0"
    assert newest == {template.repository: None for template in (gone, *strange)}  # a repository is asked once
    assert SECRET not in gone.shown
    assert waits("2.9.0", "2.10.0")
    assert not waits("2.10.0", "2.10.0")
    assert not waits("2.10.0-3-gabcdef0", "2.10.0")


def test_the_library_that_a_service_runs_with(tmp_path: Path) -> None:
    locked = member(tmp_path, "locked")
    locked.folder.joinpath("pdm.lock").write_text('[[package]]\nname = "alembic-safe-migrations"\nversion = "2.3.4"\n')
    assert library_release(locked) == "2.3.4"
    packages = locked.folder / ".venv" / "lib" / "python3.11" / "site-packages"
    metadata = packages / "alembic_safe_migrations-2.5.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: alembic-safe-migrations\nVersion: 2.5.0\n")
    packages.parents[2].joinpath("bin").mkdir()
    assert library_release(locked) == "2.5.0"
    assert library_release(member(tmp_path, "other")) not in (None, "2.5.0")


def test_names_act_on_no_terminal(tmp_path: Path) -> None:
    row = ServiceStatus(member(tmp_path, "a"), "a", "a\x1b[31m", database="b\nb", problem="c\x1b[31m", next="d\x1b")
    assert "\x1b" not in status_table.as_text([row])
    assert "b\nb" not in status_table.as_text([row])


@pytest.mark.usefixtures("forked_copier")
def test_a_service_without_a_configured_database_shows_that_of_alembic_ini(tmp_path: Path) -> None:
    service(tmp_path, "orders", "").joinpath(".env").unlink()
    (status,) = read_statuses(find_services(tmp_path))
    assert (status.exit_status, status.database, status.port) == (ConfigurationError.exit_status, "orders", 15432)


@pytest.mark.parametrize(
    ("declared", "current", "pending"),
    [
        ({"a": "", "b": "a", "c": "b"}, ["a"], ["b", "c"]),
        ({"c": "", "b": "c", "a": "b"}, [], ["c", "b", "a"]),
        ({"a": "", "b": "a", "c": "a", "d": "b', 'c"}, ["c"], ["b", "d"]),
        ({"a": "", "b": "a"}, ["b"], []),
    ],
)
def test_pending_revisions_of_files(
    tmp_path: Path, declared: dict[str, str], current: list[str], pending: list[str]
) -> None:
    for name, after in declared.items():
        tmp_path.joinpath(f"{name}.py").write_text(f"revision = {name!r}\ndown_revision = ('{after}')\n")
    assert read_revisions([tmp_path]).pending(current) == pending


def test_an_unforeseen_error_is_one_service_s_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("good", "strange"):
        tmp_path.joinpath(name).mkdir()
        tmp_path.joinpath(name, "alembic.ini").write_text(f"{INI}env_prefix = X\n")

    async def ask(service: Service) -> databases.Answer:
        if service.folder.name == "strange":
            raise AttributeError(SECRET)
        raise ConnectionFailedError("It can't be reached.")

    monkeypatch.setenv("X_DATABASE_URL", "postgresql://user:word@127.0.0.1:1/x")
    monkeypatch.setattr(databases, "ask", ask)
    good, strange = read_statuses(find_services(tmp_path))
    assert good.problem == "It can't be reached."
    assert "AttributeError" in str(strange.problem)
    assert SECRET not in str(strange.problem)
    assert strange.exit_status

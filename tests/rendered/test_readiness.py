"""`database.readiness` of a rendering, and `python -m database`: may traffic go to this replica?"""

import json
from pathlib import Path

import pytest
from sqlalchemy import URL

from support import NewRole, Service, ToHead, fetch

# Asks as an application does, with its own engine; with an argument, while the pool's only connection is in use.
# Then, without an argument, as the command does.
ASK = """
import asyncio, json, runpy, sys
from config import load_settings
from database import create_engine, readiness

async def ask():
    engine = create_engine(load_settings())
    if sys.argv[1:]:
        async with engine.connect():
            answer = await readiness(engine)
    else:
        answer = await readiness(engine)
    await engine.dispose()
    print(json.dumps([answer.ready, answer.reason]))

asyncio.run(ask())
if not sys.argv[1:]:
    runpy.run_module("database", run_name="__main__")
"""


def ask(service: Service, *arguments: str, folder: Path | None = None) -> tuple[bool, str]:
    """Whether it is ready, and why; from Python, and on the command line the same."""
    service.environment["PYTHONPATH"] = str(service.folder)
    process = service.run("python", "-c", ASK, *arguments, folder=folder)
    answer, *printed = process.stdout.splitlines()
    ready, reason = json.loads(answer)
    assert "\n" not in reason
    if not arguments:
        assert (process.returncode, printed, process.stderr) == (0 if ready else 1, [reason], "")
    return ready, reason


def test_ready_at_this_codes_revision_or_a_newer_one(service: Service, database: URL, to_head: ToHead) -> None:
    ready, reason = ask(service)
    assert (ready, "alembic upgrade head" in reason) == (False, True), "empty"

    to_head()
    assert ask(service)[0]
    assert ask(service, folder=Path("/"))[0], "alembic.ini is found from anywhere"

    ((baseline,),) = fetch(database, "SELECT version_num FROM alembic_version")
    fetch(database, "UPDATE alembic_version SET version_num = 'next_release'")
    ready, reason = ask(service)
    assert (ready, "next_release" in reason) == (True, True), "an old replica, beside a release that is rolled out"

    fetch(database, f"UPDATE alembic_version SET version_num = '{baseline}'")  # noqa: S608
    service.add_revision("next", "pass")
    ready, reason = ask(service)
    assert not ready
    assert all(part in reason for part in ("_0001_baseline.py", "_0002_next.py", "alembic upgrade head")), reason


def test_not_ready_while_all_connections_of_the_pool_are_in_use(at_head: Service) -> None:
    for name, value in (("SIZE", "1"), ("OVERFLOW", "0"), ("TIMEOUT", "0.1")):
        at_head.environment[f"ORDERS_DB_POOL_{name}"] = value
    ready, reason = ask(at_head, "in use")
    assert (ready, "ORDERS_DB_POOL_SIZE" in reason) == (False, True)


def test_not_ready_without_a_server_and_no_secret_is_shown(service: Service, database: URL) -> None:
    for change in ({"port": 1}, {"password": "sec%ret"}, {"database": "missing"}, {"host": "unknown.invalid"}):
        service.configure(database.set(password="sec%ret").set(**change))
        ready, reason = ask(service)
        assert (ready, "ORDERS_DATABASE_URL" in reason) == (False, True)
        assert "sec%ret" not in reason
        assert "sec%25ret" not in reason


def test_not_ready_where_the_role_may_not_read_the_revision(at_head: Service, database: URL, new_role: NewRole) -> None:
    at_head.configure(database.set(username=new_role("LOGIN", "secret"), password="secret"))
    ready, reason = ask(at_head)
    assert not ready
    assert "permission denied for table alembic_version" in reason


def test_the_table_of_revisions_is_the_one_of_alembic_ini(service: Service, database: URL) -> None:
    ini = service.folder / "alembic.ini"
    section = "[safe_migrations]\n"
    ini.write_text(
        ini.read_text().replace(section, f"{section}version_table = orders_revision\nversion_table_schema = other\n")
    )
    assert not ask(service)[0]
    fetch(database, "CREATE SCHEMA other")
    service.succeed("alembic", "upgrade", "head")
    assert ask(service)[0]


@pytest.mark.parametrize("value", ["mysql://user:sec%25ret@host/name", ""])
def test_settings_that_can_not_be_used_are_one_sentence(service: Service, value: str) -> None:
    service.environment["ORDERS_DATABASE_URL"] = value
    sentence = service.fail("python", "-m", "database")
    assert "ORDERS_DATABASE_URL" in sentence
    assert "sec" not in sentence

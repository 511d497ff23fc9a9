"""The applications of the page on frameworks, each behind a real server, beside a rendered service's modules."""

import asyncio
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import hypercorn
import pytest
from httpx import AsyncClient
from hypercorn.asyncio import serve
from sqlalchemy import URL

from blocking_statement import wait_for
from safe_migrations import readiness
from support import ROOT, Administrator, Render, Service, fetch

pytestmark = pytest.mark.filterwarnings("error::DeprecationWarning")

PAGE = (ROOT / "docs" / "how-to" / "frameworks.md").read_text()
APPLICATIONS = dict(re.findall(r"^## (\w+)\n.*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
MODULES = ("app", "config", "database", "models_db")
LATE_FAILURE = """
    DO $$ BEGIN
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''late''; END';
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.name = 'late') EXECUTE FUNCTION refuse();
    END $$
"""
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'orders' AND datname = current_database()"


@pytest.fixture(params=["FastAPI", "Litestar", "Quart"])
def application(request: pytest.FixtureRequest, at_head: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The application of a framework, whose database is at head."""
    at_head.folder.joinpath("app.py").write_text(APPLICATIONS[request.param])
    monkeypatch.syspath_prepend(at_head.folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name, value in at_head.environment.items():
        monkeypatch.setenv(name, value)
    for name in MODULES:
        sys.modules.pop(name, None)  # such as the package app of another test's project
    yield import_module("app").app
    for name in MODULES:
        sys.modules.pop(name, None)


@asynccontextmanager
async def served(application: Any) -> AsyncIterator[AsyncClient]:
    """A client of the application, while a server runs the application."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = hypercorn.Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.errorlog = config.accesslog = None
    end = asyncio.Event()
    server = asyncio.create_task(serve(application, config, shutdown_trigger=end.wait))
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
            yield client
    finally:
        end.set()
        await server


@asynccontextmanager
async def relay(url: URL) -> AsyncIterator[tuple[URL, asyncio.Event]]:
    """A URL that leads to a server of PostgreSQL, until the event is set: then nothing answers there."""
    silent = asyncio.Event()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not silent.is_set():
                writer.write(data)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(url.host, url.port)
        await asyncio.gather(copy(reader, to_server), copy(from_server, writer))

    server = await asyncio.start_server(connect, "127.0.0.1")
    yield url.set(host="127.0.0.1", port=server.sockets[0].getsockname()[1]), silent
    server.close()


def test_the_code_passes_the_lint_of_a_service(render: Render) -> None:
    service = render()
    for framework, code in APPLICATIONS.items():
        service.folder.joinpath(f"{framework.lower()}_app.py").write_text(code)
    service.succeed("ruff", "check")
    service.succeed("ruff", "format", "--check")


def test_ready_says_whether_the_database_is_at_a_revision_that_serves_this_code(
    application: Any, at_head: Service, database: URL
) -> None:
    expand = at_head.add_revision("expand", "pass", declarations='phase = "expand"')
    contract = at_head.add_revision("contract", "pass", declarations='phase = "contract"')

    async def answers() -> list[tuple[int, bool]]:
        async with served(application) as client:
            answers = [await client.get("/ready")]
            for revision in (expand, contract, "next_release"):
                await asyncio.to_thread(fetch, database, "UPDATE alembic_version SET version_num = :r", r=revision)
                answers.append(await client.get("/ready"))
            return [(answer.status_code, word in answer.text) for answer, word in zip(answers, words, strict=True)]

    words = ("_0001_baseline.py", "_0003_contract.py", "at head", "next_release")
    assert asyncio.run(answers()) == [(503, True), (200, True), (200, True), (200, True)]


def test_ready_says_within_its_bound_that_the_database_is_gone(
    application: Any, database: URL, administrator: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answers() -> list[tuple[int, bool]]:
        async with relay(database) as (url, silent):
            monkeypatch.setenv("ORDERS_DATABASE_URL", url.render_as_string(hide_password=False))
            async with served(application) as client:
                answers = [await client.get("/ready")]
                monkeypatch.setattr(readiness, "TIMEOUT", 0.2)
                silent.set()
                async with asyncio.timeout(60):
                    answers.append(await client.get("/ready"))
                silent.clear()
                await asyncio.to_thread(administrator.drop, str(database.database))
                answers.append(await client.get("/ready"))
            return [(answer.status_code, "ORDERS_DATABASE_URL" in answer.text) for answer in answers]

    assert asyncio.run(answers()) == [(200, False), (503, True), (503, True)]


def test_a_request_is_one_transaction_and_the_engine_ends_with_the_application(application: Any, database: URL) -> None:
    fetch(database, LATE_FAILURE)

    async def add(*names: str) -> list[int]:
        async with served(application) as client:
            return [(await client.post("/items", params={"name": name})).status_code for name in names]

    assert asyncio.run(add("first", "", "late", "second")) == [201, 500, 500, 201]
    assert fetch(database, "SELECT name FROM item ORDER BY id") == [("first",), ("second",)]
    wait_for(database, SESSIONS, count=0)  # PostgreSQL ends the session of a closed connection a moment later

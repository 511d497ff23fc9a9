"""The application's engine and sessions, and the readiness check."""

import asyncio

import pytest
from alembic import command
from conftest import Database
from sqlalchemy import text

from config import ENV_PREFIX, load_settings
from database import Readiness, check_readiness, create_engine, create_session_factory


def readiness() -> Readiness:
    async def check() -> Readiness:
        engine = create_engine(load_settings())
        try:
            return await check_readiness(engine)
        finally:
            await engine.dispose()

    return asyncio.run(check())


def test_sessions_belong_to_the_configured_database(configured: Database) -> None:
    async def current_database() -> str:
        engine = create_engine(load_settings())
        async with create_session_factory(engine)() as session:
            name = str(await session.scalar(text("SELECT current_database()")))
        await engine.dispose()
        return name

    assert asyncio.run(current_database()) == configured.url.database


@pytest.mark.usefixtures("configured")
def test_ready_at_head() -> None:
    assert readiness().ready


def test_not_ready_behind(configured: Database) -> None:
    configured.alembic(command.downgrade, "base")
    assert not readiness().ready
    assert "alembic upgrade head" in readiness().reason


def test_ready_beside_a_newer_release(configured: Database) -> None:
    configured.fetch("UPDATE alembic_version SET version_num = 'next_release' RETURNING version_num")
    assert readiness().ready
    assert "next_release" in readiness().reason


def test_not_ready_while_the_pool_is_empty(configured: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SIZE", "1"), ("OVERFLOW", "0"), ("TIMEOUT", "0.1")):
        monkeypatch.setenv(f"{ENV_PREFIX}_DB_POOL_{name}", value)

    async def check_with_the_only_connection_taken() -> Readiness:
        engine = create_engine(load_settings())
        async with engine.connect():
            readiness = await check_readiness(engine)
        await engine.dispose()
        return readiness

    assert "in use" in asyncio.run(check_with_the_only_connection_taken()).reason


def test_not_ready_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}_DATABASE_URL", "postgresql://user:secret@127.0.0.1:1/name")
    assert not readiness().ready
    assert "secret" not in readiness().reason

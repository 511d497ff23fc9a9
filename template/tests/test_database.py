"""The application's engine and sessions, and the readiness check."""

import asyncio

import pytest
from alembic import command
from conftest import Database
from sqlalchemy import select

from config import ENV_PREFIX, load_settings
from database import Readiness, check_readiness, create_engine, create_session_factory
from models_db import Item


@pytest.fixture
def configured(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The service, configured for a database at head."""
    monkeypatch.setenv(f"{ENV_PREFIX}_DATABASE_URL", database.url.render_as_string(hide_password=False))
    return database


def readiness() -> Readiness:
    async def check() -> Readiness:
        engine = create_engine(load_settings())
        try:
            return await check_readiness(engine)
        finally:
            await engine.dispose()

    return asyncio.run(check())


def test_session_writes_and_reads(configured: Database) -> None:
    async def write_and_read() -> Item:
        engine = create_engine(load_settings())
        session_factory = create_session_factory(engine)
        async with session_factory.begin() as session:
            session.add(Item(name="first"))
        async with session_factory.begin() as session:
            item = (await session.scalars(select(Item))).one()
            item.name = "second"
        await engine.dispose()
        return item

    item = asyncio.run(write_and_read())
    assert item.name == "second"
    assert item.updated_at > item.created_at
    assert item.created_at.tzinfo is not None


@pytest.mark.usefixtures("configured")
def test_ready_at_head() -> None:
    assert readiness().ready


def test_not_ready_behind(configured: Database) -> None:
    configured.alembic(command.downgrade, "base")
    assert not readiness().ready
    assert "migrate-upgrade" in readiness().reason


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

"""The example model; replace it together with Item."""

import asyncio

import pytest
from sqlalchemy import select

from config import load_settings
from database import create_engine, create_session_factory
from models_db import Item


@pytest.mark.usefixtures("configured")
def test_session_writes_and_reads() -> None:
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

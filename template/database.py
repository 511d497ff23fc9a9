"""The application's database: its engine, its sessions, and whether it is ready.

`python -m database` is a readiness probe: is the database at the revision that this code expects?
"""

import asyncio
import sys

from safe_migrations import MigrationError, Readiness, check_readiness
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from config import SERVICE_FOLDER, SERVICE_NAME, Settings, load_settings


def create_engine(settings: Settings) -> AsyncEngine:
    """The application's engine; create one for each process, and dispose of it at the end."""
    return create_async_engine(
        settings.database_url,
        pool_size=settings.db_pool_size,
        max_overflow=settings.db_pool_overflow,
        pool_timeout=settings.db_pool_timeout,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"timeout": 10, "server_settings": {"application_name": SERVICE_NAME}},
    )


def create_session_factory(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions whose objects remain loaded after a commit, because async code can't reload them implicitly."""
    return async_sessionmaker(engine, expire_on_commit=False)


async def readiness(engine: AsyncEngine) -> Readiness:
    """Whether the database is at the revision that this code expects, or at a newer one."""
    return await check_readiness(engine, SERVICE_FOLDER / "alembic.ini")


async def _main() -> Readiness:
    engine = create_engine(load_settings())
    try:
        return await readiness(engine)
    finally:
        await engine.dispose()


if __name__ == "__main__":
    try:
        answer = asyncio.run(_main())
    except MigrationError as error:
        sys.exit(str(error))
    print(answer.reason)
    sys.exit(not answer.ready)

"""The application's database: its engine, its sessions, and whether it is ready.

`python -m database` tells whether the database is at the revision that this code expects, for a readiness probe.
"""

import asyncio
import sys
from dataclasses import dataclass
from functools import cache

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from config import ENV_PREFIX, SERVICE_FOLDER, SERVICE_NAME, Settings, load_settings
from safe_migrations.connection import CONNECT_TIMEOUT, explain
from safe_migrations.errors import MigrationError


def create_engine(settings: Settings) -> AsyncEngine:
    """The application's engine; make one for each process, and dispose of it at the end.

    Args:
        settings: what `load_settings` gives.

    Raises:
        ConfigurationError: no database is configured.
    """
    return create_async_engine(
        settings.database_url,
        pool_size=settings.db_pool_size,
        max_overflow=settings.db_pool_overflow,
        pool_timeout=settings.db_pool_timeout,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"timeout": CONNECT_TIMEOUT, "server_settings": {"application_name": SERVICE_NAME}},
    )


def create_session_factory(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Makes sessions whose objects can still be read after a commit, which async code can't reload implicitly."""
    return async_sessionmaker(engine, expire_on_commit=False)


@dataclass(frozen=True)
class Readiness:
    """Whether the application can work with its database, and why.

    Attributes:
        ready: whether it can.
        reason: one sentence, without secrets.
    """

    ready: bool
    reason: str


async def check_readiness(engine: AsyncEngine) -> Readiness:
    """Whether the database is at the revision that this code expects.

    A database that is newer than this code counts as ready: while a release is rolled out, the old replicas go on
    beside a schema that is migrated already.

    Args:
        engine: the application's engine.
    """
    try:
        async with engine.connect() as connection:
            current = await connection.run_sync(_current_revisions)
    except (OSError, DBAPIError) as error:
        return Readiness(False, explain(error, engine.url, ENV_PREFIX))
    except PoolTimeoutError:
        return Readiness(False, f"All connections of the pool are in use: raise {ENV_PREFIX}_DB_POOL_SIZE, or wait.")
    heads, known = _revisions_of_this_code()
    if current == heads:
        return Readiness(True, f"The database is at revision {_names(current)}, as this code expects.")
    if current - known:
        return Readiness(True, f"The database is at revision {_names(current)}, which is newer than this code.")
    return Readiness(
        False,
        f"The database is at revision {_names(current)}, this code expects {_names(heads)}: run alembic upgrade head",
    )


def _current_revisions(connection: Connection) -> frozenset[str]:
    return frozenset(MigrationContext.configure(connection).get_current_heads())


@cache
def _revisions_of_this_code() -> tuple[frozenset[str], frozenset[str]]:
    scripts = ScriptDirectory(SERVICE_FOLDER / "alembic")
    known = frozenset(script.revision for script in scripts.walk_revisions())
    return frozenset(scripts.get_heads()), known


def _names(revisions: frozenset[str]) -> str:
    return ", ".join(sorted(revisions)) or "base"


async def _main() -> Readiness:
    engine = create_engine(load_settings())
    try:
        return await check_readiness(engine)
    finally:
        await engine.dispose()


if __name__ == "__main__":
    try:
        readiness = asyncio.run(_main())
    except MigrationError as error:
        sys.exit(str(error))
    print(readiness.reason)
    sys.exit(not readiness.ready)

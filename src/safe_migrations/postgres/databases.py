"""Creating and dropping databases on a server."""

from sqlalchemy import text

from safe_migrations.postgres.connection import Database, connected


async def create_database(server: Database, name: str, template: str = "template1") -> None:
    """Create a database.

    Args:
        server: any database of the server, with a user who may create databases.
        name: the new database's name, unquoted.
        template: the database to copy, without connections.
    """
    create = "SELECT format('CREATE DATABASE %I TEMPLATE %I', CAST(:name AS text), CAST(:template AS text))"
    await _execute(server, create, name=name, template=template)


async def drop_database(server: Database, name: str) -> None:
    """Drop a database if it exists; its connections are ended.

    Args:
        server: another database of the server, with a user who may drop this one.
        name: the database's name, unquoted.
    """
    drop = "SELECT format('DROP DATABASE IF EXISTS %I WITH (FORCE)', CAST(:name AS text))"
    await _execute(server, drop, name=name)


async def database_exists(server: Database, name: str) -> bool:
    """Whether the server has a database of this name.

    Args:
        server: any database of the server.
        name: the database's name, unquoted.
    """
    async with connected(server) as connection:
        query = text("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)")
        return bool(await connection.scalar(query, {"name": name}))


async def _execute(server: Database, query: str, **names: str) -> None:
    # PostgreSQL quotes the names; neither statement may run in a transaction.
    async with connected(server, isolation_level="AUTOCOMMIT") as connection:
        statement = await connection.scalar(text(query), names)
        await connection.exec_driver_sql(statement)

"""The server of the scratch databases, in which revisions are tried before they are recorded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.schema import CreateSchema

from safe_migrations.adopt.refusals import count_relations, may_hold_scratch
from safe_migrations.dev.cluster import throw_away_cluster
from safe_migrations.errors import AdoptionError, NotInstalledError
from safe_migrations.operate.rehearse import rehearsal_server
from safe_migrations.postgres.connection import connected, major_version
from safe_migrations.postgres.creation import scratch_database
from safe_migrations.postgres.database import Database
from safe_migrations.postgres.programs import find_programs
from safe_migrations.upgrade.project import Project


@asynccontextmanager
async def scratch_server(project: Project) -> AsyncIterator[Database]:
    """A database of a server of the same version, with a user who may create databases.

    By default, this is the server that rehearsals use: …_REHEARSAL_DATABASE_URL, or else the database's own. If the
    user may not create databases there, or max_locks_per_transaction is too low, an embedded PostgreSQL is started.

    Raises:
        AdoptionError: there is no such server.
    """
    server, variable = rehearsal_server(project), project.service.variable("REHEARSAL_DATABASE_URL")
    async with connected(project.database, isolation_level="AUTOCOMMIT") as connection:
        version = major_version(connection)
        relations = await connection.run_sync(count_relations)
    async with connected(server, isolation_level="AUTOCOMMIT") as connection:
        is_suitable = await connection.run_sync(may_hold_scratch, relations)
        other = major_version(connection)
    if other != version:
        raise AdoptionError(
            f"The database runs on PostgreSQL {version}, but the server in {variable} runs PostgreSQL {other}, which "
            "describes the same schema differently. Nothing was changed. Name a server of the same version."
        )
    if is_suitable:
        yield server
        return
    try:
        programs = find_programs(version, exactly=True)
    except NotInstalledError as error:
        raise AdoptionError(
            f"No scratch database can be created at {server.host}: the user {server.url.username!r} lacks CREATEDB, or "
            f"max_locks_per_transaction is too low for {relations} relations. PostgreSQL {version} is not installed "
            f"here either. Nothing was changed. Set {variable} to the URL of another server with PostgreSQL {version}."
        ) from error
    with throw_away_cluster(programs) as cluster:
        yield Database(cluster.url(), project.service)


@asynccontextmanager
async def empty_database(server: Database, project: Project) -> AsyncIterator[Database]:
    """A scratch database with the schema of the project's version table, which a downgrade keeps."""
    async with scratch_database(server, project.database.name) as database:
        if name := project.service.version_table_schema:
            async with connected(database, isolation_level="AUTOCOMMIT") as connection:
                await connection.execute(CreateSchema(name, if_not_exists=True))
        yield database

"""`safe-migrations adopt`: read, write, prove, and record the revision of a database that has none."""

import io
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util import rev_id
from sqlalchemy import Connection, text

from safe_migrations.adopt import draft as drafts
from safe_migrations.adopt import refusals
from safe_migrations.adopt.baseline import write_baseline
from safe_migrations.adopt.dump import Dump, dump_schema
from safe_migrations.adopt.left_out import not_in_models
from safe_migrations.adopt.models import write_models
from safe_migrations.adopt.proof import Scratch, prove, refuse_differing_models
from safe_migrations.adopt.scratch import scratch_server
from safe_migrations.autogenerate.ownership import MIGRATION_TOOLS
from safe_migrations.errors import AdoptionError
from safe_migrations.logs import quiet
from safe_migrations.postgres.connection import connected
from safe_migrations.postgres.creation import scratch_database
from safe_migrations.printable import printable
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.states import FRESH, State, explain_state, read_state, refusal

SNAPSHOT = text("SELECT pg_export_snapshot()")
Report = Callable[[str], None]


@dataclass(frozen=True)
class Existing:
    """What was read of the database to adopt.

    Attributes:
        dump: its schema.
        state: beside the revisions of this code.
        extensions: their names.
        roles: that its policies name.
    """

    dump: Dump
    state: State
    extensions: list[str]
    roles: list[str]


@dataclass(frozen=True)
class Adopted:
    """What was proved.

    Attributes:
        existing: what was read.
        files: that were written; none if the project had the revisions already.
        heads: the revisions to record.
        only_in_baseline: what the models do not hold.
    """

    existing: Existing
    files: list[Path]
    heads: tuple[str, ...]
    only_in_baseline: list[str]


async def read(project: Project, schemas: Sequence[str]) -> Existing:
    """Read the database in one snapshot, and refuse what can't be adopted.

    Raises:
        AdoptionError: the database is tracked already, or has what no revision can make.
        RefusedError: its state does not allow it.
    """
    service = project.service
    async with connected(project.database, isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
        snapshot = await connection.scalar(SNAPSHOT)
        with quiet("alembic"):
            state = await connection.run_sync(read_state, project.script, project.options)
        await connection.run_sync(_refuse, project, state, schemas)
        extensions = await connection.run_sync(refusals.extensions_of)
        roles = await connection.run_sync(refusals.roles_of_policies, schemas)
        table = (service.version_table_schema, service.version_table)
        dump = await dump_schema(project.database, table, schemas, snapshot)
    return Existing(dump, state, extensions, roles)


def _refuse(connection: Connection, project: Project, state: State, schemas: Sequence[str]) -> None:
    if state.name == FRESH or state.current:
        meaning, following = explain_state(state, project.service)
        what = "has nothing to adopt" if state.name == FRESH else "has a revision already"
        raise AdoptionError(f"The database {what}. {meaning} Nothing was changed. {following}")
    if state.rivals or state.invalid:
        raise refusal(replace(state, relations=()), project.service)
    if refusals.is_read_only(connection):
        raise AdoptionError(
            "The server accepts no writes, so that the revision can't be recorded. Nothing was changed. Adopt the "
            f"database on its primary server ({project.service.migration_url})."
        )
    own = (
        project.service.version_table_schema or connection.dialect.default_schema_name,
        project.service.version_table,
    )
    if others := [table for table in refusals.version_tables(connection) if table != own]:
        schema, name = others[0]
        raise AdoptionError(
            f"{printable(schema)}.{printable(name)} looks like a version table of Alembic, so the database is tracked "
            "already. Nothing was changed. Name this table in the section [safe_migrations] of alembic.ini:\n"
            f"version_table = {printable(name)}\nversion_table_schema = {printable(schema)}"
        )
    if not refusals.may_create_table(connection, project.service.version_table_schema):
        raise AdoptionError(
            f"The user {project.database.url.username!r} may not create the table {project.service.version_table}, "
            "which records the revision. Nothing was changed. Grant the user CREATE on the schema, or migrate as the "
            f"owner ({project.service.migration_url})."
        )
    refusals.refuse_not_reproducible(connection, schemas)


def other_tools(state: State) -> list[str]:
    """The other tools that have tables in the database to record their migrations."""
    names = {name.rpartition(".")[2].strip('"') for name in state.relations}
    return sorted(tool for tool, tables in MIGRATION_TOOLS.items() if names & set(tables))


async def write_and_prove(project: Project, existing: Existing, schemas: Sequence[str], report: Report) -> Adopted:
    """Write the baseline and the models, prove them on a scratch database, and put them into the project.

    A project with revisions of its own, or with models of its own, keeps them: only the proof is made.

    Raises:
        AdoptionError: the database can't be reproduced, or differs from the revisions or the models.
    """
    variable = project.service.variable("REHEARSAL_DATABASE_URL")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(scratch_server(project))
        async with connected(server, isolation_level="AUTOCOMMIT") as connection:
            await connection.run_sync(refusals.refuse_lacking, existing.extensions, existing.roles, variable)
        database = await stack.enter_async_context(scratch_database(server, project.database.name))
        report(f"scratch database: {database.name} at {database.host}")
        draft = stack.enter_context(drafts.new_draft(project)) if drafts.has_example_history(project) else None
        scratch = Scratch(project, database, os.fspath(draft.versions) if draft else None, schemas)
        if draft:
            _write_baseline(project, scratch, existing.dump)
        new_models = drafts.has_example_models(project)
        only_in_baseline: list[str] = []

        def check_models(connection: Connection) -> None:
            models = drafts.models_of(project)
            if new_models and draft:
                draft.models.write_text(write_models(connection, schemas or None), encoding="utf-8")
                models = [drafts.load_models(draft.models)]
            refuse_differing_models(connection, project.options, models)
            only_in_baseline.extend(not_in_models(connection, schemas or None))

        await prove(scratch, existing.dump, check_models, report)
        heads = tuple(ScriptDirectory.from_config(scratch.config()).get_heads())
        files = draft.publish() if draft else []
    return Adopted(existing, files, heads, only_in_baseline)


def _write_baseline(project: Project, scratch: Scratch, dump: Dump) -> None:
    config = scratch.config()
    directory = ScriptDirectory.from_config(config)
    with redirect_stdout(io.StringIO()):  # the post-write hooks print
        write_baseline(directory, config, rev_id(), dump, project.service.version_table_schema)

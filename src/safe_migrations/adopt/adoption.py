"""`safe-migrations adopt`: read, write, prove, and record the revision of a database that has none."""

import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from alembic import command
from alembic.script import Script, ScriptDirectory
from alembic.util import rev_id
from sqlalchemy import Connection, text

from safe_migrations.adopt import draft as drafts
from safe_migrations.adopt import refusals
from safe_migrations.adopt.baseline import write_baseline
from safe_migrations.adopt.dump import Dump, dump_schema
from safe_migrations.adopt.left_out import not_in_models
from safe_migrations.adopt.models import write_models
from safe_migrations.adopt.proof import Scratch, prove, refuse_difference, refuse_differing_models
from safe_migrations.adopt.scratch import empty_database, scratch_server
from safe_migrations.autogenerate.ownership import MIGRATION_TOOLS
from safe_migrations.errors import AdoptionError
from safe_migrations.logs import quiet
from safe_migrations.postgres.catalog import version_table
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.creation import left_scratch_databases
from safe_migrations.postgres.sql import qualified
from safe_migrations.printable import printable
from safe_migrations.prompt import confirm
from safe_migrations.upgrade.explanations import explain_state, refusal
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.revision_names import full_name
from safe_migrations.upgrade.states import FRESH, State, read_state

SNAPSHOT = text("SELECT pg_export_snapshot()")
SHOWN = 20  # names of objects
_BY_HAND = (
    "This command has generated the models, and can't correct them. Write the models by hand into models_db.py, in "
    "place of the example, then run the same command again. Please report this as a bug of the library."
)
LEFT_TO_PLATFORM = "The baseline leaves out owners, privileges, tablespaces and security labels."
Report = Callable[[str], None]


@dataclass(frozen=True)
class Existing:
    """The database to adopt, as it was read.

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


def adopt(project: Project, schemas: Sequence[str], report: Report, *, yes: bool, dry_run: bool) -> None:
    """Adopt a database: read it, write and prove a baseline and models, and record the revision.

    Args:
        schemas: the only ones to adopt; all of them if there are none.
        dry_run: whether the revision is not recorded.

    Raises:
        AdoptionError: the database can't be reproduced, or is tracked already.
        NotConfirmedError: the user does not agree.
        RefusedError: the state of the database does not allow it.
    """
    drafts.recover(project)
    database = project.database
    report(f"Reading the schema of the database {database.name!r} at {database.host} …")
    existing = run_async(read(project, schemas))
    for tool in _other_tools(existing.state):
        report(f"{tool} has made this schema. From now on, only Alembic may change the schema: stop using {tool}.")
    heads = run_async(_write_and_prove(project, existing, schemas, report))
    report(LEFT_TO_PLATFORM)
    named = " and ".join(map(full_name, heads))
    if dry_run:
        options = (part for schema in schemas for part in ("--schema", schema))
        record = shlex.join(["safe-migrations", "adopt", *options])
        report(f"The revision {named} was not recorded (--dry-run). To record the revision:\n{record}")
        return
    confirm(
        f"The table {project.service.version_table} of the database {database.name!r} gets the revision {named}. The "
        "table is created if it does not exist. Nothing else is changed.",
        "Record the revision",
        yes=yes,
    )
    refuse_difference(existing.dump, run_async(read(project, schemas)).dump, "the database now")
    command.stamp(project.new_config(project.config.attributes), [script.revision for script in heads])
    report(f"The database {database.name!r} is at revision {named}. To see its state:\nsafe-migrations state")


async def read(project: Project, schemas: Sequence[str]) -> Existing:
    """Read the database in one snapshot, and refuse what can't be adopted.

    Raises:
        AdoptionError: the database is tracked already, or has what no revision can make.
        RefusedError: its state does not allow it.
    """
    async with connected(project.database, isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
        snapshot = await connection.scalar(SNAPSHOT)
        with quiet("alembic"):
            state = await connection.run_sync(read_state, project.script, project.options)
        await connection.run_sync(_refuse, project, state, schemas)
        extensions = await connection.run_sync(refusals.extensions_of)
        roles = await connection.run_sync(refusals.roles_of_policies, schemas)
        dump = await dump_schema(project.database, version_table(project.options), schemas, snapshot)
    return Existing(dump, state, extensions, roles)


def _refuse(connection: Connection, project: Project, state: State, schemas: Sequence[str]) -> None:
    if state.name == FRESH or state.current:
        meaning, following = explain_state(state, project.service)
        what = "has nothing to adopt" if state.name == FRESH else "has a revision already"
        raise AdoptionError(f"The database {what}. {meaning} Nothing was changed. {following}")
    if state.unmerged or state.invalid:
        raise refusal(replace(state, relations=()), project.service)
    if refusals.is_read_only(connection):
        raise AdoptionError(
            "The server accepts no writes, so the revision can't be recorded. Nothing was changed. Adopt the "
            f"database on its primary server ({project.service.migration_url})."
        )
    own = _version_table(project, connection)
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
            "which records the revision. Nothing was changed. Grant the user CREATE on the schema, name another schema "
            f"in alembic.ini (version_table_schema), or migrate as the owner ({project.service.migration_url})."
        )
    refusals.refuse_missing_schemas(connection, schemas)
    refusals.refuse_not_reproducible(connection, schemas)


def _version_table(project: Project, connection: Connection) -> tuple[str | None, str]:
    """The table that records the revision, with its schema."""
    schema, name = version_table(project.options)
    return schema or connection.dialect.default_schema_name, name


def _other_tools(state: State) -> list[str]:
    """The other tools that have tables in the database to record their migrations."""
    names = {name.rpartition(".")[2].strip('"') for name in state.relations}
    return sorted(tool for tool, tables in MIGRATION_TOOLS.items() if names & set(tables))


async def _write_and_prove(
    project: Project, existing: Existing, schemas: Sequence[str], report: Report
) -> Sequence[Script]:
    """Write the baseline and the models, prove them on a scratch database, and put them into the project.

    A project with revisions of its own, or with models of its own, keeps them: only the proof is made.

    Returns:
        The revisions to record.
    """
    variable = project.service.variable("REHEARSAL_DATABASE_URL")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(scratch_server(project))
        async with connected(server, isolation_level="AUTOCOMMIT") as connection:
            await connection.run_sync(refusals.refuse_lacking, existing.extensions, existing.roles, variable)
        for left in await left_scratch_databases(server, project.database.name):
            report(f"A killed run has left the scratch database {left!r} at {server.host}. Drop this database.")
        database = await stack.enter_async_context(empty_database(server, project))
        gone = drafts.example_files(project)
        draft = stack.enter_context(drafts.new_draft(project, gone)) if gone is not None else None
        scratch = Scratch(project, database, draft.versions if draft else None, schemas)
        if draft:
            write_baseline(scratch.config(), rev_id(), existing.dump, project.service.version_table_schema)
        report(f"Proving the revisions on the scratch database {database.name!r} at {database.host} …")
        only_in_baseline: list[str] = []
        await prove(scratch, existing.dump, report, _models_check(project, draft, schemas, only_in_baseline))
        _report_not_in_models(only_in_baseline, report)
        heads = ScriptDirectory.from_config(scratch.config()).get_revisions("heads")
        for file in draft.publish() if draft else ():
            report(f"Wrote {os.path.relpath(file)}")
        if draft and not drafts.models_of(project):
            report(
                "env.py has no models. Pass the new models to run_env:\nfrom models_db import Base\n"
                "run_env(target_metadata=Base.metadata, …)"
            )
    return heads


def _report_not_in_models(names: Sequence[str], report: Report) -> None:
    if names:
        more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        shown = printable(", ".join(names[:SHOWN]))
        report(f"Only in the baseline, because models can't describe these objects: {shown}{more}")


def _models_check(
    project: Project, draft: drafts.Draft | None, schemas: Sequence[str], only_in_baseline: list[str]
) -> Callable[[Connection], None]:
    """What compares the models with the scratch database, after writing them if the project has none of its own.

    It notes what the database has and the models do not hold.
    """
    is_new = drafts.has_example_models(project)

    def check(connection: Connection) -> None:
        models, advice = drafts.models_of(project), "Correct the models, then run the same command again."
        if draft is not None and is_new:
            draft.models.write_text(write_models(connection, schemas or None), encoding="utf-8")
            models, advice = [drafts.load_models(draft.models)], _BY_HAND
        refuse_differing_models(connection, project.options, models, advice)
        own = f"table {qualified(connection.dialect, *_version_table(project, connection))}"
        only_in_baseline.extend(line for line in not_in_models(connection, schemas or None) if line != own)

    return check

"""`safe-migrations adopt`: what it refuses, writes, proves and records."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import URL

from plain_project import PlainProject
from safe_migrations.adopt import adoption, dump, refusals
from safe_migrations.errors import AdoptionError, LockedError, MigrationError, NotConfirmedError, RefusedError
from safe_migrations.postgres.database import client_environment
from safe_migrations.postgres.programs import find_programs
from safe_migrations.postgres.statements import split
from support import Administrator, NewDatabase, NewRole, Service, fetch, on, tables

SMALL = """
    CREATE TABLE customer (id integer PRIMARY KEY, name text NOT NULL);
    CREATE VIEW named AS SELECT name FROM customer;
"""
TENANTS = Path(__file__).with_name("schemas") / "tenants.sql"
VERSION = "SELECT version_num FROM alembic_version"


def execute(url: URL, text: str) -> None:
    """Execute the statements of a text, as psql does."""
    statements = [statement for statement, _ in split(text)]
    on(url, lambda connection: [*map(connection.exec_driver_sql, statements)], isolation_level="AUTOCOMMIT")


def adopt(project: PlainProject, *schemas: str, yes: bool = True, dry_run: bool = False) -> list[str]:
    """Adopt the project's database, and return the lines that this reports."""
    lines: list[str] = []
    adoption.adopt(project.project, schemas, lines.append, yes=yes, dry_run=dry_run)
    return lines


def refused(project: PlainProject, kind: type[MigrationError] = AdoptionError, schemas: tuple[str, ...] = ()) -> str:
    """The message of an adoption that is refused, and changes nothing in the database and in the project."""
    before = tables(project.url), files(project)
    with pytest.raises(kind) as failure:
        adopt(project, *schemas)
    assert (tables(project.url), files(project)) == before
    return str(failure.value)


def files(project: PlainProject) -> dict[str, bytes]:
    paths = (path for path in project.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(project.folder)): path.read_bytes() for path in paths}


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    """A project without models and revisions, whose database is empty."""
    return PlainProject(tmp_path / "project", database)


@pytest.fixture
def small(project: PlainProject) -> PlainProject:
    """The same with a table and a view."""
    execute(project.url, SMALL)
    return project


def test_rendered_service(service: Service, database: URL) -> None:
    """Whose database has several schemas."""
    execute(database, TENANTS.read_text())
    before = schema(database)
    (example,) = service.versions.glob("*.py")
    example = example.rename(example.with_name("20200101_0001_baseline.py"))
    output = service.succeed("safe-migrations", "adopt", "--yes")
    assert "policy own_tenant" in output, "what the models do not hold is listed"
    assert schema(database) == before
    assert len(fetch(database, VERSION)) == 1
    assert "at revision 0001 baseline (" in output
    assert not example.exists()
    assert not service.folder.joinpath("tests", "test_item.py").exists()
    assert not list(service.folder.glob("alembic/.adopt*"))
    assert "at head" in service.succeed("safe-migrations", "state")
    service.succeed("alembic", "check")
    assert "no findings" in service.succeed("safe-migrations", "lint")


def schema(url: URL) -> str:
    """The schema as pg_dump writes it, without the version table."""
    pg_dump = find_programs(18, exactly=True) / "pg_dump"
    options = ("--schema-only", "--exclude-table=alembic_version")
    environment = os.environ | client_environment(url)
    text = subprocess.run([pg_dump, *options], env=environment, capture_output=True, check=True, text=True).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


REFUSED = """
    CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER "on; ddl" ON ddl_command_end EXECUTE FUNCTION noted();
    CREATE PUBLICATION "changes; all" FOR TABLE customer;
    CREATE SUBSCRIPTION from_elsewhere CONNECTION 'host=nowhere password=secret' PUBLICATION p
        WITH (connect = false, slot_name = NONE);
    CREATE FOREIGN DATA WRAPPER plain;
    CREATE SERVER near FOREIGN DATA WRAPPER plain;
    CREATE USER MAPPING FOR CURRENT_USER SERVER near OPTIONS (password 'secret');
    CREATE FOREIGN TABLE remote (id integer OPTIONS (api_token 'secret')) SERVER near;
    CREATE SERVER far FOREIGN DATA WRAPPER plain OPTIONS (api_key 'secret');
    CREATE FOREIGN DATA WRAPPER wrapping OPTIONS (passwd 'secret');
    SELECT lo_create(0)
"""


def test_what_no_revision_can_make_is_refused_by_name(small: PlainProject) -> None:
    execute(small.url, REFUSED)
    try:
        sentence = refused(small)
    finally:
        execute(small.url, "DROP SUBSCRIPTION from_elsewhere")
    names = [line.strip().partition(":")[0] for line in sentence.splitlines()[1:-1]]
    assert names == [
        'event trigger "on; ddl"',
        "foreign server far",
        "foreign table remote",
        "foreign-data wrapper wrapping",
        'large objects "1"',
        'publication "changes; all"',
        "subscription from_elsewhere",
        f'user mapping "{small.url.username} of the server near"',
    ]
    assert "secret'" not in sentence and "password=" not in sentence


def test_states_that_are_not_adopted(project: PlainProject) -> None:
    assert "alembic upgrade" in refused(project), "an empty database has nothing to adopt"
    execute(project.url, f"{SMALL} CREATE SCHEMA shop; CREATE TABLE shop.version (version_num varchar(32) PRIMARY KEY)")
    assert "shop.version" in refused(project), "it is tracked already, in a table of another name"


def test_invalid_index_and_standby(small: PlainProject) -> None:
    execute(small.url, "ALTER TABLE customer ADD twice integer; INSERT INTO customer VALUES (1, 'a', 1), (2, 'b', 1)")
    with pytest.raises(Exception, match="could not create unique index"):
        execute(small.url, "CREATE UNIQUE INDEX CONCURRENTLY broken ON customer (twice)")
    assert "broken" in refused(small, RefusedError)
    execute(
        small.url, f'DROP INDEX broken; ALTER DATABASE "{small.url.database}" SET default_transaction_read_only = on'
    )
    assert "accepts no writes" in refused(small)


def test_user_without_rights(small: PlainProject, new_role: NewRole) -> None:
    role = new_role("LOGIN", "word")
    execute(small.url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    administrator, small.url = small.url, small.url.set(username=role, password="word")
    assert "may not create the table" in refused(small)
    execute(administrator, f"GRANT CREATE ON SCHEMA public TO {role}")
    assert "permission denied" in refused(small)
    execute(administrator, f"DROP OWNED BY {role}")


def test_settings_of_the_database_do_not_matter(project: PlainProject) -> None:
    execute(
        project.url,
        "CREATE TABLE event (at timestamptz, code bytea DEFAULT '\\x00', PRIMARY KEY (at)) PARTITION BY RANGE (at)",
    )
    execute(project.url, "CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')")
    execute(project.url, "ALTER SCHEMA public OWNER TO CURRENT_USER")  # as in a database that is older than 15
    execute(project.url, "CREATE EXTENSION citext; COMMENT ON EXTENSION citext IS 'of an older version; it''s other'")
    for setting in ("timezone = 'Asia/Tokyo'", "bytea_output = escape", "quote_all_identifiers = on"):
        execute(project.url, f'ALTER DATABASE "{project.url.database}" SET {setting}')
    adopt(project)
    assert fetch(project.url, VERSION)


def test_no_schema_for_the_version_table(small: PlainProject) -> None:
    execute(small.url, "ALTER SCHEMA public RENAME TO app")
    with pytest.raises(AdoptionError, match="version_table_schema"):
        adopt(small)
    small.options = {"version_table_schema": "app"}
    adopt(small)
    assert fetch(small.url, "SELECT version_num FROM app.alembic_version")


def test_schema_of_the_user(project: PlainProject, new_role: NewRole) -> None:
    """This schema, which also has the version table, is the default one as soon as it exists."""
    role = new_role("LOGIN SUPERUSER", "word")
    project.url, project.options = project.url.set(username=role, password="word"), {"version_table_schema": role}
    execute(project.url, f"CREATE SCHEMA {role}; {SMALL}")
    adopt(project)
    assert role not in project.folder.joinpath("models_db.py").read_text(), "models do not name the default schema"


@pytest.mark.thorough("all other adoptions make their proof on the database's own server")
def test_user_who_may_not_create_databases(project: PlainProject, new_role: NewRole) -> None:
    role = new_role("LOGIN", "word")
    administrator = project.url
    execute(administrator, f"ALTER DATABASE {administrator.database} OWNER TO {role}")
    project.url = administrator.set(username=role, password="word")
    execute(project.url, SMALL)
    lines = adopt(project)
    assert not any(f" at {administrator.host}:{administrator.port} …" in line for line in lines[1:])
    assert fetch(project.url, VERSION)
    execute(administrator, f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}")


@pytest.mark.parametrize("names", [(["citext", "no_such; extension"], []), ([], ["no_such\nrole"])])
def test_server_of_the_scratch_database_lacks_something(database: URL, names: tuple[list[str], list[str]]) -> None:
    with pytest.raises(AdoptionError, match="no_such") as failure:
        on(database, refusals.refuse_lacking, *names, "ORDERS_REHEARSAL_DATABASE_URL")
    assert "citext" not in str(failure.value)
    assert "ORDERS_REHEARSAL_DATABASE_URL" in str(failure.value)


def test_dry_run_and_then_another_database(
    project: PlainProject, new_database: NewDatabase, administrator: Administrator
) -> None:
    """A baseline that is there serves a database with the same schema, and no other one."""
    made = f'{SMALL} CREATE TABLE "SequelizeMeta" (name text); CREATE TABLE flyway_schema_history (rank int);'
    execute(project.url, made)
    left = f"{str(project.url.database)[:40]}_scratch_0123abcd"  # by a run that was killed
    administrator.create(left)
    output = "\n".join(adopt(project, "public", dry_run=True))
    administrator.drop(left)
    assert output.endswith("\nsafe-migrations adopt --schema public")
    assert "Flyway has made" in output and "Sequelize has made" in output and left in output
    written = files(project)
    assert sum(name.endswith(".sql") for name in written) == 2
    with pytest.raises(NotConfirmedError, match="--yes"):
        adopt(project, yes=False)
    assert "alembic_version" not in tables(project.url)
    project.url = new_database()
    execute(project.url, made)
    adopt(project)
    assert files(project) == written, "the same revision is proved and recorded"
    assert fetch(project.url, VERSION)
    assert "at head" in refused(project), "it is tracked already"
    project.url = new_database()
    execute(project.url, f"{made} ALTER TABLE customer ADD more integer")
    assert "more integer" in refused(project)


def test_one_schema_and_the_models_of_the_project(project: PlainProject) -> None:
    """With the version table in this schema."""
    execute(project.url, "CREATE SCHEMA app; CREATE TABLE app.customer (id integer PRIMARY KEY, name text)")
    execute(project.url, "CREATE TABLE another (id integer); CREATE PUBLICATION all_of_it FOR ALL TABLES")
    metadata = sa.MetaData(schema="app")
    customer = sa.Table("customer", metadata, sa.Column("id", sa.Integer, primary_key=True, autoincrement=False))
    project.models, project.options = metadata, {"version_table_schema": "app"}
    with pytest.raises(AdoptionError, match="no_such_schema"):
        adopt(project, "app", "no_such_schema")
    assert "customer.name" in refused(project, schemas=("app",)), "the models do not have the column"
    customer.append_column(sa.Column("name", sa.Text))
    adopt(project, "app")
    assert fetch(project.url, "SELECT version_num FROM app.alembic_version")
    (sql,) = project.versions.glob("*baseline.sql")
    assert "another" not in sql.read_text()
    assert not project.folder.joinpath("models_db.py").exists()


def test_schema_that_changes_meanwhile(small: PlainProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        adoption, "confirm", lambda *_, **__: execute(small.url, "ALTER TABLE customer ADD late integer")
    )
    with pytest.raises(AdoptionError, match="late integer"):
        adopt(small)
    assert tables(small.url) == {"customer"}


def test_locked_table(small: PlainProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "_QUIET", ("--no-password", "--lock-wait-timeout=100"))

    def adopt_meanwhile(connection: object) -> None:
        connection.exec_driver_sql("LOCK TABLE customer IN ACCESS EXCLUSIVE MODE")  # type: ignore[attr-defined]
        assert "safe-migrations locks" in refused(small, LockedError)

    on(small.url, adopt_meanwhile)


@pytest.mark.parametrize(
    "renames",
    [1, *(pytest.param(n, marks=pytest.mark.thorough("a kill between the first and the last move")) for n in (0, 2))],
)
def test_killed_while_files_are_moved(small: PlainProject, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    """As a kill: nothing is cleaned up. The next adoption ends as the first one would have."""

    def dying(function: Callable[..., None]) -> Callable[..., None]:
        def move(*paths: Path) -> None:
            nonlocal renames
            if not renames:
                raise KeyboardInterrupt
            renames -= 1
            function(*paths)

        return move

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rename", dying(os.rename))
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        adopt(small)
    assert tables(small.url) == {"customer"}
    adopt(small)
    assert not list(small.folder.rglob(".adopt*"))
    assert len(list(small.versions.glob("*.sql"))) == 2
    assert fetch(small.url, VERSION)

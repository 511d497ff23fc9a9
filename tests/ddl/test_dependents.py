"""What depends on columns, tables and constraints, against what PostgreSQL says; and views that are created again."""

from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations.ddl.dependents import Changed, find_dependents
from safe_migrations.postgres.connection import connected, run_async
from support import NewRole, at

TABLES = """
    CREATE TABLE item (id bigint PRIMARY KEY, name varchar(20), note text, CHECK (name <> note));
    CREATE STATISTICS item_names ON name, note FROM item;
    CREATE INDEX ON item (name, note);
    CREATE TABLE other (name varchar(20), count int);
    CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
"""
CASES = {
    "none": "CREATE PUBLICATION p FOR TABLE item",
    "view": "CREATE VIEW v AS SELECT name FROM item",
    "view_of_view": "CREATE VIEW v AS SELECT name FROM item; CREATE VIEW w AS SELECT * FROM v",
    "view_of_row": "CREATE VIEW v AS SELECT item FROM item",
    "view_of_key": "CREATE VIEW v AS SELECT id, note FROM item GROUP BY id",
    "view_of_child": "CREATE TABLE child () INHERITS (item); CREATE VIEW v AS SELECT name FROM child",
    "materialized": "CREATE MATERIALIZED VIEW v AS SELECT name FROM item",
    "rule": "CREATE RULE r AS ON UPDATE TO item WHERE NEW.name = 'x' DO INSTEAD NOTHING",
    "rule_of_other": "CREATE RULE r AS ON DELETE TO other DO ALSO DELETE FROM item WHERE name = 'x'",
    "computed": "ALTER TABLE item ADD lower text GENERATED ALWAYS AS (lower(name)) STORED",
    "trigger_when": "CREATE TRIGGER t BEFORE INSERT ON item FOR ROW WHEN (NEW.name > '') EXECUTE FUNCTION nothing()",
    "trigger_of": "CREATE TRIGGER t AFTER UPDATE OF name ON item FOR EACH ROW EXECUTE FUNCTION nothing()",
    "policy": "CREATE POLICY p ON item USING (name = 'x')",
    "policy_of_other": "CREATE POLICY p ON other USING (name IN (SELECT name FROM item))",
    "function": "CREATE FUNCTION f() RETURNS text BEGIN ATOMIC SELECT name FROM item; END",
    "function_of_row": "CREATE FUNCTION f(item) RETURNS text LANGUAGE sql AS 'SELECT $1.name'",
    "publication": "CREATE PUBLICATION p FOR TABLE item WHERE (name = 'x')",
    "publication_of_columns": "CREATE PUBLICATION p FOR TABLE item (id, name)",
    "foreign_key": "CREATE UNIQUE INDEX ON item (name); ALTER TABLE other ADD FOREIGN KEY (name) REFERENCES item(name)",
    "sequence": "CREATE SEQUENCE s OWNED BY item.name; ALTER TABLE other ALTER count SET DEFAULT nextval('s')",
    "column_of_rows": "ALTER TABLE other ADD items item[]",
}
CHANGES = {
    Changed("type", None, "item", "name"): "ALTER TABLE item ALTER name TYPE varchar(50)",
    Changed("column", None, "item", "name"): "ALTER TABLE item DROP COLUMN name",
    Changed("column", "public", "item", "id"): "ALTER TABLE item DROP COLUMN id",
    Changed("table", None, "item"): "DROP TABLE item",
    Changed("constraint", None, "item", "item_pkey"): "ALTER TABLE item DROP CONSTRAINT item_pkey",
}
VIEWS = """
    SELECT c.oid::regclass::text AS name, relowner::regrole::text AS owner, reloptions AS options,
      pg_get_viewdef(c.oid) AS definition, obj_description(c.oid, 'pg_class') AS comment,
      ARRAY(SELECT a::text FROM unnest(coalesce(relacl, acldefault('r', relowner))) a ORDER BY 1) AS privileges,
      ARRAY(
        SELECT concat_ws(' ', attname, attacl, col_description(c.oid, attnum))
        FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 ORDER BY attnum
      ) AS columns
    FROM pg_class c WHERE relkind = 'v' AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
    ORDER BY 1
"""


ODD = '"na$drop_views$\'m%:e"'


def operations(connection: Connection) -> Any:
    return Operations(MigrationContext.configure(connection))


async def run_script(connection: AsyncConnection, script: str) -> None:
    """Several statements, as psql runs them."""
    raw = await connection.get_raw_connection()
    await raw.driver_connection.execute(script)  # type: ignore[union-attr]  # it is connected


async def is_refused(connection: AsyncConnection, statement: str) -> bool:
    savepoint = await connection.begin_nested()
    try:
        await connection.execute(text(statement))
    except DBAPIError:
        return True
    finally:
        await savepoint.rollback()
    return False


def test_dependents_are_what_postgresql_refuses(url_of_each_version: URL) -> None:
    async def compare() -> tuple[set[tuple[str, Changed]], set[tuple[str, Changed]]]:
        dependents, refused = set(), set()
        async with connected(at(url_of_each_version)) as connection:
            for name, script in CASES.items():
                transaction = await connection.begin()
                await connection.execute(text("SELECT 1"))  # begins it
                await run_script(connection, f"{TABLES};{script}")
                for change, statement in CHANGES.items():
                    if (await connection.run_sync(find_dependents, [change]))[change]:
                        dependents.add((name, change))
                    if await is_refused(connection, statement):
                        refused.add((name, change))
                await transaction.rollback()
        return dependents, refused

    dependents, refused = run_async(compare())
    assert dependents == refused
    assert {name for name, _ in refused} == CASES.keys() - {"none"}


def test_views_are_as_they_were(database: URL, new_role: NewRole) -> None:
    """With names that need quotes in each place, and privileges that a new view would get by default."""
    owner, reader = new_role("", "x"), new_role("", "x")
    script = rf"""
        CREATE TABLE "it%em" (id bigint PRIMARY KEY, {ODD} varchar(20), note text);
        CREATE SCHEMA "O'ther";
        GRANT ALL ON SCHEMA public, "O'ther" TO {owner};
        CREATE VIEW z AS SELECT id, {ODD} || '%s %(x)s :x \n' AS "a b", note FROM "it%em";
        CREATE VIEW a WITH (security_barrier, security_invoker) AS SELECT id, "a b" AS c FROM z WHERE "a b" <> 'it''s';
        CREATE VIEW "O'ther"."V ""1"" " AS SELECT a.*, z AS row FROM a JOIN z USING (id);
        ALTER VIEW a RENAME COLUMN c TO "ü";
        CREATE VIEW checked WITH (check_option=local) AS SELECT id, {ODD} FROM "it%em" WHERE id > 0;
        CREATE VIEW unrelated AS SELECT id FROM "it%em";
        ALTER VIEW a OWNER TO {owner};
        GRANT SELECT, INSERT ON a TO {reader} WITH GRANT OPTION;
        GRANT SELECT ON z TO PUBLIC;
        GRANT UPDATE ("a b") ON z TO {reader};
        REVOKE DELETE ON checked FROM CURRENT_USER;
        COMMENT ON VIEW a IS 'it''s % :x';
        COMMENT ON COLUMN z."a b" IS E'two\nlines';
        COMMENT ON COLUMN "O'ther"."V ""1"" ".c IS 'c';
        ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {reader}, PUBLIC;
    """  # noqa: S608

    def change(connection: Connection) -> None:
        op, column = operations(connection), Changed("type", None, "it%em", ODD.strip('"'))
        dependents = find_dependents(connection, [column])[column]
        assert [dependent.is_plain_view for dependent in dependents] == [True] * 4
        op.drop_dependent_views("it%em", column.name)
        views = "SELECT relname FROM pg_class WHERE relkind = 'v' AND oid >= 16384"
        assert connection.scalars(text(views)).all() == ["unrelated"]
        connection.exec_driver_sql(f'ALTER TABLE "it%em" ALTER {ODD} TYPE varchar(50)')
        op.recreate_dependent_views()
        with pytest.raises(DBAPIError, match="drop_dependent_views"):
            op.recreate_dependent_views()

    async def run() -> None:
        async with connected(at(database), isolation_level="AUTOCOMMIT") as connection:
            await run_script(connection, script)
            before = (await connection.execute(text(VIEWS))).all()
            await connection.run_sync(change)
            assert (await connection.execute(text(VIEWS))).all() == before
            assert await connection.scalar(text("SHOW search_path")) == '"$user", public'

    run_async(run())


# What is not a plain view of the column.
OTHERS = {
    "trigger t": "CREATE TRIGGER t INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION nothing()",
    "rule r": "CREATE RULE r AS ON INSERT TO v DO INSTEAD NOTHING",
    "default value": "ALTER VIEW v ALTER name SET DEFAULT 'x'",
    "materialized view public.w": "CREATE MATERIALIZED VIEW w AS SELECT * FROM v",
    "function public.f": "CREATE FUNCTION f(v) RETURNS text LANGUAGE sql AS 'SELECT $1.name'",
    "policy p": "CREATE POLICY p ON item USING (name > '')",
    "view pg_temp": "CREATE TEMPORARY VIEW w AS SELECT * FROM v",
    "view public.v": "GRANT SELECT ON v TO pg_monitor WITH GRANT OPTION; SET ROLE pg_monitor; "
    "GRANT SELECT ON v TO PUBLIC; RESET ROLE",  # which only pg_monitor can repeat
}


def test_what_cannot_be_recreated_is_not_dropped(database: URL) -> None:
    async def run() -> None:
        async with connected(at(database)) as connection:
            for name, script in OTHERS.items():
                transaction = await connection.begin()
                await connection.execute(text("SELECT 1"))  # begins it
                await run_script(connection, f"{TABLES}; {CASES['view']}; {script}")
                with pytest.raises(DBAPIError, match=name):
                    await connection.run_sync(lambda bind: operations(bind).drop_dependent_views("item", "name"))
                await transaction.rollback()

    run_async(run())


def test_views_of_two_columns(database: URL, new_role: NewRole) -> None:
    """The views that were dropped last are created first: those that were dropped before may use them.

    By a user who is no superuser, and whose search path finds other functions than the views have.
    """
    user = new_role("", "x")
    script = f"""
        GRANT CREATE, USAGE ON SCHEMA public TO {user};
        SET LOCAL ROLE {user};
        {TABLES};
        CREATE VIEW v AS SELECT lower(note) AS lower, name, note FROM item;
        CREATE VIEW w AS SELECT * FROM v JOIN other USING (name);
        CREATE FUNCTION lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
        SET LOCAL search_path = public, pg_catalog;
    """  # noqa: S608

    def change(connection: Connection) -> None:
        op = operations(connection)
        op.drop_dependent_views("other", "name", schema="public")
        op.drop_dependent_views("item", "name")
        op.drop_dependent_views("item", "note")  # which no view uses any more
        op.recreate_dependent_views()

    async def run() -> None:
        async with connected(at(database)) as connection, connection.begin():
            await connection.execute(text("SELECT 1"))  # begins it
            await run_script(connection, script)
            before = (await connection.execute(text(VIEWS))).all()
            await connection.run_sync(change)
            assert (await connection.execute(text(VIEWS))).all() == before

    run_async(run())

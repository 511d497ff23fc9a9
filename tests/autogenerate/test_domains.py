"""Domains: created and dropped once, beside the columns that use them; a change is refused with its statements."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import produce_migrations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import DOMAIN

from alembic_in_process import Inside, schema
from safe_migrations.autogenerate.description_comparison import not_compared
from safe_migrations.autogenerate.domain_comparison import DomainChange
from safe_migrations.autogenerate.plugin import PLUGINS
from safe_migrations.autogenerate.rewrite.domains import change_domain
from safe_migrations.ddl.column_changes import DIALECT
from safe_migrations.errors import MigrationError, ModelError
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.upgrade.phases import CONTRACT, phase_of
from support import Render, at, fetch

DOMAINS = """
    SELECT typname, pg_get_expr(typdefaultbin, 0), typnotnull FROM pg_type WHERE typtype = 'd' AND typnamespace = 2200
"""
CHECKS = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid <> 0 AND connamespace = 2200"


def domain(name: str, base: str, **options: object) -> str:
    arguments = "".join(f", {key}={value!r}" for key, value in options.items())
    return f"postgresql.DOMAIN({name!r}, {base}{arguments})"


POSITIVE = domain("positive", "sa.Integer", check="VALUE > 0")
ODD = r"VALUE ~ '^%[\:a]?' AND VALUE::text <> '\:b'"
CODE = domain("Odd code", "sa.String(20)", check=ODD, collation="C", default="a%b", not_null=True)
EXACT = domain("exact", "sa.Numeric(10, 2)", constraint_name="not too much", check="VALUE < 100")
PLAIN = domain("plain", "postgresql.ARRAY(sa.Text)")


def table(name: str, **columns: str) -> str:
    """A model."""
    lines = ['sa.Column("id", sa.BigInteger, primary_key=True)']
    lines += [f'sa.Column("{column}", {type_})' for column, type_ in columns.items()]
    return f'sa.Table("{name}", Base.metadata, {", ".join(lines)})\n'


def complete(database: URL) -> object:
    return schema(database), sorted(fetch(database, DOMAINS)), sorted(fetch(database, CHECKS))


def test_domains_of_new_and_existing_tables(render: Render, database: URL) -> None:
    inside = Inside(render(), database)
    inside.begin(table("item") + table("other"))
    empty = complete(database)
    array = f"postgresql.ARRAY({EXACT}, dimensions=1)"
    inside.write_models(
        table("item", a=POSITIVE, b=PLAIN) + table("other", a=POSITIVE) + table("new", a=POSITIVE, b=CODE, c=array)
    )
    created = inside.autogenerate("add columns of domains")
    texts = "".join(Path(script.path).read_text() for script in created)
    assert sorted(re.findall(r'op.create_domain\(\s*"(.+?)"', texts)) == ["Odd code", "exact", "plain", "positive"]
    inside.upgrade("head", str)
    inside.alembic(command.check)
    made = complete(database)
    inside.alembic(command.downgrade, "start")
    assert complete(database) == empty
    inside.upgrade("head", str)
    assert complete(database) == made
    assert inside.lint(created) == []

    inside.write_models(table("item") + table("other", a=POSITIVE))
    dropped = inside.autogenerate("remove most columns")
    inside.upgrade("head", str)
    inside.alembic(command.check)
    assert [row.typname for row in fetch(database, DOMAINS)] == ["positive"]
    inside.alembic(command.downgrade, created[-1].revision)
    assert complete(database) == made
    assert inside.lint(dropped) == []
    assert {phase_of(script) for script in dropped} == {CONTRACT}


ALTERED: dict[
    str, tuple[dict[str, Any], dict[str, Any], list[str]]
] = {  # the domain of the database and of the models, with what has to be written
    "check": (
        {"check": "VALUE > 0"},
        {"check": "VALUE > 1"},
        ["DROP CONSTRAINT d_check", "ADD CONSTRAINT d_check CHECK"],
    ),
    "new check": ({}, {"check": "VALUE > 1", "constraint_name": "limit"}, ['ADD CONSTRAINT "limit" CHECK']),
    "no check": ({"check": "VALUE > 1", "constraint_name": "limit"}, {}, ['DROP CONSTRAINT "limit"']),
    "name of a check": (
        {"check": "VALUE > 1", "constraint_name": "a"},
        {"check": "VALUE > 1", "constraint_name": "b"},
        ["DROP CONSTRAINT a", "ADD CONSTRAINT b CHECK"],
    ),
    "default": ({"default": "1"}, {"default": "2"}, ["SET DEFAULT"]),
    "no default": ({"default": "1"}, {}, ["DROP DEFAULT"]),
    "not null": ({}, {"not_null": True}, ["SET NOT NULL"]),
    "null": ({"not_null": True}, {}, ["DROP NOT NULL"]),
    "all": (
        {"not_null": True},
        {"check": "VALUE > 1", "default": "7"},
        ["SET DEFAULT", "DROP NOT NULL", "ADD CONSTRAINT"],
    ),
}


def test_a_change_is_refused_with_its_statements(database: URL) -> None:
    """They make the difference go."""
    before = [DOMAIN(f"d{number}", sa.Integer, **options) for number, (options, _, _) in enumerate(ALTERED.values())]
    after = [DOMAIN(f"d{number}", sa.Integer, **options) for number, (_, options, _) in enumerate(ALTERED.values())]
    create = [str(postgresql.CreateDomainType(domain).compile(dialect=DIALECT)) for domain in before]
    columns = "".join(f", c{number} d{number}" for number in range(len(before)))
    execute(database, *create, f"CREATE TABLE item (id bigserial PRIMARY KEY{columns})")
    assert compared(database, *before) == []
    changes = compared(database, *after)
    statements = []
    for change, (_, _, expected) in zip(changes, ALTERED.values(), strict=True):
        assert change.to_diff_tuple()[0] == "domain_changed"
        with pytest.raises(MigrationError) as refused:
            list(change_domain(change, cast(Any, None)))
        written = re.findall(f"ALTER DOMAIN {change.name} (.*)", str(refused.value))
        names = [start.replace("d_check", f"{change.name}_check") for start in expected]
        assert [line[: len(start)] for line, start in zip(written, names, strict=True)] == names
        statements += [f"ALTER DOMAIN {change.name} {line}" for line in written]
    execute(database, *statements)
    assert compared(database, *after) == []


def test_another_type_or_collation_needs_another_domain(database: URL) -> None:
    fetch(database, "CREATE DOMAIN d AS varchar(20)")
    fetch(database, "CREATE TABLE item (id bigserial PRIMARY KEY, c0 d)")
    assert compared(database, DOMAIN("d", sa.String(20))) == []
    for type_ in (DOMAIN("d", sa.String(30)), DOMAIN("d", sa.Text), DOMAIN("d", sa.String(20), collation="C")):
        (change,) = compared(database, type_)
        assert "character varying(20)" in change.statements[0]
        assert "ALTER DOMAIN" not in change.statements[0]


def test_what_the_models_can_not_have(database: URL) -> None:
    with pytest.raises(ModelError, match=r"domains named d .*item\.c1"):
        compared(database, DOMAIN("d", sa.Integer), DOMAIN("d", sa.Integer, check="VALUE > 0"))
    with pytest.raises(ModelError, match="d is based on the type status"):
        compared(database, DOMAIN("d", postgresql.ENUM("a", name="status")))
    with pytest.raises(ModelError, match="d is based on the type e"):
        compared(database, DOMAIN("d", DOMAIN("e", sa.Integer)))


def test_schemas_and_domains_of_others(database: URL) -> None:
    """A domain that the models have in another schema is another one; one of nobody's columns stays."""
    fetch(database, "CREATE SCHEMA s")
    fetch(database, "CREATE DOMAIN s.d AS int CHECK (VALUE > 0)")
    fetch(database, "CREATE DOMAIN d AS text")
    fetch(database, "CREATE TABLE item (id bigserial PRIMARY KEY, c0 s.d)")
    assert compared(database, DOMAIN("d", sa.Integer, check="VALUE > 0", schema="s")) == []
    fetch(database, "ALTER TABLE item ADD c1 d")
    spelled_out = DOMAIN("d", sa.Text, schema="public")
    assert compared(database, DOMAIN("d", sa.Integer, check="VALUE > 0", schema="s"), spelled_out) == []
    changes = compared(database, DOMAIN("other", sa.Text), spelled_out)
    changes = [change for change in changes if isinstance(change, DomainChange)]
    assert [(change.kind, change.schema, change.name) for change in changes] == [
        ("created", None, "other"),
        ("dropped", "s", "d"),
    ]


def test_what_can_not_be_compared_is_named(database: URL) -> None:
    """On a standby nothing can be created, not even to be rolled back."""
    fetch(database, "CREATE DOMAIN d AS int")
    fetch(database, "CREATE TABLE item (id bigserial PRIMARY KEY, c0 d)")
    notes: list[str] = []
    assert compared(database, DOMAIN("d", sa.Integer, check="VALUE > 0"), notes=notes) == []
    assert any("the domain d" in note and "read-only" in note for note in notes)


def execute(database: URL, *statements: str) -> None:
    fetch(database, "DO $do$ BEGIN {} END $do$".format("".join(f"{statement}; " for statement in statements)))


def compared(database: URL, *types: DOMAIN, notes: list[str] | None = None) -> list[Any]:
    """All differences, for models with a column of each type; with a list for notes, as on a standby."""
    models = sa.MetaData()
    columns: list[sa.Column[Any]] = [sa.Column(f"c{number}", type_) for number, type_ in enumerate(types)]
    sa.Table("item", models, sa.Column("id", sa.BigInteger, primary_key=True), *columns)

    def compare(connection: sa.Connection) -> list[Any]:
        plugins = {"autogenerate_plugins": PLUGINS, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts={"target_metadata": models, **plugins})
        operations = produce_migrations(context, models).upgrade_ops
        assert operations is not None
        if notes is not None:
            notes.extend(not_compared(context))
        return operations.ops

    async def run() -> list[Any]:
        async with connected(at(database)) as connection, connection.begin():
            if notes is not None:
                await connection.execute(sa.text("SET TRANSACTION READ ONLY"))
            return await connection.run_sync(compare)

    return run_async(run())

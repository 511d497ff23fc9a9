"""Names that the naming convention makes longer than PostgreSQL allows: 63 bytes."""

import pytest
from alembic import command
from sqlalchemy import URL
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import conv

from alembic_in_process import Inside, schema
from safe_migrations.errors import MigrationError, RevisionError
from safe_migrations.postgres.sql import LONGEST_NAME, short_name
from support import Render, fetch

ASCII = "association_container_registries_groups", "registry_identification_number_secondary"
CYRILLIC = "заказы_покупателей_за_месяц", "дополнительный_номер"  # less than 63 characters, but more bytes


def model(table: str, *columns: str) -> str:
    lines = ['sa.Column("id", sa.BigInteger, primary_key=True)', *columns]
    return f'sa.Table("{table}", Base.metadata, {", ".join(lines)})\n'


def wide(table: str, column: str, *more: str) -> str:
    """A table with each kind of index and constraint, whose names begin alike."""
    return model(
        table,
        f'sa.Column("{column}_a", sa.Text, unique=True, index=True)',
        f'sa.Column("{column}_b", sa.ForeignKey("{table}.id"), index=True)',
        f'sa.CheckConstraint("\\"{column}_a\\" <> \'\'", name="{column}_not_empty")',
        *more,
    )


def test_long_names_of_a_convention(render: Render, database: URL) -> None:
    """Wherever a name is formed, it is the one that PostgreSQL stores, so that each command converges."""
    table, column = ASCII
    index = f"ix_{57 * 'x'}"  # is replaced under its name, to which autogenerate adds _new
    inside = Inside(render(), database)
    inside.begin(model(table, f'sa.Index("{index}", "id")') + model(CYRILLIC[0]))
    fetch(database, f"INSERT INTO {table} (id) SELECT generate_series(1, 9)")
    before = schema(database)
    not_null = f'sa.Column("{column}_c", sa.Text, nullable=False)'
    inside.write_models(wide(*ASCII, not_null, f'sa.Index("{index}", "{column}_a")') + wide(*CYRILLIC))
    scripts = inside.autogenerate("columns with long names")
    inside.upgrade("head", lambda _: repr({f"{column}_c": "x"}))
    inside.alembic(command.check)
    assert inside.lint(scripts) == []
    at_head = schema(database)
    inside.alembic(command.downgrade, "start", x=["yes"])
    assert schema(database) == before
    inside.upgrade("head", str)
    assert schema(database) == at_head


def test_long_names_in_a_revision_by_hand(render: Render, database: URL) -> None:
    """What Alembic's operations shorten (`op.f`), those of this library shorten alike."""
    inside = Inside(render(), database)
    inside.begin(model("item", 'sa.Column("name", sa.Text)'))
    name = f'op.f("uq_{"x" * 80}")'
    inside.service.add_revision(
        "unique",
        f"""
        op.create_index_concurrently({name}, "item", ["name"], unique=True)
        op.create_unique_constraint_using_index({name}, "item")
        """,
        f'op.drop_constraint({name}, "item")',
    )
    inside.service.add_revision(
        "check",
        f"""
        op.create_check_constraint({name.replace("uq", "ck")}, "item", "id > 0", postgresql_not_valid=True)
        op.validate_constraint({name.replace("uq", "ck")}, "item")
        """,
        f'op.drop_constraint({name.replace("uq", "ck")}, "item")',
    )
    inside.service.add_revision(
        "index",
        f'op.create_index_concurrently({name.replace("uq", "ix")}, "item", ["name"])',
        f'op.drop_index_concurrently({name.replace("uq", "ix")}, "item")',
    )
    for _ in range(2):
        inside.alembic(command.upgrade, "head")
        inside.alembic(command.downgrade, "-3")
    assert not fetch(database, "SELECT FROM pg_class WHERE relname LIKE '%xxx%'")
    inside.service.add_revision("long", f'op.create_index_concurrently("{"x" * 64}", "item", ["name"])')
    with pytest.raises(RevisionError, match="x" * 64):
        inside.alembic(command.upgrade, "head")


@pytest.mark.parametrize("name", ["x" * 64, "ж" * 32])
def test_a_name_that_the_models_spell_out_and_postgresql_would_cut_off(
    render: Render, database: URL, name: str
) -> None:
    inside = Inside(render(), database)
    for text in (
        model(name),
        model("short", f'sa.Column("{name}", sa.Text)'),
        model("short", f'sa.Column("a", sa.Enum("b", name="{name}"))'),
        model("short", f'sa.Column("a", sa.Text), sa.Index("{name}", "a")'),
        model("short", f'sa.Column("a", sa.Text), sa.UniqueConstraint("a", name="{name}")'),
    ):
        inside.write_models(text)
        with pytest.raises(MigrationError, match=name):
            inside.autogenerate("long names")


@pytest.mark.parametrize("name", ["x" * 63, "x" * 64, "x" * 200])
def test_short_names_are_those_of_sqlalchemy(name: str) -> None:
    preparer = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]  # SQLAlchemy has left it so
    assert short_name(name) == preparer.truncate_and_render_index_name(conv(name))


@pytest.mark.parametrize("name", ["ж" * 31, "ж" * 32, "xж" * 30, "жx" * 60])
def test_short_names_are_counted_in_bytes(name: str) -> None:
    assert (short_name(name) == name) == (len(name.encode()) <= LONGEST_NAME)
    assert len(short_name(name).encode()) <= LONGEST_NAME
    assert len({short_name(f"{name}{number}") for number in range(5)}) == 5

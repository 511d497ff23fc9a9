"""Tables that refer to each other, which autogenerate creates and drops in one change."""

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy import URL

from adopt_comparison import check
from alembic_in_process import Inside, schema
from safe_migrations.upgrade.phases import CONTRACT, phase_of
from support import Render, on, tables

# As in a project that leaves the names of constraints to PostgreSQL.
UNNAMED = "Base.metadata.naming_convention = {'ix': 'ix_%(column_0_label)s'}\n"
KEPT = UNNAMED + 'sa.Table("kept", Base.metadata, sa.Column("id", sa.BigInteger, primary_key=True))\n'


def model(name: str, *columns: str, schema: str | None = None) -> str:
    lines = ['sa.Column("id", sa.BigInteger, primary_key=True)', *columns]
    return f'sa.Table("{name}", Base.metadata, {", ".join(lines)}, schema={schema!r})\n'


def reference(target: str, name: str = "") -> str:
    return f'sa.Column("{name or target.split(".")[-1]}_id", sa.ForeignKey("{target}.id"))'


CYCLES = "".join(
    (
        model("left_one", reference("right_one")) + model("right_one", reference("left_one"), reference("kept")),
        model("c", reference("b")) + model("b", reference("a"), reference("b", "own")) + model("a", reference("c")),
        model("d", reference("b")),  # in no cycle itself
    )
)


@pytest.mark.filterwarnings("error:Cannot correctly sort")
def test_tables_in_a_cycle(render: Render, database: URL) -> None:
    inside = Inside(render(), database)
    inside.begin(KEPT)
    inside.write_models(KEPT + CYCLES)
    created = inside.autogenerate("add tables that refer to each other")
    assert inside.lint(created) == []
    inside.alembic(command.upgrade, "head")
    inside.alembic(command.check)
    complete = schema(database)
    inside.alembic(command.downgrade, "start")
    assert tables(database) == {"kept", "alembic_version"}
    inside.alembic(command.upgrade, "head")

    inside.write_models(KEPT)
    dropped = inside.autogenerate("remove these tables")
    assert {phase_of(script) for script in dropped} == {CONTRACT}
    inside.upgrade("head", str)
    assert tables(database) == {"kept", "alembic_version"}
    inside.alembic(command.downgrade, created[-1].revision)
    assert schema(database) == complete


def test_constraints_that_the_models_do_not_name(render: Render, database: URL) -> None:
    """Their names in the revision are those that PostgreSQL would give them."""
    inside = Inside(render(), database)
    inside.begin(KEPT + model("item"))
    before = schema(database)
    inside.write_models(KEPT + model("item", 'sa.Column("code", sa.Text, unique=True)', reference("kept")))
    inside.autogenerate("columns with constraints")
    inside.alembic(command.upgrade, "head")
    inside.alembic(command.check)
    assert {"item_code_key", "item_kept_id_fkey"} <= {name for _, name, _ in schema(database)}
    inside.alembic(command.downgrade, "start")
    assert schema(database) == before


def test_references_between_many_tables(database: URL) -> None:
    """They are compared in parts; each table's keys are compared once, also two of one column."""
    metadata = sa.MetaData()
    for number in range(60):
        keys = [sa.ForeignKey(f"table_{max(number - back, 0)}.id", name=f"key_{number}_{back}") for back in (1, 2)]
        key = sa.Column("id", sa.Integer, primary_key=True)
        sa.Table(f"table_{number}", metadata, key, sa.Column("other", sa.Integer, *keys))

    def create(connection: sa.Connection) -> None:
        metadata.create_all(connection)
        connection.commit()

    on(database, create)
    assert check(database, metadata) == ([], ())
    created = str(sa.schema.CreateTable(metadata.tables["table_59"]))
    assert created.count("FOREIGN KEY") == 2, "the comparison has left the models as they were"

"""Columns whose types are not SQLAlchemy's: those of extensions, of other packages, of the service's own modules."""

import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate.api import AutogenContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL
from sqlalchemy.exc import SAWarning

from alembic_in_process import Inside, schema
from safe_migrations.autogenerate.plugin import render_item
from safe_migrations.operations import SQLType
from support import Render, fetch

OWN_TYPES = """
import sqlalchemy as sa


class Bits(sa.types.UserDefinedType):
    cache_ok = True

    def __init__(self, size):
        self.size = size

    def get_col_spec(self, **_):
        return f"bit varying({self.size})"

    def __repr__(self):
        return "<Bits>"


class Path(sa.types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_):
        return "ltree"


class Place(sa.TypeDecorator):
    impl = Path
    cache_ok = True


class Name(sa.String):
    pass


class Code(sa.TypeDecorator):
    impl = sa.String(20)
    cache_ok = True
"""

MODELS = """
import own_types as elsewhere
from own_types import Path as Ltree


class Circle(sa.types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_):
        return "circle"


sa.Table(
    "thing", Base.metadata, sa.Column("id", sa.BigInteger, primary_key=True),
    COLUMNS
)
"""

COLUMNS = [
    'sa.Column("bits", elsewhere.Bits(3), server_default="101", nullable=False)',
    'sa.Column("path", Ltree())',
    'sa.Column("place", elsewhere.Place())',
    'sa.Column("circle", Circle())',
    'sa.Column("paths", postgresql.ARRAY(Ltree(), dimensions=2))',
    'sa.Column("codes", sa.ARRAY(elsewhere.Code()))',
    'sa.Column("name", elsewhere.Name(30))',
    'sa.Column("code", elsewhere.Code())',
    'sa.Column("variant", sa.String(40).with_variant(Ltree(), "postgresql"))',
    'sa.Column("other", sa.String(50).with_variant(Ltree(), "sqlite"))',
    'sa.Column("both", Ltree().with_variant(sa.String(), "sqlite"))',
]


@pytest.fixture
def inside(render: Render, database: URL) -> Iterator[Inside]:
    inside = Inside(render(), database)
    inside.service.folder.joinpath("own_types.py").write_text(OWN_TYPES)
    yield inside
    sys.modules.pop("own_types", None)


def models(*columns: str) -> str:
    return MODELS.replace("COLUMNS", ",\n    ".join(columns))


@pytest.mark.filterwarnings("ignore:Did not recognize type")
def test_a_revision_needs_only_this_library(inside: Inside, database: URL) -> None:
    """What adds the columns, what drops them, what drops their table: up, down and up again."""
    fetch(database, "CREATE EXTENSION ltree")
    inside.begin(models())
    inside.write_models(models(*COLUMNS))
    added = inside.autogenerate("add columns of all types")
    assert inside.lint(added) == []
    complete = up_down_up(inside, database, "start")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SAWarning)
        inside.alembic(command.check)

    inside.write_models(models(*COLUMNS[3:]))
    inside.autogenerate("remove three columns")
    up_down_up(inside, database, added[-1].revision)
    inside.write_models("")
    inside.autogenerate("remove the table")
    inside.upgrade("head", str)
    inside.alembic(command.downgrade, added[-1].revision)
    assert schema(database) == complete
    texts = [Path(script.path).read_text() for script in inside.history()]
    assert not any(word in text for text in texts for word in ("own_types", "elsewhere", "models_db", "NullType"))


def test_the_types_that_a_revision_names(inside: Inside) -> None:
    """Those of SQLAlchemy where a decorator has one; otherwise PostgreSQL's."""
    inside.write_models(models(*COLUMNS))
    (script,) = inside.autogenerate("the first table")
    written = re.findall(r'sa\.Column\("(\w+)", (.*?), (?:nullable|server_default)', Path(script.path).read_text())
    assert dict(written) == {
        "id": "sa.BigInteger()",
        "bits": 'SQLType("bit varying(3)")',
        "path": 'SQLType("ltree")',
        "place": 'SQLType("ltree")',
        "circle": 'SQLType("circle")',
        "paths": 'SQLType("ltree[][]")',
        "codes": "postgresql.ARRAY(sa.String(length=20))",
        "name": 'SQLType("VARCHAR(30)")',
        "code": "sa.String(length=20)",
        "variant": 'SQLType("ltree")',
        "other": 'SQLType("VARCHAR(50)")',
        "both": 'SQLType("ltree")',
    }


def test_the_project_renders_what_it_wants_first() -> None:
    context = AutogenContext(MigrationContext.configure(dialect_name="postgresql"), autogenerate=False)
    mine = render_item(lambda kind, item, _: f"mine({item.sql!r})" if kind == "type" else False)
    assert mine("type", SQLType("ltree"), context) == "mine('ltree')"
    assert mine("column", SQLType("ltree"), context) is False
    assert context.imports == set()
    assert render_item(None)("type", SQLType('"My t"'), context) == "SQLType('\"My t\"')"
    assert context.imports == {"from safe_migrations.operations import SQLType"}


def up_down_up(inside: Inside, database: URL, revision: str) -> set[tuple[str, ...]]:
    inside.upgrade("head", str)
    complete = schema(database)
    inside.alembic(command.downgrade, revision)
    inside.upgrade("head", str)
    assert schema(database) == complete
    return complete

"""From random models to others, and back: what autogenerate writes always ends at the models.

Each run draws new models. The name of a test that fails has the seed; `TEST_SEED=SEED pdm run test FILE` repeats them.
"""

import os
import time
from collections.abc import Sequence
from random import Random

import pytest
from alembic import command
from sqlalchemy import URL

from alembic_in_process import Inside, schema
from support import Render, tables

ROUNDS = range(40)
BY_DEFAULT = 1
# The workers of one run have to draw the same one.
SEED = os.environ.get("TEST_SEED") or os.environ.get("PYTEST_XDIST_TESTRUNUID", str(time.time_ns()))[:12]

TABLES = ("note", "folder", "Order Line")
# Types that PostgreSQL casts into each other by itself.
NUMBERS = ("sa.SmallInteger", "sa.Integer", "BigInteger", "sa.Numeric(10, 2)", "sa.Numeric(14, 2)", "sa.Numeric")
TEXTS = ("Text", "sa.String(10)", "sa.String(20)", "sa.String")
KINDS = ("a", "b", "c", "d")


def random_models(random: Random) -> str:
    """The text of models: each has some of the same tables, columns, indexes and constraints, and others not."""
    names = [name for name in TABLES if random.random() < 0.7] or [TABLES[0]]
    return "".join(random_model(random, name, names) for name in names)


def random_model(random: Random, table: str, tables: list[str]) -> str:
    name = table.replace(" ", "")
    columns = [
        f"n{number} = {column(random, NUMBERS, ['1', '2'], ['index=True', 'unique=True'])}" for number in range(3)
    ]
    columns += [f"t{number} = {column(random, TEXTS, ['x', 'y'], [])}" for number in range(3)]
    columns.append(f"token = {column(random, ['sa.Uuid'], ['gen_random_uuid()'], ['index=True'])}")
    kinds = f"sa.Enum({', '.join(map(repr, random.sample(KINDS, random.randint(1, 4))))}, name='kind of {name}')"
    columns.append(f"kind = mapped_column({kinds}, nullable={random.random() < 0.5})")
    referred = random.choice(tables[: tables.index(table) + 1])  # no cycles, which autogenerate can't sort
    cascade = random.choice(["", ", ondelete='CASCADE'"])
    columns.append(f"other_id = mapped_column(BigInteger, sa.ForeignKey('{referred}.id'{cascade}))")
    columns = [line for line in columns if random.random() < 0.6]
    has = " ".join(columns)
    more = random.choice(["", "'id', "])
    constraints = [
        ("t0 = ", f"CheckConstraint(\"t0 <> '{random.choice('xy')}'\", name='check {random.choice('ab')}')"),
        ("t1 = ", f"sa.UniqueConstraint('t1', {more}name='uq_{name}')"),
        ("t2 = ", f"sa.Index('ix_{name}', 't2', {more}unique={random.random() < 0.5})"),
    ]
    arguments = "".join(f"{text}, " for needs, text in constraints if needs in has and random.random() < 0.6)
    lines = [
        f"class {name}(Base):",
        f"    __tablename__ = {table!r}",
        f"    __table_args__ = ({arguments})",
        "    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)",
        *(f"    {line}" for line in columns),
    ]
    return "\n\n" + "\n".join(lines) + "\n"


def column(random: Random, types: Sequence[str], defaults: Sequence[str], indexes: Sequence[str]) -> str:
    options = [random.choice(types), f"nullable={random.random() < 0.6}"]
    if random.random() < 0.3:
        default = random.choice(defaults)
        options.append(f"server_default=sa.text({default!r})" if "(" in default else f"server_default={default!r}")
    if indexes and random.random() < 0.3:
        options.append(random.choice(indexes))
    if random.random() < 0.2:
        options.append(f"comment={random.choice(['one', 'another, 100%'])!r}")
    return f"mapped_column({', '.join(options)})"


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(n, id=f"{SEED}-{n}", marks=[] if n < BY_DEFAULT else pytest.mark.thorough("the first one"))
        for n in ROUNDS
    ],
)
def test_there_and_back(number: int, render: Render, database: URL) -> None:
    random = Random(f"{SEED} {number}")  # noqa: S311  # nothing secret
    inside = Inside(render(), database)
    one, other = random_models(random), random_models(random)
    schemas: list[set[tuple[str, ...]]] = []
    for models in (one, other, one):
        inside.write_models(models)
        scripts = inside.autogenerate(f"models {len(schemas)}", ["no-rename"])
        inside.upgrade("head", lambda name: "{}")
        inside.alembic(command.check)
        assert {finding.rule.name for finding in inside.lint(scripts)} <= {"unwritten-backfill"}
        schemas.append(schema(database))
    assert schemas[0] == schemas[2]
    inside.alembic(command.downgrade, "base", x=["yes"])
    assert tables(database) == {"alembic_version"}

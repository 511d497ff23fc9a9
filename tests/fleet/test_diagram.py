"""The positions of tables and lines in a diagram."""

import re
from itertools import combinations, pairwise
from random import Random
from typing import Any

import sqlalchemy as sa

from safe_migrations.fleet.diagram import MANY_COLUMNS, Diagram, draw
from safe_migrations.schema.structure import Table, read_tables

Models = dict[str, list[str]]  # the tables that each table refers to


def tables_of(models: Models, columns: int = 1) -> list[Table]:
    metadata = sa.MetaData()
    for name, targets in models.items():
        keys: list[sa.Column[Any]] = [
            sa.Column(f"{target}_{number}", sa.ForeignKey(f"{target}.id"), nullable=False)
            for number, target in enumerate(targets)
        ]
        others = [sa.Column(f"c{number}", sa.Text()) for number in range(columns)]
        sa.Table(name, metadata, sa.Column("id", sa.Integer(), primary_key=True), *others, *keys)
    return read_tables(metadata)


def places(diagram: Diagram) -> dict[str, tuple[float, float]]:
    return {box.table: (box.x, box.y) for box in diagram.boxes}


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]


def test_a_table_is_right_of_those_that_it_refers_to() -> None:
    diagram = draw(tables_of({"a": [], "b": ["a"], "c": ["b", "a"], "alone": []}))
    (a, _), (b, _), (c, below), (_, alone) = (places(diagram)[name] for name in ("a", "b", "c", "alone"))
    assert a < b < c
    assert below < alone
    assert len(diagram.lines) == 3


def test_circles_and_tables_that_refer_to_themselves() -> None:
    diagram = draw(tables_of({"a": ["b"], "b": ["c"], "c": ["a"], "tree": ["tree"]}))
    assert len(places(diagram)) == len(diagram.lines) == 4
    assert all(
        0 <= x <= diagram.width and 0 <= y <= diagram.height for line in diagram.lines for x, y in points(line.path)
    )


def test_no_box_is_covered_by_a_box_or_crossed_by_a_line(random: Random) -> None:
    for size in (2, 5, 12, 60):
        names = [f"t{number}" for number in range(size)]
        models = {name: random.choices(names, k=random.choice([0, 1, 1, 2, 3])) for name in names}
        diagram = draw(tables_of(models, random.randint(0, 9)))
        for one, other in combinations(diagram.boxes, 2):
            beside = one.x + one.width <= other.x or other.x + other.width <= one.x
            assert beside or one.y + one.height <= other.y or other.y + other.height <= one.y
        for line in diagram.lines:
            for (x, y), (to, end) in pairwise(points(line.path)):
                assert not any(
                    min(x, to) < box.x + box.width / 2 < max(x, to) and box.y < y == end < box.y + box.height
                    for box in diagram.boxes
                )
        assert draw(tables_of(dict(random.sample([*models.items()], size)), 1)) == draw(tables_of(models, 1))


def test_what_a_box_shows() -> None:
    many = MANY_COLUMNS + 5
    name = "n" * 60
    tables = tables_of({"a": [], name: ["a"]}, many)
    a, long = draw(tables).boxes
    assert [row.key for row in long.rows if row.key] == ["PK", "FK"]
    assert (len(long.rows), long.omitted) == (MANY_COLUMNS, many + 2 - MANY_COLUMNS)
    assert len(long.name) < len(name)
    assert name in long.title
    assert a.rows[1].type == "text?"
    large = draw(tables + tables_of({f"t{number}": [] for number in range(40)})).boxes[0]
    assert [row.name for row in large.rows] == ["id"]

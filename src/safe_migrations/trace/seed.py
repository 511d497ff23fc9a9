"""Rows for the tables of a database, for columns of any type: a revision is checked on tables with rows.

A value is a text that PostgreSQL casts to the column's type. The values below, and the literals of the CHECK
constraints, are tried until a value suits the type and the constraints.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    String,
    TableClause,
    cast,
    column,
    func,
    literal_column,
    null,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from safe_migrations.postgres.server_errors import reason
from safe_migrations.postgres.sql import ddl, read_sql

TRIES = 500  # combinations of values, for a constraint of several columns

# N is the row's number, which has three digits; these are a hundred rows.
_N, _ROWS = "<n>", func.generate_series(100, 199).table_valued("n", name="rows").render_derived()
_VALUES = (
    *("<n>", "a<n>", "0.<n>", "0", "2<n>-01-01", "1<n>-01-01", "12:00", "{}", "10.0.0.<n>", "empty", "(<n>,<n>)"),
    *("00000000-0000-0000-0000-000000000<n>", "a<n>@example.com", "https://example.com/<n>", "08:00:2b:01:02:03"),
    *("AA", "AAA"),
)
_DEFAULTS = "INSERT INTO %(name)s SELECT FROM generate_series(100, 199) ON CONFLICT DO NOTHING"
_LITERAL = re.compile(r"'((?:[^']|'')*)'|(?<![\w.])-?\d+(?:\.\d+)?")

_SQL = read_sql(__package__, "seed.sql")


class _NoValueError(ValueError):
    """No known value suits a column."""


@dataclass
class _Table:
    """A table, its columns by their numbers, and its constraints, as the catalog has them."""

    row: Row[Any]
    columns: dict[int, Row[Any]] = field(default_factory=dict)
    checks: list[Row[Any]] = field(default_factory=list)
    foreign_keys: list[Row[Any]] = field(default_factory=list)

    @property
    def clause(self) -> TableClause:
        return table(self.row.name, *(column(item.name) for item in self.columns.values()), schema=self.row.schema)


def seed(connection: Connection, version_table: str, unreleased: Collection[str] = ()) -> list[str]:
    """Insert up to a hundred rows into each empty table.

    Args:
        connection: to a database for tests, in AUTOCOMMIT.
        version_table: where Alembic records the revision, which gets no rows.
        unreleased: the tables that no release has, which get none either.

    Returns:
        A sentence for each table for which no rows could be found.
    """
    tables = _read(connection, version_table)
    return [
        f"The table {seeded.row.label} remains empty: {problem}."
        for seeded in _parents_first(tables)
        if not {seeded.row.name, f"{seeded.row.schema}.{seeded.row.name}"} & set(unreleased)
        and connection.scalar(select(literal_column("1")).select_from(seeded.clause).limit(1)) is None
        and (problem := _fill(connection, seeded, tables))
    ]


def _read(connection: Connection, version_table: str) -> dict[int, _Table]:
    rows = connection.execute(_SQL["tables"], {"version_table": version_table})
    tables = {row.oid: _Table(row) for row in rows}
    oids = {"oids": list(tables)}
    for row in connection.execute(_SQL["columns"], oids):
        tables[row.oid].columns[row.number] = row
    for row in connection.execute(_SQL["constraints"], oids):
        (tables[row.oid].foreign_keys if row.parent else tables[row.oid].checks).append(row)
    return tables


def _parents_first(tables: dict[int, _Table]) -> Iterator[_Table]:
    """The tables, each after the tables that it refers to; in a cycle, any table comes first."""
    waits_for = {oid: {key.parent for key in seeded.foreign_keys} - {oid} for oid, seeded in tables.items()}
    pending = set(tables)
    while pending:
        ready = {oid for oid in pending if not waits_for[oid] & pending} or {min(pending)}
        pending -= ready
        yield from (tables[oid] for oid in sorted(ready))


def _fill(connection: Connection, filled: _Table, tables: dict[int, _Table]) -> str | None:
    """Insert the rows, or return why this is impossible."""
    values, source = _references(filled, tables)
    own = {number: item for number, item in filled.columns.items() if number not in values and not item.computed}
    try:
        values |= _choose(connection, own, filled.checks)
        names = [filled.columns[number].name for number in values]
        rows = select(*values.values()).select_from(source)
        into = insert(filled.clause).from_select(names, rows).on_conflict_do_nothing()
        # SQLAlchemy can't insert rows of no columns: all of them have their values from PostgreSQL.
        inserted = connection.execute(into if names else ddl(_DEFAULTS, name=filled.row.label))
    except (DBAPIError, _NoValueError) as error:
        return str(error) if isinstance(error, _NoValueError) else reason(error)
    return None if inserted.rowcount else "all rows conflict"


def _references(filled: _Table, tables: dict[int, _Table]) -> tuple[dict[int, ColumnElement[Any]], FromClause]:
    """The columns of foreign keys, and where they come from: the n-th row refers to the n-th row of the other table."""
    values: dict[int, ColumnElement[Any]] = {}
    source: FromClause = _ROWS
    for index, key in enumerate(filled.foreign_keys):
        parent = tables.get(key.parent)
        if parent is filled:  # to no row; a NOT NULL key to the same row, as columns of one type have one value
            values |= {number: null() for number in key.numbers if not filled.columns[number].required}
        if parent is None or parent is filled:
            continue
        names = [parent.columns[number].name for number in key.referred]
        place, total = (func.row_number().over() - 1).label("place"), func.count().over().label("total")
        rows = select(*map(column, names), place, total).select_from(parent.clause).subquery(f"parent_{index}")
        source = source.outerjoin(rows, rows.c.place == _ROWS.c.n % rows.c.total)
        values |= {number: rows.c[name] for number, name in zip(key.numbers, names, strict=True)}
    return values, source


def _choose(
    connection: Connection, columns: dict[int, Row[Any]], checks: list[Row[Any]]
) -> dict[int, ColumnElement[Any]]:
    """An expression for each column that the constraints allow."""
    checks = [check for check in checks if check.numbers and columns.keys() >= set(check.numbers)]
    options: dict[int, list[ColumnElement[Any]]] = {}
    for number, item in columns.items():
        on_it = [check for check in checks if number in check.numbers]
        alone = [check.condition for check in on_it if len(check.numbers) == 1]
        values = _values(item, [check.condition for check in on_it])
        allowed = (value for value in values if _holds(connection, {item.name: value}, alone))
        options[number] = list(islice(allowed, None if len(alone) < len(on_it) else 1))
        if not options[number]:
            raise _NoValueError(f"no value is known for the column {item.name} ({item.type})")
    for check in checks:
        for combination in islice(product(*(options[number] for number in check.numbers)), TRIES):
            named = zip((columns[number].name for number in check.numbers), combination, strict=True)
            if _holds(connection, dict(named), [check.condition]):
                options |= {number: [value] for number, value in zip(check.numbers, combination, strict=True)}
                break
        else:
            raise _NoValueError(f"no values are known for CHECK {check.condition}")
    return {number: values[0] for number, values in options.items()}


def _values(of: Row[Any], conditions: list[str]) -> Iterator[ColumnElement[Any]]:
    if of.filled:
        yield literal_column(of.filled)
    matches = [match for condition in [*conditions, of.condition or ""] for match in _LITERAL.finditer(condition)]
    literals = [value for match in matches for value in ([match[1]] if match[1] else [match[0], match[0] + _N])]
    for value in dict.fromkeys([*([of.label] if of.label else []), *_VALUES, *literals]):
        yield func.replace(value, _N, cast(_ROWS.c.n, String)).op("::")(literal_column(of.type))
    if not of.required:
        yield null()


def _holds(connection: Connection, values: dict[str, ColumnElement[Any]], conditions: list[str]) -> bool:
    """Whether PostgreSQL can compute these values, and all rows meet the conditions."""
    rows = select(*(value.label(name) for name, value in values.items())).select_from(_ROWS).subquery()
    met = [func.bool_and(literal_column(condition)) for condition in conditions]
    try:
        counts = connection.execute(select(*met, *(func.count(value) for value in rows.c))).one()
    except DBAPIError:
        return False
    return False not in counts[: len(met)]  # NULL satisfies the check

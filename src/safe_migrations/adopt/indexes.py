"""The elements of indexes, as PostgreSQL describes them."""

import re
from typing import Any

from safe_migrations.adopt.source import Source, call, in_one_line
from safe_migrations.postgres.sql import escaped

_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_QUALIFIED = rf"{_NAME}(?:\.{_NAME})?"
_BEGINNING = re.compile(rf"CREATE (?:UNIQUE )?INDEX {_NAME} ON (?:ONLY )?{_QUALIFIED} USING {_NAME} \(")
# What follows the column or the expression of an index's element.
_ELEMENT = re.compile(
    rf"(?: COLLATE {_QUALIFIED})?(?: (?!DESC\b|NULLS\b){_QUALIFIED}(?: \((?:[^')]|'(?:[^']|'')*')*\))?)?"
    r"(?: DESC)?(?: NULLS (?:FIRST|LAST))?"
)


def index_elements(row: Any) -> tuple[list[object], dict[str, str]]:
    """The elements of an index, and the operator classes of the elements without further options.

    Returns:
        Names of columns and expressions, and the operator classes by the names that SQLAlchemy knows the elements by.
    """
    rest = _BEGINNING.sub("", row.definition, count=1)
    elements: list[object] = []
    operators: dict[str, str] = {}
    for number, (key, column) in enumerate(zip(row.keys, row.columns, strict=False), 1):
        match = _ELEMENT.match(rest, len(key))
        assert rest.startswith(key) and match is not None  # noqa: S101  # PostgreSQL writes both
        suffix, rest = match[0], rest[match.end() :].removeprefix(", ")
        expression = in_one_line(key)
        has_operators = re.fullmatch(r" (?!COLLATE\b|DESC\b|NULLS\b)[a-z_]\w*", suffix)
        if has_operators:
            operators[column or f"expression_{number}"] = suffix.strip()
        if column is not None and (has_operators or not suffix):
            elements.append(column)
        elif has_operators:  # in a form that Alembic compares
            elements.append(Source(f"{call('literal_column', expression)}.label('expression_{number}')"))
        else:
            elements.append(call("text", escaped(expression + suffix)))
    return elements, operators

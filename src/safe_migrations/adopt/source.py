"""Python source, as parts of a module of models."""

import re
from collections.abc import Iterator
from typing import Any

_LONGEST = 80  # characters of a string in one line
_LINE_BREAK = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\s*\n\s*""")
_PART = re.compile(rf"[\s\S]{{1,{_LONGEST}}}(?:(?<= )|$)|[\s\S]{{1,{_LONGEST}}}")


class Source(str):
    """An expression, where a plain `str` is the value of a literal."""


def literal(value: object) -> Source:
    """A value as an expression; a long string becomes several, which Python joins.

    Args:
        value: a string, a number, a truth value, a list, a dictionary, or `Source`.
    """
    if isinstance(value, Source):
        return value
    if isinstance(value, list):
        return Source(f"[{', '.join(map(literal, value))}]")
    if isinstance(value, dict):
        return Source(f"{{{', '.join(f'{literal(key)}: {literal(item)}' for key, item in value.items())}}}")
    if isinstance(value, str) and len(value) > _LONGEST:
        return Source(" ".join(map(repr, _PART.findall(value))))
    return Source(repr(value))


def call(function: str, *arguments: object, **options: object) -> Source:
    """A call; an option that is None or False is left out.

    Args:
        arguments: values or `Source`.
        options: values or `Source`.
    """
    return Source(f"{function}({', '.join([*map(literal, arguments), *_keywords(options)])})")


def _keywords(options: dict[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if value is not None and value is not False:
            yield f"{name}={literal(value)}"


def in_one_line(sql: str) -> str:
    """An expression of PostgreSQL without line breaks outside of literals and names.

    Args:
        sql: as `pg_get_expr` writes it.
    """
    return _LINE_BREAK.sub(lambda match: match[0] if match[0][0] in "'\"" else " ", sql)

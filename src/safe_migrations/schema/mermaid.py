"""Models as an entity relationship diagram of Mermaid: https://mermaid.js.org/syntax/entityRelationshipDiagram.html

Mermaid accepts any text between quotes; a character that would end the text, or start markup, is an entity code. The
type and the name of a column have to be single words. A type or name that is not a single word is repeated in the
quoted text.
"""

import re
from collections.abc import Iterable, Iterator

from safe_migrations.printable import printable
from safe_migrations.schema.structure import Column, ForeignKey, Table

_CODED = re.compile(
    r"""
      ["#%&*;<>\\`~]                                # ends the text, or begins a code or markup
      | (?<=direction)\s (?=TB|BT|LR|RL)            # a statement even between quotes
      | ^[-+](?=\s) | (?<=\d)[.)](?=\s) | _(?!\w)  # in Markdown a list, or the end of emphasis
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NO_WORD = re.compile(r"[^A-Za-z0-9_\u00c0-\U0010ffff]+")
_NO_TYPE = re.compile(r"[^A-Za-z0-9_()\[\]\u00c0-\U0010ffff-]+")
_NO_BEGINNING = re.compile(r"(?=[^A-Za-z_\u00c0-\U0010ffff]|(?:PK|FK|UK)\b)", re.IGNORECASE)


def mermaid(tables: Iterable[Table]) -> str:
    """The text of a diagram."""
    tables = list(tables)
    lines = [line for table in tables for line in _entity(table)]
    lines += [_relationship(table, key) for table in tables for key in table.foreign_keys]
    return "\n".join(["erDiagram", *(f"    {line}" for line in lines)]) + "\n"


def _entity(table: Table) -> Iterator[str]:
    if not table.columns:
        yield _quoted(table.name)
        return
    yield f"{_quoted(table.name)} {{"
    of_keys = {name for key in table.foreign_keys for name in key.columns}
    for column in table.columns:
        yield f"    {_attribute(column, column.name in of_keys)}"
    yield "}"


def _attribute(column: Column, is_foreign: bool) -> str:
    readable = column.type.replace('"', "").replace(", ", "-").replace(" ", "_") or "unknown"
    type_, name = _word(readable, _NO_TYPE), _word(column.name, _NO_WORD)
    keys = {"PK": column.is_primary, "FK": is_foreign, "UK": column.is_unique and not column.is_primary}
    notes = [
        column.name if name != column.name else "",
        column.type if type_ != readable else "",
        "nullable" if column.is_nullable else "",
        column.default,
        f"values {' | '.join(column.values)}" if column.values else "",
        " ".join(column.comment.split()),
    ]
    text = ", ".join(filter(None, notes))
    parts = [type_, name, ", ".join(key for key, applies in keys.items() if applies), _quoted(text) if text else ""]
    return " ".join(filter(None, parts))


def _relationship(table: Table, key: ForeignKey) -> str:
    one, many = "|o" if key.is_nullable else "||", "o|" if key.is_unique else "o{"
    return f"{_quoted(key.table)} {one}--{many} {_quoted(table.name)} : {_quoted(', '.join(key.columns))}"


def _word(text: str, other: re.Pattern[str]) -> str:
    """A text as a word that Mermaid takes for a name, and not for a key."""
    word = other.sub("_", "".join(character if character.isprintable() else "_" for character in text))
    return f"_{word}" if _NO_BEGINNING.match(word) else word


def _quoted(text: str) -> str:
    """A text of any characters, on one line."""
    return '"' + _CODED.sub(lambda match: f"#{ord(match[0])};", printable(text)) + '"'

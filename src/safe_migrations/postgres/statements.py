"""The text of SQL statements: where one ends, and what its names are."""

import re
from collections.abc import Iterator

_PART = r'(?:"(?:[^"]|"")+"|[\w$]+)'
NAME = rf"(?:{_PART}(?:\.{_PART})?)"
_NAMES = rf"({NAME}(?: ?, ?{NAME})*)"

# Literals, programs between dollars, and comments; a quoted name is kept.
_OPAQUE = re.compile(
    r"""
    (?P<name>"(?:[^"]|"")*")
    | \bE'(?:\\.|''|[^'\\])*' | '(?:''|[^'])*' | (?<![\w$])\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | --[^\n\r]* | /\*.*?\*/
    """,
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)


def pattern(text: str) -> re.Pattern[str]:
    """A pattern for statements on one line; `<name>` stands for a name, and `<names>` for several, in a group."""
    return re.compile(text.replace("<names>", _NAMES).replace("<name>", NAME), re.IGNORECASE)


def split(text: str) -> Iterator[tuple[str, str]]:
    """The statements of a text, each as it stands, and on one line without comments and contents of literals."""
    masked = _OPAQUE.sub(_mask, text)
    without_names = _OPAQUE.sub(lambda match: "." * len(match[0]), text)
    start = 0
    for end in [*(match.start() for match in re.finditer(";", without_names)), len(text)]:
        plain = " ".join(masked[start:end].split())
        if plain:
            yield text[start:end].strip(), plain
        start = end + 1


def parts(name: str) -> list[str]:
    """The parts of a qualified name, as PostgreSQL keeps them."""
    quoted = re.findall(_PART, name)
    return [part[1:-1].replace('""', '"') if part.startswith('"') else part.lower() for part in quoted]


def _mask(match: re.Match[str]) -> str:
    """A text of the same length, so that positions do not change."""
    text = match[0]
    if match["name"]:
        return text
    if text.startswith(("--", "/*")):
        return " " * len(text)
    return f"{text[0]}{'.' * (len(text) - 2)}{text[-1]}"

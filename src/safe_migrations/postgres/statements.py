"""The text of SQL statements: where one ends, and what its names are."""

import re
from collections.abc import Iterator

from safe_migrations.postgres.sql import stored_name

_PART = r'(?:"(?:[^"]|"")++"|[\w$]+)'
NAME = rf"(?:{_PART}(?:\.{_PART})?)"
_NAMES = rf"({NAME}(?: ?, ?{NAME})*)"

_COMMENT = r"/\*(?:[^*/]|\*(?!/)|/(?!\*)|<nested>)*\*/"  # PostgreSQL nests comments; two levels are enough
_COMMENT = _COMMENT.replace("<nested>", _COMMENT.replace("<nested>", _COMMENT.replace("|<nested>", "")))
# Literals, programs between dollars, and comments; a quoted name is kept.
_OPAQUE = re.compile(
    rf"""
    (?P<name>"(?:[^"]|"")*")
    | \bE'(?:\\.|''|[^'\\])*' | '(?:''|[^'])*' | (?<![\w$])\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | --[^\n\r]* | {_COMMENT}
    """,
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
# What decides whether a semicolon ends a statement, as in psql: one in parentheses does not, nor one in the body of a
# function between BEGIN ATOMIC and END.
_ENDS = re.compile(r"[;()]|\b(?:BEGIN(?=[\s.]+ATOMIC\b)|CASE\b|END\b)", re.IGNORECASE)
_FUNCTION = re.compile(r"[\s.]*CREATE[\s.]+(?:OR[\s.]+REPLACE[\s.]+)?(?:FUNCTION|PROCEDURE)\b", re.IGNORECASE)


def pattern(text: str) -> re.Pattern[str]:
    """A pattern for statements on one line; `<name>` stands for a name, and `<names>` for several, in a group."""
    return re.compile(text.replace("<names>", _NAMES).replace("<name>", NAME), re.IGNORECASE)


ALTER_TABLE = pattern(r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?(<name>)(?: \*)? (.*)")
CREATE_TABLE = pattern(r"CREATE (?:\w+ ){0,2}TABLE (?:IF NOT EXISTS )?(<name>)")


def split(text: str) -> Iterator[tuple[str, str]]:
    """The statements of a text, each as it stands, and on one line without comments and contents of literals."""
    masked = _OPAQUE.sub(_mask, text)
    start = 0
    for end in [*_semicolons(_OPAQUE.sub(lambda match: "." * len(match[0]), text)), len(text)]:
        plain = " ".join(masked[start:end].split())
        if plain:
            yield text[start:end].strip(), plain
        start = end + 1


def terminated(statement: str) -> str:
    """A statement with its semicolon, which a comment in the last line would hide."""
    return f"{statement}\n;" if "--" in statement.rpartition("\n")[2] else f"{statement};"


def _semicolons(text: str) -> Iterator[int]:
    """Where the semicolons are that end a statement, in a text without names, literals and comments."""
    start = parentheses = blocks = 0
    for match in _ENDS.finditer(text):
        match match[0].upper():
            case "(":
                parentheses += 1
            case ")":
                parentheses = max(parentheses - 1, 0)
            case _ if parentheses:
                continue
            case "BEGIN":
                blocks += bool(_FUNCTION.match(text, start))
            case "CASE":
                blocks += blocks > 0
            case "END":
                blocks = max(blocks - 1, 0)
            case ";" if not blocks:
                yield match.start()
                start = match.end()


def actions(text: str) -> list[str]:
    """The actions of an ALTER TABLE on one line: what commas separate outside of parentheses and quoted names."""
    texts, depth = [""], 0
    for piece in re.findall(r'"(?:[^"]|"")*"|.', text):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if piece == "," and depth == 0:
            texts.append("")
        else:
            texts[-1] += piece
    return [text.strip() for text in texts]


def parts(name: str) -> list[str]:
    """The parts of a qualified name, as PostgreSQL keeps them."""
    quoted = re.findall(_PART, name)
    names = (part[1:-1].replace('""', '"') if part.startswith('"') else part.lower() for part in quoted)
    return list(map(stored_name, names))


def _mask(match: re.Match[str]) -> str:
    """A text of the same length, so that positions do not change."""
    text = match[0]
    if match["name"]:
        return text
    if text.startswith(("--", "/*")):
        return " " * len(text)
    return f"{text[0]}{'.' * (len(text) - 2)}{text[-1]}"

"""A SQL statement: what it changes, blocks and loses, and which types it needs, as far as its text says."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import sqlalchemy as sa
from alembic.operations import MigrateOperation
from alembic.operations.ops import AddColumnOp, AlterColumnOp, CreateTableOp, DropIndexOp, ExecuteSQLOp
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql

from safe_migrations.postgres.statements import ALTER_TABLE, CREATE_TABLE, NAME, parts, pattern

Types = dict[str, str]  # the definitions of CREATE TYPE and CREATE DOMAIN, by name
DIALECT: Dialect = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
ANY = "*"  # among types: a program, or code that needs a database, may have created any type

CREATED = pattern(r"CREATE (?:\w+ ){0,2}(?:TABLE|MATERIALIZED VIEW) (?:IF NOT EXISTS )?(<name>)")
DROP_TABLE = pattern(r"DROP TABLE (?:IF EXISTS )?<names>")
CREATE_TYPE = pattern(r"CREATE (?:TYPE|DOMAIN) (<name>)")
CONVERSION = pattern(r"ALTER TABLE .*\bALTER (?:COLUMN )?<name> (?:SET DATA )?TYPE (<name>)(?: |\[\]).*USING\b")
DROP_COLUMN = pattern(r"\bDROP (?!(?:CONSTRAINT|DEFAULT|NOT|IDENTITY|EXPRESSION)\b)(?:COLUMN )?(?:IF EXISTS )?(<name>)")
_SCHEMA = pattern(r"(?:CREATE (?!(?:(?:GLOBAL|LOCAL) )?TEMP(?:ORARY)?\b)|ALTER |DROP |COMMENT |TRUNCATE )")
ADD_COLUMN = pattern(
    r"\bADD (?!(?:CONSTRAINT|CHECK|UNIQUE|PRIMARY|FOREIGN|EXCLUDE|GENERATED|VALUE)\b)"
    r"(?:COLUMN )?(?:IF NOT EXISTS )?(<name>)"
)
RENAME_COLUMN = pattern(r"RENAME (?!CONSTRAINT\b)(?:COLUMN )?(<name>) TO\b")
DATA = pattern(r"\b(?:INSERT INTO|UPDATE(?: ONLY)?|DELETE FROM(?: ONLY)?|MERGE INTO|COPY) (<name>)")
READ = pattern(r"\b(?:FROM|JOIN) (<name>)(?![\w$.]| ?\()")

_DROP_TYPE = pattern(r"DROP (?:TYPE|DOMAIN) (?:IF EXISTS )?<names>")
_RENAME_TYPE = pattern(r"ALTER (?:TYPE|DOMAIN) (<name>) RENAME TO (<name>)")
_REFERENCES = pattern(r"\b(?:REFERENCES|(?:AT|DE)TACH PARTITION) (<name>)")
_ALLOWING_WRITES = pattern(
    r"(?:VALIDATE CONSTRAINT|ATTACH PARTITION|DETACH PARTITION .*CONCURRENTLY|CLUSTER ON|SET \(|RESET \(|"
    r"ALTER (?:COLUMN )?<name> SET STATISTICS)"
)
_WEAKER = pattern(rf"(?:^{_ALLOWING_WRITES.pattern}|\bFOREIGN KEY\b|\b(?:DIS|EN)ABLE TRIGGER\b)")
_BLOCKING = pattern(
    r"(?:CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY\b)(?:.*? )?ON (?:ONLY )?|DROP TABLE (?:IF EXISTS )?|"
    r"LOCK (?:TABLE )?(?:ONLY )?|TRUNCATE (?:TABLE )?(?:ONLY )?|REINDEX TABLE |CLUSTER |"
    r"(?:CREATE|DROP|ALTER) (?:OR REPLACE |CONSTRAINT )*(?:TRIGGER|RULE|POLICY) .*? ON )<names>"
)
_ONLINE = pattern(r"(?:CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?:.*? )?ON (?:ONLY )?|COMMENT ON TABLE )(<name>)")
_EMPTIES = pattern(r"(?:DROP TABLE|TRUNCATE(?: TABLE)?) (?:IF EXISTS )?(?:ONLY )?<names>")
_DROPS_MORE = pattern(r"(?:DROP (?:SCHEMA|TYPE|DOMAIN|EXTENSION)\b.* CASCADE$|DROP (?:OWNED|DATABASE)\b.*)")

# Conditions, without the contents of literals.
_VALUE = r"(?:-?\d|'|\$|:\w|%\(|ARRAY\b|CAST\b|NULL\b|ANY *(?:= 0|:))"
_CONSTANT = re.compile(rf"(?<![<>!=])= *{_VALUE}|\bBETWEEN\b|\b(?:IN|EXISTS) *= 0", re.IGNORECASE)
_ABOVE, _BELOW = re.compile(rf">=? *{_VALUE}"), re.compile(rf"<=? *{_VALUE}")
_LIMIT = re.compile(r"\b(?:LIMIT (?!ALL\b)|FETCH (?:FIRST|NEXT)\b)", re.IGNORECASE)
_SAME = re.compile(r"(?<![\w.'])(\d+|'\.*') ?= ?\1(?![\w'])")  # such as 1 = 1
_LIST, _NOT = (re.compile(rf"\b{word}\s*$", re.IGNORECASE) for word in ("(?:IN|ANY)", "NOT(?: IN| EXISTS)?"))
_SUBQUERY = re.compile(r"\s*(?:SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """One statement that a revision would run.

    Attributes:
        sql: as PostgreSQL would get it.
        plain: on one line, without comments and without what literals and programs hold.
        line: of the revision's file, from 1; 0 for the transaction around it.
        operation: what the revision called; None for SQL that it executes without an operation.
        transaction: the number of its transaction in the revision; None outside.
        branch: the branches that it is in, of those that only a database would let the revision take.
        step: the number of its step (`op.step`) in the function; 0 before the first one, or where there are none.
    """

    sql: str
    plain: str
    line: int
    operation: MigrateOperation | None
    transaction: int | None
    branch: tuple[int, ...] = ()
    step: int = 0

    @property
    def is_own(self) -> bool:
        """Whether an operation of safe_migrations wrote it."""
        return type(self.operation).__module__.startswith("safe_migrations.")

    @property
    def is_raw(self) -> bool:
        """Whether it was written as SQL, or as an expression of SQLAlchemy."""
        return isinstance(self.operation, ExecuteSQLOp)

    @property
    def is_program(self) -> bool:
        """Whether it is a DO block of the revision's own, whose effects are unknown."""
        return bool(re.match(r"DO\b", self.plain, re.IGNORECASE)) and not self.is_own

    @property
    def is_schema(self) -> bool:
        """Whether the statement changes the schema, to which temporary tables do not belong."""
        return bool(_SCHEMA.match(self.plain))

    @property
    def data(self) -> str:
        """What it does to rows: without the UPDATE of a row lock, of a conflict, or of a trigger."""
        if self.is_schema or self.plain.upper().startswith(("GRANT ", "REVOKE ")):
            return ""
        return re.sub(r"\b(?:FOR (?:NO KEY )?|DO )UPDATE\b", "", self.plain, flags=re.IGNORECASE)


def bare(name: str) -> str:
    """A name as PostgreSQL stores it, without the default schema."""
    return ".".join(parts(name)).removeprefix("public.")


def bare_name(schema: str | None, name: str) -> str:
    """A name of SQLAlchemy, as `bare` returns it."""
    return f"{schema}.{name}".removeprefix("public.") if schema else name


def names_in(names: str) -> set[str]:
    """The names in a list with commas."""
    return {bare(name) for name in re.findall(NAME, names)}


def levels(plain: str) -> Iterator[str]:
    """The text in each pair of parentheses, and at last outside; `= 0` replaces nested ones that select few rows."""
    while inner := re.search(r"\(([^()]*)\)", plain):
        yield inner[1]
        before = plain[: inner.start()]
        listed = _LIST.search(before) and not _SUBQUERY.match(inner[1])
        bounded = not _NOT.search(before) and (listed or is_bounded(inner[1]))
        plain = f"{before} {'= 0' if bounded else ''} {plain[inner.end() :]}"
    yield plain


def is_bounded(condition: str) -> bool:
    """Whether a condition, or a query, selects rows by constants or by a limit, so that they may be few."""
    if _LIMIT.search(condition):
        return True
    _, where, tail = condition.rpartition(" WHERE ")
    if not where and _SUBQUERY.match(condition):
        return condition.lstrip().upper().startswith("VALUES")
    alternatives = re.split(r" OR ", _SAME.sub("", tail), flags=re.IGNORECASE)
    return all(_CONSTANT.search(part) or (_ABOVE.search(part) and _BELOW.search(part)) for part in alternatives)


def altered(statements: Iterable[Statement], created: set[str]) -> Iterator[tuple[Statement, str, str]]:
    """Each ALTER TABLE of a table that is not among the created ones, with the table and the rest of the statement."""
    for statement in statements:
        match = ALTER_TABLE.match(statement.plain)
        if match and bare(match[1]) not in created:
            yield statement, bare(match[1]), match[2]


def blocked_tables(statement: Statement) -> list[set[str]]:
    """The tables that can't be written until the transaction ends; tables that a foreign key connects, together."""
    if match := ALTER_TABLE.match(statement.plain):
        return [] if _ALLOWING_WRITES.match(match[2]) else [{bare(match[1]), *map(bare, _REFERENCES.findall(match[2]))}]
    if match := _BLOCKING.match(statement.plain):
        return [{name} for name in names_in(match[1])]
    table = table_of_dropped_index(statement)
    return [{table}] if table and " CONCURRENTLY " not in statement.plain else []


def table_of_dropped_index(statement: Statement) -> str | None:
    """The table of the index that an operation drops; None if the operation does not name the table."""
    operation = statement.operation
    if not isinstance(operation, DropIndexOp) or operation.table_name is None:
        return None
    return bare_name(operation.schema, operation.table_name)


def touched_tables(statement: Statement) -> set[str]:
    """The tables that a statement changes, and the tables that it connects with them by a foreign key."""
    if (match := ALTER_TABLE.match(statement.plain) or CREATE_TABLE.match(statement.plain)) and statement.is_schema:
        return {bare(match[1]), *map(bare, _REFERENCES.findall(statement.plain))}
    if match := _ONLINE.match(statement.plain):
        return {bare(match[1])}
    return set().union(*blocked_tables(statement), map(bare, DATA.findall(statement.data)))


def locked_tables(statements: Iterable[Statement]) -> set[str]:
    """The tables that statements create, drop, or lock by ACCESS EXCLUSIVE as ALTER TABLE does."""
    texts = [statement.plain for statement in statements]
    whole = (match for text in texts if (match := DROP_TABLE.match(text) or CREATED.match(text)))
    parts = (match for text in texts if (match := ALTER_TABLE.match(text)) and not _WEAKER.search(match[2]))
    return set().union(*(names_in(match[1]) for match in chain(whole, parts)))


def losses(statement: Statement, created: set[str]) -> Iterator[str]:
    """The data that a statement drops, in words; a table that the same revision has created holds none."""
    if match := _EMPTIES.match(statement.plain):
        yield from (f"the table {name}" for name in sorted(names_in(match[1]) - created))
    elif (match := ALTER_TABLE.match(statement.plain)) and bare(match[1]) not in created:
        yield from (f"the column {bare(match[1])}.{bare(name)}" for name in DROP_COLUMN.findall(match[2]))
    elif match := _DROPS_MORE.match(statement.plain):
        yield match[0]


def types_after(types: Types, statement: Statement) -> Types:
    """The types that exist after a statement."""
    if match := CREATE_TYPE.match(statement.plain):
        return {**types, bare(match[1]): statement.plain[match.end() :]}
    if match := _DROP_TYPE.match(statement.plain):
        return {name: types[name] for name in types.keys() - names_in(match[1])}
    if match := _RENAME_TYPE.match(statement.plain):
        old, new = bare(match[1]), bare(match[2])
        return {**{name: types[name] for name in types.keys() - {old}}, new: types.get(old, "")}
    return {**types, ANY: ""} if statement.is_program else types


def types_used(statement: Statement) -> set[str]:
    """The enums and domains that the columns of an operation have, by name."""
    match statement.operation if CREATE_TABLE.match(statement.plain) or ALTER_TABLE.match(statement.plain) else None:
        case CreateTableOp(columns=items):
            types = [item.type for item in items if isinstance(item, sa.Column)]
        case AddColumnOp(column=column):
            types = [column.type]
        case AlterColumnOp(modify_type=sa.types.TypeEngine() as changed):
            types = [changed]
        case _:
            types = []
    elements = [getattr(type_, "item_type", type_) for type_ in types]  # of arrays
    return {
        bare(type_.compile(dialect=DIALECT))
        for type_ in elements
        if isinstance(type_, postgresql.DOMAIN) or (isinstance(type_, sa.Enum) and type_.native_enum)
    }

"""The data that a downgrade would destroy, reported before the downgrade runs."""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alembic import context
from alembic.runtime.migration import RevisionStep
from sqlalchemy import Connection, Select, column, literal_column, select

from safe_migrations.ddl.step_records import StepRecords
from safe_migrations.postgres.catalog import count_up_to, find_table, hides_rows, own_relations
from safe_migrations.postgres.sql import read_sql
from safe_migrations.postgres.statements import ALTER_TABLE, CREATE_TABLE, NAME, actions, parts, pattern
from safe_migrations.printable import counted
from safe_migrations.prompt import confirm
from safe_migrations.upgrade.offline import offline_statements

COUNTED = 1_000_000  # rows; to count more takes too long to wait for

Target = tuple[str, str | None]  # a table, and a column of it, as SQL has them

# A statement that is neither here nor below may destroy anything.
_DESTROYS_NO_ROWS = pattern(
    "|".join(
        (
            r"(?:BEGIN|COMMIT|LOCK|RESET|GRANT|REVOKE|COMMENT ON|REINDEX|ANALYZE)\b",
            r"SET (?!(?:(?:LOCAL|SESSION) )?(?:search_path|SCHEMA|ROLE|SESSION AUTHORIZATION|AUTHORIZATION)\b)",
            r"CREATE\b(?!(?: OR REPLACE)? RULE\b)"
            r"(?!.*(?:\bAS EXECUTE|\bDELETE FROM|\bINSERT INTO|\bMERGE INTO|(?<!\bON )\bUPDATE .*\bSET)\b)",
            r"INSERT INTO\b(?!.*\b(?:DELETE FROM|UPDATE|MERGE INTO)\b)",
            r"ALTER (?:INDEX|SEQUENCE|VIEW|TYPE|FUNCTION) (?:IF EXISTS )?<name>(?: ?\([^)]*\))? "
            r"(?:RENAME|OWNED BY|ADD VALUE)\b",
            r"DROP (?:INDEX|TRIGGER|RULE|POLICY)\b",
            r"DROP (?:FUNCTION|PROCEDURE|TYPE|DOMAIN|SCHEMA|VIEW)\b(?!.*\bCASCADE$)",
        )
    )
)
_EMPTIES = pattern(
    r"(?:DROP TABLE(?: IF EXISTS)?|TRUNCATE(?: TABLE)?(?!.* CASCADE$)|DELETE FROM|UPDATE) (?:ONLY )?"
    r"((?:<name>)(?: ?\*)?(?: ?, ?(?:ONLY )?<name>(?: ?\*)?)*)"
)
_ADDED = pattern(r"ADD COLUMN (?:IF NOT EXISTS )?(<name>)")
_DROPPED = pattern(r"DROP (?!CONSTRAINT )(?:COLUMN )?(?:IF EXISTS )?(<name>)(?: CASCADE| RESTRICT)?$")
_CONVERTED = pattern(r"ALTER (?:COLUMN )?(<name>) (?:SET DATA )?TYPE (.*)")
# After these, a name means other rows, or more rows.
_RENAMED = pattern(r"ALTER (?:TABLE|INDEX|SEQUENCE|VIEW) .* RENAME TO (<name>)$")
_RENAMED_COLUMN = pattern(r"RENAME (?!TO |CONSTRAINT )(?:COLUMN )?<name> TO (<name>)$")
_VIEW = pattern(r"CREATE (?:\w+ ){0,4}VIEW (?:IF NOT EXISTS )?(<name>)")
_TAKEN_IN = pattern(r"ATTACH PARTITION (?:<name>)")
_INHERITED = pattern(r"INHERIT (<name>)")
_KEEPS_VALUES = pattern(
    r"(?:(?:ADD|DROP CONSTRAINT|VALIDATE CONSTRAINT|RENAME|ENABLE|DISABLE|(?:NO )?FORCE ROW LEVEL|CLUSTER ON|OWNER TO|"
    r"REPLICA IDENTITY|ATTACH PARTITION|DETACH PARTITION|(?:NO )?INHERIT)\b|(?:SET|RESET) \(|ALTER (?:COLUMN )?<name> "
    r"(?:(?:SET|DROP) (?:DEFAULT|NOT NULL)|DROP IDENTITY|ADD GENERATED|SET (?:GENERATED|STATISTICS|STORAGE)|"
    r"SET (?:START|INCREMENT|MINVALUE|MAXVALUE|NO|CACHE|CYCLE))\b)"
)
_ACTIONS = (_DROPPED, _CONVERTED, _KEEPS_VALUES)
# Types to which values of other types are converted without a loss, where no USING says how.
_INTEGERS = ["smallint", "integer", "bigint"]
_WIDER = {
    "integer": _INTEGERS[:2],
    "bigint": _INTEGERS,
    "numeric": [*_INTEGERS, "numeric"],
    "double precision": ["smallint", "integer", "real"],
    "text": [*_INTEGERS, "boolean", "date", "uuid", "character varying", "text"],
    "character varying": [*_INTEGERS, "boolean", "date", "uuid", "character varying", "text"],
}
_ALIASES = {"int": "integer", "varchar": "character varying", "decimal": "numeric", "float": "double precision"}
_USES_ROWS = pattern(r"INSERT|UPDATE|DELETE|CREATE\b.* AS [( ]*(?:SELECT|VALUES|TABLE|WITH)\b")
# After these, a statement that reads or writes rows may run code which the database does not have yet.
_ADDS_CODE = pattern(
    r"(?:CREATE|ALTER) (?:\w+ ){0,3}(?:FUNCTION|PROCEDURE|TRIGGER)\b|ALTER TABLE .*\bENABLE (?:\w+ )?(?:TRIGGER|RULE)\b"
)
_CALLED = pattern(rf"({NAME}) ?\(")
_WRITTEN = pattern(r"(?:INSERT INTO|UPDATE|DELETE FROM) (?:ONLY )?(<name>)")
_SQL = read_sql(__package__, "data_loss.sql")


@dataclass(frozen=True)
class DataLoss:
    """A table or a column that a downgrade drops, empties or changes.

    Attributes:
        name: the table, or the column with its table, as SQL has it.
        rows: how many have a value there, in words.
    """

    name: str
    rows: str

    def __str__(self) -> str:
        return f"{self.name} ({self.rows})"


def confirm_data_loss(
    connection: Connection, steps: Sequence[RevisionStep], destination: str, options: Mapping[str, Any], *, yes: bool
) -> None:
    """Name what a downgrade destroys, and ask if rows are lost.

    Args:
        connection: to the database, in AUTOCOMMIT.

    Raises:
        NotConfirmedError: the user has not confirmed.
    """
    losses = find_data_loss(connection, steps, StepRecords.read(connection, options))
    if losses is None:
        if not _has_rows(connection, options):
            return
        warning = "This downgrade may destroy data: its effect is not known in advance, and the database has rows."
    elif losses:
        warning = f"This downgrade destroys {', '.join(map(str, losses))}."
    else:
        return
    arguments = (part for argument in (*context.get_x_argument(), "yes") for part in ("-x", argument))
    downgrade = shlex.join(["alembic", *arguments, "downgrade", destination])
    confirm(warning, "Downgrade", yes=yes, command=f"safe-migrations backup\n{downgrade}")


def find_data_loss(
    connection: Connection, steps: Sequence[RevisionStep], records: StepRecords
) -> list[DataLoss] | None:
    """The tables and columns with rows that a downgrade drops, empties or changes; only its operations run.

    Args:
        connection: to the database, in AUTOCOMMIT.

    Returns:
        None where that can't be predicted: a revision runs code of its own, reads the database to decide, has a
        statement that is not known to keep all rows, or renames what a later one drops.
    """
    targets: dict[Target, set[str | None]] = {}  # with the types to which a column is converted, None if it is dropped
    created: set[Target] = set()
    moved: set[Target] = set()
    adds_code = False
    for step in steps:
        completed = records.of(step.revision.revision, "downgrade")
        statements = offline_statements(step.revision, "downgrade", completed)
        if statements is None or not all(map(_is_known, statements)):
            return None
        if any(
            _calls_code(connection, statement) or _changes_a_type_in_use(connection, statement)
            for statement in statements
        ):
            return None
        for statement in statements:
            if adds_code and _USES_ROWS.match(statement):
                return None
            adds_code |= bool(_ADDS_CODE.match(statement))
            created |= set(_created(statement))
            for target, type_ in _changed(statement):
                if {(parts(table)[-1], column and parts(column)[-1]) for table, column in _with_table(target)} & moved:
                    return None
                targets.setdefault(target, set()).add(type_)
            moved |= set(_moved(statement))
    return _count_all(connection, targets, created)


def _count_all(
    connection: Connection, targets: Mapping[Target, set[str | None]], created: set[Target]
) -> list[DataLoss] | None:
    """The losses with rows; None if a target does not exist, and no revision creates it."""
    losses = []
    for (table, column_name), types in targets.items():
        loss = _count(connection, table, column_name, types)
        if loss is None and not created & {(table, column_name), (table, None)}:
            return None
        if loss is not None and loss.rows:
            losses.append(loss)
    return losses


def _is_known(statement: str) -> bool:
    """Whether it can be predicted what a statement does to rows."""
    if match := ALTER_TABLE.fullmatch(statement):
        return all(any(known.match(action) for known in _ACTIONS) for action in actions(match[2]))
    return bool(_DESTROYS_NO_ROWS.match(statement) or _EMPTIES.match(statement))


def _calls_code(connection: Connection, statement: str) -> bool:
    """Whether a statement that reads or writes rows calls a function, a trigger or a rule of the database's own."""
    if not _USES_ROWS.match(statement):
        return False
    written = _WRITTEN.match(statement)
    names = [parts(match[1])[-1] for match in _CALLED.finditer(statement)]
    return bool(connection.scalar(_SQL["has_code"], {"names": names, "table": written and written[1]}))


def _changes_a_type_in_use(connection: Connection, statement: str) -> bool:
    """Whether a statement changes a table whose row type is the type of columns of other tables."""
    if not re.match(r"DROP TABLE\b.* CASCADE$|ALTER TABLE\b", statement, re.IGNORECASE):
        return False
    return any(connection.scalar(_SQL["has_type_in_use"], {"table": table}) for (table, _), _ in _changed(statement))


def _created(statement: str) -> Iterator[Target]:
    if match := CREATE_TABLE.match(statement):
        yield match[1], None
    elif match := ALTER_TABLE.fullmatch(statement):
        yield from ((match[1], added[1]) for action in actions(match[2]) if (added := _ADDED.match(action)))


def _with_table(target: Target) -> set[Target]:
    return {target, (target[0], None)}


def _moved(statement: str) -> Iterator[Target]:
    """The names, without a schema, that mean other rows after a statement."""
    if match := _RENAMED.match(statement) or _VIEW.match(statement):
        yield parts(match[1])[-1], None
    elif match := ALTER_TABLE.fullmatch(statement):
        for action in actions(match[2]):
            if renamed := _RENAMED_COLUMN.match(action):
                yield parts(match[1])[-1], parts(renamed[1])[-1]
            elif _TAKEN_IN.match(action):
                yield parts(match[1])[-1], None
            elif inherited := _INHERITED.match(action):
                yield parts(inherited[1])[-1], None


def _changed(statement: str) -> Iterator[tuple[Target, str | None]]:
    """What a statement drops, empties or changes, and the type to which it converts a column."""
    if match := _EMPTIES.match(statement):
        tables = re.sub(r"\bONLY |\*", "", match[1], flags=re.IGNORECASE)
        yield from (((table, None), None) for table in re.findall(NAME, tables))
    elif match := ALTER_TABLE.fullmatch(statement):
        for action in actions(match[2]):
            if dropped := _DROPPED.match(action):
                yield (match[1], dropped[1]), None
            elif converted := _CONVERTED.match(action):
                yield (match[1], converted[1]), converted[2]


def _count(
    connection: Connection, name: str, column_name: str | None = None, types: Collection[str | None] = (None,)
) -> DataLoss | None:
    """What is lost of a table or a column; None where there is none of this name."""
    table = find_table(connection, name)
    if table is None:
        return None
    label = f"the table {name}"
    rows: Select[Any] = select(literal_column("1")).select_from(table)
    if column_name is not None:
        existing = connection.execute(_SQL["column"], {"table": name, "column": column_name}).first()
        if existing is None:
            return None
        label = f"the column {name}.{column_name}"
        rows = rows.where(column(existing.attname).is_distinct_from(None))  # IS NOT NULL asks for each part of a row
        if all(type_ is not None and _keeps_values(existing.type, existing.length, type_) for type_ in types):
            return DataLoss(label, "")
    return DataLoss(label, _count_rows(connection, name, rows))


def _count_rows(connection: Connection, name: str, rows: Select[Any]) -> str:
    if hides_rows(connection, name):
        return "row security may hide rows"
    number = count_up_to(connection, rows, COUNTED)
    if number > COUNTED:
        return f"more than {COUNTED:,} rows"
    return counted(number, "row") if number else ""


def _keeps_values(before: str, length: int | None, after: str) -> bool:
    """Whether each value of a type is the same in another one."""
    match = re.fullmatch(r"([a-z ]+?) ?(?:\((\d+)\))?", after.lower())
    if match is None:  # with USING, which may make anything of a value, or COLLATE
        return False
    name = _ALIASES.get(match[1], match[1])
    if match[2]:
        return name == before == "character varying" and length is not None and length <= int(match[2])
    return before in _WIDER.get(name, [])


def _has_rows(connection: Connection, options: Mapping[str, Any]) -> bool:
    """Whether any table of the service has rows; Alembic's version table does not count."""
    losses = (_count(connection, name) for name in own_relations(connection, options, "rp"))
    return any(loss is not None and loss.rows for loss in losses)

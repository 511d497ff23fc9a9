"""Where a downgrade would stop, found before it begins: rows that violate what it restores, and revisions that refuse.

What can't be known without running the downgrade is no obstacle here; the revision then fails, and is rolled back.
"""

import ast
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alembic.runtime.migration import RevisionStep
from alembic.script import Script
from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    FromClause,
    Select,
    TableClause,
    column,
    exists,
    func,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.exc import DBAPIError

from safe_migrations.ddl.step_records import StepRecords
from safe_migrations.errors import RevisionError
from safe_migrations.postgres.catalog import find_table
from safe_migrations.postgres.rollback import rolled_back
from safe_migrations.postgres.statements import ALTER_TABLE, NAME, actions, parts, pattern
from safe_migrations.upgrade.offline import offline_sql
from safe_migrations.upgrade.revision_names import full_name

AS_FAR_AS_POSSIBLE = "as-far-as-possible"  # an argument of -x
_TIMEOUT = text("SET LOCAL statement_timeout = '10s'")  # for each look at the rows of a table

_ADD_COLUMN = pattern(r"ADD (?!CONSTRAINT\b)(?:COLUMN )?(<name>) (<name>)(.*)")
_FILLED = re.compile(r"\b(?:DEFAULT|GENERATED|\w*SERIAL)\b", re.IGNORECASE)
_SET_NOT_NULL = pattern(r"ALTER (?:COLUMN )?(<name>) SET NOT NULL$")
_TOUCHED = pattern(
    r"(?:DROP (?!CONSTRAINT\b)(?:COLUMN )?(?:IF EXISTS )?|ALTER (?:COLUMN )?)(<name>)"
    r"(?: CASCADE$|$| (?:SET DATA )?TYPE\b)"
)
_CONSTRAINT = pattern(r"ADD CONSTRAINT (<name>) (CHECK|UNIQUE|PRIMARY KEY|FOREIGN KEY) ?\((.*?)\)(.*)")
_VALIDATE = pattern(r"VALIDATE CONSTRAINT (<name>)$")
_REFERENCES = pattern(r" ?REFERENCES (<name>) ?\((.*?)\)")
_UNIQUE_INDEX = pattern(r"CREATE UNIQUE INDEX (?:CONCURRENTLY )?(?:IF NOT EXISTS )?(<name>) ON (<name>) ?\(([^()]*)\)$")
_CHECK = re.compile(r"\bCHECK\s*\((.*)\)(?:\s*NOT VALID)?\s*$", re.DOTALL | re.IGNORECASE)
_CHANGES_NO_VALUE = pattern(
    r"(?:BEGIN|COMMIT|SET (?:LOCAL )?\w+_timeout|COMMENT ON|(?:CREATE (?:UNIQUE )?|DROP )INDEX|"
    r"(?:CREATE|DROP) (?:TYPE|DOMAIN|SEQUENCE|SCHEMA)|ALTER TYPE .* ADD VALUE|CREATE TABLE (?!.* AS \w))\b"
)
_ACTION_CHANGES_NO_VALUE = pattern(
    r"(?:(?:ADD|DROP|VALIDATE) CONSTRAINT|ALTER (?:COLUMN )?<name> (?:SET|DROP) (?:DEFAULT|NOT NULL))\b"
)
# Of a domain as well, which may have a default.
_NO_DEFAULT = text("SELECT typdefault IS NULL FROM pg_type WHERE oid = to_regtype(:name)")


def refuse_unreachable(
    connection: Connection, steps: Sequence[RevisionStep], destination: str, options: Mapping[str, Any]
) -> None:
    """Refuse a downgrade that would stop before its destination.

    Raises:
        RevisionError: names the revision, and what it would fail at.
    """
    records = StepRecords.read(connection, options)
    rows = _Rows(connection)
    for number, step in enumerate(steps):
        script = step.revision
        obstacle = _raises(script) or rows.obstacle(script, records.of(script.revision, "downgrade"))
        if not obstacle:
            continue
        message = (
            f"The downgrade to {destination} would stop at {full_name(script)}: {obstacle}. Nothing was changed. "
            "Correct the rows, or downgrade() in that file, then run the same command again."
        )
        if number:
            command = shlex.join(["alembic", "-x", AS_FAR_AS_POSSIBLE, "downgrade", destination])
            message += f" To revert as many revisions as possible ({number}):\n{command}"
        raise RevisionError(message)


def _raises(script: Script) -> str:
    """What the function raises in any case; empty if it does not."""
    for node in ast.parse(Path(script.path).read_bytes()).body:
        if isinstance(node, ast.FunctionDef) and node.name == "downgrade":
            for statement in node.body:
                if any(isinstance(part, ast.Return) for part in ast.walk(statement)):
                    return ""
                if isinstance(statement, ast.Raise):
                    return f"it raises {ast.unparse(statement.exc) if statement.exc else 'an error'}"
    return ""


@dataclass
class _Rows:
    """The rows of the database as they are at a point of the downgrade, as far as that is known.

    Attributes:
        connection: to the database.
        empty: columns that were added without a value, so that they are NULL.
        touched: columns whose values differ from the present values of the database.
        later: the obstacles of constraints that are not valid yet, by table and name.
    """

    connection: Connection
    is_known: bool = True
    empty: set[tuple[str, str]] = field(default_factory=set)
    touched: set[tuple[str, str]] = field(default_factory=set)
    later: dict[tuple[str, str], str] = field(default_factory=dict)

    def obstacle(self, script: Script, completed: Iterable[str]) -> str:
        """What a revision's downgrade would fail at; empty if nothing is known."""
        statements = offline_sql(script, "downgrade", list(completed)) if self.is_known else None
        if statements is None:
            self.is_known = False
        for sql, plain in statements or ():
            if obstacle := self._of_statement(sql, plain):
                return obstacle
            if not self.is_known:
                break
        return ""

    def _of_statement(self, sql: str, plain: str) -> str:
        if match := _UNIQUE_INDEX.match(plain):
            return self._duplicates(match[2], match[3])
        match = ALTER_TABLE.fullmatch(plain)
        if match is None:
            self.is_known = bool(_CHANGES_NO_VALUE.match(plain))
            return ""
        return next(filter(None, (self._of_action(match[1], action, sql) for action in actions(match[2]))), "")

    def _of_action(self, table: str, action: str, sql: str) -> str:
        if added := _ADD_COLUMN.match(action):
            return self._added(table, added[1], added[2], added[3])
        if required := _SET_NOT_NULL.match(action):
            return self._null(table, required[1])
        if validated := _VALIDATE.match(action):
            return self.later.get((table, validated[1]), "")
        if constraint := _CONSTRAINT.match(action):
            obstacle = self._violated(table, constraint, sql)
            if re.search(r"\bNOT VALID$", action, re.IGNORECASE):
                self.later[table, constraint[1]] = obstacle
                return ""
            return obstacle
        if touched := _TOUCHED.match(action):
            self._touch(table, touched[1])
        elif not _ACTION_CHANGES_NO_VALUE.match(action):
            self.is_known = False
        return ""

    def _touch(self, table: str, name: str) -> None:
        self.touched.add(_key(table, name))
        self.empty.discard(_key(table, name))

    def _added(self, table: str, name: str, type_: str, rest: str) -> str:
        if _FILLED.search(f"{type_}{rest}") or not self._ask(_NO_DEFAULT, name=type_):
            return ""
        self.empty.add(_key(table, name))
        if re.search(r"\bNOT NULL\b", rest, re.IGNORECASE):
            return self._null(table, name)
        return ""

    def _null(self, table: str, name: str) -> str:
        if _key(table, name) in self.empty:
            has_rows = self._exists(table)
            return (
                f"the restored column {name} is NOT NULL, and the rows of the table {table} have no value for it"
                if has_rows
                else ""
            )
        has_null = not self._is_touched(table, [name]) and self._exists(table, column(parts(name)[0]).is_(None))
        return f"the column {table}.{name} contains NULL" if has_null else ""

    def _violated(self, table: str, constraint: re.Match[str], sql: str) -> str:
        name, kind, listed, rest = constraint[1], constraint[2].upper(), constraint[3], constraint[4]
        if kind == "CHECK":
            condition = _CHECK.search(sql)
            if condition is None:
                return ""
            if required := re.fullmatch(rf"({NAME}) IS NOT NULL", condition[1].strip(), re.IGNORECASE):
                return self._null(table, required[1])
            names = re.findall(NAME, condition[1])
            violated: ColumnElement[bool] = ~literal_column(f"({condition[1]})")  # the revision's own SQL
            is_violated = not self._is_touched(table, names) and self._exists(table, violated)
            return f"rows of {table} violate the check {name}" if is_violated else ""
        if kind == "FOREIGN KEY":
            return self._orphans(table, listed, rest)
        return self._duplicates(table, listed)

    def _duplicates(self, table: str, listed: str) -> str:
        names = re.findall(NAME, listed)
        source = find_table(self.connection, table)
        if source is None or ", ".join(names) != listed.replace(" ,", ",") or self._is_touched(table, names):
            return ""
        columns: list[ColumnElement[Any]] = [column(parts(name)[0]) for name in names]
        filled = (item.is_not(None) for item in columns)
        twice: Select[Any] = (
            select(literal_column("1")).select_from(source).where(*filled).group_by(*columns).having(func.count() > 1)
        )
        return f"several rows of {table} have the same {listed}" if self._ask(select(twice.exists())) else ""

    def _orphans(self, table: str, listed: str, rest: str) -> str:
        references = _REFERENCES.match(rest)
        child = find_table(self.connection, table)
        parent = references and find_table(self.connection, references[1])
        if references is None or child is None or parent is None:
            return ""
        names, referred = re.findall(NAME, listed), re.findall(NAME, references[2])
        if self._is_touched(table, names) or self._is_touched(references[1], referred):
            return ""
        children, parents = _with_columns(child, names), _with_columns(parent, referred)
        pairs = [own == other for own, other in zip(children.c, parents.c, strict=True)]
        orphans = exists().select_from(children).where(*(own.is_not(None) for own in children.c))
        has_orphans = self._ask(select(orphans.where(~exists().select_from(parents).where(*pairs).correlate(children))))
        return f"rows of {table} refer to missing rows of {references[1]}" if has_orphans else ""

    def _is_touched(self, table: str, names: Iterable[str]) -> bool:
        return any(_key(table, name) in self.touched for name in names)

    def _exists(self, table: str, *conditions: ColumnElement[bool]) -> bool:
        source = find_table(self.connection, table)
        if source is None:
            return False
        return self._ask(select(select(literal_column("1")).select_from(source).where(*conditions).exists()))

    def _ask(self, question: Executable, **parameters: str) -> bool:
        """The answer, or no where the database does not have it, or not soon."""
        try:
            with rolled_back(self.connection):
                self.connection.execute(_TIMEOUT)
                return bool(self.connection.scalar(question, parameters))
        except DBAPIError:
            return False


def _with_columns(source: TableClause, names: Iterable[str]) -> FromClause:
    """A table with columns, under a name of its own, because a foreign key may refer to its own table."""
    return table(source.name, *(column(parts(name)[0]) for name in names), schema=source.schema).alias()


def _key(table_name: str, name: str) -> tuple[str, str]:
    return parts(table_name)[-1], parts(name)[-1]

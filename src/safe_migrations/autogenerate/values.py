"""What existing rows get in a new NOT NULL column: answered on the command line, asked, or left to the author."""

from secrets import token_hex
from typing import Any

from sqlalchemy import Column, Connection, Enum, UniqueConstraint
from sqlalchemy.exc import DBAPIError

from safe_migrations.autogenerate.answers import EXPRESSION, VALUE, Answers
from safe_migrations.autogenerate.column_types import enum_of
from safe_migrations.ddl.column_changes import DIALECT, plain_type
from safe_migrations.errors import NotConfirmedError, RevisionError
from safe_migrations.postgres.rollback import rolled_back
from safe_migrations.postgres.server_errors import reason
from safe_migrations.postgres.sql import ddl, literal_sql, qualified
from safe_migrations.printable import printable
from safe_migrations.prompt import ask, can_ask

_CHOICES = """\
{column} is NOT NULL, and has no default. What do existing rows get?
  1) a value
  2) an SQL expression, such as another column
  3) what I write into the backfill
Answer [3]: """


class Values:
    """The answers; each is checked by PostgreSQL before a file is written."""

    def __init__(self, connection: Connection, answers: Answers) -> None:
        self._connection = connection
        self._answers = answers
        self._used: set[str] = set()

    def sql_for(self, table: str, column: Column[Any]) -> str | None:
        """The value or the expression as SQL; None if the author writes it.

        Args:
            table: as in the metadata's keys.

        Raises:
            RevisionError: PostgreSQL refuses the answer of the command line.
            NotConfirmedError: the input has ended.
        """
        name = f"{table}.{column.name}"
        self._used.add(name)
        for answers, is_expression in ((self._answers.values, False), (self._answers.expressions, True)):
            if name in answers:
                return self._checked(column, answers[name], is_expression)
        return self._ask(name, column) if can_ask() else None

    def refuse_unused(self) -> None:
        """Refuse an answer that nothing has asked for.

        Raises:
            NotConfirmedError: a column needs no answer, or does not exist.
        """
        if unused := {**self._answers.values, **self._answers.expressions}.keys() - self._used:
            raise NotConfirmedError(
                f"No column needs a value under this name: {printable(', '.join(sorted(unused)))}. No file was written."
                f" --{VALUE} and --{EXPRESSION} are for a column that is NOT NULL and has no default."
            )

    def _ask(self, name: str, column: Column[Any]) -> str | None:
        choice = ask(_CHOICES.format(column=printable(name)))
        while choice in ("1", "2"):
            answer = ask(f"{'Value' if choice == '1' else 'Expression'} of {printable(name)}: ")
            try:
                return self._checked(column, answer, choice == "2")
            except RevisionError as error:
                choice = ask(f"{error}\n{_CHOICES.format(column=printable(name))}")
        return None

    def _checked(self, column: Column[Any], answer: str, is_expression: bool) -> str:
        """The answer as SQL, which PostgreSQL can store in the column."""
        dialect, enum = self._connection.dialect, enum_of(column.type)
        table = qualified(dialect, column.table.schema, column.table.name)
        sql = f"({answer})" if is_expression else literal_sql(dialect, answer)
        where = f"{printable(answer)!r} can't be the value of {table}.{column.name}"
        if not is_expression and is_unique(column):
            raise RevisionError(
                f"{where}: the column is unique, and all rows would get this value. No file was written."
            )
        if enum is not None and isinstance(plain_type(column.type), Enum) and not is_expression:
            # Not PostgreSQL's answer, because the same change may create the enum or add the value.
            if answer not in enum.enums:
                raise RevisionError(f"{where}: the values are {', '.join(enum.enums)}. No file was written.")
            return sql
        scratch = qualified(dialect, column.table.schema, f"value_{token_hex(8)}")
        rows = " FROM %(table)s LIMIT 0" if is_expression else ""
        insert = f"INSERT INTO %(scratch)s SELECT %(sql)s{rows}"  # the author's own SQL, which is tried
        try:
            with rolled_back(self._connection):
                create = "CREATE TABLE %(scratch)s (value %(type)s)"
                self._connection.execute(ddl(create, scratch=scratch, type=column.type.compile(dialect=DIALECT)))
                self._connection.execute(ddl(insert, scratch=scratch, sql=sql, table=table))
        except DBAPIError as error:
            raise RevisionError(f"{where}: {reason(error)}. No file was written.") from error
        return sql


def is_unique(column: Column[Any]) -> bool:
    """Whether the models allow no value of a column twice, by a constraint or an index of this column alone."""
    table = column.table
    constraints = (key for key in table.constraints if isinstance(key, UniqueConstraint))
    indexes = (key for key in table.indexes if key.unique and key.dialect_options["postgresql"]["where"] is None)
    return [column] in [*(list(key.columns) for key in constraints), *(list(key.expressions) for key in indexes)]

"""A new backfill, whose file `alembic/backfills/NAME.py` autogenerate writes."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

_FILE = '''"""{reason}

To run this backfill: safe-migrations backfill {name}
"""

import sqlalchemy as sa

from safe_migrations.backfills import Backfill

rows = sa.table({arguments})

backfill = Backfill(
    table=rows,
    key={key!r},
    where={where},
    values={values}
)
'''


def backfill_name(schema: str | None, table: str, column: str) -> str:
    """The name of a column's backfill, as its file, the command and `requires_backfill` have it; safe in a shell."""
    return re.sub(r"\W+", "_", "_".join(part for part in (schema, table, column) if part))


@dataclass(frozen=True)
class NewBackfill:
    """A backfill of one column.

    Attributes:
        table: the table's name.
        schema: its schema, if it is not the default one.
        key: the columns of its primary key.
        column: the column that it fills.
        value: the value, in Python; None if the author has to write it.
        where: the rows that get the value, in Python.
        source: another column that `value` and `where` read.
        reason: what it does, in a sentence.
    """

    table: str
    schema: str | None
    key: tuple[str, ...]
    column: str
    value: str | None
    where: str
    reason: str
    source: str | None = None

    @property
    def name(self) -> str:
        """As `backfill_name` returns it."""
        return backfill_name(self.schema, self.table, self.column)

    def write(self, folder: Path) -> Path:
        """Write the file into `alembic/backfills`; it replaces that of an earlier change, which is in git."""
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.name}.py"
        path.write_text(self.text(), encoding="utf-8")
        return path

    def text(self) -> str:
        """The file's contents."""
        columns = dict.fromkeys((*self.key, self.column, *filter(None, (self.source,))))
        arguments = ", ".join([repr(self.table), *(f"sa.column({name!r})" for name in columns)])
        if self.schema:
            arguments += f", schema={self.schema!r}"
        values = "{},  # write the value, such as " + json.dumps({self.column: "…"}, ensure_ascii=False)
        if self.value is not None:
            values = "{" + f"{self.column!r}: {self.value}" + "},"
        return _FILE.format(
            where=self.where,
            reason=self.reason,
            name=self.name,
            arguments=arguments,
            key=self.key,
            column=self.column,
            values=values,
        )

"""The definition of a backfill, as autogenerate writes it: `alembic/backfills/NAME.py`."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

_FILE = '''"""{reason}

Run it with: safe-migrations backfill {name}
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
    """What the file, the command and `requires_backfill` call a backfill of a column; nothing that a shell would read.

    Args:
        schema: the table's, if it is not the default one.
        table: its name.
        column: the column's.
    """
    return re.sub(r"\W+", "_", "_".join(part for part in (schema, table, column) if part))


@dataclass(frozen=True)
class BackfillFile:
    """A backfill of one column.

    Attributes:
        table: the table's name.
        schema: its schema, if it is not the default one.
        key: the columns of its primary key.
        column: the one that gets a value where it has none.
        value: what it becomes, in Python; None where only a person can tell.
        where: the rows that get it, in Python.
        source: another column that they read.
        reason: why it is needed, in a sentence.
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
        """As `backfill_name` has it."""
        return backfill_name(self.schema, self.table, self.column)

    def write(self, folder: Path) -> Path:
        """Write the file; one of an earlier change of the same column makes way, because it is in git.

        Args:
            folder: `alembic/backfills`.
        """
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.name}.py"
        path.write_text(self.text(), encoding="utf-8")
        return path

    def text(self) -> str:
        """What stands in the file."""
        columns = dict.fromkeys((*self.key, self.column, *filter(None, (self.source,))))
        arguments = ", ".join([repr(self.table), *(f"sa.column({name!r})" for name in columns)])
        if self.schema:
            arguments += f", schema={self.schema!r}"
        values = "{},  # write it, such as " + json.dumps({self.column: "…"}, ensure_ascii=False)
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

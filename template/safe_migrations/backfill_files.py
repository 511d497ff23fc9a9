"""The definition of a backfill, as autogenerate writes it: `alembic/backfills/NAME.py`."""

import re
from dataclasses import dataclass
from pathlib import Path

_FILE = '''"""{reason}

Run it with: python -m safe_migrations backfill {name}
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
        source: another column that `value` reads.
        required: whether each row has to get a value, also one of which `source` has none.
        reason: why it is needed, in a sentence.
    """

    table: str
    schema: str | None
    key: tuple[str, ...]
    column: str
    value: str | None
    reason: str
    source: str | None = None
    required: bool = True

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
        path.write_text(self.text())
        return path

    def text(self) -> str:
        """What stands in the file."""
        columns = dict.fromkeys((*self.key, self.column, *filter(None, (self.source,))))
        arguments = ", ".join([repr(self.table), *(f"sa.column({name!r})" for name in columns)])
        if self.schema:
            arguments += f", schema={self.schema!r}"
        values = "{},  # write it, such as " + repr({self.column: "…"})
        if self.value is not None:
            values = "{" + f"{self.column!r}: {self.value}" + "},"
        where = f"rows.c[{self.column!r}].is_(None)"
        if self.source is not None and not self.required:
            where += f" & rows.c[{self.source!r}].is_not(None)"
        return _FILE.format(
            where=where,
            reason=self.reason,
            name=self.name,
            arguments=arguments,
            key=self.key,
            column=self.column,
            values=values,
        )

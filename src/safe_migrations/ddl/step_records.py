"""The record of completed steps of revisions that are not applied as a whole yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection

from safe_migrations.postgres.catalog import version_table
from safe_migrations.postgres.own_tables import create_own_tables, has_table
from safe_migrations.postgres.sql import read_sql

Direction = Literal["upgrade", "downgrade"]

TABLE = "revision_step"
_SQL = read_sql(__package__, "step_records.sql")


@dataclass
class StepRecords:
    """The completed steps of the revisions of one version table.

    Attributes:
        version_table: with its schema.
        completed: the names of the steps in order, by revision and direction.
    """

    version_table: str
    completed: dict[tuple[str, Direction], list[str]]

    @classmethod
    def read(cls, connection: Connection, options: Mapping[str, Any]) -> "StepRecords":
        """Read the records; nothing is changed."""
        schema, name = version_table(options)
        records = cls(f"{schema or connection.dialect.default_schema_name}.{name}", {})
        if has_table(connection, TABLE):
            for revision, direction, name in connection.execute(_SQL["read"], {"version_table": records.version_table}):
                records.of(revision, direction).append(name)
        return records

    def of(self, revision: str, direction: Direction) -> list[str]:
        """The completed steps of a revision; a run adds the steps that it completes."""
        return self.completed.setdefault((revision, direction), [])

    def add(self, connection: Connection, revision: str, direction: Direction, name: str) -> None:
        """Record a step as completed, in the transaction of its effect."""
        create_own_tables(connection, TABLE, [_SQL["table"]])
        connection.execute(_SQL["record"], {**self._key(revision, direction), "name": name})

    def remove(self, connection: Connection, revision: str, direction: Direction) -> None:
        """Remove the records of a revision, in the transaction that records the revision."""
        connection.execute(_SQL["forget"], self._key(revision, direction))

    def _key(self, revision: str, direction: Direction) -> dict[str, str]:
        return {"version_table": self.version_table, "revision": revision, "direction": direction}

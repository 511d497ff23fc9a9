"""The changes of tables that existed before a revision: breaking changes, and rewrites."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from safe_migrations.postgres.sql import read_sql

_SQL = read_sql(__package__, "schema_changes.sql")


@dataclass(frozen=True)
class Schema:
    """The tables of a database at one time, by their oids, which survive a rename."""

    tables: dict[int, Row[Any]]
    columns: dict[tuple[int, int], Row[Any]]
    foreign_keys: set[tuple[int, ...]]
    children: set[tuple[int, ...]]

    @classmethod
    def read(cls, connection: Connection, version_table: str) -> "Schema":
        """Read the schema, without the version table."""
        rows = connection.execute(_SQL["tables"], {"version_table": version_table})
        tables = {row.oid: row for row in rows}
        columns = connection.execute(_SQL["columns"], {"oids": list(tables)})
        return cls(
            tables,
            {(row.oid, row.number): row for row in columns},
            {tuple(row) for row in connection.execute(_SQL["foreign_keys"])},
            {tuple(row) for row in connection.execute(_SQL["children"])},
        )

    def rewritten(self, after: "Schema") -> list[Row[Any]]:
        """The tables whose rows are in another file afterwards."""
        both = [(row, after.tables[oid]) for oid, row in self.tables.items() if oid in after.tables]
        return [row for row, now in both if row.kind == "r" and row.file != now.file]

    def joined(self, after: "Schema") -> list[tuple[str, str]]:
        """The pairs of tables that are always locked together, see `Trace`."""
        names = {oid: row.name for oid, row in (after.tables | self.tables).items()}
        pairs = {key[1:] for key in self.foreign_keys ^ after.foreign_keys} | self.children | after.children
        return sorted((names[one], names[other]) for one, other in pairs if {one, other} <= names.keys())

    def broken(self, after: "Schema") -> Iterator[str]:
        """The changes that break the running code, see `Trace`."""
        yield from self._broken_tables(after)
        yield from self._broken_columns(after)

    def _broken_tables(self, after: "Schema") -> Iterator[str]:
        for oid, table in self.tables.items():
            now = after.tables.get(oid)
            if now is None:
                yield f"drops the table {table.name}"
            elif now.name != table.name:
                yield f"renames the table {table.name} to {now.name}"

    def _broken_columns(self, after: "Schema") -> Iterator[str]:
        for place, old in self.columns.items():
            name, new = f"{self.tables[old.oid].name}.{old.name}", after.columns.get(place)
            if new is None:
                if old.oid in after.tables:
                    yield f"drops the column {name}"
                continue
            if new.name != old.name:
                yield f"renames the column {name} to {new.name}"
            if new.required and not old.required:
                yield f"makes the column {name} NOT NULL"
            if old.filled and not new.filled:
                yield f"drops the default of the column {name}"
        for place, new in after.columns.items():
            if place not in self.columns and new.oid in self.tables and new.required and not new.filled:
                yield f"adds the column {self.tables[new.oid].name}.{new.name}, NOT NULL without a default"

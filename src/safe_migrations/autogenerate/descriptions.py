"""PostgreSQL's descriptions of tables, and how two descriptions differ."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from safe_migrations.postgres.sql import read_sql

SQL = read_sql(__package__, "descriptions.sql")
OF_COLUMNS = {"type", "not null", "default", "computed", "identity", "serial"}
OBJECTS = {"index", "check", "foreign key", "primary key", "unique", "exclusion"}
_ONLY_IF_IN_MODELS = {"storage parameters", "access method", "tablespace"}  # otherwise they are the operator's


class TableName(NamedTuple):
    """A table of the database."""

    schema: str
    name: str


class Description(NamedTuple):
    """PostgreSQL's description of one attribute of a table.

    Attributes:
        kind: such as `index` or `default`.
        name: of the column, the index or the constraint; empty for the table itself.
        definition: in SQL.
        is_valid: whether all rows are known to satisfy it.
        is_inherited: whether it comes from a partitioned table or a parent.
    """

    kind: str
    name: str
    definition: str
    is_valid: bool
    is_inherited: bool


@dataclass(frozen=True)
class Difference:
    """An attribute of a table that PostgreSQL describes differently for the database and the models.

    Attributes:
        kind: of both descriptions.
        database: None where it is missing.
        models: None where it is missing.
    """

    kind: str
    database: Description | None
    models: Description | None

    @property
    def name(self) -> str:
        """Of the column, the index or the constraint."""
        described = self.database or self.models
        return described.name if described else ""

    @property
    def definitions(self) -> str:
        """Both, for messages."""
        database, models = (
            f"{side.definition}{'' if side.is_valid else ' NOT VALID'}" if side else "none"
            for side in (self.database, self.models)
        )
        return f"{database} in the database, {models} in the models"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip() + f": {self.definitions}"


Described = dict[tuple[str, str], Description]


def arrays(names: Iterable[TableName]) -> dict[str, list[str]]:
    """Tables as parameters of a statement."""
    names = list(names)
    return {"schemas": [name.schema for name in names], "tables": [name.name for name in names]}


def describe(connection: Connection, names: Iterable[TableName], query: str = "describe") -> dict[TableName, Described]:
    """The descriptions of the tables that exist, by kind and name; with an empty search path, names have a schema."""
    described: dict[TableName, Described] = {}
    for row in connection.execute(SQL[query], arrays(names)):
        schema, table, *attribute = row
        description = Description(*attribute)
        described.setdefault(TableName(schema, table), {})[description.kind, description.name] = description
    return described


def differences(database: Described, models: Described) -> Iterable[Difference]:
    """Attributes of both that differ; and objects that only one has, unless they are the same under another name."""
    for key in sorted(database.keys() | models.keys()):
        kind, name = key
        before, after = database.get(key), models.get(key)
        if kind in OBJECTS and not (before and after):
            continue
        if kind in OF_COLUMNS and not database.keys() & models.keys() & {("type", name)}:
            continue
        if kind in _ONLY_IF_IN_MODELS and not after:
            continue
        if kind == "constraint comment" and not any((of, name) in database and (of, name) in models for of in OBJECTS):
            continue  # a new constraint gets its comment with itself
        if before and after and before.definition == after.definition and before.is_valid >= after.is_valid:
            continue
        yield Difference(kind, before, after)
    missing = [models[key] for key in sorted(models.keys() - database.keys()) if key[0] in OBJECTS]
    for key in sorted(database.keys() - models.keys()):
        extra = database[key]
        if key[0] not in OBJECTS or extra.is_inherited:
            continue
        same = [other for other in missing if (other.kind, other.definition) == (extra.kind, extra.definition)]
        if same:
            missing.remove(same[0])
        else:
            yield Difference(extra.kind, extra, None)
    yield from (Difference(description.kind, None, description) for description in missing)

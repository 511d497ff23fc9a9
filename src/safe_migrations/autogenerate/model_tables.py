"""The models' tables beside the database's, as PostgreSQL describes both.

The models' tables are made in schemas of their own, in a transaction that is rolled back, so that PostgreSQL itself
writes their definitions. No table of the database gets a stronger lock than a query needs.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from secrets import token_hex
from typing import Any

from sqlalchemy import CheckConstraint, Connection, ForeignKeyConstraint, Sequence, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import CompileError, DBAPIError, NoReferenceError, SQLAlchemyError
from sqlalchemy.schema import (
    AddConstraint,
    CreateIndex,
    CreateSequence,
    CreateTable,
    DropConstraint,
    SetConstraintComment,
)
from sqlalchemy.types import TypeEngine

from safe_migrations.autogenerate.column_types import enum_of
from safe_migrations.autogenerate.descriptions import (
    SQL,
    Described,
    Difference,
    TableName,
    arrays,
    describe,
    differences,
)
from safe_migrations.autogenerate.equivalence import equal_when_parsed_again
from safe_migrations.ddl.column_changes import DIALECT, plain_type
from safe_migrations.postgres.rollback import execute_apart, rolled_back
from safe_migrations.postgres.server_errors import INSUFFICIENT_PRIVILEGE, READ_ONLY, reason, sqlstate
from safe_migrations.postgres.sql import ddl, qualified, sql_of
from safe_migrations.postgres.timeouts import load_timeouts, milliseconds
from safe_migrations.printable import printable

_TOGETHER = 50  # tables, whose locks fit into the server's memory


@dataclass
class SchemaComparison:
    """What differs, and what could not be compared.

    Attributes:
        differences: by table or sequence.
        compared: the tables of which PostgreSQL has described both sides.
        not_compared: the reasons, by the name of a table, a foreign key or a sequence.
    """

    differences: dict[TableName, list[Difference]] = field(default_factory=dict)
    compared: set[TableName] = field(default_factory=set)
    not_compared: dict[str, str] = field(default_factory=dict)


def compare_with_database(
    connection: Connection, tables: Iterable[Table], sequences: Iterable[Sequence], default_schema: str
) -> SchemaComparison:
    """Compare tables of the models with the tables of the same name in the database, if they exist; and sequences."""
    comparison = SchemaComparison()
    models = {TableName(table.schema or default_schema, table.name): table for table in tables}
    counted = {TableName(sequence.schema or default_schema, sequence.name): sequence for sequence in sequences}
    existing = [TableName(*row) for row in connection.execute(SQL["existing"], arrays(models))] if models else []
    parts = [existing[start : start + _TOGETHER] for start in range(0, len(existing), _TOGETHER)]
    for names in parts or [[]][: len(counted)]:
        try:
            with rolled_back(connection):
                own = _ModelTables(connection, {name: models[name] for name in names}, counted, default_schema)
                _compare(connection, own, comparison)
        except DBAPIError as error:
            _note_refusal(error, [*names, *counted], comparison)
    return comparison


def _note_refusal(error: DBAPIError, names: Iterable[TableName], comparison: SchemaComparison) -> None:
    """Note that nothing can be made here: on a standby, or without the privilege to create a schema."""
    if sqlstate(error) not in (INSUFFICIENT_PRIVILEGE, READ_ONLY):
        raise error
    comparison.not_compared.update(dict.fromkeys((".".join(name) for name in names), reason(error)))


def _compare(connection: Connection, models: "_ModelTables", comparison: SchemaComparison) -> None:
    comparison.not_compared.update(models.create())
    connection.execute(SQL["qualify"])
    pairs: list[tuple[TableName, Difference]] = []
    types: dict[TableName, Described] = {}
    for query, names in (("describe", models.models), ("sequences", models.counted)):
        database, described = describe(connection, names, query), models.describe(names, query)
        comparison.compared |= described.keys()
        types |= {models.own[name]: described[name] for name in described}
        pairs += [
            (name, difference)
            for name in names
            if name in described
            for difference in differences(database.get(name, {}), described[name])
            if difference.kind != "foreign key" or name not in models.without_keys
        ]
    own = [(models.own[name], difference) for name, difference in pairs]
    equal = equal_when_parsed_again(connection, models.schemas[None], own, types)
    different: dict[TableName, list[Difference]] = {}
    for number, (name, difference) in enumerate(pairs):
        if number not in equal:
            different.setdefault(name, []).append(difference)
    comparison.differences.update(different)  # a sequence is compared with each part of the tables


class _ModelTables:
    """The models' tables in schemas of their own, the first of which comes first in the search path."""

    def __init__(
        self,
        connection: Connection,
        models: Mapping[TableName, Table],
        sequences: Mapping[TableName, Sequence],
        default_schema: str,
    ) -> None:
        self.connection = connection
        referred = (_referred(*table.foreign_key_constraints) for table in models.values())
        self.tables = list(dict.fromkeys(chain(models.values(), *referred)))
        self.models, self.counted = models, sequences
        self.sequences = list(sequences.values())
        self.with_method = {name for name, table in models.items() if table.dialect_options["postgresql"]["using"]}
        self.existing_types: dict[str, str] = {}  # the names in the database, by the names in our schemas
        self.without_keys: set[TableName] = set()  # the tables with a foreign key that can't be made
        types = (_named_type(column.type) for table in self.tables for column in table.columns)
        self.types = [type_ for type_ in types if type_ is not None and type_.name]
        prefix = f"safe_migrations_{token_hex(8)}"
        items: list[Any] = [*self.tables, *self.types, *self.sequences]
        schemas = dict.fromkeys([None, *(item.schema for item in items)])
        self.schemas: dict[str | None, str] = {schema: f"{prefix}_{number}" for number, schema in enumerate(schemas)}
        own: list[tuple[TableName, Any]] = [*models.items(), *sequences.items()]
        self.own = {name: TableName(self.schemas[item.schema], name.name) for name, item in own}
        real = [schema or default_schema for schema in self.schemas]
        quoted = {row[0]: row[1] for row in connection.execute(SQL["schemas"], {"names": real})}
        self.renamed = {f"{own}.": f"{quoted[schema or default_schema]}." for schema, own in self.schemas.items()}

    def create(self) -> dict[str, str]:
        """Make the tables; what can't be made is returned by name, with the reason."""
        timeout = milliseconds(load_timeouts().lock_timeout)
        self.connection.execute(SQL["begin"], {"lock_timeout": timeout, "schema": self.schemas[None]})
        for schema in self.schemas.values():
            self.connection.execute(ddl("CREATE SCHEMA %(name)s", name=schema))
        self._create_types()
        failures = self._create_each(
            {f"sequence {sequence.name}": [CreateSequence(sequence)] for sequence in self.sequences}
        )
        failures |= self._create_each({table.fullname: _of_table(table) for table in self.tables})
        made = [table for table in self.tables if table.fullname not in failures]
        keys = {
            f"foreign key {key.name or ''} of {table.fullname} ({_columns(key)})".replace("  ", " "): (table, key)
            for table in made
            if table in self.models.values()  # other tables are only referred to
            for key in sorted(table.foreign_key_constraints, key=_columns)
        }
        possible = {name: key for name, (_, key) in keys.items() if set(_referred(key)) & set(made)}
        failed = dict.fromkeys(keys.keys() - possible.keys(), "the table that it refers to can't be made")
        failed |= self._create_each({name: _of_key(key) for name, key in possible.items()})
        incomplete = {keys[name][0] for name in failed}
        self.without_keys = {name for name, table in self.models.items() if table in incomplete}
        return failures | failed

    def _create_each(self, elements: Mapping[str, Iterable[Any]]) -> dict[str, str]:
        scripts, failures = {}, {}
        for name, parts in elements.items():
            try:
                scripts[name] = self._script(parts)
            except SQLAlchemyError as error:
                failures[name] = reason(error)
        failed = execute_apart(self.connection, scripts)
        return failures | {name: printable(" ".join(why.split())) for name, why in failed.items()}

    def _script(self, elements: Iterable[Any]) -> str:
        return ";\n".join(map(self._text, elements))

    def _text(self, element: Any) -> str:
        schemas = {schema: own for schema, own in self.schemas.items() if schema is not None}
        dialect = self.connection.dialect
        text = sql_of(element, dialect, schema_translate_map=schemas, render_schema_translate=True)
        for own, real in self.existing_types.items():
            text = re.sub(rf"{re.escape(own)}(?!\w)", real.replace("\\", r"\\"), text)
        return re.sub(r"^CREATE (UNIQUE )?INDEX CONCURRENTLY ", r"CREATE \1INDEX ", text)

    def _create_types(self) -> None:
        """Make the enums and domains that the database does not have, and enums with other values."""
        dialect = self.connection.dialect
        named = {qualified(dialect, type_.schema, type_.name): type_ for type_ in self.types}
        rows = self.connection.execute(SQL["types"], {"names": list(named)}) if named else ()
        existing = {row.wanted: (row.name, row.values) for row in rows}
        created: dict[str, Iterable[Any]] = {}
        for name, type_ in named.items():
            real, values = existing.get(name, (None, None))
            is_enum = isinstance(type_, postgresql.ENUM)
            if real and (not is_enum or values == type_.enums):
                if type_.schema is not None:  # defaults and conditions name the type as well
                    self.existing_types[f"{self.schemas[type_.schema]}.{qualified(dialect, type_.name)}"] = real
                continue
            created[name] = [(postgresql.CreateEnumType if is_enum else postgresql.CreateDomainType)(type_)]
            if real is not None:
                self.renamed = {f"{self.schemas[type_.schema]}.{qualified(dialect, type_.name)}": real, **self.renamed}
        self._create_each(created)  # what can't be made here is missing in the tables

    def describe(self, names: Iterable[TableName], query: str = "describe") -> dict[TableName, Described]:
        """The descriptions of tables or sequences, in the words of the database."""
        own = {self.own[name]: name for name in names}
        return {
            own[name]: {
                key: description._replace(definition=self._renamed(description.definition))
                for key, description in described.items()
                if key[0] != "access method" or own[name] in self.with_method
            }
            for name, described in describe(self.connection, own, query).items()
        }

    def _renamed(self, definition: str) -> str:
        for own, real in self.renamed.items():
            definition = definition.replace(own, real)
        return definition


def _of_table(table: Table) -> Iterable[Any]:
    """What makes a table, but for its foreign keys."""
    if table.dialect_options["postgresql"]["inherits"]:
        raise CompileError("it inherits from another table, which would be locked")
    yield CreateTable(table, include_foreign_key_constraints=[])
    yield from map(CreateIndex, sorted(table.indexes, key=lambda index: str(index.name)))
    for constraint in table.constraints:
        if isinstance(constraint, CheckConstraint) and constraint.dialect_options["postgresql"]["not_valid"]:
            # CREATE TABLE validates all of its checks.
            yield DropConstraint(constraint)
            yield AddConstraint(constraint, isolate_from_table=False)
        if constraint.comment and constraint.name and not isinstance(constraint, ForeignKeyConstraint):
            yield SetConstraintComment(constraint)


def _of_key(key: ForeignKeyConstraint) -> Iterable[Any]:
    yield AddConstraint(key, isolate_from_table=False)  # by default, create_all would leave it out afterwards
    if key.comment and key.name:
        yield SetConstraintComment(key)


def _named_type(type_: TypeEngine[Any]) -> Any:
    """The enum or the domain of a column; None for other types."""
    native = plain_type(type_).dialect_impl(DIALECT)
    return native if isinstance(native, postgresql.DOMAIN) else enum_of(type_)


def _columns(key: ForeignKeyConstraint) -> str:
    return ", ".join(key.column_keys)


def _referred(*keys: ForeignKeyConstraint) -> Iterable[Table]:
    """The tables that foreign keys refer to, as far as the models have them."""
    for key in keys:
        with suppress(NoReferenceError):
            yield key.referred_table

"""The models of a database that exists already, as the source of a service's `models_db.py`."""

import subprocess
from collections.abc import Sequence

from sqlalchemy import Connection

from safe_migrations.adopt.names import Names
from safe_migrations.adopt.sequences import write_sequence
from safe_migrations.adopt.tables import NAMING_CONVENTION, TableRows, write_table
from safe_migrations.adopt.types import Types
from safe_migrations.autogenerate.ownership import read_owners
from safe_migrations.autogenerate.plugin import PROGRESS_SCHEMA
from safe_migrations.env_files import environment_of_programs, find_program
from safe_migrations.errors import NotInstalledError
from safe_migrations.postgres.sql import read_sql

SQL = read_sql(__package__, "schema.sql")
# ruff removes what a module does not need.
_IMPORTS = {
    "decimal": "Decimal",
    "typing": "Any, Literal, get_args",
    "uuid": "UUID",
    "safe_migrations.operations": "SQLType",
    "sqlalchemy": "BigInteger, Boolean, CheckConstraint, Column, Computed, Date, DateTime, Double, Enum, ForeignKey, "
    "ForeignKeyConstraint, Identity, Index, Integer, Interval, LargeBinary, MetaData, Numeric, PrimaryKeyConstraint, "
    "REAL, Sequence, SmallInteger, String, Table, Text, Time, UniqueConstraint, Uuid, literal_column, text",
    "sqlalchemy.dialects.postgresql": "ARRAY, BIT, CHAR, CIDR, CITEXT, DATEMULTIRANGE, DATERANGE, DOMAIN, "
    "ExcludeConstraint, HSTORE, INET, INT4MULTIRANGE, INT4RANGE, INT8MULTIRANGE, INT8RANGE, INTERVAL, JSON, JSONB, "
    "MACADDR, MACADDR8, MONEY, NUMMULTIRANGE, NUMRANGE, OID, TIME, TIMESTAMP, TSMULTIRANGE, TSQUERY, TSRANGE, "
    "TSTZMULTIRANGE, TSTZRANGE, TSVECTOR",
    "sqlalchemy.orm": "DeclarativeBase, Mapped, mapped_column",
    "sqlalchemy.schema": "conv",
}
_THIRD_PARTY = 'lint.isort.known-third-party = ["safe_migrations"]'  # as in the template's pyproject.toml
_HEADER = '''\
"""The database models of this service, which `pdm run migrate-revision "message"` compares with the database."""

import datetime as dt
{imports}

# Every constraint has a name, because a downgrade drops constraints by name.
NAMING_CONVENTION = {{
{convention}
}}


class Base(DeclarativeBase):
    """Base of all models; autogenerate and `alembic check` compare its metadata with the database."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    # timestamptz stores no time zone: write and read UTC.
    type_annotation_map = {{dt.datetime: DateTime(timezone=True), str: Text}}
    # Values that PostgreSQL computes are fetched at once, because async code can't load them on access.
    __mapper_args__ = {{"eager_defaults": True}}
'''


class Models:
    """The models of a database.

    Attributes:
        schemas: whose tables become models.
        tables: what the catalog says of these, in the order of the models.
        types: of their columns.
        models: their sources.
        sequences: the lines that define the sequences which no model makes by itself.
        made_sequences: schema and name of the sequences that a model makes.
    """

    def __init__(self, connection: Connection, schemas: Sequence[str] | None = None) -> None:
        """Read the catalog.

        Args:
            schemas: whose tables become models; by default all but those of PostgreSQL and of this library.
        """
        self.schemas = read_schemas(connection) if schemas is None else list(schemas)
        default = str(connection.dialect.default_schema_name)
        names = Names({"Base", "NAMING_CONVENTION", "dt", *", ".join(_IMPORTS.values()).split(", ")})
        enums, domains = (connection.execute(SQL[kind]).all() for kind in ("enums", "domains"))
        self.types = Types(enums, domains, names, default)
        self.tables = _read_tables(connection, self.schemas)

        def short(schema: str) -> str | None:
            return None if schema == default else schema

        self.models = [write_table(rows, short(rows.table.schema), self.types, names, default) for rows in self.tables]
        made = {sequence for model in self.models for sequence in model.sequences}
        self.sequences = [
            write_sequence(row, short(row.schema), self.types, names)
            for row in connection.execute(SQL["sequences"], {"schemas": self.schemas})
            if (row.schema, row.name) not in made
        ]
        self.made_sequences = made

    def source(self) -> str:
        """The module, formatted."""
        convention = "\n".join(f'    "{kind}": "{form}",' for kind, form in NAMING_CONVENTION.items())
        imports = "\n".join(f"from {module} import {name}" for module, name in _IMPORTS.items())
        later = [statement for model in self.models for statement in model.later]
        definitions = [*self.types.lines, *self.sequences]
        parts = ["\n".join(definitions), *(model.text for model in self.models), "\n".join(later)]
        header = _HEADER.format(imports=imports, convention=convention)
        return _formatted("\n\n\n".join([header, *filter(None, parts)]) + "\n")


def write_models(connection: Connection, schemas: Sequence[str] | None = None) -> str:
    """The source of `models_db.py` for a database; nothing is changed.

    Args:
        connection: to the database, in one transaction, so that all of the models are of one moment.
        schemas: whose tables become models; by default all but those of PostgreSQL and of this library.

    Returns:
        The source, formatted. `not_in_models` lists what it does not hold.

    Raises:
        NotInstalledError: ruff is not installed.
    """
    return Models(connection, schemas).source()


def read_schemas(connection: Connection) -> list[str]:
    """The schemas that users have made."""
    return list(connection.scalars(SQL["schemas"], {"progress": PROGRESS_SCHEMA}))


def _read_tables(connection: Connection, schemas: Sequence[str]) -> list[TableRows]:
    """The tables that become models: all but partitions, children, and tables of extensions and other tools."""
    owners = read_owners(connection)
    parameters = {"schemas": list(schemas)}
    rows = connection.execute(SQL["tables"], parameters)
    tables = {(row.schema, row.name): TableRows(row) for row in rows if not owners.get((row.schema, row.name))}
    for kind in ("columns", "constraints", "indexes"):
        for row in connection.execute(SQL[kind], parameters):
            if (row.schema, row.table) not in tables:
                continue
            table, is_key = tables[row.schema, row.table], kind == "constraints" and row.type == "f"
            if is_key and (row.referred_schema, row.referred_table) not in tables:
                table.keys_without_model.append(row.name)
            else:
                getattr(table, kind).append(row)
    # The default schema comes first, because the first of two tables of one name gives the class this name.
    default = connection.dialect.default_schema_name
    return sorted(tables.values(), key=lambda rows: (rows.table.schema != default, rows.table.schema, rows.table.name))


def _formatted(source: str) -> str:
    for arguments in (["check", "--fix-only", "--select=F401,I"], ["format"]):
        process = _ruff(source, *arguments)
        process.check_returncode()
        source = process.stdout
    if source.isascii() or _ruff(source, "check", "--select=RUF001").returncode == 0:
        return source
    docstring, _, rest = source.partition("\n")
    return f"{docstring}\n# ruff: noqa: RUF001  # letters that look alike are the database's\n{rest}"


def _ruff(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    ruff = find_program("ruff")
    if ruff is None:
        raise NotInstalledError("ruff", "lint")
    options = ["--isolated", "--quiet", "--line-length=120", "--target-version=py311", f"--config={_THIRD_PARTY}", "-"]
    environment = environment_of_programs()
    return subprocess.run(
        [ruff, *arguments, *options], input=source, capture_output=True, encoding="utf-8", env=environment
    )

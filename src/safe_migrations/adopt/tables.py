"""The source of one model: a class, or a `Table` where there is no primary key."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from safe_migrations.adopt.indexes import index_elements
from safe_migrations.adopt.names import Names
from safe_migrations.adopt.sequences import counting_options, identity
from safe_migrations.adopt.source import Source, call, in_one_line, literal
from safe_migrations.adopt.types import ColumnType, Types
from safe_migrations.postgres.sql import escaped

# As in the template's models_db.py.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_ACTION = r"(NO ACTION|RESTRICT|CASCADE|SET (?:NULL|DEFAULT)(?: \([^)]*\))?)"


@dataclass
class TableRows:
    """What the catalog says of one table.

    Attributes:
        table: its own row.
        columns: in order.
        constraints: primary key, unique and exclusion constraints, foreign keys and checks.
        indexes: without those of primary keys and unique constraints.
        keys_without_model: names of the foreign keys to tables that have no model.
    """

    table: Any
    columns: list[Any] = field(default_factory=list)
    constraints: list[Any] = field(default_factory=list)
    indexes: list[Any] = field(default_factory=list)
    keys_without_model: list[str] = field(default_factory=list)


@dataclass
class Model:
    """The source of one table.

    Attributes:
        text: of the class or the table.
        later: statements that follow all models.
        sequences: schema and name of each sequence that SQLAlchemy makes with the table.
    """

    text: str
    later: list[str]
    sequences: set[tuple[str, str]]


def write_table(rows: TableRows, schema: str | None, types: Types, names: Names, default_schema: str) -> Model:
    """Write the model of a table.

    Args:
        schema: the table's; None for the default one.
        default_schema: the one that models do not name.
    """
    return _Table(rows, schema, types, default_schema).write(names)


class _Table:
    def __init__(self, rows: TableRows, schema: str | None, types: Types, default_schema: str) -> None:
        self.rows, self.name, self.schema = rows, rows.table.name, schema
        self.types, self.default_schema = types, default_schema
        self.arguments: list[Source] = []
        self.of_columns: dict[str, dict[str, Any]] = {row.name: {} for row in rows.columns}
        self.keys: dict[str, list[Source]] = {}
        self.later: list[str] = []
        kinds: dict[str, list[Any]] = {}
        for row in rows.constraints:
            kinds.setdefault(row.type, []).append(row)
        self.primary_key = kinds["p"][0] if "p" in kinds else None
        for row in kinds.get("p", []):
            self._add_primary_key(row)
        for row in kinds.get("u", []):
            self._add_unique(row)
        for row in kinds.get("f", []):
            self._add_foreign_key(row)
        self.arguments += [self._check(row) for row in kinds.get("c", [])]
        indexes = {row.name: row for row in rows.indexes}
        self.arguments += [_exclusion(row, indexes[row.name]) for row in kinds.get("x", [])]
        for row in indexes.values():
            if not row.is_exclusion:
                self._add_index(row)

    def write(self, names: Names) -> Model:
        """The whole model."""
        options = self._options()
        if self.primary_key is None:
            columns = [self._column("Column", row, row.name) for row in self.rows.columns]
            variable = names.of_variable(self.name)
            table = call("Table", self.name, Source("Base.metadata"), *columns, *self.arguments, **options)
            return Model(f"{variable} = {table}", self.later, set())
        lines = [f"class {names.of_class(*filter(None, (self.schema, self.name)))}(Base):"]
        lines.append(f"    __tablename__ = {literal(self.name)}")
        if self.arguments:
            values = [*self.arguments, *([literal(options)] if options else [])]
            lines.append(f"    __table_args__ = ({', '.join(values)},)")
        elif options:
            lines.append(f"    __table_args__ = {literal(options)}")
        lines.append("")
        sequences = {(row.sequence_schema, row.sequence) for row in self.rows.columns if self._is_serial(row)}
        attributes = Names(set())
        for row in self.rows.columns:
            attribute = attributes.of_variable(row.name)
            type_ = self._type(row)
            python = type_.python if row.not_null else f"{type_.python} | None"
            column = self._column("mapped_column", row, attribute)
            assigned = f" = {column}" if column != "mapped_column()" else ""
            lines.append(f"    {attribute}: Mapped[{python}]{assigned}")
        return Model("\n".join(lines), self.later, sequences)

    def _options(self) -> dict[str, Any]:
        table = self.rows.table
        options = {
            "schema": self.schema,
            "comment": table.comment,
            "prefixes": ["UNLOGGED"] if table.unlogged else None,
            "postgresql_partition_by": table.partition_by,
            "postgresql_using": table.method,
            "postgresql_with": _storage(table.options),
            "postgresql_tablespace": table.tablespace,
        }
        return {name: value for name, value in options.items() if value}

    def _type(self, row: Any) -> ColumnType:
        return self.types.of(row.type, row.collation)

    def _column(self, function: str, row: Any, attribute: str) -> Source:
        type_, keys = self._type(row), self.keys.get(row.name, [])
        options = self.of_columns[row.name]
        arguments: list[object] = [row.name] if function == "Column" or attribute != row.name else []
        if function == "Column" or not type_.is_default or keys:
            arguments.append(type_.source)
        if row.generated:
            arguments.append(_computed(row))
        elif row.identity:
            arguments.append(identity(row))
        elif row.expression is not None and not self._is_serial(row):
            options["server_default"] = call("text", escaped(in_one_line(row.expression)))
        if function == "Column" and row.not_null:
            options["nullable"] = Source("False")
        if self._counts_without_sequence(row):
            options["autoincrement"] = Source("False")
        return call(function, *arguments, *keys, **options, comment=row.comment)

    def _is_serial(self, row: Any) -> bool:
        """Whether SQLAlchemy makes the same sequence by itself."""
        key = self.primary_key
        is_key = key is not None and key.columns == [row.name] and not self.keys.get(row.name)
        is_default = row.has_default_name and row.sequence_type == row.type and not counting_options(row)
        return bool(is_key and row.is_serial and is_default)

    def _counts_without_sequence(self, row: Any) -> bool:
        """Whether SQLAlchemy would make a sequence, and the database has none."""
        key = self.primary_key
        return bool(
            key is not None
            and key.columns == [row.name]
            and not (self.keys.get(row.name) or row.expression or row.identity)
            and re.fullmatch(r"smallint|integer|bigint|numeric(\(.*)?", row.type)
        )

    def _name(self, kind: str, row: Any) -> str | None:
        """The name of a constraint or an index; None if the naming convention makes the same."""
        columns = "_".join(row.columns[: getattr(row, "key_count", None)])
        parts = {
            "table_name": self.name,
            "column_0_N_name": columns,
            "referred_table_name": getattr(row, "referred_table", None),
            "constraint_name": "",
        }
        name: str = row.name
        return None if NAMING_CONVENTION[kind] % parts == name else name

    def _add_primary_key(self, row: Any) -> None:
        for name in row.columns:
            self.of_columns[name]["primary_key"] = True
        ordered = [column.name for column in self.rows.columns if column.name in row.columns]
        options = self._options_of("pk", row)
        if any(options.values()) or ordered != row.columns:
            self.arguments.append(call("PrimaryKeyConstraint", *row.columns, **options))

    def _add_unique(self, row: Any) -> None:
        options = self._options_of("uq", row) | {"postgresql_nulls_not_distinct": row.nulls_not_distinct}
        if any(options.values()) or len(row.columns) > 1 or "unique" in self.of_columns[row.columns[0]]:
            self.arguments.append(call("UniqueConstraint", *row.columns, **options))
        else:
            self.of_columns[row.columns[0]]["unique"] = True

    def _options_of(self, kind: str, row: Any) -> dict[str, Any]:
        return {
            "name": self._name(kind, row),
            **_deferring(row),
            "comment": row.comment,
            "postgresql_include": row.include or None,
        }

    def _add_foreign_key(self, row: Any) -> None:
        actions = {on: re.search(rf" ON {on} {_ACTION}", row.definition) for on in ("DELETE", "UPDATE")}
        match = re.search(r" MATCH (FULL|PARTIAL)", row.definition)
        options = {
            "name": self._name("fk", row),
            "ondelete": actions["DELETE"] and actions["DELETE"][1],
            "onupdate": actions["UPDATE"] and actions["UPDATE"][1],
            "match": match and match[1],
            **_deferring(row),
            "comment": row.comment,
            "use_alter": not row.valid,
            "postgresql_not_valid": not row.valid,
        }
        schema = None if row.referred_schema == self.default_schema else row.referred_schema
        parts = list(filter(None, (schema, row.referred_table)))
        if any("." in name for name in (*parts, *row.referred_columns)):
            self._add_later(row, ".".join(parts), options)
            return
        referred = [".".join((*parts, column)) for column in row.referred_columns]
        if len(referred) == 1:
            self.keys.setdefault(row.columns[0], []).append(call("ForeignKey", *referred, **options))
        else:
            self.arguments.append(call("ForeignKeyConstraint", row.columns, referred, **options))

    def _add_later(self, row: Any, referred: str, options: dict[str, Any]) -> None:
        """A name with a dot can't be written as `table.column`."""
        table = f"Base.metadata.tables[{literal(referred)}]"
        columns = [Source(f"{table}.c[{literal(name)}]") for name in row.referred_columns]
        own = literal(".".join(filter(None, (self.schema, self.name))))
        key = call("ForeignKeyConstraint", row.columns, columns, **options)
        self.later.append(f"Base.metadata.tables[{own}].append_constraint({key})")

    def _check(self, row: Any) -> Source:
        prefix = NAMING_CONVENTION["ck"] % {"table_name": self.name, "constraint_name": ""}
        short = row.name.removeprefix(prefix)
        name: object = short if short and short != row.name else call("conv", row.name)
        expression = escaped(in_one_line(row.expression))
        return call("CheckConstraint", expression, name=name, comment=row.comment, postgresql_not_valid=not row.valid)

    def _add_index(self, row: Any) -> None:
        elements, operators = index_elements(row)
        options = {
            "unique": row.unique,
            "postgresql_using": row.method if row.method != "btree" else None,
            "postgresql_ops": operators,
            "postgresql_include": row.columns[row.key_count :] or None,
            "postgresql_nulls_not_distinct": row.nulls_not_distinct,
            "postgresql_where": row.predicate and call("text", escaped(in_one_line(row.predicate))),
            "postgresql_with": _storage(row.options) or None,
            "postgresql_tablespace": row.tablespace,
        }
        are_columns = elements == row.columns[: row.key_count]
        name = self._name("ix", row) if are_columns else row.name
        options = {key: value for key, value in options.items() if value}
        of_column = self.of_columns.get(row.columns[0] or "", {})
        if (
            name is None
            and len(row.columns) == 1
            and options.keys() <= {"unique"}
            and not {"unique", "index"} & {*of_column}
        ):
            of_column |= {"index": True, **options}
        else:
            self.arguments.append(call("Index", name, *elements, **options))


def _exclusion(row: Any, index: Any) -> Source:
    elements, operators = index_elements(index)
    pairs = zip(elements, row.operators, strict=True)
    excluded = [Source(f"({literal(element)}, {operator!r})") for element, operator in pairs]
    where = index.predicate and call("text", escaped(in_one_line(index.predicate)))
    options = {"name": row.name, "using": index.method, "where": where, "ops": operators or None, **_deferring(row)}
    return call("ExcludeConstraint", *excluded, **options)


def _deferring(row: Any) -> dict[str, Any]:
    return {"deferrable": row.deferrable, "initially": "DEFERRED" if row.deferred else None}


def _storage(options: Iterable[str]) -> dict[str, str]:
    return dict(option.split("=", 1) for option in options)


def _computed(row: Any) -> Source:
    return call("Computed", escaped(in_one_line(row.expression)), persisted=Source(str(row.generated == "s")))

"""The types of columns: SQLAlchemy's, where they mean exactly the database's, else by PostgreSQL's name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from safe_migrations.adopt.names import Names
from safe_migrations.adopt.source import Source, call, in_one_line, literal
from safe_migrations.postgres.sql import escaped

_FORM = re.compile(
    r"(?P<name>[a-z0-9 ]+?)(?:\((?P<arguments>-?\d+(?:,-?\d+)*)\))?(?P<zone> with(?:out)? time zone)?(?P<array>\[\])?"
)
# Without arguments: the type, and that of the values in Python.
_PLAIN = {
    "bigint": ("BigInteger()", "int"),
    "bit varying": ("BIT(varying=True)", "Any"),
    "boolean": ("Boolean()", "bool"),
    "bytea": ("LargeBinary()", "bytes"),
    "character varying": ("String()", "str"),
    "cidr": ("CIDR()", "Any"),
    "citext": ("CITEXT()", "str"),
    "date": ("Date()", "dt.date"),
    "double precision": ("Double()", "float"),
    "hstore": ("HSTORE()", "Any"),
    "inet": ("INET()", "Any"),
    "integer": ("Integer()", "int"),
    "interval": ("Interval()", "dt.timedelta"),
    "json": ("JSON()", "Any"),
    "jsonb": ("JSONB()", "Any"),
    "macaddr": ("MACADDR()", "Any"),
    "macaddr8": ("MACADDR8()", "Any"),
    "money": ("MONEY()", "Any"),
    "numeric": ("Numeric()", "Decimal"),
    "oid": ("OID()", "int"),
    "real": ("REAL()", "float"),
    "smallint": ("SmallInteger()", "int"),
    "text": ("Text()", "str"),
    "time with time zone": ("Time(timezone=True)", "dt.time"),
    "time without time zone": ("Time()", "dt.time"),
    "timestamp with time zone": ("DateTime(timezone=True)", "dt.datetime"),
    "timestamp without time zone": ("DateTime()", "dt.datetime"),
    "tsquery": ("TSQUERY()", "Any"),
    "tsvector": ("TSVECTOR()", "Any"),
    "uuid": ("Uuid()", "UUID"),
    **{
        f"{name}{kind}": (f"{name.upper()}{kind.upper()}()", "Any")
        for name in ("int4", "int8", "num", "date", "ts", "tstz")
        for kind in ("range", "multirange")
    },
}
_WITH_ARGUMENTS = {
    "bit": "BIT({})",
    "bit varying": "BIT({}, varying=True)",
    "character varying": "String({})",
    "character": "CHAR({})",
    "interval": "INTERVAL(precision={})",
    "numeric": "Numeric({})",
    "time with time zone": "TIME(timezone=True, precision={})",
    "time without time zone": "TIME(precision={})",
    "timestamp with time zone": "TIMESTAMP(timezone=True, precision={})",
    "timestamp without time zone": "TIMESTAMP(precision={})",
}
_PYTHON = {"character": "str", "bit": "Any"} | {name: python for name, (_, python) in _PLAIN.items()}
# What Base makes of an annotation.
_OF_ANNOTATION = {
    "bigint": False,
    **dict.fromkeys(["boolean", "bytea", "date", "double precision", "integer", "interval", "numeric", "text"], True),
    **dict.fromkeys(["time without time zone", "timestamp with time zone", "uuid"], True),
}


@dataclass(frozen=True)
class ColumnType:
    """A type in a module of models.

    Attributes:
        source: the expression.
        python: the annotation, without `Mapped` and `None`.
        is_default: whether the annotation alone means this type.
    """

    source: Source
    python: str
    is_default: bool = False


class Types:
    """The types of a database, and the lines of a module that define its enums and domains.

    Attributes:
        lines: in order; a type that no column has yet asked for is not among them.
    """

    def __init__(self, enums: Iterable[Any], domains: Iterable[Any], names: Names, default_schema: str) -> None:
        self._default_schema = default_schema
        self.lines: list[str] = []
        self._names = names
        self._enums: Mapping[str, Any] = {row.type: row for row in enums if row.labels}
        self._domains: Mapping[str, Any] = {row.type: row for row in domains if _can_be_held(row)}
        self._named: dict[str, ColumnType] = {}

    def holds(self, sql: str) -> bool:
        """Whether the lines define an enum or a domain.

        Args:
            sql: its name, of `format_type`.
        """
        return sql in self._named

    def of(self, sql: str, collation: str | None) -> ColumnType:
        """The type that PostgreSQL writes like this.

        Args:
            sql: of `format_type`.
            collation: of `regcollation`, if it is not the type's own.
        """
        item = self._element(sql.removesuffix("[]"), collation)
        if item is None:
            name = sql if collation is None else f"{sql} COLLATE {collation}"
            plain = _plain(sql, None)
            return ColumnType(call("SQLType", name), plain.python if plain else "Any")
        if sql.endswith("[]"):
            return ColumnType(call("ARRAY", item.source), f"list[{item.python}]")
        return item

    def _element(self, sql: str, collation: str | None) -> ColumnType | None:
        if sql in self._enums or sql in self._domains:
            if collation is not None:
                return None
            if sql not in self._named:
                self._named[sql] = self._enum(sql) if sql in self._enums else self._domain(sql)
            return self._named[sql]
        return _plain(sql, collation)

    def _enum(self, sql: str) -> ColumnType:
        row = self._enums[sql]
        values, variable = self._names.of_class(row.schema, row.name), self._names.of_constant(row.name)
        schema = self._schema(row)
        self.lines.append(f"{values} = Literal[{', '.join(map(literal, row.labels))}]")
        self.lines.append(f"{variable} = {call('Enum', Source(f'*get_args({values})'), name=row.name, schema=schema)}")
        return ColumnType(Source(variable), values)

    def _schema(self, row: Any) -> str | None:
        return None if row.schema == self._default_schema else str(row.schema)

    def _domain(self, sql: str) -> ColumnType:
        row = self._domains[sql]
        base = self.of(row.base, None)
        check = row.checks[0] if row.checks else None
        options = {
            "schema": self._schema(row),
            "collation": row.collation,
            "collation_schema": row.collation_schema,
            "default": row.default and call("text", escaped(row.default)),
            "constraint_name": None if check == f"{row.name}_check" else check,
            "not_null": row.not_null,
            "check": row.expression and escaped(in_one_line(row.expression)),
        }
        variable = self._names.of_constant(row.name)
        self.lines.append(f"{variable} = {call('DOMAIN', row.name, base.source, **options)}")
        return ColumnType(Source(variable), base.python)


def _plain(sql: str, collation: str | None) -> ColumnType | None:
    """A type of PostgreSQL itself, or of an extension that SQLAlchemy knows; None for another one."""
    match = _FORM.fullmatch(sql)
    name = match["name"] + (match["zone"] or "") if match else ""
    arguments = match["arguments"] if match else None
    if arguments is not None and name in _WITH_ARGUMENTS:
        source = _WITH_ARGUMENTS[name].format(arguments.replace(",", ", "))
    elif arguments is None and name in _PLAIN:
        source = _PLAIN[name][0]
    else:
        return None
    if collation is not None:
        unquoted = re.fullmatch(r'"([^".]+)"|(\w+)', collation)
        if unquoted is None or name not in ("character", "character varying", "text"):
            return None
        separator = "" if source.endswith("()") else ", "
        source = f"{source[:-1]}{separator}collation={(unquoted[1] or unquoted[2])!r})"
    is_default = arguments is None and collation is None and _OF_ANNOTATION.get(name, False)
    return ColumnType(Source(source.removesuffix("()")), _PYTHON[name], is_default)


def _can_be_held(domain: Any) -> bool:
    """Whether SQLAlchemy can hold a domain: with one check, which has the only name, and of a plain type."""
    has_names = domain.checks in ([], [f"{domain.name}_check"]) or (len(domain.checks) == 1 and not domain.not_null)
    return has_names and _plain(domain.base.removesuffix("[]"), None) is not None

"""The comparison of domains between models and database, as PostgreSQL describes both."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, ops
from alembic.util import PriorityDispatchResult
from sqlalchemy import Column, Connection, Dialect, Table, text
from sqlalchemy.dialects import postgresql

from safe_migrations.autogenerate.column_types import named_type_of
from safe_migrations.autogenerate.description_comparison import add_not_compared
from safe_migrations.autogenerate.named_types import CREATED, DROPPED, NamedTypeComparison, TypeChange, TypeName
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.ddl.domains import CreateDomainOp, DropDomainOp
from safe_migrations.errors import ModelError
from safe_migrations.postgres.rollback import execute_apart, rolled_back
from safe_migrations.postgres.sql import qualified, read_sql, sql_of

CHANGED = "changed"

_SQL = read_sql(__package__, "domains.sql")


@dataclass(frozen=True, eq=False)
class DomainChange(TypeChange):
    """A difference of one domain: autogenerate creates and drops domains, and the author changes them.

    Attributes:
        statements: for `CHANGED`, what makes the database as the models are.
    """

    what = "domain"
    statements: tuple[str, ...] = ()


def compare_domains(context: AutogenContext, upgrade_ops: ops.UpgradeOps) -> PriorityDispatchResult:
    """Let autogenerate, and `alembic check`, compare domains as well.

    Raises:
        ModelError: two domains of the models have the same name and other definitions, or one is based on a type
            that the database does not have.
    """
    upgrade_ops.ops.extend(_DomainComparison(context, list(upgrade_ops.ops)).changes())
    return PriorityDispatchResult.CONTINUE


def correct_column(context: AutogenContext, *compared: Any) -> PriorityDispatchResult:
    """Take from a column of the database what SQLAlchemy has read from its domain: NOT NULL and the default.

    Its type gets the schema that the models spell out, if that is the same type.
    """
    existing, wanted = compared[-2].type, named_type_of(compared[-1].type)
    connection = cast(Connection, context.connection)
    _correct(connection, compared[-2].table, [compared[-2]])
    if isinstance(existing, postgresql.DOMAIN | postgresql.ENUM) and wanted and existing.schema != wanted.schema:
        names = [qualified(context.dialect, type_.schema, type_.name) for type_ in (existing, wanted)]
        if connection.scalar(_SQL["is_same_type"], {"existing": names[0], "wanted": names[1]}):
            existing.schema = wanted.schema
    return PriorityDispatchResult.CONTINUE


def correct_columns(context: AutogenContext, *compared: Any) -> PriorityDispatchResult:
    """The same for all columns of a table, which may be dropped."""
    existing: Table | None = compared[-2]
    if existing is not None:
        _correct(cast(Connection, context.connection), existing, existing.columns)
    return PriorityDispatchResult.CONTINUE


def _correct(connection: Connection, table: Table, columns: Iterable[Column[Any]]) -> None:
    of_domains = {column.name: column for column in columns if isinstance(column.type, postgresql.DOMAIN)}
    if of_domains:
        name = qualified(connection.dialect, table.schema, table.name)
        for row in connection.execute(_SQL["columns"], {"table": name, "names": list(of_domains)}):
            column = of_domains[row.name]
            column.nullable = not row.not_null
            column.server_default = column.server_default if row.has_default else None


class _DomainComparison(NamedTypeComparison):
    def __init__(self, context: AutogenContext, operations: Iterable[MigrateOperation]) -> None:
        self.connection = cast(Connection, context.connection)  # autogenerate has one
        self.dialect = self.connection.dialect
        rows = self.connection.execute(_SQL["describe"], {"temporary": False}).all()
        super().__init__(context, operations, rows)
        self.existing = {TypeName(row.schema, row.name): row for row in rows}
        self.wanted: dict[TypeName, postgresql.DOMAIN] = {}
        for column in self.columns():
            domain = named_type_of(column.type)
            if not isinstance(domain, postgresql.DOMAIN):
                continue
            other = self.wanted.setdefault(self.name_of(domain), domain)
            if _definition(other, self.dialect) != _definition(domain, self.dialect):
                raise ModelError(
                    f"The models have two domains named {domain.name} with different definitions, one of them of "
                    f"{column}. Rename one of them, or use one type for both columns."
                )

    def changes(self) -> list[DomainChange]:
        """In the order in which they run."""
        new = [self._create(domain) for name, domain in self.wanted.items() if name not in self.existing]
        both = [name for name in self.wanted if name in self.existing]
        changed = [change for name in both for change in self._change(name, self.wanted[name])]
        return [*new, *changed, *map(self._drop, self.unused(self.existing, self.wanted))]

    def _create(self, domain: postgresql.DOMAIN) -> DomainChange:
        base = named_type_of(domain.data_type)
        name = str(domain.name)
        if base is not None and not self.connection.scalar(
            text("SELECT to_regtype(:name)"), {"name": qualified(self.dialect, base.schema, base.name)}
        ):
            raise ModelError(
                f"The domain {name} is based on the type {base.name}, which the database does not have. Create this "
                f"type first, by op.create_enum or op.create_domain in a revision of its own:\nalembic revision "
                f"-m {shlex.quote(f'create {base.name}')}"
            )
        operation = CreateDomainOp(name, _definition(domain, self.dialect), domain.schema)
        comment = f"Creates the domain {name} once, for every column that uses it."
        limited = domain.check is not None or domain.not_null
        safe = (
            [Comment("safe: ban-create-domain-with-constraint because the models use this domain")] if limited else []
        )
        return DomainChange(CREATED, name, domain.schema, [*safe, operation], [operation.reverse()], comment)

    def _drop(self, name: TypeName) -> DomainChange:
        schema = self.schema_of(name)
        operation = DropDomainOp(name.name, schema, _described(self.existing[name], self.dialect))
        comment = f"Drops the domain {name.name}, which no column uses."
        return DomainChange(DROPPED, name.name, schema, [operation], [operation.reverse()], comment)

    def _change(self, name: TypeName, domain: postgresql.DOMAIN) -> Iterator[DomainChange]:
        existing, wanted = self.existing[name], None
        own = f"CREATE DOMAIN pg_temp.{qualified(self.dialect, name.name)} AS {_definition(domain, self.dialect)}"
        with rolled_back(self.connection):
            failed = execute_apart(self.connection, {name.name: own})
            if not failed:
                wanted = self.connection.execute(_SQL["describe"], {"temporary": True}).one()
        if wanted is None:
            add_not_compared(self.context.migration_context, f"the domain {name.name}", failed[name.name])
            return
        quoted = qualified(self.dialect, self.schema_of(name), name.name)
        has_name = domain.constraint_name is not None
        if statements := tuple(_statements(quoted, existing, wanted, has_name, self.dialect)):
            yield DomainChange(CHANGED, name.name, domain.schema, [], [], "", statements=statements)


def _statements(name: str, existing: Any, wanted: Any, has_name: bool, dialect: Dialect) -> Iterator[str]:
    """What changes a domain; its checks are compared by name only if the models name them."""
    alter = f"ALTER DOMAIN {name}"
    if (existing.type, existing.collation) != (wanted.type, wanted.collation):
        was, becomes = (" COLLATE ".join(filter(None, (row.type, row.collation))) for row in (existing, wanted))
        yield f"-- PostgreSQL can't change its type from {was} to {becomes}: give the domain of the models another name"
        return
    if existing.default != wanted.default:
        yield f"{alter} SET DEFAULT {wanted.default}" if wanted.default is not None else f"{alter} DROP DEFAULT"
    if existing.not_null != wanted.not_null:
        yield f"{alter} {'SET' if wanted.not_null else 'DROP'} NOT NULL"
    old, new = (dict(zip(row.names, row.checks, strict=True)) for row in (existing, wanted))
    for constraint, check in old.items():
        if (new.get(constraint) != check) if has_name else (check not in new.values()):
            yield f"{alter} DROP CONSTRAINT {qualified(dialect, constraint)}"
    for constraint, check in new.items():
        if (old.get(constraint) != check) if has_name else (check not in old.values()):
            yield f"{alter} ADD CONSTRAINT {qualified(dialect, constraint)} {check}"


def _definition(domain: postgresql.DOMAIN, dialect: Dialect) -> str:
    """What follows AS in CREATE DOMAIN."""
    sql = sql_of(postgresql.CreateDomainType(domain), dialect)
    preparer: Any = dialect.identifier_preparer
    return sql.removeprefix(f"CREATE DOMAIN {preparer.format_type(domain)} AS ").strip()


def _described(row: Any, dialect: Dialect) -> str:
    """The same for a domain of the database."""
    checks = (
        f"CONSTRAINT {qualified(dialect, name)} {check}" for name, check in zip(row.names, row.checks, strict=True)
    )
    options = (f"COLLATE {row.collation}" if row.collation else "", f"DEFAULT {row.default}" if row.default else "")
    return " ".join(filter(None, (row.type, *options, "NOT NULL" if row.not_null else "", *checks)))

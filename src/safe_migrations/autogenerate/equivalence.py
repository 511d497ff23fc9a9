"""Whether two definitions mean the same, although PostgreSQL writes them differently.

After a restore from a dump, PostgreSQL writes some expressions in another way than before. A default may be written as
0 or as '0'::bigint.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from alembic.operations import ops
from sqlalchemy import Connection

from safe_migrations.autogenerate.descriptions import SQL, Described, Description, Difference, TableName, describe
from safe_migrations.postgres.rollback import execute_apart
from safe_migrations.postgres.sql import qualified

_REPARSED = {"index", "check", "exclusion", "default", "computed"}
_NOW = {"now()", "CURRENT_TIMESTAMP", "transaction_timestamp()"}  # one and the same
_LITERAL = re.compile(r"E?'(?:[^']|'')*'")
_NOT_CONSTANT = re.compile(r"[\w\"] ?\((?!\d)|\b(?:CURRENT|SESSION|LOCAL|SYSTEM)|\bUSER\b")  # a call of a function


def equal_when_parsed_again(
    connection: Connection,
    schema: str,
    differences: Sequence[tuple[TableName, Difference]],
    types: Mapping[TableName, Described],
) -> set[int]:
    """The numbers of the differences that are none: PostgreSQL reads both definitions again, and writes the same."""
    scripts: dict[str, str] = {}
    owners = {table for table, _ in differences}
    compared = []
    for number, (table, difference) in enumerate(differences):
        before, after = difference.database, difference.models
        if difference.kind not in _REPARSED or not before or not after or before.definition == after.definition:
            continue
        type_ = types[table].get(("type", difference.name))
        for side, description in enumerate((before, after)):
            name = f"parsed_{number}_{side}"
            owner = TableName(schema, name) if difference.kind == "default" else table
            owners.add(owner)
            of_owner = qualified(connection.dialect, *owner)
            scripts[name] = _parse(name, of_owner, description, type_.definition if type_ else "")
        compared.append(number)
    if not compared:
        return set()
    execute_apart(connection, scripts)
    texts = {
        name: description.definition
        for described in describe(connection, owners).values()
        for (kind, name), description in described.items()
        if name in scripts and kind in _REPARSED
    }
    rows = connection.execute(SQL["constants"], {"schema": schema})
    values: dict[str, str] = {row.attname: row.value for row in rows}
    return {number for number in compared if _is_same(f"parsed_{number}_0", f"parsed_{number}_1", texts, values)}


def _parse(name: str, table: str, description: Description, type_: str) -> str:
    """The statement that lets PostgreSQL read one of its own definitions, and keep it under a name."""
    definition = description.definition
    match description.kind:
        case "index":
            unique = "UNIQUE " if definition.startswith("UNIQUE ") else ""
            return f"CREATE {unique}INDEX {name} ON {table} {definition.removeprefix(unique)}"
        case "default":
            # In a table of its own: a volatile default would rewrite the table, and remove the values of other columns.
            return f"CREATE TABLE {table} (); ALTER TABLE {table} ADD COLUMN {name} {type_} DEFAULT {definition}"
        case "computed":
            expression, _, kind = definition.rpartition(" ")
            return f"ALTER TABLE {table} ADD COLUMN {name} {type_} GENERATED ALWAYS AS ({expression}) {kind}"
        case _:
            return f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"


def _is_same(first: str, second: str, texts: Mapping[str, str], values: Mapping[str, str]) -> bool:
    """Whether PostgreSQL writes both in the same way, or both are constants of the same value."""
    both = texts.get(first), texts.get(second)
    if both[0] is None or both[1] is None:
        return False
    if both[0] == both[1] or set(both) <= _NOW:
        return True
    constants = not any(_NOT_CONSTANT.search(_LITERAL.sub("", text)) for text in both if text)
    return constants and first in values and values[first] == values.get(second)


def leave_equal_indexes(operations: ops.ModifyTableOps, differences: Iterable[Difference]) -> None:
    """Remove what Alembic would build again, although PostgreSQL describes it in the same way on both sides."""
    dropped, created = (
        {str(operation.index_name) for operation in operations.ops if isinstance(operation, kind)}
        for kind in (ops.DropIndexOp, ops.CreateIndexOp)
    )
    equal = (dropped & created) - {difference.name for difference in differences}
    operations.ops = [
        operation
        for operation in operations.ops
        if not (isinstance(operation, ops.DropIndexOp | ops.CreateIndexOp) and str(operation.index_name) in equal)
    ]


def leave_equal_types(operations: ops.ModifyTableOps, differences: Iterable[Difference]) -> None:
    """Remove the new types of columns that PostgreSQL describes in the same way on both sides."""
    different = {difference.name for difference in differences if difference.kind == "type"}
    for operation in [item for item in operations.ops if isinstance(item, ops.AlterColumnOp)]:
        if operation.modify_type is not None and operation.column_name not in different:
            operation.modify_type = None
            if not operation.has_changes():
                operations.ops.remove(operation)

"""The form of this library's operations and types, and of comments, in a revision file."""

import json
from collections.abc import Sequence
from inspect import Parameter, signature
from typing import Any, Literal

from alembic.autogenerate import render_op_text, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import render_op
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import AlterColumnOp, CreateIndexOp, DropIndexOp, ExecuteSQLOp, RenameTableOp

from safe_migrations.ddl.indexes import CreateIndexConcurrentlyOp, DropIndexConcurrentlyOp
from safe_migrations.ddl.registration import FUNCTIONS
from safe_migrations.ddl.types import SQLType


class Comment(MigrateOperation):
    """A comment in a revision file."""

    def __init__(self, text: str) -> None:
        self.text = text


class Nothing(MigrateOperation):
    """`pass`, in a function that does nothing."""


class Step(MigrateOperation):
    """Operations that commit together, before the next step."""

    def __init__(self, name: str, operations: Sequence[MigrateOperation]) -> None:
        self.name = name
        self.operations = operations


def plain_sql(statement: str) -> tuple[MigrateOperation, ...]:
    """A statement that Alembic has no operation for, with a comment that says so."""
    return Comment("Alembic has no operation for this."), ExecuteSQLOp(statement.replace(":", r"\:"))


@renderers.dispatch_for(Comment)
def _render_comment(_context: AutogenContext, operation: Comment) -> str:
    return f"# {operation.text}"


@renderers.dispatch_for(Nothing)
def _render_nothing(_context: AutogenContext, _operation: Nothing) -> str:
    return "pass"


@renderers.dispatch_for(Step)
def _render_step(context: AutogenContext, step: Step) -> list[str]:
    """Lines that Alembic indents; the last one ends the block, as in its own form of a batch."""
    lines = (line for operation in step.operations for line in render_op(context, operation))
    indented = (line.replace("\n", "\n    ") for line in lines)
    return [
        f"if {context.opts['alembic_module_prefix']}step({json.dumps(step.name, ensure_ascii=False)}):",
        *indented,
        "",
    ]


@Operations.implementation_for(Comment)
@Operations.implementation_for(Nothing)
def _nothing_to_run(_operations: Operations, _operation: MigrateOperation) -> None:
    pass


def _render_operation(context: AutogenContext, operation: MigrateOperation) -> str:
    """A call of the operation's function, whose arguments are attributes of the operation."""
    function = FUNCTIONS[type(operation)]
    _, *parameters = signature(getattr(operation, function)).parameters.values()
    values = {parameter: getattr(operation, parameter.name) for parameter in parameters}
    options = {key.name: value for key, value in values.items() if key.kind is Parameter.KEYWORD_ONLY}
    return _call(context, function, *[values[key] for key in parameters if key.name not in options], **options)


for _class in FUNCTIONS:
    renderers.dispatch_for(_class)(_render_operation)


@renderers.dispatch_for(CreateIndexConcurrentlyOp, replace=True)
def _render_create_index(context: AutogenContext, operation: CreateIndexConcurrentlyOp) -> str:
    plain = CreateIndexOp(
        operation.index_name, operation.table_name or "", schema=operation.schema, **operation.options
    )
    return render_op_text(context, plain).replace("op.create_index(", "op.create_index_concurrently(", 1)


@renderers.dispatch_for(DropIndexConcurrentlyOp, replace=True)
def _render_drop_index(context: AutogenContext, operation: DropIndexConcurrentlyOp) -> str:
    plain = DropIndexOp(operation.index_name, operation.table_name, schema=operation.schema)
    return render_op_text(context, plain).replace("op.drop_index(", "op.drop_index_concurrently(", 1)


class ConvertColumnOp(AlterColumnOp):
    """A change of type with the expression that converts the values, which Alembic executes but does not render."""


@renderers.dispatch_for(ConvertColumnOp)
def _render_conversion(context: AutogenContext, operation: ConvertColumnOp) -> str:
    plain: str = renderers.dispatch(AlterColumnOp)(context, operation)
    return f"{plain.removesuffix(')')}, postgresql_using={operation.kw['postgresql_using']!r})"


@renderers.dispatch_for(RenameTableOp)
def _render_rename(context: AutogenContext, operation: RenameTableOp) -> str:
    names = operation.table_name, operation.new_table_name
    return _call(context, "rename_table", *names, schema=operation.schema)


def render_sql_type(type_: Any, context: AutogenContext) -> str | Literal[False]:
    """A type that is written as SQL; False for any other."""
    if not isinstance(type_, SQLType):
        return False
    context.imports.add("from safe_migrations.operations import SQLType")
    return f"SQLType({type_.sql!r})"


def _call(context: AutogenContext, function: str, *arguments: object, **options: object) -> str:
    texts = [*map(repr, arguments), *(f"{name}={value!r}" for name, value in options.items() if value is not None)]
    return f"{context.opts['alembic_module_prefix']}{function}({', '.join(texts)})"

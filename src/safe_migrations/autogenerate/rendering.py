"""The form of this library's operations and types, and of comments, in a revision file."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from alembic.autogenerate import render_op_text, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import render_op
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import AlterColumnOp, CreateIndexOp, DropIndexOp, ExecuteSQLOp, RenameTableOp

from safe_migrations.ddl.constraints import CreateUniqueConstraintUsingIndexOp, ValidateConstraintOp
from safe_migrations.ddl.dependents import DropDependentViewsOp, RecreateDependentViewsOp
from safe_migrations.ddl.domains import CreateDomainOp, DropDomainOp
from safe_migrations.ddl.enums import AddEnumValueOp, CreateEnumOp, DropEnumOp, ReplaceEnumOp
from safe_migrations.ddl.indexes import CreateIndexConcurrentlyOp, DropIndexConcurrentlyOp
from safe_migrations.ddl.schemas import CreateSchemaOp, DropSchemaOp
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


@renderers.dispatch_for(CreateIndexConcurrentlyOp)
def _render_create_index(context: AutogenContext, operation: CreateIndexConcurrentlyOp) -> str:
    plain = CreateIndexOp(
        operation.index_name, operation.table_name or "", schema=operation.schema, **operation.options
    )
    return render_op_text(context, plain).replace("op.create_index(", "op.create_index_concurrently(", 1)


@renderers.dispatch_for(DropIndexConcurrentlyOp)
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


@renderers.dispatch_for(ValidateConstraintOp)
@renderers.dispatch_for(CreateUniqueConstraintUsingIndexOp)
def _render_constraint(
    context: AutogenContext, operation: ValidateConstraintOp | CreateUniqueConstraintUsingIndexOp
) -> str:
    options = {"schema": operation.schema, **operation.options}
    if options.get("index_name") == operation.constraint_name:
        del options["index_name"]
    return _call(context, operation.operation, str(operation.constraint_name), str(operation.table_name), **options)


@renderers.dispatch_for(CreateSchemaOp)
def _render_create_schema(context: AutogenContext, operation: CreateSchemaOp) -> str:
    return _call(context, "create_schema", operation.name)


@renderers.dispatch_for(DropSchemaOp)
def _render_drop_schema(context: AutogenContext, operation: DropSchemaOp) -> str:
    return _call(context, "drop_schema", operation.name)


@renderers.dispatch_for(CreateEnumOp)
def _render_create(context: AutogenContext, operation: CreateEnumOp) -> str:
    return _call(context, "create_enum", operation.name, operation.values, schema=operation.schema)


@renderers.dispatch_for(DropEnumOp)
def _render_drop(context: AutogenContext, operation: DropEnumOp) -> str:
    return _call(context, "drop_enum", operation.name, schema=operation.schema)


@renderers.dispatch_for(CreateDomainOp)
def _render_create_domain(context: AutogenContext, operation: CreateDomainOp) -> str:
    return _call(context, "create_domain", operation.name, operation.definition, schema=operation.schema)


@renderers.dispatch_for(DropDomainOp)
def _render_drop_domain(context: AutogenContext, operation: DropDomainOp) -> str:
    return _call(context, "drop_domain", operation.name, schema=operation.schema)


@renderers.dispatch_for(AddEnumValueOp)
def _render_add_value(context: AutogenContext, operation: AddEnumValueOp) -> str:
    places = {"before": operation.before, "after": operation.after, "schema": operation.schema}
    return _call(context, "add_enum_value", operation.name, operation.value, **places)


@renderers.dispatch_for(ReplaceEnumOp)
def _render_replace(context: AutogenContext, operation: ReplaceEnumOp) -> str:
    options = {"columns": operation.columns, "schema": operation.schema}
    return _call(context, "replace_enum", operation.name, operation.values, **options)


@renderers.dispatch_for(DropDependentViewsOp)
def _render_drop_views(context: AutogenContext, operation: DropDependentViewsOp) -> str:
    names = operation.table_name, operation.column_name
    return _call(context, "drop_dependent_views", *names, schema=operation.schema)


@renderers.dispatch_for(RecreateDependentViewsOp)
def _render_recreate_views(context: AutogenContext, _operation: RecreateDependentViewsOp) -> str:
    return _call(context, "recreate_dependent_views")


def render_sql_type(type_: Any, context: AutogenContext) -> str | Literal[False]:
    """A type that is written as SQL; False for any other."""
    if not isinstance(type_, SQLType):
        return False
    context.imports.add("from safe_migrations.operations import SQLType")
    return f"SQLType({type_.sql!r})"


def _call(context: AutogenContext, function: str, *arguments: object, **options: object) -> str:
    texts = [*map(repr, arguments), *(f"{name}={value!r}" for name, value in options.items() if value is not None)]
    return f"{context.opts['alembic_module_prefix']}{function}({', '.join(texts)})"

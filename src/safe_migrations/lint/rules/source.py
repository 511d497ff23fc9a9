"""How a revision is written: whether it can be read, reverted, and run again."""

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from safe_migrations.history.messages import is_meaningless
from safe_migrations.lint.registry import Place, rule
from safe_migrations.lint.revision import Revision
from safe_migrations.lint.statements import DATA, DROP_TABLE, READ, Statement, bare, names_in, touched_tables
from safe_migrations.postgres.statements import pattern
from safe_migrations.upgrade.revision_ids import LIMIT
from safe_migrations.upgrade.steps import step_calls

_LISTED_ROWS = pattern(r"INSERT INTO <name> ?(?:\([^)]*\) ?)?VALUES\b(?!.*\bSELECT\b)")
# What needs no downgrade: the next upgrade repeats it without an error, or it can't be undone (a value of an enum).
_REPEATABLE = pattern(
    r"(?:BEGIN|COMMIT|SELECT|WITH|UPDATE|DELETE|INSERT(?=.* ON CONFLICT )|SET|RESET|LOCK|ANALYZE|VACUUM|REINDEX|"
    r"CLUSTER|COMMENT|REFRESH|CREATE EXTENSION IF NOT EXISTS|ALTER TYPE <name> ADD VALUE|"
    r"ALTER TABLE (?:ONLY )?<name> VALIDATE CONSTRAINT)\b"
)
_OF_ROWS = {"bulk_insert", "execute", "f", "get_bind", "get_context"}
_DDL = re.compile(r"\b(?:CREATE(?! Date:)|ALTER|DROP|TRUNCATE)\b", re.IGNORECASE)


@rule(
    "schema-and-data",
    why="holds the locks of the schema change until the data is written, and neither can be reverted alone",
    instead="two revisions; or a backfill outside the revisions: safe-migrations backfill NAME",
)
def schema_and_data(revision: Revision) -> Iterator[Place]:
    """Rows that the file lists are part of the schema, as are other constant rows of a table that it creates."""
    if not any(statement.is_schema for statement in revision.upgrade):
        return
    for statement in revision.upgrade:
        if _LISTED_ROWS.match(statement.plain):
            continue
        written, read = names_in(",".join(DATA.findall(statement.data))), set(map(bare, READ.findall(statement.data)))
        if in_use := written - revision.created or (written and read - revision.created):
            yield statement.line, ", ".join(sorted(in_use))


@rule(
    "unrelated-changes",
    why="if one change fails or is reverted, so is the other, and one message can't describe both",
    instead="one step for each change of one feature, or one revision: alembic revision -m …",
    is_style=True,
)
def unrelated_changes(revision: Revision) -> Iterator[Place]:
    """The first revision creates a whole schema. A foreign key goes before one of the tables that it connects."""
    if revision.script.down_revision is not None:
        for _, statements in groupby(revision.upgrade, lambda statement: statement.step):
            yield from _unrelated(revision, list(statements))


def _unrelated(revision: Revision, statements: Sequence[Statement]) -> Iterator[Place]:
    drops = (statement for statement in revision.upgrade if DROP_TABLE.match(statement.plain))
    dropped = set[str]().union(*map(touched_tables, drops))
    groups: list[set[str]] = []
    lines: dict[str, int] = {}
    for statement in statements:
        tables = touched_tables(statement)
        if getattr(statement.operation, "constraint_type", None) == "foreignkey":
            tables |= dropped
        lines = {**dict.fromkeys(tables, statement.line), **lines}
        near = [group for group in groups if group & tables]
        groups = [*(group for group in groups if not group & tables), *([tables.union(*near)] if tables else [])]
    if len(groups) > 1:
        lines_of_groups = sorted(min(lines[table] for table in group) for group in groups)
        yield lines_of_groups[1], ", ".join(sorted(min(group) for group in groups))


@rule(
    "outside-step",
    why="after a failure or a kill between two steps, the next run repeats or skips what is outside the steps",
    instead="""\
if op.step("column"):  # its name is a string, and no other step of the function has it
    op.add_column("item", sa.Column("sku", sa.String(20)))

if op.step("index"):
    op.create_index_concurrently("ix_item_sku", "item", ["sku"])""",
)
def outside_step(revision: Revision) -> Iterator[Place]:
    """A function with steps has nothing else, but for values of SQLAlchemy; an else would run for a completed step."""
    steps: set[ast.AST] = set()
    for function in revision.functions.values():
        if not step_calls(function):
            continue
        names: set[object] = set()
        for node in function.body:
            match node:
                case ast.If(test=ast.Call(args=[ast.Constant(value=name)], keywords=[]) as call, orelse=[]) if (
                    call in step_calls(node) and name not in names
                ):
                    names.add(name)
                    steps.add(call)
                case ast.Expr(value=ast.Constant()) | ast.Pass():
                    continue
                case ast.Assign(value=value) if _describes(value):
                    continue
                case _:
                    yield node.lineno, ""
    for call in step_calls(revision.tree):
        if call not in steps:
            yield call.lineno, ""


def _describes(value: ast.expr) -> bool:
    """Whether an expression only describes SQL: what it calls is SQLAlchemy's."""
    calls = [node.func for node in ast.walk(value) if isinstance(node, ast.Call)]
    roots = [{node.id for node in ast.walk(call) if isinstance(node, ast.Name)} for call in calls]
    return all(names and names <= {"sa", "sqlalchemy", "postgresql"} for names in roots)


@rule(
    "raw-sql-without-reason",
    why="a reader does not learn why no operation does this, nor whether the SQL is still right",
    instead="""\
# Raw SQL: Alembic has no operation for extensions.
op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")""",
    is_style=True,
)
def raw_sql_without_reason(revision: Revision) -> Iterator[Place]:
    for node in revision.texts_executed():
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        comments = [*(text for _, text in revision.comments_at(node.lineno)), *map(revision.comments.get, lines)]
        if not any(text and re.match(r"#\s*(?!safe:|noqa|type:)\S", text) for text in comments):
            yield node.lineno, ""


@rule(
    "long-revision-id",
    why="the column of Alembic's version table can't hold the id: the upgrade fails",
    instead='revision = "2030_add_the_stock_number"  # at most 32 characters; or first widen the column version_num',
)
def long_revision_id(revision: Revision) -> Iterator[Place]:
    if len(revision.script.revision) > LIMIT:
        yield revision.line_of("revision"), f"{len(revision.script.revision)} characters"


@rule(
    "empty-downgrade",
    why="a downgrade changes the version and not the schema: the next upgrade fails because the objects already exist",
    instead="""\
def downgrade() -> None:
    op.drop_column("item", "sku")""",
)
def empty_downgrade(revision: Revision) -> Iterator[Place]:
    """A change that the next upgrade can repeat, and an error that says why there is no way back, are no finding."""
    repeatable = all(_REPEATABLE.match(statement.plain) for statement in revision.upgrade)
    if revision.problems:
        repeatable = repeatable and not _writes_schema(revision)
    body = getattr(revision.functions.get("downgrade"), "body", [])
    explained = any(isinstance(node, ast.Raise) and getattr(node.exc, "args", None) for node in body)
    if revision.is_empty("downgrade") and not (revision.is_empty("upgrade") or repeatable or explained):
        downgrade = revision.functions.get("downgrade")  # its last line, beside which the reason stands
        yield (downgrade.body[-1] if downgrade else revision.functions["upgrade"]).lineno, ""


@rule(
    "meaningless-message",
    why="the history and deploy show this message, which does not say what the revision does",
    instead='safe-migrations revision "add the stock number to items"  # or, by hand, the first line of the docstring',
    is_style=True,
)
def meaningless_message(revision: Revision) -> Iterator[Place]:
    message = revision.script.doc or ""
    if is_meaningless(message, is_first=revision.script.down_revision is None):
        yield 1, repr("".join(message.splitlines()[:1]).lower())


def _writes_schema(revision: Revision) -> bool:
    """Whether the source of a revision has more than statements that change rows, as far as its names and texts say."""
    for node in ast.walk(revision.tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="op"), attr=name)) if name not in _OF_ROWS:
                return True
            case ast.Constant(value=str(text)) if _DDL.search(text):
                return True
    return False

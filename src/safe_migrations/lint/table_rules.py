"""Rules of what a change does to tables that are in use: what it locks, scans and rewrites."""

import ast
import re
from collections.abc import Iterator
from itertools import chain

from safe_migrations.lint.revision_files import Revision
from safe_migrations.lint.rule_table import Place, altered, rule
from safe_migrations.lint.statements import (
    ALTER_TABLE,
    bare,
    levels,
    names_in,
    pattern,
    stopped_tables,
)


@rule(
    "rewriting-column",
    hurts="ACCESS EXCLUSIVE stops readers and writers while every row and index is written anew",
    instead="""\
op.add_column("item", sa.Column("code", sa.Uuid(), nullable=True))
op.alter_column("item", "code", server_default=sa.text("gen_random_uuid()"))  # for rows to come; then a backfill""",
    by_acknowledged=True,
)
def rewriting_column(revision: Revision) -> Iterator[Place]:
    """Serial columns and domains; squawk knows of volatile defaults, of identity and of stored expressions."""
    added = pattern(r"\bADD (?:COLUMN )?(?:IF NOT EXISTS )?(<name>) (<name>)")
    serial, limited = re.compile(r"(?:big|small)?serial[248]?"), pattern(r"\b(?:CHECK|NOT NULL)\b")
    for statement, table, action in altered(revision):
        for column, type_ in added.findall(action):
            if serial.fullmatch(bare(type_)) or limited.search(revision.types_at(statement).get(bare(type_), "")):
                yield statement.line, f"{table}.{bare(column)}"


@rule(
    "table-rewrite",
    hurts="ACCESS EXCLUSIVE stops readers and writers while every row and index is written anew",
    instead="""\
with op.get_context().autocommit_block():  # alone in its revision
    # the reason for SQL: VACUUM makes room for new rows, and can't run in a transaction
    op.execute("VACUUM item")
# the reason for SQL: Alembic has no operation for it; with a unique index, readers go on
op.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY item_count")
# or, for a small table: acknowledged = "item is locked while its rows are written anew\"""",
    by_acknowledged=True,
)
def table_rewrite(revision: Revision) -> Iterator[Place]:
    whole = pattern(
        r"(?:VACUUM (?:FULL\b|\([^)]*\bFULL\b[^)]*\))(?: (?:FREEZE|VERBOSE|ANALYZE)\b)*|"
        r"CLUSTER\b(?: VERBOSE\b| \([^)]*\))?|REFRESH MATERIALIZED VIEW\b(?! CONCURRENTLY\b))(?: (<name>))?"
    )
    for statement in revision.upgrade:
        match = whole.match(statement.plain)
        if match and bare(match[1] or "") not in revision.created:
            yield statement.line, bare(match[1] or "")
    for statement, table, action in altered(revision):
        if re.search(r"\bSET (?:(?:UN)?LOGGED|TABLESPACE|ACCESS METHOD)\b", action, re.IGNORECASE):
            yield statement.line, table


@rule(
    "attaching-partition",
    hurts="ACCESS EXCLUSIVE on the partition stops its readers and writers while every row is checked for its bound",
    instead="""\
op.create_check_constraint("bound", "item_2020", "id IS NOT NULL AND id >= 0 AND id < 9", postgresql_not_valid=True)
# in a second revision
op.validate_constraint("bound", "item_2020")
# in a third one, which says again that the check is valid
op.validate_constraint("bound", "item_2020")
# the reason for SQL: Alembic has no operation for partitions
op.execute("ALTER TABLE item ATTACH PARTITION item_2020 FOR VALUES FROM (0) TO (9)")""",
)
def attaching_partition(revision: Revision) -> Iterator[Place]:
    attached, empty_or_checked = pattern(r"ATTACH PARTITION (<name>)"), set(revision.created)
    for statement in revision.upgrade:
        match = ALTER_TABLE.match(statement.plain)
        if match and match[2].upper().startswith("VALIDATE CONSTRAINT "):
            empty_or_checked.add(bare(match[1]))
        partition = attached.match(match[2]) if match else None
        if partition and bare(partition[1]) not in empty_or_checked:
            yield statement.line, bare(partition[1])


@rule(
    "explicit-lock",
    hurts="it stops writers, in its usual mode readers too, until the commit, longer than a change needs it",
    instead="nothing: each change takes the lock that it needs; for rows, SELECT … FOR UPDATE",
)
def explicit_lock(revision: Revision) -> Iterator[Place]:
    """The modes that go together with reading and writing are left alone."""
    lock = pattern(r"LOCK (?!.* IN (?:ROW|ACCESS SHARE|SHARE UPDATE) )(?:TABLE )?(?:ONLY )?<names>")
    for statement in revision.upgrade:
        match = lock.match(statement.plain)
        if match and (tables := names_in(match[1]) - revision.created):
            yield statement.line, ", ".join(sorted(tables))


@rule(
    "update-without-where",
    hurts="it locks every row until the commit: writers wait, dead rows fill the table, replicas lag",
    instead="a backfill, in batches: safe-migrations backfill NAME; or a WHERE that leaves only few rows",
)
def update_without_where(revision: Revision) -> Iterator[Place]:
    verb = pattern(r"\b(?:UPDATE (?:ONLY )?(?=.* SET )|DELETE FROM (?:ONLY )?)(<name>)")
    true = r"(?:TRUE|(?P<side>[\w.']+) ?= ?(?P=side))"  # as it stands for "all of them"
    where, in_parentheses = pattern(rf"\bWHERE (?! ?{true} *(?:RETURNING\b|$))"), pattern(rf"\( ?({true}) ?\)")
    for statement in chain(revision.upgrade, revision.downgrade):
        for level in levels(in_parentheses.sub(r"\1", statement.data)):
            match = verb.search(level)
            if match and bare(match[1]) not in revision.created and not where.search(level, match.end()):
                yield statement.line, bare(match[1])


@rule(
    "row-by-row",
    hurts="each row is a round trip while the transaction keeps its locks: minutes for what takes seconds",
    instead="""\
# one statement for a table that a few people use, or a backfill: safe-migrations backfill NAME
op.execute(sa.update(item).where(item.c.sku.is_(None)).values(sku=item.c.name))""",
)
def row_by_row(revision: Revision) -> Iterator[Place]:
    """A loop over what the file itself lists is none."""
    for node in ast.walk(revision.tree):
        match node:
            case ast.For():
                repeated: list[ast.AST] = [] if revision.is_listed(node.iter) else [*node.body]
            case ast.While():
                repeated = [*node.body]
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                repeated = [] if revision.is_listed(node.generators[0].iter) else [node.elt]
            case ast.DictComp():
                repeated = [] if revision.is_listed(node.generators[0].iter) else [node.key, node.value]
            case _:
                continue
        if any(map(revision.executes, repeated)):
            yield node.lineno, ""


@rule(
    "do-block",
    hurts="a program on the server: no linter, no preview and no downgrade can tell what it locks or destroys",
    instead="the operations of Alembic, or plain statements; a backfill for what goes through rows",
)
def do_block(revision: Revision) -> Iterator[Place]:
    for statement in chain(revision.upgrade, revision.downgrade):
        if statement.is_program:
            yield statement.line, ""


@rule(
    "several-tables",
    hurts="its locks stop the writers of all of them until the commit, and code that uses them in another order "
    "deadlocks with it",
    instead="a revision for each table; a foreign key and the table that it refers to may be together",
)
def several_tables(revision: Revision) -> Iterator[Place]:
    held: dict[int, list[set[str]]] = {}
    told: set[int] = set()
    for statement in revision.upgrade:
        groups = [group - revision.created for group in stopped_tables(statement)]
        if not any(groups) or statement.transaction is None or statement.transaction in told:
            continue
        together = held.setdefault(statement.transaction, [])
        together += groups
        everything = set().union(*together)
        if not any(everything <= each for each in together):
            told.add(statement.transaction)
            yield statement.line, ", ".join(sorted(everything))


@rule(
    "index-if-not-exists",
    hurts="a build that fails leaves an INVALID index; the next run skips it, and no query ever uses it",
    instead='op.create_index_concurrently("ix_item_sku", "item", ["sku"])  # it replaces an invalid one',
)
def index_if_not_exists(revision: Revision) -> Iterator[Place]:
    for statement in chain(revision.upgrade, revision.downgrade):
        if pattern(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS\b").match(statement.plain):
            yield statement.line, ""


@rule(
    "changed-timeout",
    hurts="it holds for the revisions that follow, too, and takes away the bound that keeps traffic moving",
    instead="nothing here; MIGRATION_LOCK_TIMEOUT and MIGRATION_STATEMENT_TIMEOUT in the environment",
)
def changed_timeout(revision: Revision) -> Iterator[Place]:
    timeout = r"((?:lock|statement|transaction|idle_in_transaction_session)_timeout)"
    changed = pattern(rf"\b(?:RE)?SET (?:LOCAL |SESSION )?{timeout}\b")
    called = pattern(rf"\bset_config\(\s*'{timeout}'")
    for statement in chain(revision.upgrade, revision.downgrade):
        match = changed.search(statement.plain) or called.search(statement.sql)
        if match and not statement.is_own:
            yield statement.line, match[1].lower()


@rule(
    "transaction-nesting",
    hurts="it ends or opens the revision's transaction: a failure leaves half of it, and the next run fails",
    instead="""\
with op.get_context().autocommit_block():  # alone in its revision
    # the reason for SQL: VACUUM can't run in a transaction
    op.execute("VACUUM item")""",
)
def transaction_nesting(revision: Revision) -> Iterator[Place]:
    keyword = pattern(r"(?:BEGIN|START TRANSACTION|COMMIT|END|ROLLBACK|ABORT)\b(?! TO\b)")
    for statement in chain(revision.upgrade, revision.downgrade):
        if statement.is_raw and (match := keyword.match(statement.plain)):
            yield statement.line, match[0].upper()


@rule(
    "ban-concurrent-index-creation-in-transaction",
    hurts="PostgreSQL refuses CONCURRENTLY in a transaction, and outside of it nothing is rolled back when it fails, "
    "nor what the revision did before it: the upgrade is refused, or half-done",
    instead='op.create_index_concurrently("ix_item_sku", "item", ["sku"])  # alone in its revision',
)
def concurrently_after_changes(revision: Revision) -> Iterator[Place]:
    """Changes before it; squawk knows of those in a transaction."""
    before = False
    for statement in revision.upgrade:
        if " CONCURRENTLY " in statement.plain.upper() and before:
            yield statement.line, ""
        before |= statement.transaction is not None and statement.plain.upper() != "BEGIN"

"""What the statements of a revision do to tables in use: locks, scans and rewrites."""

import ast
import re
from collections.abc import Iterator
from itertools import chain, groupby
from math import inf

from safe_migrations.lint.registry import Place, rule
from safe_migrations.lint.revision import Revision
from safe_migrations.lint.statements import (
    DROP_TABLE,
    READ,
    Statement,
    altered,
    bare,
    blocked_tables,
    is_bounded,
    levels,
    names_in,
)
from safe_migrations.postgres.statements import ALTER_TABLE, pattern
from safe_migrations.postgres.timeouts import UNITS

# The longest lock timeout that is usual, and this library's own limit of a statement, in seconds.
_LONGEST = {"lock_timeout": 10.0, "statement_timeout": 900.0}


@rule(
    "rewriting-column",
    why="rewrites every row and index while holding ACCESS EXCLUSIVE, blocking reads and writes",
    instead="""\
op.add_column("item", sa.Column("code", sa.Uuid(), nullable=True))
op.alter_column("item", "code", server_default=sa.text("gen_random_uuid()"))  # for new rows; then a backfill""",
    by_acknowledged=True,
)
def rewriting_column(revision: Revision) -> Iterator[Place]:
    """Serial columns and domains; squawk finds volatile defaults, identities and stored expressions."""
    added = pattern(r"\bADD (?:COLUMN )?(?:IF NOT EXISTS )?(<name>) (<name>)")
    serial, limited = re.compile(r"(?:big|small)?serial[248]?"), pattern(r"\b(?:CHECK|NOT NULL)\b")
    for statement, table, action in altered(revision.upgrade, revision.created):
        for column, type_ in added.findall(action):
            if serial.fullmatch(bare(type_)) or limited.search(revision.types_at(statement).get(bare(type_), "")):
                yield statement.line, f"{table}.{bare(column)}"


@rule(
    "constraint-missing-not-valid",
    why="checks every row while blocking writes, and for a check constraint reads too",
    instead="""\
op.create_check_constraint(op.f("ck_item_price"), "item", "price > 0", postgresql_not_valid=True)
# in a second step or revision
op.validate_constraint("ck_item_price", "item")""",
)
def column_with_check(revision: Revision) -> Iterator[Place]:
    """A check of a column that is added; squawk finds one that is added by itself."""
    column = pattern(r"ADD (?:COLUMN )?(?:IF NOT EXISTS )?(?!CONSTRAINT\b)<name> .*\bCHECK ?\(")
    for statement, table, action in altered(revision.upgrade, revision.created):
        if column.match(action):
            yield statement.line, table


@rule(
    "table-rewrite",
    why="rewrites every row and index while holding ACCESS EXCLUSIVE, blocking reads and writes",
    instead="""\
with op.get_context().autocommit_block():  # in a revision of its own
    # Raw SQL: VACUUM frees the space for new rows, and can't run in a transaction.
    op.execute("VACUUM item")
# Raw SQL: Alembic has no operation for this. It needs a unique index; reads continue.
op.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY item_count")
# or, for a small table: acknowledged = "the rewrite of item blocks reads and writes\"""",
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
    moved = pattern(r"ALTER (?:INDEX|MATERIALIZED VIEW) (?:IF EXISTS )?(<name>) .*\bSET (?:TABLESPACE|ACCESS METHOD)\b")
    for statement in revision.upgrade:
        if (match := moved.match(statement.plain)) and bare(match[1]) not in revision.created:
            yield statement.line, bare(match[1])
    for statement, table, action in altered(revision.upgrade, revision.created):
        if re.search(r"\bSET (?:(?:UN)?LOGGED|TABLESPACE|ACCESS METHOD|EXPRESSION)\b", action, re.IGNORECASE):
            yield statement.line, table


@rule(
    "attaching-partition",
    why="scans the partition while holding ACCESS EXCLUSIVE on it, blocking its reads and writes",
    instead="""\
op.create_check_constraint("bound", "item_2020", "id IS NOT NULL AND id >= 0 AND id < 9", postgresql_not_valid=True)
# in a second step or revision
op.validate_constraint("bound", "item_2020")
# in a third step or revision, where this is a no-op, except after a downgrade
op.validate_constraint("bound", "item_2020")
# Raw SQL: Alembic has no operation for partitions.
op.execute("ALTER TABLE item ATTACH PARTITION item_2020 FOR VALUES FROM (0) TO (9)")""",
)
def attaching_partition(revision: Revision) -> Iterator[Place]:
    attached, empty_or_checked = pattern(r"ATTACH PARTITION (<name>)"), set(revision.created)
    made = pattern(r"CREATE (?:\w+ ){0,2}TABLE (?:IF NOT EXISTS )?<name> PARTITION OF (<name>)")
    for statement in revision.upgrade:
        if (match := made.match(statement.plain)) and bare(match[1]) not in revision.created:
            yield statement.line, f"the default partition of {bare(match[1])}"
        match = ALTER_TABLE.match(statement.plain)
        if match and match[2].upper().startswith("VALIDATE CONSTRAINT "):
            empty_or_checked.add(bare(match[1]))
        partition = attached.match(match[2]) if match else None
        if partition and bare(partition[1]) not in empty_or_checked:
            yield statement.line, bare(partition[1])


@rule(
    "explicit-lock",
    why="blocks writes, and in its default mode reads, until the commit: longer than the change needs",
    instead="nothing: each statement takes the lock that it needs; to lock rows, SELECT … FOR UPDATE",
)
def explicit_lock(revision: Revision) -> Iterator[Place]:
    """Modes that allow reads and writes are no finding."""
    lock = pattern(r"LOCK (?!.* IN (?:ROW|ACCESS SHARE|SHARE UPDATE) )(?:TABLE )?(?:ONLY )?<names>")
    for statement in revision.upgrade:
        match = lock.match(statement.plain)
        if match and (tables := names_in(match[1]) - revision.created):
            yield statement.line, ", ".join(sorted(tables))


@rule(
    "update-without-where",
    why="locks every row until the commit: writes wait, dead rows bloat the table, and replicas lag",
    instead="a backfill in batches: safe-migrations backfill NAME; or a WHERE clause that matches few rows",
)
def update_without_where(revision: Revision) -> Iterator[Place]:
    for statement in chain(revision.upgrade, revision.downgrade):
        for table, condition in _changes(statement):
            if table not in revision.created and not condition:
                yield statement.line, table


@rule(
    "unbounded-change",
    why="no constant, list or LIMIT selects the rows, so it may change all of them: locks them until the commit, "
    "bloats the table, and replicas lag",
    instead="""\
# a backfill in batches: safe-migrations backfill NAME; or, for a few rows, their keys
op.execute(sa.update(item).where(item.c.id.in_([3, 4])).values(sku=""))""",
)
def unbounded_change(revision: Revision) -> Iterator[Place]:
    for statement in revision.upgrade:
        copies = _copies(statement, revision.created)
        for table, condition in chain(_changes(statement), copies):
            if table not in revision.created and condition and not is_bounded(condition):
                yield statement.line, table


@rule(
    "row-by-row",
    why="each row, or batch, costs a round trip while the transaction holds its locks: minutes instead of seconds",
    instead="""\
# one statement for a small table, or a backfill: safe-migrations backfill NAME
op.execute(sa.update(item).where(item.c.sku.is_(None)).values(sku=item.c.name))""",
)
def row_by_row(revision: Revision) -> Iterator[Place]:
    """A loop over values that the file itself lists is no finding."""
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
    why="runs a program on the server: no linter, preview or downgrade can see what it locks or destroys",
    instead="Alembic's operations, or plain statements; a backfill to change many rows",
)
def do_block(revision: Revision) -> Iterator[Place]:
    for statement in chain(revision.upgrade, revision.downgrade):
        if statement.is_program:
            yield statement.line, ""


@rule(
    "several-tables",
    why="blocks writes to all of these tables until the commit, and deadlocks with code that locks them in another "
    "order",
    instead="one step or revision for each table; a foreign key and the table that it references may share one",
)
def several_tables(revision: Revision) -> Iterator[Place]:
    """Tables that the revision creates or drops are no finding: no code uses them."""
    held: dict[int, list[set[str]]] = {}
    reported: set[int] = set()
    dropped = (match for statement in revision.upgrade if (match := DROP_TABLE.match(statement.plain)))
    unused = revision.created.union(*(names_in(match[1]) for match in dropped))
    for statement in revision.upgrade:
        groups = [group - unused for group in blocked_tables(statement)]
        if not any(groups) or statement.transaction is None or statement.transaction in reported:
            continue
        together = held.setdefault(statement.transaction, [])
        together += groups
        everything = set().union(*together)
        if not any(everything <= group for group in together):
            reported.add(statement.transaction)
            yield statement.line, ", ".join(sorted(everything))


@rule(
    "index-if-not-exists",
    why="a failed build leaves an INVALID index; the next run skips it, and no query ever uses it",
    instead='op.create_index_concurrently("ix_item_sku", "item", ["sku"])  # replaces an invalid index',
)
def index_if_not_exists(revision: Revision) -> Iterator[Place]:
    """An index that the revision has dropped is no finding: it is built again."""
    create = pattern(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (<name>)")
    drop = pattern(r"DROP INDEX (?:CONCURRENTLY )?(?:IF EXISTS )?<names>")
    for statements in (revision.upgrade, revision.downgrade):
        dropped: set[str] = set()
        for statement in statements:
            if match := drop.match(statement.plain):
                dropped |= names_in(match[1])
            elif (match := create.match(statement.plain)) and bare(match[1]) not in dropped:
                yield statement.line, ""


@rule(
    "changed-timeout",
    why="running code waits behind a migration that waits for a lock, or holds one, for as long as the setting allows",
    instead="""\
op.execute("SET LOCAL lock_timeout = '5s'")  # at most 10s, and at most 15min for statement_timeout; or nothing here:
# MIGRATION_LOCK_TIMEOUT and MIGRATION_STATEMENT_TIMEOUT in the environment are for all revisions""",
)
def changed_timeout(revision: Revision) -> Iterator[Place]:
    """A limit as usual is no finding, nor one that ends, as RESET does."""
    changed = pattern(r"\bSET (?:LOCAL |SESSION )?((?:lock|statement)_timeout)\b(?! ?(?:TO|=) ?DEFAULT\b)")
    called = pattern(r"\bset_config\(\s*'((?:lock|statement)_timeout)'")
    for statement in chain(revision.upgrade, revision.downgrade):
        match = changed.search(statement.plain) or called.search(statement.sql)
        if match is None or statement.is_own:
            continue
        name = match[1].lower()
        # Outside a transaction no lock is held for long: CONCURRENTLY may take its time.
        outside = statement.transaction is None and name == "statement_timeout"
        if not outside and _seconds(statement, name) > _LONGEST[name]:
            yield statement.line, name


@rule(
    "transaction-nesting",
    why="ends or begins the revision's transaction: a failure leaves half of the revision, and the next run fails",
    instead="""\
with op.get_context().autocommit_block():  # in a revision of its own
    # Raw SQL: VACUUM can't run in a transaction.
    op.execute("VACUUM item")""",
)
def transaction_nesting(revision: Revision) -> Iterator[Place]:
    keyword = pattern(r"(?:BEGIN|START TRANSACTION|COMMIT|END|ROLLBACK|ABORT)\b(?! TO\b)")
    for statement in chain(revision.upgrade, revision.downgrade):
        if statement.is_raw and (match := keyword.match(statement.plain)):
            yield statement.line, match[0].upper()


@rule(
    "ban-concurrent-index-creation-in-transaction",
    why="PostgreSQL refuses CONCURRENTLY in a transaction; outside of it, a failure leaves half of the revision",
    instead='op.create_index_concurrently("ix_item_sku", "item", ["sku"])  # in a step or a revision of its own',
)
def concurrently_after_changes(revision: Revision) -> Iterator[Place]:
    """CONCURRENTLY after other changes of its step; squawk finds it in a transaction."""
    for _, statements in groupby(revision.upgrade, lambda statement: statement.step):
        changed = False
        for statement in statements:
            if " CONCURRENTLY " in statement.plain.upper() and changed:
                yield statement.line, ""
            changed |= statement.transaction is not None and statement.plain.upper() != "BEGIN"


def _seconds(statement: Statement, name: str) -> float:
    """The bound that a statement sets for a timeout: none, if the value is 0 or can't be read."""
    value = re.search(rf"{name}'?\s*(?:=|TO|,)\s*'?(\d+)\s*([a-z]*)\s*(?:'|;|,|$)", statement.sql, re.IGNORECASE)
    unit = UNITS.get(value[2] or "ms") if value else None
    return int(value[1]) * unit if value and unit and int(value[1]) else inf


def _changes(statement: Statement) -> Iterator[tuple[str, str]]:
    """The tables whose rows an UPDATE or a DELETE changes, each with its condition, if there is one."""
    verb = pattern(r"\b(?:UPDATE (?:ONLY )?(?=.* SET )|DELETE FROM (?:ONLY )?)(<name>)")
    true = r"(?:TRUE|(?P<side>[\w.']+) ?= ?(?P=side))"  # another way to write "every row"
    where, in_parentheses = (
        pattern(rf"\bWHERE (?! ?{true} *(?:RETURNING\b|$))(?P<condition>.*)"),
        pattern(rf"\( ?({true}) ?\)"),
    )
    for level in levels(in_parentheses.sub(r"\1", statement.data)):
        if match := verb.search(level):
            condition = where.search(level, match.end())
            yield bare(match[1]), condition["condition"] if condition else ""


def _copies(statement: Statement, created: set[str]) -> Iterator[tuple[str, str]]:
    """The tables that a statement writes from other tables' rows, each with what selects these rows."""
    inserted = pattern(r"\bINSERT INTO (<name>).*( SELECT .* FROM (<name>).*)")
    merged = pattern(r"\bMERGE INTO (?:ONLY )?(<name>).* USING (.*?) WHEN ")
    read = set(map(bare, READ.findall(statement.data))) - created  # tables, not functions
    for level in levels(statement.data):
        if ((match := inserted.search(level)) and bare(match[3]) in read) or (match := merged.search(level)):
            yield bare(match[1]), match[2]

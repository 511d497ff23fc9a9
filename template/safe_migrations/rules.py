"""The rules of lint, in one table: what hurts, what to write instead, and one small function that finds it.

To add one: a function under `@rule`, here; its unsafe and its safe form in the template's tests; `pdm run docs`, which
writes the page docs/rules.md from this table. Arranged as in https://github.com/ankane/strong_migrations, with the
text beside the code.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import chain

from safe_migrations.backfills import load_backfill
from safe_migrations.enums import ReplaceEnumOp
from safe_migrations.errors import MigrationError
from safe_migrations.findings import Finding, Rule
from safe_migrations.phases import CONTRACT, EXPAND, required_backfills
from safe_migrations.revisions import Revision
from safe_migrations.squawk import SQUAWK_RULES
from safe_migrations.statements import (
    ALTER_TABLE,
    ANY,
    CREATE_TYPE,
    DATA,
    DROP_COLUMN,
    READ,
    Statement,
    Types,
    bare,
    levels,
    losses,
    names_in,
    pattern,
    stopped_tables,
    touched_tables,
    types_after,
    types_used,
)

Place = tuple[int, str]  # a line, and what is there; empty where the line alone tells it
Check = Callable[[Revision], Iterator[Place]]

RULES: dict[str, Rule] = {each.name: each for each in SQUAWK_RULES}
CHECKS: dict[str, Check] = {}


def rule(name: str, *, hurts: str, instead: str, by_acknowledged: bool = False) -> Callable[[Check], Check]:
    """Put a rule into the table, with the function that finds where a revision breaks it.

    Args:
        name: of the rule, as people write it in `# safe: NAME because …`.
        hurts: which lock, and what that or the change itself does to whom.
        instead: the safe code.
        by_acknowledged: whether the revision's `acknowledged = "…"` agrees to it, too.
    """
    RULES[name] = Rule(name, hurts, instead, by_acknowledged)

    def add(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return add


def broken(revision: Revision) -> Iterator[Finding]:
    """Where a revision breaks the rules that have a function.

    Args:
        revision: the one to look at.
    """
    for name, check in CHECKS.items():
        for line, what in check(revision):
            yield Finding(revision.path, line, RULES[name], what)


# What a change does to tables that are in use


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
    for statement, table, action in _altered(revision):
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
    for statement, table, action in _altered(revision):
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
    instead="a backfill, in batches: python -m safe_migrations backfill NAME; or a WHERE that leaves only few rows",
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
# one statement for a table that a few people use, or a backfill: python -m safe_migrations backfill NAME
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


# What the running code needs, and what is lost


@rule(
    "unacknowledged",
    hurts="nobody has agreed to it yet, and what is lost with the commit no downgrade brings back",
    instead="""\
# below depends_on; where the line is there in a comment, take the comment's sign away
acknowledged = "the column … and its data are lost\"""",
)
def unacknowledged_loss(revision: Revision) -> Iterator[Place]:
    if revision.asked is not None:
        yield revision.asked
    elif not revision.acknowledged:
        for statement in revision.upgrade:
            for lost in losses(statement, revision.created):
                yield statement.line, lost


@rule(
    "unwritten-backfill",
    hurts="the upgrade stops here and can't go on, also from base, before somebody has written it",
    instead="""\
# alembic/backfills/item_sku.py
backfill = Backfill(table=item, key=("id",), where=item.c.sku.is_(None), values={"sku": item.c.name})""",
)
def unwritten_backfill(revision: Revision) -> Iterator[Place]:
    folder = revision.path.parent.parent / "backfills"
    for name in required_backfills(revision.script):
        try:
            written = bool(load_backfill(folder, name).values)
        except MigrationError as error:
            yield revision.line_of("requires_backfill"), str(error)
            continue
        if not written:
            yield revision.line_of("requires_backfill"), f"values is empty in alembic/backfills/{name}.py"


@rule(
    "contract-in-expand",
    hurts='the running code may still need it, and `phase = "expand"` runs before that code is replaced',
    instead='phase = "contract"  # and in a revision of its own',
)
def contract_in_expand(revision: Revision) -> Iterator[Place]:
    if revision.value("phase") != EXPAND:
        return
    for statement, table, action in _altered(revision):
        for name, needed in _NEEDED.items():
            if needed.search(action):
                yield statement.line, f"{name} of {table}"
    for statement in revision.upgrade:
        if (match := _GONE.match(statement.plain)) and names_in(match[2]) - revision.created:
            yield statement.line, f"{match[1].upper()} {match[2]}"


@rule(
    "missing-phase",
    hurts="deploy can't tell whether it is safe while the code from before still runs",
    instead='phase = "expand"  # safe before the new code is deployed; or "contract": only after it',
)
def missing_phase(revision: Revision) -> Iterator[Place]:
    phase = revision.value("phase")
    if phase not in (EXPAND, CONTRACT):
        yield revision.line_of("phase"), "" if phase is None else f"phase = {phase!r}"


# Types


@rule(
    "json-type",
    hurts="json has no equality: DISTINCT, GROUP BY and UNION over the column fail",
    instead='sa.Column("payload", postgresql.JSONB())',
)
def json_type(revision: Revision) -> Iterator[Place]:
    # "data JSON" in a list of columns, or "TYPE JSON"; not "CAST(data AS JSON)"
    json = pattern(
        r"(?<![\w$.:\"])(?!(?:AS|IS|NOT) )(<name>) JSON(?=\[| ?[,)]| ?$| (?:NOT|NULL|DEFAULT|CONSTRAINT|CHECK|USING)\b)"
    )
    for statement in revision.upgrade:
        for match in json.finditer(statement.plain) if statement.is_schema else ():
            yield statement.line, "" if match[1].upper() == "TYPE" else bare(match[1])


@rule(
    "enum-replacement",
    hurts="ACCESS EXCLUSIVE while every row is written anew, defaults and checks can get lost, and the running code's "
    "statements fail",
    instead="""\
acknowledged = "item is locked while its rows are written anew"
op.replace_enum("status", ["new", "paid"], columns=[("item", "status")])
# or, for one more value: op.add_enum_value("status", "paid")""",
)
def enum_replacement(revision: Revision) -> Iterator[Place]:
    renamed = pattern(r"(?:ALTER TYPE (?=.* RENAME TO )|DROP TYPE (?:IF EXISTS )?(?=.* CASCADE$))(<name>)")
    converted = pattern(r"ALTER TABLE .*\bALTER (?:COLUMN )?<name> (?:SET DATA )?TYPE (<name>)(?: |\[\]).*USING\b")
    created: Types = {}
    told = False  # what follows a new name belongs to it
    for statement in revision.upgrade:
        created = types_after(created, statement)
        if isinstance(statement.operation, ReplaceEnumOp):
            if not revision.acknowledged:
                yield statement.line, statement.operation.name
        elif match := renamed.match(statement.plain):
            told = True
            yield statement.line, bare(match[1])
        elif (match := converted.match(statement.plain)) and bare(match[1]) in created and not told:
            yield statement.line, bare(match[1])


@rule(
    "duplicate-type",
    hurts="type already exists: the upgrade fails; or the next one does, after a downgrade that leaves it",
    instead="""\
op.create_enum("status", ["new", "paid"])  # once, in the revision that needs it first; then
sa.Column("status", postgresql.ENUM("new", "paid", name="status", create_type=False))
# in its downgrade(), at the end: op.drop_table and op.drop_column leave the type
op.drop_enum("status")""",
)
def duplicate_type(revision: Revision) -> Iterator[Place]:
    created = [(statement, match[1]) for statement in revision.upgrade if (match := CREATE_TYPE.match(statement.plain))]
    left = _left_types(revision) if created else set()
    for statement, name in created:
        if bare(name) in revision.types_at(statement):
            yield statement.line, bare(name)
        elif bare(name) in left:
            yield statement.line, f"downgrade() leaves {bare(name)}"


@rule(
    "missing-type",
    hurts="type does not exist: the upgrade fails; only op.create_table creates the types of its columns by itself",
    instead="""\
op.create_enum("status", ["new", "paid"])  # and op.drop_enum("status") at the end of downgrade()
op.add_column("item", sa.Column("status", postgresql.ENUM("new", "paid", name="status", create_type=False)))""",
)
def missing_type(revision: Revision) -> Iterator[Place]:
    for statement in revision.upgrade:
        if used := types_used(statement):
            types = revision.types_at(statement)
            missing = set() if ANY in types else used - types.keys()
            yield from ((statement.line, name) for name in sorted(missing))


# What makes a revision hard to read, to undo, or to run again


@rule(
    "schema-and-data",
    hurts="the schema's locks last as long as the data takes, and one can't be run or undone without the other",
    instead="two revisions; or a backfill, outside of them: python -m safe_migrations backfill NAME",
)
def schema_and_data(revision: Revision) -> Iterator[Place]:
    """Constant rows of a table that the same revision creates are part of the schema."""
    if not any(statement.is_schema for statement in revision.upgrade):
        return
    for statement in revision.upgrade:
        written, read = names_in(",".join(DATA.findall(statement.data))), set(map(bare, READ.findall(statement.data)))
        if in_use := written - revision.created or (written and read - revision.created):
            yield statement.line, ", ".join(sorted(in_use))


@rule(
    "unrelated-changes",
    hurts="one that fails or has to be undone takes the other with it, and the message can't tell of both",
    instead="a revision for each: pdm run alembic revision -m …",
)
def unrelated_changes(revision: Revision) -> Iterator[Place]:
    """The first revision creates a whole schema."""
    if revision.script.down_revision is None:
        return
    groups: list[set[str]] = []
    lines: dict[str, int] = {}
    for statement in revision.upgrade:
        tables = touched_tables(statement)
        lines = {**dict.fromkeys(tables, statement.line), **lines}
        near = [group for group in groups if group & tables]
        groups = [*(group for group in groups if not group & tables), *([tables.union(*near)] if tables else [])]
    if len(groups) > 1:
        lines_of_groups = sorted(min(lines[table] for table in group) for group in groups)
        yield lines_of_groups[1], ", ".join(sorted(min(group) for group in groups))


@rule(
    "raw-sql-without-reason",
    hurts="whoever reads it can't tell why no operation does it, nor whether it is still right",
    instead="""\
# the reason: Alembic has no operation for extensions
op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")""",
)
def raw_sql_without_reason(revision: Revision) -> Iterator[Place]:
    for node in revision.texts_executed():
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        comments = [*(text for _, text in revision.comments_at(node.lineno)), *map(revision.comments.get, lines)]
        if not any(text and re.match(r"#\s*(?!safe:|noqa|type:)\S", text) for text in comments):
            yield node.lineno, ""


@rule(
    "empty-downgrade",
    hurts="the version goes back and the schema stays: the next upgrade fails on what is there already",
    instead="""\
def downgrade() -> None:
    op.drop_column("item", "sku")""",
)
def empty_downgrade(revision: Revision) -> Iterator[Place]:
    if revision.is_empty("downgrade") and not revision.is_empty("upgrade"):
        downgrade = revision.functions.get("downgrade")  # its last line, beside which the reason stands
        yield (downgrade.body[-1] if downgrade else revision.functions["upgrade"]).lineno, ""


@rule(
    "meaningless-message",
    hurts="history and deploy show it, and nobody can tell what the revision does",
    instead='pdm run migrate-revision "add the stock number to items"  # or, by hand, the first line of the docstring',
)
def meaningless_message(revision: Revision) -> Iterator[Place]:
    message = revision.script.doc.splitlines()[0].lower() if revision.script.doc else ""
    one_word = message.isascii() and len(message.split()) < 2 and revision.script.down_revision is not None
    if one_word or _SAYS_NOTHING.fullmatch(message):
        yield 1, repr(message)


# Found by `lint` and `history`: the text alone

for _rule in (
    Rule(
        "edited-revision",
        "databases that have run it keep what it was: a new database gets another schema than they have",
        "the file as it is on the main branch, and the change in a new revision",
    ),
    Rule(
        "head-file",
        "two branches that each add a revision merge without a conflict, and production finds two heads",
        "the id of the newest revision on the one line of alembic/versions/HEAD; the revision commands write it",
    ),
    Rule(
        "needs-database",
        "without a database it can't be told what the revision does: no linter sees what it locks, and --sql fails",
        "statements that say it all: WHERE, IF EXISTS, types of columns; a backfill for what goes through rows",
    ),
    Rule(
        "python-error",
        "it fails with a database as well: the upgrade, or the downgrade when it is needed most",
        "correct it: names and arguments as Alembic, SQLAlchemy and safe_migrations/operations.py have them",
    ),
    Rule(
        "unused-acknowledgement",
        "it hides the next finding on this line, which nobody has looked at",
        "remove it; one that is needed names rule and reason: # safe: several-tables because nobody uses them yet",
    ),
):
    RULES[_rule.name] = _rule


# What the running code may need of a table, and of the rest

_NEEDED = {
    "DROP COLUMN": DROP_COLUMN,
    "RENAME": pattern(r"RENAME (?!CONSTRAINT\b)"),
    "SET NOT NULL": pattern(r"\bSET NOT NULL\b"),
    "CHECK of NOT NULL": pattern(r"\bCHECK \(+<name> IS NOT NULL\)"),
    "DROP DEFAULT": pattern(r"\bDROP (?:DEFAULT|IDENTITY|EXPRESSION)\b"),
    "SET SCHEMA": pattern(r"\bSET SCHEMA\b"),
}
_GONE = pattern(
    r"(DROP (?:TABLE|(?:MATERIALIZED )?VIEW|FUNCTION|PROCEDURE|SEQUENCE|SCHEMA|DOMAIN|TYPE)|TRUNCATE(?: TABLE)?|"
    r"ALTER (?:TYPE|(?:MATERIALIZED )?VIEW|SEQUENCE|FUNCTION)(?= <name> (?:RENAME|SET SCHEMA)))"
    r" (?:IF EXISTS )?(?:ONLY )?<names>"
)
_SAYS_NOTHING = re.compile(
    r"(?:(?:a|alembic|and|another|auto|autogenerated?|autogeneration|changed?|changes|columns?|commit|database|db|empty|"
    r"fix|fixed|fixes|for|generated|indexes|initial|message|migrations?|minor|misc|models?|modify|my|new|of|revision|"
    r"schema|some|something|stuff|tables?|temp|test|the|tmp|todo|updated?|updates|various|wip|xxx)\b[\W_]*)+"
)


def _left_types(revision: Revision) -> set[str]:
    """The types that an upgrade and its downgrade leave, as far as the downgrade can be read."""
    if revision.problems or revision.is_empty("downgrade") or any(each.is_program for each in revision.downgrade):
        return set()
    before = revision.types_before()
    return reduce(types_after, chain(revision.upgrade, revision.downgrade), before).keys() - before.keys()


def _altered(revision: Revision) -> Iterator[tuple[Statement, str, str]]:
    """What is altered in tables that others use: the table, and the rest of the statement."""
    for statement in revision.upgrade:
        match = ALTER_TABLE.match(statement.plain)
        if match and bare(match[1]) not in revision.created:
            yield statement, bare(match[1]), match[2]

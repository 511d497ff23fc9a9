"""What commands do beyond locks: protection that ends, access that is lost; and the commands that no rule judges."""

import re
from collections.abc import Iterator
from itertools import chain

from safe_migrations.lint.registry import Place, rule
from safe_migrations.lint.revision import Revision
from safe_migrations.lint.squawk import STEADY
from safe_migrations.lint.statements import CREATE_TYPE, Statement, altered, bare
from safe_migrations.postgres.statements import ALTER_TABLE, NAME, actions, pattern

# The actions of ALTER TABLE that a rule judges, or that are harmless.
_ACTION = pattern(
    r"ADD |DROP (?!.* CASCADE$)|RENAME |VALIDATE CONSTRAINT |SET SCHEMA |SET \(|RESET \(|CLUSTER ON |"
    r"SET WITHOUT (?:CLUSTER|OIDS)|ATTACH PARTITION |DETACH PARTITION |(?:NO )?INHERIT |OWNER TO |"
    r"REPLICA IDENTITY (?:DEFAULT|FULL|USING)|"
    r"(?:ENABLE|DISABLE)\b.* (?:TRIGGER|RULE) |(?:NO )?FORCE ROW LEVEL|(?:ENABLE|DISABLE) ROW LEVEL|"
    r"SET (?:LOGGED|UNLOGGED|TABLESPACE|ACCESS METHOD)\b|IN TABLESPACE |"
    r"ALTER CONSTRAINT <name> (?:NOT )?(?:DEFERRABLE|INITIALLY|(?<=NOT )ENFORCED)|"
    r"ALTER (?:COLUMN )?(?!CONSTRAINT\b)<name> (?:(?:SET DATA )?TYPE|(?:SET|DROP) (?:DEFAULT|NOT NULL)|ADD GENERATED|"
    r"DROP (?:EXPRESSION|IDENTITY)|SET (?:EXPRESSION|GENERATED|STATISTICS|STORAGE|COMPRESSION|INCREMENT|START|\()|"
    r"RESET \()"
)
_KINDS = r"(?:TABLE|INDEX|VIEW|MATERIALIZED VIEW|SEQUENCE|SCHEMA|TYPE|DOMAIN|FUNCTION|PROCEDURE|STATISTICS|EXTENSION"
_COMMAND = pattern(
    r"ALTER TABLE |"  # by its actions
    r"ALTER INDEX .*\b(?:RENAME|SET|RESET|ATTACH PARTITION)\b|ALTER (?:MATERIALIZED )?VIEW |"
    r"ALTER (?:FUNCTION|PROCEDURE|SCHEMA|STATISTICS|DEFAULT PRIVILEGES)\b|ALTER TRIGGER .* RENAME |"
    r"ALTER SEQUENCE (?!.*\bRESTART\b)|ALTER TYPE (?!.*\bATTRIBUTE\b)|ALTER (?:DOMAIN|POLICY) |"
    r"CREATE (?:OR REPLACE |CONSTRAINT |(?:GLOBAL |LOCAL )?TEMP(?:ORARY)? |UNLOGGED |UNIQUE |RECURSIVE )*"
    rf"{_KINDS}|TRIGGER|POLICY|AGGREGATE|COLLATION|OPERATOR|ROLE|USER|SERVER|FOREIGN)\b|"
    rf"DROP (?:(?:SCHEMA|TYPE|DOMAIN|EXTENSION|OWNED|DATABASE)\b|(?!.* CASCADE$){_KINDS}|TRIGGER|POLICY)\b)|"
    r"SELECT\b|VALUES\b|INSERT |UPDATE |DELETE |MERGE |WITH |TABLE |TRUNCATE\b|LOCK |COMMENT |GRANT |REVOKE |"
    r"VACUUM\b|ANALY[SZ]E\b|CLUSTER\b|REINDEX\b|REFRESH |DO\b|"
    r"SET |RESET |SHOW |BEGIN|START TRANSACTION|COMMIT(?! PREPARED)|END|ROLLBACK(?! PREPARED)|ABORT|SAVEPOINT|RELEASE|"
    r"NOTIFY |LISTEN |UNLISTEN |DECLARE |FETCH |MOVE |CLOSE |DEALLOCATE |EXPLAIN (?!.*ANALYZE)"
)
# Functions that a SELECT may call on its own: they change no table.
_FUNCTION = pattern(
    r"SELECT (?!(?:pg_catalog\.)?(?:setval|set_config|nextval|version|current_|pg_|to_reg))(<name>) ?\((?!.* FROM )"
)


@rule(
    "disabled-trigger",
    why="blocks writes to the table until the commit, and rows that are written without triggers violate foreign keys "
    "and miss what triggers maintain",
    instead="""\
# change the rows in a way that the triggers accept; or change the function that a trigger calls:
# Raw SQL: Alembic has no operation for functions.
op.execute("CREATE OR REPLACE FUNCTION item_changed() RETURNS trigger LANGUAGE plpgsql AS $$ … $$")""",
)
def disabled_trigger(revision: Revision) -> Iterator[Place]:
    disabled = pattern(r"(?:DISABLE|ENABLE REPLICA) (?:TRIGGER|RULE) |ALTER CONSTRAINT .*\bNOT ENFORCED\b")
    for statement, table, action in altered(chain(revision.upgrade, revision.downgrade), revision.created):
        if disabled.search(action):
            yield statement.line, table
    for statement in chain(revision.upgrade, revision.downgrade):
        if re.match(r"SET (?:LOCAL |SESSION )?session_replication_role\b", statement.plain, re.IGNORECASE):
            yield statement.line, "session_replication_role"


@rule(
    "restricted-access",
    why="the running code may no longer see or write rows: its queries return nothing, or fail with permission denied",
    instead="""\
# first the policies and privileges that the running code needs; when they exist, in a contract revision:
# Raw SQL: Alembic has no operation for row-level security.
# safe: restricted-access because the policy item_of_tenant admits all that the code reads and writes
op.execute("ALTER TABLE item ENABLE ROW LEVEL SECURITY")""",
)
def restricted_access(revision: Revision) -> Iterator[Place]:
    action_restricts = pattern(r"(?:ENABLE|(?<!NO )FORCE) ROW LEVEL SECURITY|OWNER TO ")
    restricts = pattern(
        r"(?:(?:ALTER|DROP) POLICY (?:IF EXISTS )?<name> ON |CREATE POLICY <name> ON (?=.* AS RESTRICTIVE\b))(<name>)|"
        r"REVOKE (?!.* ON (?:ALL )?(?:\w+ )?(?:DATABASE|SCHEMA) .* FROM PUBLIC\b)|REASSIGN OWNED "
    )
    for statement, table, action in altered(revision.upgrade, revision.created):
        if action_restricts.match(action):
            yield statement.line, table
    for statement in revision.upgrade:
        match = restricts.match(statement.plain)
        if match and bare(match[1] or "") not in revision.created:
            yield statement.line, bare(match[1]) if match[1] else statement.plain


@rule(
    "uncommitted-enum-value",
    why="PostgreSQL refuses a new value of an enum before the commit of ADD VALUE: the upgrade fails (55P04)",
    instead="""\
op.add_enum_value("status", "paid")
# in a second step or revision
op.alter_column("item", "status", server_default="paid")""",
)
def uncommitted_enum_value(revision: Revision) -> Iterator[Place]:
    """Of a type that the transaction itself has created, a new value is no finding."""
    added = re.compile(
        rf"ALTER\s+TYPE\s+({NAME})\s+ADD\s+VALUE\s+(?:IF\s+NOT\s+EXISTS\s+)?('(?:''|[^'])*')", re.IGNORECASE
    )
    for statements in (revision.upgrade, revision.downgrade):
        values: set[tuple[int, str]] = set()
        created: set[str] = set()
        for statement in statements:
            if statement.transaction is None:
                continue
            if match := CREATE_TYPE.match(statement.plain):
                created.add(bare(match[1]))
            elif match := added.match(statement.sql):
                values |= {(statement.transaction, match[2])} if bare(match[1]) not in created else set()
            else:
                used = [value for transaction, value in values if transaction == statement.transaction]
                yield from ((statement.line, value) for value in used if value in statement.sql)


@rule(
    "domain-scan",
    why="checks every row of every table that uses the domain while holding SHARE on them, blocking writes",
    instead='op.create_check_constraint(op.f("ck_item_sku"), "item", "sku <> \'\'", postgresql_not_valid=True)',
)
def domain_scan(revision: Revision) -> Iterator[Place]:
    """squawk finds ADD CONSTRAINT."""
    scans = pattern(r"ALTER DOMAIN (<name>) (?:SET NOT NULL|VALIDATE CONSTRAINT)")
    for statement in revision.upgrade:
        if match := scans.match(statement.plain):
            yield statement.line, bare(match[1])


@rule(
    "unknown-command",
    why="lint does not know what this command locks, reads and breaks",
    instead="""\
op.alter_column("item", "sku", nullable=True)  # an operation, or a command that the page on commands and locks has
# or, if you know what the command does
# safe: unknown-command because no table uses the type""",
)
def unknown_command(revision: Revision) -> Iterator[Place]:
    """Commands that no rule judges and that are not known to be harmless; what library operations run is known."""
    for statement in revision.upgrade:
        if not statement.is_own and (what := _unknown(statement)):
            yield statement.line, what


def _unknown(statement: Statement) -> str:
    """The part of a statement that is not known; empty if all is."""
    if match := ALTER_TABLE.match(statement.plain):
        return next((action for action in actions(match[2]) if not _ACTION.match(action)), "")
    if (match := _FUNCTION.match(statement.plain)) and bare(match[1]) not in STEADY:
        return match[1]
    return "" if _COMMAND.match(statement.plain) else statement.plain

"""The strongest lock of a statement on a table in use, and whether it reads or rewrites the whole table, by its text.

A test compares this with the page docs/locks.md, whose rows are measured on PostgreSQL.
"""

from dataclasses import dataclass

from safe_migrations.postgres.lock_modes import MODES, sql_name
from safe_migrations.postgres.statements import ALTER_TABLE, actions, pattern

NONE, UNKNOWN = "none", "unknown"
ROWS, ONLINE, SHARE = "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE"
NO_WRITES, EXCLUSIVE = "SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"
READS, REWRITES, MAY_REWRITE = "reads", "rewrites", "may rewrite"
_FROM_THE_WEAKEST = (NONE, *map(sql_name, MODES), UNKNOWN)


@dataclass(frozen=True)
class TableLock:
    """What a statement does to a table in use.

    Attributes:
        mode: the strongest lock, as SQL has it; `none`, or `unknown` for a statement that is not known here.
        table: its name, as SQL has it; empty where the text does not have it.
        work: `reads` or `rewrites` the whole table, `may rewrite` it, or empty.
    """

    mode: str
    table: str = ""
    work: str = ""

    def __str__(self) -> str:
        if self.mode == UNKNOWN:
            return "the lock is not known"
        if self.mode == NONE:
            return "no lock on a table in use"
        name = f" on {self.table}" if self.table else ""
        return f"{self.mode}{name}{f', {self.work} all rows' if self.work else ''}"


_BUILTIN = (
    r"(?:SMALLINT|INT(?:EGER)?|BIGINT|TEXT|(?:VAR)?CHAR|CHARACTER|BOOLEAN|DATE|TIME(?:STAMP)?(?:TZ)?|INTERVAL|NUMERIC|"
    r"REAL|FLOAT|DOUBLE PRECISION|UUID|JSONB?|BYTEA|INET|CIDR)"
)
_COLUMN = r"ADD (?!CONSTRAINT\b)(?:COLUMN )?(?:IF NOT EXISTS )?<name> "
_CONSTRAINT = r"ADD (?:CONSTRAINT <name> )?"
_WITHOUT_A_SCAN = r"(?=.*\bNOT (?:VALID|ENFORCED)\b)"
# The actions of an ALTER TABLE, each with its lock and its work; the first pattern that matches counts.
_ACTIONS = [
    (pattern(text), mode, work)
    for text, mode, work in (
        (r"VALIDATE CONSTRAINT\b", ONLINE, READS),
        (r"(?:SET|RESET) \(|CLUSTER ON\b|SET WITHOUT CLUSTER\b", ONLINE, ""),
        (r"ALTER (?:COLUMN )?<name> (?:SET STATISTICS\b|(?:SET|RESET) \()", ONLINE, ""),
        (r"DETACH PARTITION .*\b(?:CONCURRENTLY|FINALIZE)$", ONLINE, ""),
        (r"(?:DIS|EN)ABLE (?:(?:ALWAYS|REPLICA) )?TRIGGER\b", NO_WRITES, ""),
        (rf"{_CONSTRAINT}FOREIGN KEY\b{_WITHOUT_A_SCAN}", NO_WRITES, ""),
        (rf"{_CONSTRAINT}FOREIGN KEY\b", NO_WRITES, READS),
        (rf"{_CONSTRAINT}(?:CHECK|NOT NULL)\b{_WITHOUT_A_SCAN}", EXCLUSIVE, ""),
        (rf"{_CONSTRAINT}(?:UNIQUE|PRIMARY KEY) USING INDEX\b", EXCLUSIVE, ""),
        (rf"{_CONSTRAINT}(?:CHECK|NOT NULL|UNIQUE|PRIMARY KEY|EXCLUDE)\b", EXCLUSIVE, READS),
        (rf"{_COLUMN}.*\b(?:\w*serial|STORED|AS IDENTITY)\b", EXCLUSIVE, REWRITES),
        (rf"{_COLUMN}.*\b(?:UNIQUE|PRIMARY KEY|CHECK)\b", EXCLUSIVE, READS),
        (rf"{_COLUMN}{_BUILTIN}\b(?!.*\bDEFAULT (?!now\(\)).*\()", EXCLUSIVE, ""),
        (_COLUMN, EXCLUSIVE, MAY_REWRITE),  # a default of a volatile function, or a domain with a constraint
        (r"ALTER (?:COLUMN )?<name> SET NOT NULL\b", EXCLUSIVE, READS),
        (r"ALTER (?:COLUMN )?<name> (?:SET DATA )?TYPE\b|SET (?:LOGGED|UNLOGGED|TABLESPACE)\b", EXCLUSIVE, MAY_REWRITE),
        (r"ATTACH PARTITION\b", EXCLUSIVE, READS),
        (
            r"(?:ALTER|DROP|RENAME|OWNER|SET SCHEMA|DETACH PARTITION|(?:NO )?(?:INHERIT|FORCE)|REPLICA IDENTITY)\b",
            EXCLUSIVE,
            "",
        ),
        (r"(?:OF|NOT OF|(?:DIS|EN)ABLE ROW)\b", EXCLUSIVE, ""),
    )
]
# Other statements; a group of the pattern is the table.
_STATEMENTS = [
    (pattern(text), mode, work)
    for text, mode, work in (
        (r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY .*?\bON (?:ONLY )?(<name>)", ONLINE, READS),
        (r"CREATE (?:UNIQUE )?INDEX .*?\bON (?:ONLY )?(<name>)", SHARE, READS),
        (r"DROP INDEX CONCURRENTLY\b", ONLINE, ""),
        (r"REINDEX (?:TABLE CONCURRENTLY (<name>)|INDEX CONCURRENTLY)", ONLINE, READS),
        (r"REINDEX (?:TABLE (<name>)|INDEX)", SHARE, REWRITES),
        (r"CREATE TABLE .*\bREFERENCES (<name>)", NO_WRITES, ""),
        (r"CREATE (?!EVENT\b)(?:\w+ )*TRIGGER\b.*? ON (<name>)", NO_WRITES, ""),
        (r"CREATE TABLE (?!.*(?<!ALWAYS)(?<!DEFAULT) (?:AS|INHERITS|PARTITION OF)\b)", NONE, ""),
        (r"DROP (?:TABLE|MATERIALIZED VIEW) (?:IF EXISTS )?(<name>)", EXCLUSIVE, ""),
        (r"(?:DROP TRIGGER|(?:CREATE|ALTER|DROP) POLICY)\b.*? ON (<name>)", EXCLUSIVE, ""),
        (r"DROP INDEX\b", EXCLUSIVE, ""),
        (r"TRUNCATE (?:TABLE )?(?:ONLY )?(<name>)", EXCLUSIVE, REWRITES),
        (r"COMMENT ON TABLE (<name>)", ONLINE, ""),
        (r"COMMENT ON (?:COLUMN|CONSTRAINT|TRIGGER)\b", ONLINE, ""),
        (r"ALTER DOMAIN .*\bADD\b" + _WITHOUT_A_SCAN, NONE, ""),
        (r"ALTER DOMAIN .*\b(?:ADD\b|VALIDATE\b|SET NOT NULL)", SHARE, READS),
        (r"INSERT INTO (<name>) .*\bVALUES\b", ROWS, ""),
        (r"(?:INSERT INTO|UPDATE(?: ONLY)?|DELETE FROM) (<name>)", ROWS, READS),
        (r"CREATE (?:TYPE|DOMAIN|SEQUENCE|SCHEMA|EXTENSION|(?:OR REPLACE )?(?:VIEW|FUNCTION|PROCEDURE))\b", NONE, ""),
        (
            r"(?:ALTER (?:TYPE|DOMAIN|SEQUENCE|SCHEMA|VIEW|FUNCTION|INDEX)|COMMENT ON|GRANT|SET|RESET|BEGIN|COMMIT)\b",
            NONE,
            "",
        ),
        (r"DROP (?:TYPE|DOMAIN|SEQUENCE|SCHEMA|VIEW|FUNCTION)\b(?!.* CASCADE$)", NONE, ""),
    )
]


def table_lock(plain: str) -> TableLock:
    """What a statement does to a table in use.

    Args:
        plain: the statement on one line, without comments and contents of literals.
    """
    if match := ALTER_TABLE.fullmatch(plain):
        locks = [_of_action(match[1], action) for action in actions(match[2])]
        strongest = max(locks, key=lambda lock: _FROM_THE_WEAKEST.index(lock.mode))
        work = next((work for work in (REWRITES, MAY_REWRITE, READS) if work in [lock.work for lock in locks]), "")
        return TableLock(strongest.mode, match[1], work)
    for known, mode, work in _STATEMENTS:
        if match := known.match(plain):
            return TableLock(mode, (match.lastindex and match[match.lastindex]) or "", work)
    return TableLock(UNKNOWN)


def _of_action(table: str, action: str) -> TableLock:
    for known, mode, work in _ACTIONS:
        if known.match(action):
            return TableLock(mode, table, work)
    return TableLock(UNKNOWN, table)

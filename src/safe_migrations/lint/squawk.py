"""squawk, the linter of SQL: its rules that hold here, in terms of Alembic, and one run of it over all revisions.

See https://squawkhq.com/docs/rules. What it knows better than a regular expression, it says; the other rules are in
`rules`.
"""

import json
import re
import shutil
import subprocess
import sysconfig
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from alembic.operations.ops import AlterColumnOp

from safe_migrations.ddl.column_changes import keeps_rows
from safe_migrations.errors import MigrationError, NotInstalledError
from safe_migrations.lint.findings import Finding, Rule
from safe_migrations.lint.revision_files import Revision
from safe_migrations.lint.statements import Statement

# Its name for what `rewriting-column` in `rules` tells.
REWRITING = "adding-field-with-default"
SYNTAX = "syntax-error"
# Functions of PostgreSQL that are not volatile, as far as they are usual in defaults.
STEADY = {
    "array",
    "coalesce",
    "concat",
    "current_setting",
    "date",
    "date_trunc",
    "extract",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "left",
    "length",
    "lower",
    "make_interval",
    "md5",
    "now",
    "nullif",
    "numeric",
    "right",
    "round",
    "statement_timestamp",
    "timezone",
    "to_char",
    "to_timestamp",
    "transaction_timestamp",
    "upper",
    "varchar",
}

SQUAWK_RULES = (
    Rule(
        "adding-foreign-key-constraint",
        "SHARE ROW EXCLUSIVE stops the writers of both tables while every row is looked up in the other table",
        """\
op.create_foreign_key("fk_item_box", "item", "box", ["box_id"], ["id"], postgresql_not_valid=True)
# in a second revision
op.validate_constraint("fk_item_box", "item")""",
    ),
    Rule(
        "adding-not-nullable-field",
        "ACCESS EXCLUSIVE stops readers and writers while every row is looked at for NULL; one NULL, and it fails",
        """\
# when a backfill has left no NULL; a validated check saves the scan
op.create_check_constraint(op.f("ck_item_sku_not_null"), "item", "sku IS NOT NULL", postgresql_not_valid=True)
# in a second revision
op.validate_constraint("ck_item_sku_not_null", "item")
# in a third one, which says again that the check is valid
op.validate_constraint("ck_item_sku_not_null", "item")
op.alter_column("item", "sku", nullable=False)
op.drop_constraint(op.f("ck_item_sku_not_null"), "item", type_="check")""",
    ),
    Rule(
        "adding-required-field",
        "it fails as soon as the table has a row, and the running code, which does not know the column, can't insert",
        """\
op.add_column("item", sa.Column("sku", sa.Text(), server_default="", nullable=False))
# or nullable; then a backfill, then NOT NULL as adding-not-nullable-field says""",
    ),
    Rule(
        "adding-serial-primary-key-field",
        "ACCESS EXCLUSIVE stops readers and writers while the index of the primary key is built",
        """\
op.create_index_concurrently("pk_item", "item", ["id"], unique=True)
# the reason for SQL: op.create_primary_key can't take an index
op.execute("ALTER TABLE item ADD CONSTRAINT pk_item PRIMARY KEY USING INDEX pk_item")""",
    ),
    Rule(
        "ban-alter-domain-with-add-constraint",
        "SHARE stops the writers of every table that uses the domain while all their rows are checked",
        'op.create_check_constraint(op.f("ck_item_sku"), "item", "sku <> \'\'", postgresql_not_valid=True)',
    ),
    Rule(
        "ban-char-field",
        "char(n) pads values with spaces, which count in some comparisons and get lost in others",
        'sa.Column("sku", sa.Text(), nullable=False)',
    ),
    Rule(
        "ban-create-domain-with-constraint",
        "a column of such a domain can't be added, nor the check changed, without all rows being rewritten or checked",
        'op.create_check_constraint(op.f("ck_item_sku"), "item", "sku <> \'\'", postgresql_not_valid=True)',
    ),
    Rule(
        "ban-drop-database",
        "it destroys all data, and PostgreSQL refuses it in a transaction",
        "drop databases by hand, not in a revision",
    ),
    Rule(
        "ban-duplicate-column-assignments",
        "PostgreSQL refuses two values for one column: the upgrade fails",
        'op.execute(sa.update(item).where(item.c.sku.is_(None)).values(sku=""))  # once',
    ),
    Rule(
        "ban-truncate-cascade",
        "ACCESS EXCLUSIVE on every table that refers to this one, directly or not, and all of them lose all rows",
        'acknowledged = "all rows of item and item_price are lost"\nop.execute("TRUNCATE item, item_price")  # named',
        by_acknowledged=True,
    ),
    Rule(
        "changing-column-type",
        "ACCESS EXCLUSIVE stops readers and writers while every row and index is written anew, and the running code "
        "still sends values of the old type",
        """\
# in steps: op.add_column, write both columns, backfill, read the new one, drop the old one; or, for a small table:
acknowledged = "item is locked while its rows are written anew"
# a change that keeps the rows as they are is seen by its existing_type:
op.alter_column("item", "sku", existing_type=sa.String(20), type_=sa.Text())""",
        by_acknowledged=True,
    ),
    Rule(
        "constraint-missing-not-valid",
        "the lock stops writers (for a check readers, too) while every row is checked",
        """\
op.create_check_constraint(op.f("ck_item_price"), "item", "price > 0", postgresql_not_valid=True)
# in a second revision
op.validate_constraint("ck_item_price", "item")""",
    ),
    Rule(
        "disallowed-unique-constraint",
        "ACCESS EXCLUSIVE stops readers and writers while the index of the constraint is built",
        """\
op.create_index_concurrently("uq_item_sku", "item", ["sku"], unique=True)
op.create_unique_constraint_using_index("uq_item_sku", "item")""",
    ),
    Rule(
        "identifier-too-long",
        "PostgreSQL cuts a name to 63 bytes: two names can become one, and autogenerate finds a difference for ever",
        'op.create_index_concurrently("ix_item_sku_supplier", "item", ["sku", "supplier_id"])  # 63 bytes at most',
    ),
    Rule(
        "prefer-timestamp-tz",
        "timestamp drops the time zone: the same value is another moment for a client in another zone",
        'sa.Column("sold_at", sa.DateTime(timezone=True))',
    ),
    Rule(
        "renaming-column",
        "the running code still uses the old name: its queries fail at once, until the new code runs everywhere",
        """\
# in steps: op.add_column, write both columns, backfill, read the new one, drop the old one
# or rename in the models only: sku: Mapped[str] = mapped_column("code")
# or, where no code uses it: acknowledged = "queries with item.sku fail\"""",
        by_acknowledged=True,
    ),
    Rule(
        "renaming-table",
        "the running code still uses the old name: its queries fail at once, until the new code runs everywhere",
        """\
# rename the class, and keep the table: __tablename__ = "item"
# or, where no code uses it: acknowledged = "queries of item fail\"""",
        by_acknowledged=True,
    ),
    Rule(
        "require-concurrent-index-creation",
        "SHARE stops writers while the index is built",
        'op.create_index_concurrently("ix_item_sku", "item", ["sku"])  # alone in its revision',
    ),
    Rule(
        "require-concurrent-index-deletion",
        "ACCESS EXCLUSIVE on the table: readers and writers wait behind it for as long as it waits for a long query",
        'op.drop_index_concurrently("ix_item_sku", "item")  # alone in its revision',
    ),
    Rule(
        "require-concurrent-partition-detach",
        "ACCESS EXCLUSIVE on the table and the partition: readers and writers wait behind it",
        """\
with op.get_context().autocommit_block():
    # the reason for SQL: Alembic has no operation for partitions
    op.execute("ALTER TABLE item DETACH PARTITION item_2020 CONCURRENTLY")""",
    ),
    Rule(
        "require-concurrent-reindex",
        "SHARE stops writers, and ACCESS EXCLUSIVE on the index the queries that would use it, until it is rebuilt",
        'op.rebuild_index_concurrently("ix_item_sku")  # alone in its revision',
    ),
    Rule(
        SYNTAX,
        "PostgreSQL, or the version of it that this service is made for, can't read this: the upgrade fails",
        "correct the SQL at the place that is named; the operations of Alembic write it themselves",
    ),
)

_BREAKS_CODE = "unacknowledged and contract-in-expand say it of what the running code may need, with the phase"
_RARE = "what the change is meant for, and who needs it, only its author can tell"
_TASTE = "a matter of the models, not of the change"
SWITCHED_OFF = {
    "ban-alter-identity": _BREAKS_CODE,
    "ban-drop-column": _BREAKS_CODE,
    "ban-drop-constraint": "it takes away a limit: what the running code writes stays right",
    "ban-drop-default": _BREAKS_CODE,
    "ban-drop-domain": _BREAKS_CODE,
    "ban-drop-extension": _RARE,
    "ban-drop-function": _BREAKS_CODE,
    "ban-drop-generated-expression": _BREAKS_CODE,
    "ban-drop-not-null": "it takes away a limit: what the running code writes stays right",
    "ban-drop-policy": _RARE,
    "ban-drop-schema": _BREAKS_CODE,
    "ban-drop-sequence": _BREAKS_CODE,
    "ban-drop-table": _BREAKS_CODE,
    "ban-drop-type": "PostgreSQL refuses it while a column uses the type; enum-replacement looks at CASCADE",
    "ban-drop-view": _BREAKS_CODE,
    "ban-set-schema": _BREAKS_CODE,
    "ban-uncommitted-transaction": "Alembic ends the transaction; transaction-nesting looks at the revision's own",
    "prefer-bigint-over-int": _TASTE,
    "prefer-bigint-over-smallint": _TASTE,
    "prefer-identity": _TASTE + "; rewriting-column looks at serial columns that are added",
    "prefer-robust-stmts": "a revision is rolled back as a whole, and the operations that can't be run again; "
    "IF NOT EXISTS would take what a failed run has left for the real thing",
    "prefer-text-field": _TASTE,
    "renaming-object": _BREAKS_CODE,
    "require-enum-value-ordering": "a value at the end is what is meant where no place is given",
    "require-lock-timeout": "the runner sets it for the session",
    "require-statement-timeout": "the runner sets it for the session",
    "require-timeout-settings": "the runner sets them for the session",
    "transaction-nesting": "the rule of this name here looks at what the revision itself writes",
}

# One cause, one finding: each of these says more exactly what this one says.
_GENERAL = "constraint-missing-not-valid"
_EXACT = {"adding-foreign-key-constraint", "adding-serial-primary-key-field", "disallowed-unique-constraint"}


def run_squawk(revisions: Sequence[Revision], rules: dict[str, Rule], postgres_version: int) -> Iterator[Finding]:
    """What squawk finds in the upgrades of revisions, at their lines.

    Args:
        revisions: those to read.
        rules: the table, by names; a rule that is not in it speaks in squawk's words.
        postgres_version: the major version to be strict for.

    Raises:
        MigrationError: squawk is not installed, or can't be run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # An empty file: a .squawk.toml of the user's would change what is found.
        folder.joinpath(".squawk.toml").touch()
        files = {str(folder / f"{number}.sql"): revision for number, revision in enumerate(revisions)}
        for file, revision in files.items():
            Path(file).write_text("".join(map(_as_sql, revision.upgrade)), encoding="utf-8")
        found = _call(folder, list(files), postgres_version) if files else []
    for file, revision in files.items():
        lines = "".join(map(_as_sql, revision.upgrade)).split("\n")
        ends = list(accumulate(_as_sql(statement).count("\n") for statement in revision.upgrade))
        here = [(revision.upgrade[bisect_right(ends, each["line"])], each) for each in found if each["file"] == file]
        first = {(id(statement), each["rule_name"]): (statement, each) for statement, each in reversed(here)}
        exact = {id(statement) for statement, each in here if each["rule_name"] in _EXACT}
        for statement, each in first.values():
            if each["rule_name"] == _GENERAL and id(statement) in exact:
                continue
            if each["rule_name"] == "changing-column-type" and _keeps_rows(statement):
                continue
            if each["rule_name"] == REWRITING and _has_steady_default(statement):
                continue
            what = _said(each, lines[each["line"]]) if each["rule_name"] == SYNTAX else ""
            yield Finding(revision.path, statement.line, _rule(each, rules), what)


def _as_sql(statement: Statement) -> str:
    """On lines of its own, with its end on another one, for what it ends with may be a comment."""
    return statement.sql.replace("squawk-ignore", "squawk ignore") + "\n;\n"


def _rule(found: dict[str, Any], rules: dict[str, Rule]) -> Rule:
    name = "rewriting-column" if found["rule_name"] == REWRITING else found["rule_name"]
    return rules.get(name) or Rule(name, found["message"], found["help"] or "see https://squawkhq.com/docs/rules")


def _said(found: dict[str, Any], line: str) -> str:
    """What squawk says, and of what."""
    rest = line[found["column"] :].strip()
    return f"{found['message']} at {rest[:40]!r}" if rest.strip(";") else f"{found['message']} at the end"


def _keeps_rows(statement: Statement) -> bool:
    """Whether a column's new type takes the rows as they are, as far as the revision tells the old one."""
    operation = statement.operation
    return (
        isinstance(operation, AlterColumnOp)
        and operation.existing_type is not None
        and operation.modify_type is not None
        and "postgresql_using" not in operation.kw
        and keeps_rows(operation.existing_type, operation.modify_type)
    )


def _has_steady_default(statement: Statement) -> bool:
    """Whether a column's default is the same for all rows: squawk takes each expression for a volatile one."""
    _, _, default = statement.plain.lower().partition(" default ")
    functions = set(re.findall(r"(\w+)\s*\(", default))
    return bool(default) and " generated " not in statement.plain.lower() and functions <= STEADY


def _call(folder: Path, files: list[str], postgres_version: int) -> list[dict[str, Any]]:
    # Beside this Python first, as ruff in `authoring`.
    squawk = shutil.which("squawk", path=sysconfig.get_path("scripts")) or shutil.which("squawk")
    if squawk is None:
        raise NotInstalledError("squawk, which reads the SQL of the revisions,", "lint")
    process = subprocess.run(
        [
            squawk,
            "--reporter=json",
            f"--pg-version={postgres_version}",
            f"--config={folder / '.squawk.toml'}",
            f"--exclude={','.join(SWITCHED_OFF)}",
            "--no-error-on-unmatched-pattern",
            *files,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if process.returncode not in (0, 1) or not process.stdout:
        raise MigrationError(f"squawk could not read the SQL of the revisions: {process.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(process.stdout)
    return found

"""squawk, a linter of SQL: its rules that apply here, in Alembic's terms, and one run of it over all revisions.

See https://squawkhq.com/docs/rules. It parses SQL, so it finds what a regular expression can't.
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
from safe_migrations.env_files import environment_of_programs
from safe_migrations.errors import NotInstalledError, RevisionError
from safe_migrations.lint.findings import Finding
from safe_migrations.lint.registry import RULES, Rule, rule
from safe_migrations.lint.revision import Revision
from safe_migrations.lint.statements import Statement

# squawk's name for `rewriting-column`.
REWRITING = "adding-field-with-default"
SYNTAX = "syntax-error"
# Functions of PostgreSQL that are not volatile and usual in defaults.
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

rule(
    "adding-foreign-key-constraint",
    why="checks every row while holding SHARE ROW EXCLUSIVE, blocking writes to both tables",
    instead="""\
op.create_foreign_key("fk_item_box", "item", "box", ["box_id"], ["id"], postgresql_not_valid=True)
# in a second revision
op.validate_constraint("fk_item_box", "item")""",
)
rule(
    "adding-not-nullable-field",
    why="scans the table for NULL while holding ACCESS EXCLUSIVE, blocking reads and writes, and fails on one NULL",
    instead="""\
# when a backfill has left no NULL; a validated check spares SET NOT NULL its scan
op.create_check_constraint(op.f("ck_item_sku_not_null"), "item", "sku IS NOT NULL", postgresql_not_valid=True)
# in a second revision
op.validate_constraint("ck_item_sku_not_null", "item")
# in a third revision, where this is a no-op, except after a downgrade
op.validate_constraint("ck_item_sku_not_null", "item")
op.alter_column("item", "sku", nullable=False)
op.drop_constraint(op.f("ck_item_sku_not_null"), "item", type_="check")""",
)
rule(
    "adding-required-field",
    why="fails if the table has rows; and the running code, which does not know the column, can't insert any more",
    instead="""\
op.add_column("item", sa.Column("sku", sa.Text(), server_default="", nullable=False))
# or nullable; then a backfill, then NOT NULL as in adding-not-nullable-field""",
)
rule(
    "adding-serial-primary-key-field",
    why="builds the index of the primary key while holding ACCESS EXCLUSIVE, blocking reads and writes",
    instead="""\
op.create_index_concurrently("pk_item", "item", ["id"], unique=True)
# Raw SQL: op.create_primary_key can't use an existing index.
op.execute("ALTER TABLE item ADD CONSTRAINT pk_item PRIMARY KEY USING INDEX pk_item")""",
)
rule(
    "ban-alter-domain-with-add-constraint",
    why="checks every row of every table that uses the domain while holding SHARE on them, blocking writes",
    instead='op.create_check_constraint(op.f("ck_item_sku"), "item", "sku <> \'\'", postgresql_not_valid=True)',
)
rule(
    "ban-char-field",
    why="char(n) pads values with spaces, which count in some comparisons and are ignored in others",
    instead='sa.Column("sku", sa.Text(), nullable=False)',
)
rule(
    "ban-create-domain-with-constraint",
    why="adding a column of this domain rewrites every row, and changing the check scans every row",
    instead='op.create_check_constraint(op.f("ck_item_sku"), "item", "sku <> \'\'", postgresql_not_valid=True)',
)
rule(
    "ban-drop-database",
    why="it destroys all data, and PostgreSQL refuses it in a transaction",
    instead="drop databases by hand, not in a revision",
)
rule(
    "ban-duplicate-column-assignments",
    why="PostgreSQL refuses two values for one column: the upgrade fails",
    instead='op.execute(sa.update(item).where(item.c.sku.is_(None)).values(sku=""))  # one value for each column',
)
rule(
    "ban-truncate-cascade",
    why="deletes all rows of every table that references this one, directly or not, under ACCESS EXCLUSIVE on each",
    instead='acknowledged = "all rows of item and item_price are lost"\nop.execute("TRUNCATE item, item_price")',
    by_acknowledged=True,
)
rule(
    "changing-column-type",
    why="rewrites every row and index while holding ACCESS EXCLUSIVE, blocking reads and writes, and the running code "
    "still sends values of the old type",
    instead="""\
# in steps: op.add_column, write both columns, backfill, read the new one, drop the old one; or, for a small table:
acknowledged = "the rewrite of item blocks reads and writes"
# lint recognizes a change that rewrites nothing by its existing_type:
op.alter_column("item", "sku", existing_type=sa.String(20), type_=sa.Text())""",
    by_acknowledged=True,
)
rule(
    "constraint-missing-not-valid",
    why="checks every row while blocking writes, and for a check constraint reads too",
    instead="""\
op.create_check_constraint(op.f("ck_item_price"), "item", "price > 0", postgresql_not_valid=True)
# in a second revision
op.validate_constraint("ck_item_price", "item")""",
)
rule(
    "disallowed-unique-constraint",
    why="builds the index of the constraint while holding ACCESS EXCLUSIVE, blocking reads and writes",
    instead="""\
op.create_index_concurrently("uq_item_sku", "item", ["sku"], unique=True)
op.create_unique_constraint_using_index("uq_item_sku", "item")""",
)
rule(
    "identifier-too-long",
    why="PostgreSQL truncates names to 63 bytes: two names can collide, and autogenerate finds a difference every time",
    instead='op.create_index_concurrently("ix_item_sku_supplier", "item", ["sku", "supplier_id"])  # at most 63 bytes',
)
rule(
    "prefer-timestamp-tz",
    why="timestamp drops the time zone: the same value is a different moment for a client in another zone",
    instead='sa.Column("sold_at", sa.DateTime(timezone=True))',
)
rule(
    "renaming-column",
    why="the running code still uses the old name: its queries fail until the new code runs everywhere",
    instead="""\
# in steps: op.add_column, write both columns, backfill, read the new one, drop the old one
# or rename it in the models only: sku: Mapped[str] = mapped_column("code")
# or, if no code uses it: acknowledged = "queries with item.sku fail\"""",
    by_acknowledged=True,
)
rule(
    "renaming-table",
    why="the running code still uses the old name: its queries fail until the new code runs everywhere",
    instead="""\
# rename the class and keep the table: __tablename__ = "item"
# or, if no code uses it: acknowledged = "queries of item fail\"""",
    by_acknowledged=True,
)
rule(
    "require-concurrent-index-creation",
    why="builds the index while holding SHARE, blocking writes",
    instead='op.create_index_concurrently("ix_item_sku", "item", ["sku"])  # in a revision of its own',
)
rule(
    "require-concurrent-index-deletion",
    why="takes ACCESS EXCLUSIVE on the table: while it waits for a long query, reads and writes wait behind it",
    instead='op.drop_index_concurrently("ix_item_sku", "item")  # in a revision of its own',
)
rule(
    "require-concurrent-partition-detach",
    why="takes ACCESS EXCLUSIVE on the table and the partition: while it waits, reads and writes wait behind it",
    instead="""\
with op.get_context().autocommit_block():
    # Raw SQL: Alembic has no operation for partitions.
    op.execute("ALTER TABLE item DETACH PARTITION item_2020 CONCURRENTLY")""",
)
rule(
    "require-concurrent-reindex",
    why="rebuilds the index while holding SHARE on the table, blocking writes, and ACCESS EXCLUSIVE on the index, "
    "blocking the queries that use it",
    instead='op.rebuild_index_concurrently("ix_item_sku")  # in a revision of its own',
)
rule(
    SYNTAX,
    why="PostgreSQL, or the version of it that this service runs on, can't parse this: the upgrade fails",
    instead="correct the SQL at the place named above; Alembic's operations write the SQL themselves",
)

_BREAKS_CODE = "unacknowledged and contract-in-expand report what the running code may need, by its phase"
_LESS_STRICT = "it removes a restriction: what the running code writes remains valid"
_RARE = "only the author knows what the change is for and who needs it"
_TASTE = "a matter of the models, not of the change"
SWITCHED_OFF = {
    "ban-alter-identity": _BREAKS_CODE,
    "ban-drop-column": _BREAKS_CODE,
    "ban-drop-constraint": _LESS_STRICT,
    "ban-drop-default": _BREAKS_CODE,
    "ban-drop-domain": _BREAKS_CODE,
    "ban-drop-extension": _RARE,
    "ban-drop-function": _BREAKS_CODE,
    "ban-drop-generated-expression": _BREAKS_CODE,
    "ban-drop-not-null": _LESS_STRICT,
    "ban-drop-policy": _RARE,
    "ban-drop-schema": _BREAKS_CODE,
    "ban-drop-sequence": _BREAKS_CODE,
    "ban-drop-table": _BREAKS_CODE,
    "ban-drop-type": "PostgreSQL refuses it while a column uses the type; enum-replacement covers CASCADE",
    "ban-drop-view": _BREAKS_CODE,
    "ban-set-schema": _BREAKS_CODE,
    "ban-uncommitted-transaction": "Alembic ends the transaction; transaction-nesting covers the revision's own",
    "prefer-bigint-over-int": _TASTE,
    "prefer-bigint-over-smallint": _TASTE,
    "prefer-identity": _TASTE + "; rewriting-column covers added serial columns",
    "prefer-robust-stmts": "a failed revision is rolled back as a whole, and the operations outside a transaction can "
    "be repeated; IF NOT EXISTS would accept the remains of a failed run",
    "prefer-text-field": _TASTE,
    "renaming-object": _BREAKS_CODE,
    "require-enum-value-ordering": "without a place, a new value comes last, as intended",
    "require-lock-timeout": "the runner sets it for the session",
    "require-statement-timeout": "the runner sets it for the session",
    "require-timeout-settings": "the runner sets them for the session",
    "transaction-nesting": "the rule of this name above covers what the revision itself writes",
}

# One cause, one finding: each of the exact rules replaces the general one.
_GENERAL = "constraint-missing-not-valid"
_EXACT = {"adding-foreign-key-constraint", "adding-serial-primary-key-field", "disallowed-unique-constraint"}


def run_squawk(revisions: Sequence[Revision], postgres_version: int) -> Iterator[Finding]:
    """What squawk finds in the upgrades of revisions, at their lines; an unknown rule is reported in squawk's words.

    Args:
        revisions: those to read.
        postgres_version: the major version of PostgreSQL that they are for.

    Raises:
        NotInstalledError: squawk is not installed.
        RevisionError: squawk fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # An empty file, so that the user's .squawk.toml does not change the findings.
        folder.joinpath(".squawk.toml").touch()
        files = {str(folder / f"{number}.sql"): revision for number, revision in enumerate(revisions)}
        for file, revision in files.items():
            Path(file).write_text("".join(map(_as_sql, revision.upgrade)), encoding="utf-8")
        reports = _call(folder, list(files), postgres_version) if files else []
    for file, revision in files.items():
        lines = "".join(map(_as_sql, revision.upgrade)).split("\n")
        ends = list(accumulate(_as_sql(statement).count("\n") for statement in revision.upgrade))
        own = [report for report in reports if report["file"] == file]
        here = [(revision.upgrade[bisect_right(ends, report["line"])], report) for report in own]
        first = {(id(statement), report["rule_name"]): (statement, report) for statement, report in reversed(here)}
        exact = {id(statement) for statement, report in here if report["rule_name"] in _EXACT}
        for statement, report in first.values():
            match report["rule_name"]:
                case name if name == _GENERAL and id(statement) in exact:
                    continue
                case "changing-column-type" if _keeps_rows(statement):
                    continue
                case name if name == REWRITING and _has_steady_default(statement):
                    continue
            what = _quote(report, lines[report["line"]]) if report["rule_name"] == SYNTAX else ""
            yield Finding(revision.path, statement.line, _rule_of(report), what)


def _as_sql(statement: Statement) -> str:
    """On lines of its own, with the semicolon on another one, because the last line may end with a comment."""
    return statement.sql.replace("squawk-ignore", "squawk ignore") + "\n;\n"


def _rule_of(report: dict[str, Any]) -> Rule:
    name = "rewriting-column" if report["rule_name"] == REWRITING else report["rule_name"]
    return RULES.get(name) or Rule(name, report["message"], report["help"] or "see https://squawkhq.com/docs/rules")


def _quote(report: dict[str, Any], line: str) -> str:
    """squawk's message, and the SQL that it is about."""
    rest = line[report["column"] :].strip()
    return f"{report['message']} at {rest[:40]!r}" if rest.strip(";") else f"{report['message']} at the end"


def _keeps_rows(statement: Statement) -> bool:
    """Whether a column's new type rewrites no row, as far as the revision names the old type."""
    operation = statement.operation
    return (
        isinstance(operation, AlterColumnOp)
        and operation.existing_type is not None
        and operation.modify_type is not None
        and "postgresql_using" not in operation.kw
        and keeps_rows(operation.existing_type, operation.modify_type)
    )


def _has_steady_default(statement: Statement) -> bool:
    """Whether a column's default is the same for all rows: squawk takes every expression for volatile."""
    _, _, default = statement.plain.lower().partition(" default ")
    functions = set(re.findall(r"(\w+)\s*\(", default))
    return bool(default) and " generated " not in statement.plain.lower() and functions <= STEADY


def _call(folder: Path, files: list[str], postgres_version: int) -> list[dict[str, Any]]:
    # Beside this Python first: .venv/bin/safe-migrations may run without its folder on PATH.
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
        env=environment_of_programs(),
        capture_output=True,
        text=True,
    )
    if process.returncode not in (0, 1) or not process.stdout:
        raise RevisionError(f"squawk can't read the SQL of the revisions: {process.stderr.strip()}")
    reports: list[dict[str, Any]] = json.loads(process.stdout)
    return reports

"""One run of squawk, a linter of SQL, over all revisions: as a parser, it finds what a regular expression can't."""

import json
import re
import subprocess
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from alembic.operations.ops import AlterColumnOp

from safe_migrations.ddl.column_changes import keeps_rows
from safe_migrations.env_files import environment_of_programs, find_program
from safe_migrations.errors import NotInstalledError, RevisionError
from safe_migrations.lint.findings import Finding
from safe_migrations.lint.registry import RULES, Rule
from safe_migrations.lint.revision import Revision
from safe_migrations.lint.rules.squawk import SWITCHED_OFF, SYNTAX
from safe_migrations.lint.statements import (
    ADD_COLUMN,
    CONVERSION,
    CREATE_TYPE,
    RENAME_COLUMN,
    Statement,
    altered,
    bare,
    locked_tables,
    table_of_dropped_index,
    touched_tables,
)
from safe_migrations.postgres.statements import ALTER_TABLE, pattern

# squawk's name for `rewriting-column`.
REWRITING = "adding-field-with-default"
# Functions of PostgreSQL that are not volatile and usual in defaults.
STEADY = {
    *("array", "coalesce", "concat", "current_setting", "date", "date_trunc", "extract", "json_build_array"),
    *("json_build_object", "jsonb_build_array", "jsonb_build_object", "left", "length", "lower", "make_interval"),
    *("md5", "now", "nullif", "numeric", "right", "round", "statement_timestamp", "timezone", "to_char"),
    *("to_timestamp", "transaction_timestamp", "upper", "varchar"),
}

# One cause, one finding: each of the exact rules replaces the general one.
_GENERAL = "constraint-missing-not-valid"
_EXACT = {"adding-foreign-key-constraint", "adding-serial-primary-key-field", "disallowed-unique-constraint"}
# A foreign key of a new column that is NULL in each row: PostgreSQL checks no row.
_COLUMN_WITH_REFERENCE = pattern(
    r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?<name> ADD COLUMN (?:IF NOT EXISTS )?"
    r"(?!.*\b(?:DEFAULT|GENERATED)\b)[^,]* REFERENCES [^,]*"
)


def run_squawk(revisions: Sequence[Revision], postgres_version: int) -> Iterator[Finding]:
    """What squawk finds in the upgrades of revisions, at their lines; an unknown rule is reported in squawk's words.

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
            Path(file).write_text("".join(_texts(revision)), encoding="utf-8")
        reports = _call(folder, list(files), postgres_version) if files else []
    for file, revision in files.items():
        lines = "".join(_texts(revision)).split("\n")
        ends = list(accumulate(text.count("\n") for text in _texts(revision)))
        own = [report for report in reports if report["file"] == file]
        here = [(revision.upgrade[bisect_right(ends, report["line"])], report) for report in own]
        first = {(id(statement), report["rule_name"]): (statement, report) for statement, report in reversed(here)}
        exact = {id(statement) for statement, report in here if report["rule_name"] in _EXACT}
        for statement, report in first.values():
            rule = report["rule_name"]
            if (rule == _GENERAL and id(statement) in exact) or _is_wrong(rule, statement, revision):
                continue
            what = _quote(report, lines[report["line"]]) if rule == SYNTAX else ""
            yield Finding(revision.path, statement.line, _rule_of(report), what)


def _is_wrong(rule: str, statement: Statement, revision: Revision) -> bool:
    """Whether a finding of squawk does not hold for this statement."""
    altered_table = ALTER_TABLE.match(statement.plain)
    tables = {bare(altered_table[1])} if altered_table else touched_tables(statement)
    if tables | ({table_of_dropped_index(statement)} - {None}) <= revision.unreleased and revision.unreleased:
        return True
    text = statement.plain.upper()
    match rule:
        case "constraint-missing-not-valid":
            return text.endswith(" NOT ENFORCED")
        case "changing-column-type":
            return _keeps_rows(statement) or _is_of_new_type(statement, revision)
        case "ban-alter-domain-with-add-constraint":
            return text.endswith(" NOT VALID")
        case "adding-field-with-default":
            return text.endswith(" VIRTUAL") or _has_steady_default(statement)
        case "adding-foreign-key-constraint":
            return _COLUMN_WITH_REFERENCE.fullmatch(statement.plain) is not None
        case "require-concurrent-index-deletion":
            return _is_locked_anyway(statement, revision)
        case "renaming-column":
            return _renames_added_column(statement, revision)
    return False


def _texts(revision: Revision) -> list[str]:
    """The statements, with the semicolon on a line of its own, because the last line may end with a comment.

    squawk takes a table that it sees created for a new one.
    """
    texts = (
        statement.sql if revision.is_new(statement) and not revision.is_of_baseline(statement) else ""
        for statement in revision.upgrade
    )
    return [text.replace("squawk-ignore", "squawk ignore") + "\n;\n" for text in texts]


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


def _is_of_new_type(statement: Statement, revision: Revision) -> bool:
    """Whether a column gets a type that the revision creates, which `enum-replacement` reports."""
    converted = CONVERSION.match(statement.plain)
    created = (CREATE_TYPE.match(other.plain) for other in revision.upgrade)
    return converted is not None and bare(converted[1]) in {bare(match[1]) for match in created if match}


def _has_steady_default(statement: Statement) -> bool:
    """Whether a column's default is the same for all rows: squawk takes every expression for volatile."""
    _, _, default = statement.plain.lower().partition(" default ")
    functions = set(re.findall(r"(\w+)\s*\(", default))
    return bool(default) and " generated " not in statement.plain.lower() and functions <= STEADY


def _is_locked_anyway(statement: Statement, revision: Revision) -> bool:
    """Whether no code uses the table of a dropped index yet, or its transaction takes the same lock in any case."""
    together = (other for other in revision.upgrade if other.transaction == statement.transaction)
    return table_of_dropped_index(statement) in locked_tables(together)


def _renames_added_column(statement: Statement, revision: Revision) -> bool:
    """Whether the revision itself has added the column, so that no code uses its old name."""
    actions = list(altered(revision.upgrade, set()))
    added = {(table, bare(name)) for _, table, action in actions for name in ADD_COLUMN.findall(action)}
    renamed = [(table, RENAME_COLUMN.match(action)) for other, table, action in actions if other is statement]
    return any(match and (table, bare(match[1])) in added for table, match in renamed)


def _call(folder: Path, files: list[str], postgres_version: int) -> list[dict[str, Any]]:
    squawk = find_program("squawk")
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

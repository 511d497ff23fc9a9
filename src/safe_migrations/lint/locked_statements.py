"""The statements of a revision, each with its strongest lock on a table in use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from safe_migrations.lint.revision import Revision
from safe_migrations.lint.statements import Statement, bare
from safe_migrations.postgres.statement_locks import NONE, TableLock, table_lock
from safe_migrations.postgres.statements import ALTER_TABLE, pattern, terminated
from safe_migrations.upgrade.steps import step_names

_SET_NOT_NULL = pattern(r"ALTER (?:COLUMN )?(<name>) SET NOT NULL")
_NOT_NULL_CHECK = pattern(r"ADD CONSTRAINT (<name>) CHECK \(+(<name>) IS NOT NULL\)")
_VALIDATION = pattern(r"VALIDATE CONSTRAINT (<name>)")


@dataclass(frozen=True)
class LockedStatement:
    """A statement of a revision.

    Attributes:
        step: the name of its step; empty outside of the steps.
        sql: ready to run.
        lock: what the statement does to a table in use; a table that the revision creates is not in use.
    """

    step: str
    sql: str
    lock: TableLock


def locked_statements(revision: Revision) -> Iterator[LockedStatement]:
    """The statements of the upgrade, without statements that only control the transaction and its timeouts."""
    names = ["", *(step_names(revision.script, "upgrade") or [])]
    earlier: list[str] = []
    for statement in revision.upgrade:
        if not _is_setting(statement):
            step = names[statement.step] if statement.step < len(names) else ""
            yield LockedStatement(step, terminated(statement.sql), _lock(statement.plain, revision, earlier))
            earlier.append(statement.plain)


def _is_setting(statement: Statement) -> bool:
    is_timeout = statement.is_own and statement.plain.startswith("SET ")
    return is_timeout or statement.plain.upper() in ("BEGIN", "COMMIT")


def _lock(plain: str, revision: Revision, earlier: Sequence[str]) -> TableLock:
    lock = table_lock(plain)
    if bare(lock.table) in revision.created:
        return TableLock(NONE)
    return replace(lock, work="") if lock.work and _is_proved(plain, earlier) else lock


def _is_proved(plain: str, earlier: Sequence[str]) -> bool:
    """Whether a statement only makes a column NOT NULL for which a check was validated: PostgreSQL needs no scan."""
    table, action = _action(plain)
    column = _SET_NOT_NULL.fullmatch(action)
    actions_before = [its_action for its_table, its_action in map(_action, earlier) if its_table == table]
    checks = [match for its_action in actions_before if (match := _NOT_NULL_CHECK.match(its_action))]
    validated = {bare(match[1]) for its_action in actions_before if (match := _VALIDATION.fullmatch(its_action))}
    return column is not None and any(
        bare(check[2]) == bare(column[1]) and bare(check[1]) in validated for check in checks
    )


def _action(plain: str) -> tuple[str, str]:
    """The table and the action of an ALTER TABLE; empty for other statements."""
    match = ALTER_TABLE.fullmatch(plain)
    return (bare(match[1]), match[2]) if match else ("", "")

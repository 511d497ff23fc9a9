"""What a statement's text says of its lock agrees with the page on commands and locks, which is measured."""

import re

import pytest

from safe_migrations.postgres.statement_locks import MAY_REWRITE, NONE, UNKNOWN, table_lock
from safe_migrations.postgres.statements import split
from support import ROOT

ROW = re.compile(r"^\| `(.*?)` \| ([A-Za-z ]*) \| (\w*) ?\|", re.MULTILINE)
PAGE = ROW.findall(ROOT.joinpath("docs", "locks.md").read_text())
# Not of tables alone, or what autogenerate and its users do not write.
NOT_KNOWN = re.compile(
    r"LOCK|SELECT|MERGE|COPY|REVOKE|ALTER DEFAULT|DO|CALL|VACUUM|ANALYZE|CLUSTER|REFRESH|EXPLAIN|SHOW|SAVEPOINT|NOTIFY|"
    r"(?:CREATE|ALTER|DROP) (?:STATISTICS|MATERIALIZED|RULE|EVENT|PUBLICATION|ROLE|OWNED|EXTENSION)|ALTER TRIGGER|"
    r"DROP \w+ .* CASCADE|CREATE TABLE x (?:\(\) INHERITS|AS|PARTITION)"
)


def plain(command: str) -> str:
    ((_, statement),) = split(command)
    return statement


@pytest.mark.parametrize(("command", "lock", "work"), PAGE, ids=[row[0] for row in PAGE])
def test_text_says_what_is_measured(command: str, lock: str, work: str) -> None:
    known = table_lock(plain(command))
    if known.mode == UNKNOWN:
        assert NOT_KNOWN.match(command)
        return
    assert known.mode == lock
    if known.work != MAY_REWRITE and "CONCURRENTLY" not in command and not command.startswith("UPDATE"):
        assert known.work == work


def test_of_several_actions_the_strongest_counts() -> None:
    lock = table_lock(plain("ALTER TABLE s.item VALIDATE CONSTRAINT c, ADD COLUMN a text, ADD COLUMN b bigserial"))
    assert (lock.mode, lock.table, lock.work) == ("ACCESS EXCLUSIVE", "s.item", "rewrites")
    assert table_lock(plain("ALTER TABLE item DROP COLUMN a, FROBNICATE b")).mode == UNKNOWN


def test_what_is_not_known_is_said() -> None:
    assert "not known" in str(table_lock("DO '…'"))


@pytest.mark.parametrize("column", ["ALWAYS AS IDENTITY", "BY DEFAULT AS IDENTITY", "ALWAYS AS (a * 2) STORED"])
def test_a_generated_column_does_not_make_a_new_table_unknown(column: str) -> None:
    assert table_lock(plain(f"CREATE TABLE item (a int, b int GENERATED {column})")).mode == NONE

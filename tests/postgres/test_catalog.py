"""What messages show of other sessions, and what they do not show."""

import pytest

from safe_migrations.postgres.catalog import mask


@pytest.mark.parametrize(
    ("query", "masked"),
    [
        ("SELECT a1, $1 FROM t2", "SELECT a1, $1 FROM t2"),
        ("SELECT 4711, 1.5e3", "SELECT '…', '…'"),
        ("ALTER ROLE a PASSWORD 'secret'", "ALTER ROLE a PASSWORD '…'"),
        ("SELECT 'it''s secret', 2", "SELECT '…', '…'"),
        (r"SELECT E'a\'secret', 2", "SELECT '…', '…'"),
        (r"SELECT 'a\', 'secret'", "SELECT '…', '…'"),
        ("/* don't */ SELECT 'secret'", "'…' SELECT '…'"),
        ("-- don't\nSELECT 'secret'", "'…' SELECT '…'"),
        ("SELECT \"it's\", 'secret'", "SELECT \"it's\", '…'"),
        ("SELECT $$secret$$, $x$secret $$ secret$x$, 3", "SELECT '…', '…', '…'"),
        ("SELECT 'cut off sec", "SELECT '…'"),
        ("SELECT $x$cut off $$ sec", "SELECT '…'"),
        ("SELECT\n  a,\tb", "SELECT a, b"),
        ("SELECT " + "x" * 200, "SELECT " + "x" * 93 + "…"),
    ],
)
def test_literals_are_masked_and_queries_shortened(query: str, masked: str) -> None:
    assert mask(query) == masked

"""A backfill in several processes, as on several machines: how many rows a second."""

import json

from sqlalchemy import URL

from support import Service, fetch

ROWS = 200_000
BACKFILL = """
import sqlalchemy as sa

from safe_migrations.backfills import Backfill

number = sa.table("number", sa.column("id"), sa.column("value"))
backfill = Backfill(
    table=number, key=("id",), values={"value": number.c.id * 2}, where=number.c.value.is_(None), batch_size=1000
)
"""
PREPARE = (
    "DROP SCHEMA IF EXISTS safe_migrations CASCADE",
    "DROP TABLE IF EXISTS number",
    "CREATE TABLE number (id bigint PRIMARY KEY, value bigint)",
    f"INSERT INTO number SELECT generate_series(1, {ROWS})",
    "ANALYZE number",
)


def write_backfill(service: Service) -> None:
    """Write the definition of the backfill."""
    folder = service.folder / "alembic" / "backfills"
    folder.mkdir()
    folder.joinpath("number.py").write_text(BACKFILL)


def rows_per_second(service: Service, database: URL, processes: int) -> float:
    """Run the backfill in so many processes, one worker each, from their first batch to their last."""
    for statement in PREPARE:
        fetch(database, statement)
    command = ("safe-migrations", "backfill", "number", "--json")
    workers = [service.start(*command) for _ in range(processes)]
    outputs = [worker.communicate() for worker in workers]
    if any(worker.returncode for worker in workers):
        raise RuntimeError(f"The backfill failed:\n{outputs}")
    (left,) = fetch(database, "SELECT count(*) AS number FROM number WHERE value IS DISTINCT FROM id * 2")
    if left.number:
        raise RuntimeError(f"The backfill has left {left.number} rows.")
    seconds: float = max(run["seconds"] for output, _ in outputs for run in json.loads(output))
    return ROWS / seconds

"""What happens to a service in production: traffic while a column becomes NOT NULL, a kill while an index is built."""

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from pairs import UPGRADE
from sqlalchemy import URL, text

from blocking_statement import wait_for
from lock_holder import holding
from support import Service
from traffic import traffic

FILL = "INSERT INTO item (name) SELECT 'item ' || n FROM generate_series(1, :rows) n"
# What the old code and the new code write.
OLD_WRITES = [
    text("INSERT INTO item (name) VALUES (gen_random_uuid()::text)"),
    text("UPDATE item SET updated_at = now() WHERE id = 1"),
]
NEW_WRITES = [
    text("INSERT INTO item (name, sku) VALUES (gen_random_uuid()::text, 'new')"),
    text("UPDATE item SET updated_at = now(), sku = 'new' WHERE id = 1"),
]
# As Alembic writes it, the revision fails: existing rows have no value. The usual correction:
NOT_NULL = """
op.add_column("item", sa.Column("sku", sa.Text()))
op.execute("UPDATE item SET sku = lower(name)")
op.alter_column("item", "sku", nullable=False)
"""
BEFORE_DEPLOYMENT = (
    ("safe-migrations", "revision", "add a sku", "--expression=item.sku=lower(name)"),
    ("safe-migrations", "deploy", "--without-backup"),
)
AFTER_DEPLOYMENT = (
    ("safe-migrations", "backfill"),
    ("safe-migrations", "deploy", "--contract", "--without-backup"),
)
INDEX = 'op.create_index_concurrently("ix_item_age", "item", ["created_at"])'
STOCK_INDEX = """
with op.get_context().autocommit_block():
    op.create_index("ix_item_age", "item", ["created_at"], postgresql_concurrently=True)
"""
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM item"
# A concurrent build waits half-way for the end of each older snapshot.
BUILDING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'virtualxid'"

Command = tuple[str, ...]


@dataclass
class Writes:
    """What writers have met.

    Attributes:
        longest: how long a statement took at most, in seconds.
        failed: how many statements failed.
    """

    longest: float
    failed: int


def not_null_in_phases(service: Service, database: URL) -> Writes:
    """Add a NOT NULL column to a table in use, as this library writes it.

    Args:
        service: at head, with rows in the table item.
        database: the service's.
    """
    models = service.folder / "models_db.py"
    models.write_text(models.read_text().replace("    name: ", "    sku: Mapped[str]\n    name: ", 1))
    return _writes(service, database, BEFORE_DEPLOYMENT, AFTER_DEPLOYMENT)


def not_null_at_once(service: Service, database: URL) -> Writes:
    """Add a NOT NULL column to a table in use, in a single revision.

    Args:
        service: at head, with rows in the table item.
        database: the service's.
    """
    service.add_revision("add_a_sku", NOT_NULL)
    return _writes(service, database, [UPGRADE], [])


def _writes(service: Service, database: URL, before: Sequence[Command], after: Sequence[Command]) -> Writes:
    """What the old code and the new code meet, and the commands before and after the deployment."""
    with traffic(database, OLD_WRITES, prepared_statement_cache_size=0) as writers:
        for command in before:
            service.succeed(*command)
        writers.let_pass()
        writers.works = NEW_WRITES
        for command in after:
            service.succeed(*command)
        writers.let_pass()
    return Writes(max(writers.longest.values()), len(writers.errors))


def killed_while_building(service: Service, database: URL) -> str:
    """Kill an upgrade that builds an index, then run the same command again; how this ends, in a few words.

    Args:
        service: whose next revision builds an index concurrently.
        database: the service's.
    """
    with holding(database, SNAPSHOT):
        upgrade = service.start(*UPGRADE)
        wait_for(database, BUILDING)
        os.killpg(upgrade.pid, signal.SIGKILL)
        upgrade.communicate()
    again = service.run(*UPGRADE)
    if again.returncode == 0:
        return "at head"
    reason = re.search(r'relation ".+" already exists', again.stderr)
    if reason is None:
        raise RuntimeError(f"The repeated upgrade failed:\n{again.stderr}")
    return f"failed: {reason[0]}"

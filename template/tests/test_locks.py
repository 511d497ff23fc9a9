"""What each new revision does to tables with rows, compared with what its phase allows."""

import pytest
from conftest import Database

from config import ENV_PREFIX, SERVICE_FOLDER
from safe_migrations.connection import run_async
from safe_migrations.verdict import judge


def test_new_revisions_lock_and_rewrite_no_more_than_their_phase_allows(empty_database: Database) -> None:
    if sentences := run_async(judge(SERVICE_FOLDER / "alembic.ini", empty_database.url, ENV_PREFIX)):
        pytest.fail("\n".join(sentences), pytrace=False)

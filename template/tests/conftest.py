"""The tests use databases on an ephemeral PostgreSQL, never the configured database."""

from pathlib import Path

import pytest
from safe_migrations.testing import Database as Database

pytest_plugins = ["safe_migrations.testing"]


@pytest.fixture(autouse=True)
def unconfigured(no_configuration: Path) -> None:
    """Tests do not see the developer's configuration."""

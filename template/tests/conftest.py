"""The tests have databases of their own, on an ephemeral PostgreSQL; nothing touches the one that is configured."""

from pathlib import Path

import pytest
from safe_migrations.testing import Database as Database

pytest_plugins = ["safe_migrations.testing"]


@pytest.fixture(autouse=True)
def unconfigured(no_configuration: Path) -> None:
    """Nothing of a developer's configuration reaches a test."""

"""What an update from the template must not leave behind."""

import shutil

import pytest

from config import SERVICE_FOLDER
from safe_migrations.template_update import unsolved


@pytest.mark.skipif(not shutil.which("git"), reason="without git there was no update")
def test_nothing_is_left_to_solve() -> None:
    assert unsolved(SERVICE_FOLDER) == []

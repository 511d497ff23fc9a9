"""The revision files, without a database; also a pre-commit hook."""

import re
from pathlib import Path

import pytest
from alembic.script import Script, ScriptDirectory

from config import SERVICE_FOLDER

SCRIPTS = ScriptDirectory(SERVICE_FOLDER / "alembic")


def test_one_head() -> None:
    heads = SCRIPTS.get_heads()
    assert len(heads) == 1, f"several heads {heads}: join them with `alembic merge -m 'merge' heads`"


@pytest.mark.parametrize("script", list(SCRIPTS.walk_revisions()), ids=lambda script: Path(script.path).name)
def test_file_is_named_in_order(script: Script) -> None:
    assert re.fullmatch(r"\d{8}_\d{4}_\w+\.py", Path(script.path).name), "want YYYYMMDD_NNNN_description.py"

"""The revision files, without a database; also a pre-commit hook."""

import re
from collections import Counter
from pathlib import Path

import pytest
from alembic.script import Script, ScriptDirectory

from config import SERVICE_FOLDER

SCRIPTS = ScriptDirectory(SERVICE_FOLDER / "alembic")


def test_one_head() -> None:
    heads = SCRIPTS.get_heads()
    assert len(heads) == 1, f"several heads {heads}: move the unapplied branch behind the other: pdm run migrate-rebase"


def number(script: Script) -> int:
    """The number in the name of a revision's file, YYYYMMDD_NNNN_description.py."""
    name = re.fullmatch(r"\d{8}_(\d{4})_\w+\.py", Path(script.path).name)
    assert name, f"{script.path} is not named YYYYMMDD_NNNN_description.py"
    return int(name[1])


@pytest.mark.parametrize("script", list(SCRIPTS.walk_revisions()), ids=lambda script: Path(script.path).name)
def test_file_is_numbered_after_those_before_it(script: Script) -> None:
    for before in SCRIPTS.get_revisions(script.down_revision or ()):
        assert number(before) < number(script), f"{before.path} comes before {script.path}: rename the later one"


def test_numbers_are_unique() -> None:
    numbers = Counter(number(script) for script in SCRIPTS.walk_revisions())
    assert max(numbers.values()) == 1, f"rename the later one of those that share a number: {numbers.most_common(1)}"

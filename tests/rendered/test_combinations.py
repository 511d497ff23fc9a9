"""Every pair of answers once: the rendering is whole and clean, and migrates up, down and up again."""

from typing import Any

import pytest
import yaml
from allpairspy import AllPairs
from sqlalchemy import URL

from support import UP_DOWN_UP, MypyCache, Render, check_file, tables

ANSWERS: dict[str, list[Any]] = {
    "python_version": ["3.11", "3.12", "3.13", "3.14"],
    "postgres_version": [15, 16, 17, 18],
    "ci": ["github", "gitlab", "none"],
    "updates": ["weekly", "renovate", "none"],
    "layout": ["standalone", "monorepo"],
    "outbox": [False, True],
    "containers": [True, False],
    "library_source": ["template", "index"],
    "service_name": ["orders", "true", "a_service_whose_name_has_forty_character"],
    "service_description": ["Takes orders", 'Bücher & "Bestellungen" \\ 100 % 📚'],
    "database_name": ["orders", "_" + "o" * 62],
    "database_port": ["1024", "65535"],
    "env_prefix": ["ORDERS", "A"],
    "platform_prefix": ["PLATFORM", "B_2"],
}
FIRST = 4  # of the combinations, in which each answer is given
COMBINATIONS = [dict(zip(ANSWERS, values, strict=True)) for values in AllPairs(list(ANSWERS.values()))]


@pytest.mark.parametrize("answers", COMBINATIONS, ids=range(len(COMBINATIONS)))
def test_combination(
    render: Render, database: URL, mypy_cache: MypyCache, thorough: bool, answers: dict[str, Any]
) -> None:
    if not thorough and COMBINATIONS.index(answers) >= FIRST:
        pytest.skip("each answer once is enough: pdm run test-all")
    not_asked = ["platform_prefix"] * (answers["layout"] == "standalone") + ["updates"] * (answers["ci"] == "none")
    answers = {name: answer for name, answer in answers.items() if name not in not_asked}
    service = render(**answers)
    service.configure(database)

    recorded = yaml.safe_load((service.folder / ".copier-answers.yml").read_text())
    assert recorded.items() >= answers.items()
    for path in service.folder.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            check_file(path)

    service.succeed("ruff", "check", ".")
    service.succeed("ruff", "format", "--check", ".")
    if thorough:  # the journeys check types as well
        with mypy_cache() as cache:
            service.succeed("mypy", "--cache-dir", cache, ".")

    service.succeed("python", "-c", UP_DOWN_UP)
    assert tables(database) == {"alembic_version", "item", *(["event_outbox"] if answers["outbox"] else [])}


def test_every_answer_is_in_the_first() -> None:
    for name, options in ANSWERS.items():
        assert {answers[name] for answers in COMBINATIONS[:FIRST]} == set(options), name

"""The questions: their number, their defaults, and what they say to an answer that can't be right."""

import ast
import keyword
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from copier import run_copy, run_recopy

from support import ROOT, TEMPLATE, Render, bare_environment
from warm_python import run

CONFIGURATION: dict[str, Any] = yaml.safe_load((ROOT / "copier.yml").read_text())
QUESTIONS = {name: question for name, question in CONFIGURATION.items() if not name.startswith("_")}

INVALID = [
    *[("service_name", name) for name in ["Orders", "order-service", "1orders", "_orders", "orders_", "a__b", ""]],
    *[("service_name", name) for name in ["../orders", "a/b", "orders\n", "{{ 1 }}", "été", "class", "o" * 41]],
    *[("service_name", name) for name in ["alembic", "config", "models_db", "safe_migrations", "postgres"]],
    *[("service_description", text) for text in ["", "  ", "two\nlines", "a\ttab", "x" * 201]],
    ("layout", "elsewhere"),
    *[("database_name", name) for name in ["", "Orders", "1db", "order-db", 'a"b', "o" * 64, "template1", "{{ 1 }}"]],
    *[("database_port", port) for port in ["abc", "80", "65536", "-1", "1.5", "true", "", "01024"]],
    *[("env_prefix", prefix) for prefix in ["", "orders", "1A", "A-B", "A_", "_A", "A\n", "{{ 1 }}", "P" * 41]],
    *[("platform_prefix", prefix) for prefix in ["", "platform", "A_", "P" * 41]],
    *[(question, answer) for question in ("outbox", "containers") for answer in ("maybe", "1", "0.0")],
    *[("python_version", version) for version in ["3.10", "3.15", "three"]],
    *[("postgres_version", version) for version in ["14", "19", "latest", "18.0"]],
    ("ci", "jenkins"),
    ("updates", "dependabot"),
    *[("library_source", source) for source in ["", "pypi", "https://pypi.example.com/simple"]],
]


@pytest.mark.parametrize(("question", "answer"), INVALID, ids=lambda value: repr(value)[:20])
def test_invalid_answer_is_refused_and_nothing_is_written(
    template: Path, tmp_path: Path, question: str, answer: str
) -> None:
    destination = tmp_path / "service"
    # platform_prefix is asked in a monorepo only.
    data = {"layout": "monorepo", question: answer}
    with pytest.raises(ValueError, match=f"'{question}': ") as refusal:
        run_copy(str(template), destination, data=data, defaults=True, unsafe=False, quiet=True)
    message = str(refusal.value)
    assert "\n" not in message
    assert any(hint in message for hint in (" like ", " is not in [")), message
    assert not destination.exists()


def command_line(template: Path, destination: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "copier", "copy", "--defaults", *arguments, str(template), str(destination))
    return run(command, template, bare_environment())


def test_command_line_says_it_in_its_last_line(template: Path, tmp_path: Path) -> None:
    process = command_line(template, tmp_path / "service", "-d", "service_name=Orders")
    assert process.returncode == 1
    last = process.stderr.strip().splitlines()[-1]
    assert "'service_name': use snake_case, like order_service: lower-case letters" in last
    assert not (tmp_path / "service").exists()


def test_destination_that_is_not_empty(template: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    process = command_line(template, tmp_path)
    assert process.returncode == 1
    last = process.stderr.strip().splitlines()[-1]
    assert f"{tmp_path}_new: this folder contains {tmp_path / 'README.md'}" in last
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_destination_with_folders_only(template: Path, tmp_path: Path) -> None:
    destination = tmp_path / "with [brackets]"
    (destination / "src" / "main" / "package").mkdir(parents=True)
    (destination / "src" / "main" / "package" / "main.py").write_text("mine")
    process = command_line(template, destination)
    assert process.returncode == 1
    assert "use an empty folder" in process.stderr.strip().splitlines()[-1]
    assert [path.name for path in destination.iterdir()] == ["src"]


def test_recopy_renders_no_revision_again(template: Path, tmp_path: Path) -> None:
    destination = tmp_path / "service"
    run_copy(str(template), destination, defaults=True, quiet=True)
    (baseline,) = (destination / "alembic" / "versions").glob("*.py")
    baseline.rename(baseline.with_name("20200101_0001_baseline.py"))
    (destination / "database.py").unlink()
    run_recopy(destination, defaults=True, overwrite=True, quiet=True)
    assert [path.name for path in (destination / "alembic" / "versions").glob("*.py")] == ["20200101_0001_baseline.py"]
    assert (destination / "database.py").is_file()


@pytest.mark.parametrize("kind", ["repository", "worktree"])
def test_destination_with_nothing_but_git(template: Path, tmp_path: Path, kind: str) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    if kind == "worktree":  # or a submodule: .git is a file
        (tmp_path / ".git").rename(tmp_path.with_suffix(".git"))
        (tmp_path / ".git").write_text(f"gitdir: {tmp_path.with_suffix('.git')}\n")
    assert command_line(template, tmp_path).returncode == 0
    assert (tmp_path / "alembic.ini").is_file()


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("standalone", ["cd '{}' && pdm install", "pdm run db-up", "pdm run migrate-upgrade"]),
        (
            "monorepo",
            [
                "test -d .venv || python3 -m venv .venv",
                "cd '{}' && pdm use --no-version-file ../../.venv/bin/python && pdm install",
                "pdm run db-up && pdm run migrate-upgrade",
            ],
        ),
    ],
)
def test_next_three_commands(template: Path, tmp_path: Path, layout: str, expected: list[str]) -> None:
    process = command_line(template, tmp_path / "a service", "-d", f"layout={layout}")
    assert process.returncode == 0
    lines = [line.strip() for line in process.stderr.splitlines() if re.match(r"  \S", line)]
    assert lines == [line.format(tmp_path / "a service") for line in expected]


def test_at_most_thirteen_questions_each_with_advice() -> None:
    asked = [name for name, question in QUESTIONS.items() if question.get("when", True) is not False]
    assert len(set(asked) - {"platform_prefix"}) <= 13, "of a service in a repository of its own"
    assert all(QUESTIONS[name]["help"] for name in asked)
    assert all("default" in question for question in QUESTIONS.values())


def test_no_trust_is_ever_needed() -> None:
    assert not {"_tasks", "_jinja_extensions", "_migrations"} & CONFIGURATION.keys()
    assert CONFIGURATION["_envops"] == {"undefined": "jinja2.StrictUndefined"}


@pytest.mark.parametrize("name", ["orders", "o" * 40, "order_service_2"])
def test_defaults_follow_from_the_name(render: Render, name: str) -> None:
    service = render(service_name=name)
    answers = yaml.safe_load((service.folder / ".copier-answers.yml").read_text())
    assert answers["database_name"] == name
    assert answers["env_prefix"] == name.upper()
    assert 15432 <= int(answers["database_port"]) < 16432
    assert "platform_prefix" not in answers, "not asked in a standalone service"
    assert f"platform_prefix = {name.upper()}\n" in (service.folder / "alembic.ini").read_text()


def test_what_the_service_imports_can_not_be_its_name() -> None:
    sources = [path.read_text() for path in TEMPLATE.rglob("*.py")]
    imported = {name for source in sources for name in imported_modules(ast.parse(source))}
    assert {"alembic", "sqlalchemy", "config"} <= imported
    refused = set(re.findall(r"'(\w+)'", QUESTIONS["service_name"]["validator"]))
    assert imported | set(keyword.kwlist) - {"False", "None", "True"} <= refused


def imported_modules(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names

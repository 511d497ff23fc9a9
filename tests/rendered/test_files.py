"""Which files a service gets, and what stands in them, without running them."""

import configparser
import re
import tomllib
from pathlib import Path

import pytest

from support import ROOT, TEMPLATE, Render, check_file

ALWAYS = {
    ".copier-answers.yml",
    ".env.example",
    ".gitignore",
    ".pre-commit-config.yaml",
    "README.md",
    "alembic",
    "alembic.ini",
    "config.py",
    "database.py",
    "docs",
    "models_db.py",
    "pyproject.toml",
    "tests",
}
CONTAINERS = {".dockerignore", "Dockerfile", "compose.yaml", "kubernetes"}


@pytest.mark.parametrize(
    ("answers", "more"),
    [
        ({"ci": "github", "containers": True}, {".github"} | CONTAINERS),
        ({"ci": "gitlab", "containers": False, "updates": "renovate"}, {".gitlab-ci.yml", "renovate.json"}),
        ({"ci": "none", "containers": False}, set()),
    ],
    ids=["github", "gitlab", "none"],
)
def test_exactly_these_files(render: Render, answers: dict[str, object], more: set[str]) -> None:
    folder = render(**answers).folder
    assert {path.name for path in folder.iterdir()} == ALWAYS | more
    assert {path.name for path in (folder / "alembic").iterdir()} == {"env.py", "script.py.mako", "versions"}
    assert {path.name for path in (folder / "tests").iterdir()} == {
        "conftest.py",
        "test_config.py",
        "test_item.py",
        "test_migrations.py",
    }


def test_readme_tells_what_each_file_is(render: Render) -> None:
    folder = render().folder
    rows = (folder / "README.md").read_text().partition("## What is where")[2].partition("\n## ")[0]
    names = re.findall(r"`([\w./]+)`", "".join(line.split("|")[1] for line in rows.splitlines() if "|" in line))
    missing = [name for name in names if not (folder / name).exists()]
    assert missing == ["alembic/backfills/"], "as soon as there is one"
    assert {"config.py", "database.py", "models_db.py", "alembic/env.py", "alembic.ini"} <= set(names)


def test_a_service_is_read_in_ten_minutes(render: Render) -> None:
    """It owns what is its own: no line of machinery."""
    files = [path for path in render().folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) <= 28
    assert sum(len(path.read_text().splitlines()) for path in files) <= 1100


def test_files_without_answers_are_copied_byte_for_byte(render: Render) -> None:
    folder = render().folder
    plain = [path for path in TEMPLATE.rglob("*") if path.is_file() and not re.search(r"[{}]|\.jinja$", str(path))]
    assert {TEMPLATE / "database.py", TEMPLATE / "alembic" / "env.py"} <= set(plain)
    for path in plain:
        assert (folder / path.relative_to(TEMPLATE)).read_bytes() == path.read_bytes()


def test_files_are_templates_only_where_an_answer_appears() -> None:
    for path in TEMPLATE.rglob("*.jinja"):
        assert re.search(r"\{\{|\{%", path.read_text()), path


def test_baseline_is_numbered_and_its_id_is_the_services_own(render: Render, tmp_path: Path) -> None:
    names, ids = set(), set()
    for name in ("orders", "payments"):
        (revision,) = (render(service_name=name).folder / "alembic" / "versions").glob("*.py")
        assert re.fullmatch(r"\d{8}_0001_baseline\.py", revision.name)
        assert f'= "{revision.with_name("HEAD").read_text().strip()}"' in revision.read_text()
        names.add(name)
        ids.update(re.findall(r'^revision: str = "([0-9a-f]{12})"$', revision.read_text(), re.MULTILINE))
    assert len(ids) == len(names) == 2


@pytest.mark.parametrize("outbox", [True, False])
def test_outbox_is_all_or_nothing(render: Render, outbox: bool) -> None:
    files = [path.read_text() for path in render(outbox=outbox).folder.rglob("*.py")]
    assert any("EventOutbox" in text for text in files) is outbox
    assert any("ix_event_outbox_unpublished" in text for text in files) is outbox


def test_description_is_text_and_never_evaluated(render: Render) -> None:
    description = 'Says "{{ 1 + 1 }}" \\ and {% raw %}'
    folder = render(service_description=description).folder
    assert tomllib.loads((folder / "pyproject.toml").read_text())["project"]["description"] == description
    assert description in (folder / "README.md").read_text()


def test_script_names_and_commands_of_the_standard(render: Render) -> None:
    project = tomllib.loads((render().folder / "pyproject.toml").read_text())
    scripts = {name: script.get("cmd") for name, script in project["tool"]["pdm"]["scripts"].items()}
    assert scripts.items() >= {
        ("migrate-upgrade", "alembic upgrade {args:head}"),
        ("migrate-downgrade", "alembic downgrade {args:-1}"),
        ("migrate-history", "alembic history"),
        ("migrate-current", "alembic current"),
        ("migrate-revision", "safe-migrations revision"),
        ("migrate-stamp", "alembic stamp {args}"),
        ("migrate-check", "alembic check"),
        ("migrate-sql", "alembic upgrade head --sql"),
        ("migrate-restore", "safe-migrations restore {args}"),
        ("migrate-report", "safe-migrations report"),
        *((f"migrate-{name}", f"safe-migrations {name}") for name in ("backup", "deploy", "locks", "rehearse")),
    }
    assert {"test", "lint", "format", "typecheck", "db-up", "db-down", "db-shell"} <= scripts.keys()


def test_dependencies_are_those_that_the_tests_here_run_with(render: Render) -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tested = {
        *ours["project"]["dependencies"],
        *ours["dependency-groups"]["service"],
        *(requirement for extra in ours["project"]["optional-dependencies"].values() for requirement in extra),
    }
    service = tomllib.loads((render().folder / "pyproject.toml").read_text())
    named = {*service["project"]["dependencies"], *service["dependency-groups"]["dev"]}
    assert {requirement for requirement in named if " @ " not in requirement} <= tested


def test_alembic_ini_has_no_url_and_what_the_standard_says(render: Render) -> None:
    parser = configparser.ConfigParser()
    parser.read_string((render().folder / "alembic.ini").read_text())
    alembic = dict(parser.items("alembic", raw=True))
    assert "sqlalchemy.url" not in alembic
    assert alembic["prepend_sys_path"] == "%(here)s"
    assert alembic["path_separator"] == "os"
    assert parser.get("post_write_hooks", "hooks") == "head_and_ruff"
    assert parser.get("handler_console", "args") == "(sys.stderr,)"


def test_no_secret_is_in_any_file(render: Render) -> None:
    folder = render(outbox=True, layout="monorepo", ci="gitlab").folder
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    texts = [path.read_text() for path in paths if "tests" not in path.relative_to(folder).parts]
    logins = {login for text in texts for login in re.findall(r"://([^/\s'\"]+)@", text)}
    passwords = {word for text in texts for word in re.findall(r"PASSWORD[\"']?[:=] *(\S+)", text)}
    assert logins == {"USER:PASSWORD", "postgres"}
    assert passwords
    assert all(word.startswith("${PLATFORM_DB_PASSWORD:?") for word in passwords), passwords


def test_every_file_parses_and_no_jinja_is_left(render: Render) -> None:
    folder = render(outbox=True, layout="monorepo").folder
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            check_file(path)

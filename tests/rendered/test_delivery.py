"""CI, containers and pre-commit, as far as they can be run here."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import URL

from releases import commit, git
from support import ROOT, MypyCache, Render, as_text, bare_environment
from warm_python import warm_path


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_templates_own_workflow_passes_zizmor() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    subprocess.run([zizmor, "--offline", "--no-progress", ROOT / ".github"], env=bare_environment(), check=True)


@pytest.mark.parametrize("layout", ["standalone", "monorepo"])
def test_github_runs_what_developers_run_on_the_chosen_postgres(render: Render, layout: str) -> None:
    service = render(layout=layout, postgres_version=16, python_version="3.13")
    workflow = load(service.folder / ".github" / "workflows" / ("orders.yml" if layout == "monorepo" else "ci.yml"))
    job = workflow["jobs"]["test"]
    assert job["services"]["postgres"]["image"] == "postgres:16"
    steps = job["steps"]
    assert [step["run"] for step in steps if "run" in step] == [
        "python -m pip install 'pdm[locked]'",
        "pdm install",
        "pdm run lint",
        "pdm run typecheck",
        "pdm run migrate-lint --github",
        "pdm run schema --check",
        "pdm run test",
        'pdm run migrate-report >> "$GITHUB_STEP_SUMMARY"',
    ]
    assert steps[1]["with"]["python-version"] == "3.13"
    assert "ORDERS_TEST_DATABASE_URL" in job["env"]
    in_monorepo = layout == "monorepo"
    assert (job.get("defaults") == {"run": {"working-directory": "services/orders"}}) is in_monorepo
    service.succeed("zizmor", "--offline", "--no-progress", ".github")


@pytest.mark.parametrize("layout", ["standalone", "monorepo"])
def test_gitlab_runs_the_same(render: Render, layout: str) -> None:
    job = load(render(layout=layout, ci="gitlab", postgres_version=15).folder / ".gitlab-ci.yml")["test-orders"]
    assert job["services"] == ["postgres:15"]
    scripts = ("lint", "typecheck", "migrate-lint", "schema --check", "test")
    assert job["script"] == [f"pdm run {script}" for script in scripts]
    for script in ("before_script", "after_script"):
        assert ("cd services/orders" in job[script]) is (layout == "monorepo")


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_reviewers_get_the_report_of_a_branch_also_where_lint_fails(render: Render, server: URL, ci: str) -> None:
    service = render(ci=ci)
    git(service.folder, "init", "--quiet", "--initial-branch=main")
    commit(service.folder)
    git(service.folder, "switch", "--quiet", "--create", "feature")
    service.add_revision("index", "op.create_index('ix_item_name_2', 'item', ['name'])")
    commit(service.folder)

    workflow = load(service.folder / (".github/workflows/ci.yml" if ci == "github" else ".gitlab-ci.yml"))
    if ci == "github":
        step = workflow["jobs"]["test"]["steps"][-1]
        assert step["if"] == "${{ !cancelled() }}"
        script, shown = step["run"], "summary.md"
    else:
        job = workflow["test-orders"]
        (script,), (shown,) = job["after_script"], job["artifacts"]["paths"]
        assert job["artifacts"]["when"] == "always"
    service.environment |= {
        "ORDERS_TEST_DATABASE_URL": as_text(server),
        "GITHUB_STEP_SUMMARY": "summary.md",
        "CI_API_V4_URL": "https://gitlab.example.com/api/v4",
        "CI_PROJECT_ID": "1",
    }
    process = service.run("bash", "-eo", "pipefail", "-c", script, path=warm_path())
    assert process.returncode == 1
    assert process.stderr.count("INFO ") < 5, "a line for each revision that runs"
    text = (service.folder / shown).read_text()
    assert text.startswith("## Migrations of `orders`\n")
    assert "require-concurrent-index-creation" in text
    assert "0002 A revision of a test" in text
    assert "0001 baseline" not in text


def test_compose_migrates_before_the_application_starts(render: Render) -> None:
    services = load(render(database_port=15555).folder / "compose.yaml")["services"]
    assert services["migrate"]["init"] is services["app"]["init"] is True, "or SIGTERM is lost while Python starts"
    assert services["postgres"]["image"] == "postgres:18"
    assert services["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    assert services["postgres"]["ports"] == ["127.0.0.1:15555:5432"]
    assert services["postgres"]["healthcheck"]["test"][0] == "CMD-SHELL"
    assert services["migrate"]["command"] == ["alembic", "upgrade", "head"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["app"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == "${ORDERS_DB_PASSWORD:?Set it in .env}"


def test_images_are_of_the_chosen_versions_and_do_not_run_as_root(render: Render) -> None:
    service = render(python_version="3.12", postgres_version=17)
    postgres = load(service.folder / "compose.yaml")["services"]["postgres"]
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql/data"], "where the image of this version writes"
    lines = (service.folder / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM")] == [
        "FROM python:3.12-slim AS build",
        "FROM python:3.12-slim",
    ]
    assert lines.index("USER 10001") > lines.index("COPY . .")
    assert lines[-1].startswith("CMD")


def test_image_has_compiled_libraries_and_builds_with_one_that_does_not_compile(render: Render, tmp_path: Path) -> None:
    install = "RUN pdm install --prod && "
    lines = (render().folder / "Dockerfile").read_text().splitlines()
    (compile_,) = (line.removeprefix(install) for line in lines if line.startswith(install))
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "library.py").touch()
    (tmp_path / ".venv" / "of_python_2.py").write_text("print 'hello'\n")
    subprocess.run(["sh", "-c", compile_], cwd=tmp_path, check=True)
    assert len(list(tmp_path.rglob("library.*.pyc"))) == 1


def test_image_holds_no_secret_and_no_development_file(render: Render) -> None:
    ignored = (render().folder / ".dockerignore").read_text().splitlines()
    assert {".*", "tests"} <= set(ignored), "hidden files: .env, .git, .postgres, .venv"


def test_pre_commit_passes_and_catches(render: Render, mypy_cache: MypyCache) -> None:
    service = render()
    service.environment["PRE_COMMIT_HOME"] = str(service.folder.parent / "pre-commit")
    service.succeed("git", "init", "--quiet")

    def pre_commit() -> subprocess.CompletedProcess[str]:
        service.succeed("git", "add", "--all")
        with mypy_cache() as cache:
            service.environment["MYPY_CACHE_DIR"] = cache
            return service.run("pre-commit", "run", "--all-files", "--color=never", path=warm_path())

    process = pre_commit()
    assert process.returncode == 0, process.stdout
    assert process.stdout.count("Passed") == 5

    readme, models = service.folder / "README.md", service.folder / "models_db.py"
    text, code = readme.read_text(), models.read_text()
    readme.write_text(f"<<<<<<< before updating\n{text}=======\nother\n>>>>>>> after updating\n")
    models.write_text(code + "\nunused: int = 'text'\n\n\n\n")
    baseline = service.succeed("alembic", "heads").split()[0]
    for branch in ("left", "right"):
        service.succeed("alembic", "revision", "--splice", "--head", baseline, "-m", branch)
    process = pre_commit()
    assert process.returncode == 1
    failed = [line.partition("...")[0] for line in process.stdout.splitlines() if line.endswith("Failed")]
    assert [name.partition(" ")[0] for name in failed] == ["No", "Style", "Types", "One", "New"]
    assert "several heads" in process.stdout

"""Bots that bring updates: Renovate's configuration, and what the weekly jobs of GitHub and GitLab run."""

import json
import shutil
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema  # type: ignore[import-untyped]

from releases import NEXT, Releases, change, commit, git, template_file
from safe_migrations.errors import MigrationError
from support import Render, Service
from warm_python import warm_path

LAYOUTS = ["standalone", "monorepo"]
CONFLICT = "alembic.ini"
JOBS = {"github": [".github/workflows/template-update.yml"], "gitlab": [".gitlab-ci.yml"]}


def jobs(service: Service, ci: str) -> Any:
    """The jobs of the service's CI, by name; of GitHub those of both workflows."""
    if ci == "gitlab":
        return yaml.safe_load((service.folder / ".gitlab-ci.yml").read_text())
    workflows = (service.folder / ".github" / "workflows").iterdir()
    return {name: job for path in workflows for name, job in yaml.safe_load(path.read_text())["jobs"].items()}


def test_files_are_as_their_readers_want_them(render: Render, tmp_path: Path) -> None:
    schemas: dict[str, list[str]] = defaultdict(list)
    combinations = [*product(("weekly", "renovate"), ("github", "gitlab"), LAYOUTS), ("none", "github", "standalone")]
    for updates, ci, layout in combinations:
        service = render(tmp_path / f"{updates}-{ci}-{layout}", ci=ci, layout=layout, updates=updates)
        assert len(jobs(service, ci)) == (2 if updates == "weekly" else 1)
        files = service.folder.glob({"github": ".github/workflows/*", "gitlab": ".gitlab-ci.yml"}[ci])
        schemas[{"github": "github-workflows", "gitlab": "gitlab-ci"}[ci]] += map(str, files)
        renovate = service.folder / "renovate.json"
        is_read = layout == "standalone"  # Renovate reads it at the root of a repository only
        assert renovate.exists() is (is_read and updates == "renovate")
        if renovate.exists():
            schemas["renovate"].append(str(renovate))
            rules = json.loads(renovate.read_text())["packageRules"]
            assert not any("copier" in rule.get("matchManagers", []) and rule.get("enabled") is False for rule in rules)
            assert "python" in left_alone(rules)
    assert {schema: len(files) for schema, files in schemas.items()} == {
        "github-workflows": 7,
        "gitlab-ci": 4,
        "renovate": 2,
    }
    for schema, paths in schemas.items():
        assert not check_jsonschema(["--builtin-schema", f"vendor.{schema}", *paths], standalone_mode=False), schema


def left_alone(rules: list[dict[str, Any]]) -> set[str]:
    """The packages that Renovate does not touch."""
    return {name for rule in rules if rule.get("enabled") is False for name in rule.get("matchPackageNames", [])}


@pytest.mark.parametrize("source", ["template", "index"])
def test_the_library_moves_with_the_template_or_by_itself(render: Render, source: str) -> None:
    service = render(library_source=source, updates="renovate")
    rules = json.loads((service.folder / "renovate.json").read_text())["packageRules"]
    assert ("alembic-safe-migrations" in left_alone(rules)) is (source == "template")


@pytest.mark.parametrize("updates", ["renovate", "both"])
def test_all_that_the_template_pins_is_named(render: Render, updates: str) -> None:
    service = render(updates=updates)
    rules = json.loads((service.folder / "renovate.json").read_text())["packageRules"]
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        assert "==" not in (service.folder / name).read_text(), "a rule would have to name the package"
    files = {name for rule in rules for name in rule.get("matchFileNames", [])}
    assert files == {path.relative_to(service.folder).as_posix() for path in service.folder.glob(".github/*/*")}


def test_services_do_not_all_ask_at_once(render: Render) -> None:
    names = ("orders", "payments", "stock")
    paths = [render(service_name=name).folder / ".github" / "workflows" / "template-update.yml" for name in names]
    assert len({yaml.safe_load(path.read_text())[True]["schedule"][0]["cron"] for path in paths}) == len(names)


def both_change(template: Path) -> None:
    """A later release changes a line that the service has changed."""
    change(template_file(template, CONFLICT), "prepend_sys_path = %(here)s", "prepend_sys_path = theirs")


@pytest.fixture(scope="module")
def later(toy: Releases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with that release."""
    return toy.with_later(tmp_path_factory.mktemp("later") / "template.git", both_change)


def cloned(service: Service, rendering: Service, ci: str) -> Service:
    """The service as CI has it: a clone of a repository that others push to, with a rendering's job and scripts."""
    for name in ("pyproject.toml", *JOBS[ci]):
        shutil.copy(rendering.folder / name, service.folder / name)
    commit(service.folder)
    folder = service.folder.with_name("cloned")
    origin = folder.with_suffix(".git")
    git(service.folder, "clone", "--quiet", "--bare", str(service.folder), str(origin))
    git(service.folder, "clone", "--quiet", str(origin), str(folder))
    git(origin, "config", "receive.advertisePushOptions", "true")
    return Service(folder, service.env_prefix, service.environment)


def run_update(service: Service, ci: str) -> tuple[int, str]:
    """What the job runs: its status, and what it prints."""
    job = jobs(service, ci)["update" if ci == "github" else "template-update-orders"]
    script = job["steps"][-1]["run"] if ci == "github" else job["script"][-1]
    service.environment |= {"CI_SERVER_HOST": "gitlab.example.com", "CI_DEFAULT_BRANCH": "main"}
    process = service.run("bash", "-eo", "pipefail", "-c", script, path=warm_path())
    return process.returncode, process.stdout + process.stderr


def pushed(service: Service) -> str:
    """The branches that the repository has besides the main one."""
    return git(service.folder, "ls-remote", "--heads", "origin", "template-update*")


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_the_job_pushes_a_conflict_for_a_person_and_never_over_their_work(
    toy: Releases, later: Path, render: Render, tmp_path: Path, ci: str
) -> None:
    service = toy.service(tmp_path / "made", NEXT, template=later)
    change(service.folder / CONFLICT, "prepend_sys_path = %(here)s", "prepend_sys_path = ours")
    service = cloned(service, render(ci=ci), ci)

    status, output = run_update(service, ci)
    assert status == MigrationError.exit_status, f"red, until a reviewer decides: {output}"
    branch = pushed(service)
    assert branch.endswith("refs/heads/template-update\n"), output
    text = git(service.folder, "show", f"origin/template-update:{CONFLICT}")
    assert text.index("= ours") < text.index("=======") < text.index("= theirs")

    git(service.folder, "switch", "--quiet", "-")
    status, output = run_update(service, ci)
    assert status == 0
    assert "waits for review" in output
    assert pushed(service) == branch


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_the_job_pushes_nothing_where_nothing_is_new(toy: Releases, render: Render, tmp_path: Path, ci: str) -> None:
    service = cloned(toy.service(tmp_path / "made", NEXT), render(ci=ci), ci)
    status, output = run_update(service, ci)
    assert status == 0, output
    assert "Up to date" in output
    assert pushed(service) == ""

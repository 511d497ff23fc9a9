"""The workflow that publishes; that it passes zizmor, with the other one, is in rendered/test_delivery.py."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from releases import NEXT, VERSIONS
from support import ROOT, bare_environment

WORKFLOWS = ROOT / ".github" / "workflows"


@pytest.fixture
def workflow() -> dict[str, Any]:
    return dict(yaml.load((WORKFLOWS / "publish.yml").read_text(), yaml.BaseLoader))  # noqa: S506  # or `on` is True


def test_workflows_are_those_of_github() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    files = [WORKFLOWS / "ci.yml", WORKFLOWS / "publish.yml"]
    subprocess.run([program, "--builtin-schema", "vendor.github-workflows", *files], env=bare_environment(), check=True)


def test_a_tag_of_a_release_publishes_and_nothing_else_does(workflow: dict[str, Any]) -> None:
    assert workflow["on"].keys() == {"push"}
    assert workflow["on"]["push"].keys() == {"tags"}
    (pattern,) = workflow["on"]["push"]["tags"]
    started = re.compile(pattern.replace(".", r"\."))  # of GitHub's patterns, it has ranges and + alone
    assert all(started.fullmatch(version) for version in (*VERSIONS, NEXT))
    assert not any(started.fullmatch(other) for other in ("main", f"{NEXT}rc1", f"v{NEXT}", "2.0"))


def test_only_the_job_that_runs_no_code_of_the_repository_may_publish(workflow: dict[str, Any]) -> None:
    """Whoever gets code into the build, such as a dependency's, has no token of PyPI there."""
    assert workflow["permissions"] == {}
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert build["permissions"] == {"contents": "read"}
    assert publish["permissions"] == {"id-token": "write"}
    assert (publish["environment"], publish["needs"]) == ("pypi", "build")
    assert [step["uses"].partition("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert "attestations" not in publish["steps"][-1].get("with", {}), "they are on by default"
    assert not re.search(r"secrets\.|password", (WORKFLOWS / "publish.yml").read_text().partition("name:")[2])


def test_actions_are_pinned_by_commit(workflow: dict[str, Any]) -> None:
    uses = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert uses
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in uses)

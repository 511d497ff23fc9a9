"""`fleet update`: what becomes of each service, in clones and in a monorepo."""

import os
import signal
from pathlib import Path

import pytest

from releases import IDENTITY, LATER, NEXT, Releases, commit, git, path_to_pdm, template_file
from safe_migrations.fleet import updates
from safe_migrations.fleet.processes import Jobs
from safe_migrations.fleet.services import find_services
from support import Service

BRANCH = "template-update"
NAMES = ("broken", "conflict", "current", "dirty", "good", "own")


def change(template: Path) -> None:
    line = template_file(template, "database.py")
    line.write_text(line.read_text().replace("5", "6"))
    template.joinpath("template", "later.txt").write_text("the template's\n")


@pytest.fixture(scope="module")
def later(toy: Releases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.with_later(tmp_path_factory.mktemp("later") / "template.git", change)


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def monorepo(toy: Releases, later: Path, tmp_path: Path) -> Path:
    """A service of each kind."""
    root = tmp_path / "fleet"
    for name in NAMES:
        toy.uncommitted(root / name, NEXT, template=later, layout="monorepo")
    root.joinpath("conflict", "database.py").write_text('"""Its engine."""\n\nPOOL = 7\n')
    answers = root / "current" / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace(f"_commit: {NEXT}", f"_commit: {LATER}"))
    root.joinpath("own", ".copier-answers.yml").unlink()
    git(root, "init", "--quiet")
    commit(root)
    root.joinpath("dirty", "database.py").write_text("half-written")
    return root


@pytest.mark.usefixtures("forked_copier")
def test_each_service_has_its_own_result(
    monorepo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = monorepo
    monkeypatch.setenv("PATH", path_to_pdm(tmp_path / "programs"))
    pdm = tmp_path / "programs" / "pdm"
    pdm.write_text('#!/bin/sh\ntest "$2" != test || test "${PWD##*/}" != broken || { echo 1 failed; exit 3; }\n')
    status = updates.run(find_services(root), Jobs(4), BRANCH, checks=True)
    output = capsys.readouterr().out
    rows = {line.split()[0]: line for line in output.splitlines() if line.startswith(NAMES)}
    assert status == 21, "the worst: that of the refused service"
    assert f"{NEXT} → {LATER}" in rows["good"]
    assert BRANCH in rows["good"]
    assert "pdm run test" in rows["broken"]
    assert "database.py" in rows["conflict"]
    assert "refused" in rows["dirty"]
    assert "not made from a template" in rows["own"]
    assert "current" not in rows, "it is only counted"
    assert "1 failed" in output
    assert root.joinpath("dirty", "database.py").read_text() == "half-written"
    assert not root.joinpath("dirty", "later.txt").exists()
    assert "<<<<<<<" in root.joinpath("conflict", "database.py").read_text()
    assert git(root / "good", "log", "--format=%s", "-1", "--", ".") == f"Update from the template to {LATER}\n"
    assert git(root / "good", "status", "--porcelain", "--", ".") == ""
    assert "later.txt" in git(root / "broken", "status", "--porcelain", "--", "."), "a failed check: nothing committed"
    assert git(root, "branch", "--show-current").strip() == BRANCH
    assert f'do git -C "$folder" push origin {BRANCH}' in output


@pytest.mark.usefixtures("forked_copier")
def test_a_clone_stays_on_its_branch_unless_it_is_updated(
    toy: Releases, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = toy.service(tmp_path / "fleet" / "good", NEXT, template=later).folder
    members, before = find_services(folder.parent), git(folder, "branch", "--show-current")
    git(folder, "branch", BRANCH)  # which may have somebody's work
    assert updates.run(members, Jobs(1), BRANCH, checks=False) == 19
    assert BRANCH in capsys.readouterr().out
    assert git(folder, "branch", "--show-current") == before
    assert git(folder, "status", "--porcelain") == ""

    git(folder, "branch", "--delete", BRANCH)
    assert updates.run(members, Jobs(1), BRANCH, checks=False) == 0
    assert git(folder, "branch", "--show-current").strip() == BRANCH
    assert git(folder, "status", "--porcelain") == ""


def test_an_interrupt_leaves_each_service_whole(toy: Releases, later: Path, tmp_path: Path) -> None:
    root = tmp_path / "fleet"
    services = [f"good_{number}" for number in range(3)]
    for name in services:
        toy.service(root / name, NEXT, template=later)
    process = Service(root, "", environment=dict(IDENTITY)).start(
        "safe-migrations", "fleet", "update", "--without-checks", "--jobs=2"
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("good"), "the first one has ended"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    states = {name: git(root / name, "status", "--porcelain") for name in services}
    updated = " M .copier-answers.yml\n M database.py\n?? later.txt\n"
    assert {*states.values()} == {"", updated}, states

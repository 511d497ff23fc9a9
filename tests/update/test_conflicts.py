"""Where service and template have changed the same lines, a person decides: nothing is lost or overlooked."""

from pathlib import Path

import pytest

from releases import NEXT, Releases, change, commit, git, template_file
from support import Service

# A line of each file that is both's: as it is, as the service wants it, and as a later release has it.
LINES = {
    "alembic/env.py": ("postgresql://localhost", "postgresql://ours", "postgresql://theirs"),
    "alembic.ini": ("prepend_sys_path = %(here)s", "prepend_sys_path = ours", "prepend_sys_path = theirs"),
    "config.py": ("'localhost'", "'ours'", "'theirs'"),
    "pyproject.toml": ('"pytest>=9.0"', '"pytest>=9.0.1"', '"pytest>=9.0.2"'),
    ".github/workflows/ci.yml": ("timeout-minutes: 15", "timeout-minutes: 16", "timeout-minutes: 17"),
    "Dockerfile": ("USER 10001", "USER ours", "USER theirs"),
}


def theirs(template: Path) -> None:
    """What the later release changes; it brings a file as well."""
    (template / "template" / "later.txt").write_text("theirs\n")
    change(template_file(template, "database.py"), '"""', '"""Theirs. ')
    for name, (old, _, new) in LINES.items():
        change(template_file(template, name), old, new)


@pytest.fixture(scope="module")
def later(toy: Releases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with a later release that changes these lines."""
    return toy.with_later(tmp_path_factory.mktemp("later") / "template.git", theirs)


@pytest.fixture
def service(toy: Releases, later: Path, tmp_path: Path) -> Service:
    """A service that has changed the same lines."""
    service = toy.service(tmp_path / "orders", NEXT, template=later)
    for name, (old, new, _) in LINES.items():
        change(service.folder / name, old, new)
    git(service.folder, "config", "color.ui", "always")
    commit(service.folder)
    return service


def test_both_texts_stay_and_nobody_lets_them_pass_until_they_are_taken_back(service: Service) -> None:
    process = service.run("python", "-m", "safe_migrations", "template-update")
    assert process.returncode
    assert "Traceback" not in process.stderr
    assert "\x1b" not in process.stderr, "no colour, whatever git is told"
    for name, (_, ours, theirs) in LINES.items():
        assert f"  {name}: a conflict" in process.stderr
        text = (service.folder / name).read_text()
        assert text.index("<<<<<<< before updating") < text.index(ours) < text.index("=======") < text.index(theirs)
    assert set(git(service.folder, "diff", "--name-only", "--diff-filter=U").split()) == set(LINES)

    assert service.run("git", "commit", "--message", "unseen").returncode != 0, "git refuses what is unmerged"
    again = service.run("python", "-m", "safe_migrations", "template-update")
    assert again.returncode
    assert "Nothing was changed" in again.stderr
    assert "\n  .github/" in again.stderr
    git(service.folder, "checkout", "--ours", ".")
    git(service.folder, "checkout", "--merge", "Dockerfile")
    git(service.folder, "add", "--all")
    checked = service.run("python", "-m", "pytest", "-p", "no:cacheprovider", "tests/test_template.py")
    assert checked.returncode
    assert "Dockerfile: a conflict" in checked.stdout, "CI finds it even if git was told that all is well"

    assert service.folder.joinpath("later.txt").exists()
    service.succeed("bash", "-euc", process.stderr.splitlines()[-1])
    assert git(service.folder, "status", "--porcelain", "--ignored", "--", ":!*__pycache__*") == ""
    assert "postgresql://ours" in (service.folder / "alembic" / "env.py").read_text()


def test_whatever_a_person_has_told_git(service: Service, tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    for name in ("pre-commit", "post-checkout"):
        hook = tmp_path / "hooks" / name
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    (tmp_path / "attributes").write_text("*.py -diff\n* text eol=crlf\n")
    file = service.folder / "tests" / "conftest.py"  # which the release does not change
    file.write_text(file.read_text() + "# of our own   \n")
    service.folder.joinpath("größe.txt").write_text("x\n")
    commit(service.folder)
    settings = {
        "apply.whitespace": "fix",
        "core.attributesFile": str(tmp_path / "attributes"),
        "core.hooksPath": str(tmp_path / "hooks"),
        "core.quotePath": "false",
        "diff.noprefix": "true",
        "status.branch": "true",
        "status.showUntrackedFiles": "no",
    }
    for name, value in settings.items():
        git(tmp_path, "config", "--file", str(tmp_path / "gitconfig"), name, value)
    service.environment["GIT_CONFIG_GLOBAL"] = str(tmp_path / "gitconfig")
    service.environment |= {"GIT_DIR": str(service.folder / ".git"), "GIT_WORK_TREE": "/"}  # as in a hook of git's
    process = service.run("python", "-m", "safe_migrations", "template-update")
    assert "Or revert the update:" in process.stderr
    for name, (_, ours, theirs) in LINES.items():
        assert process.stderr.count(f"  {name}: a conflict") == 1
        text = (service.folder / name).read_text()
        assert text.index(ours) < text.index(theirs)
    assert file.read_text().endswith("# of our own   \n")

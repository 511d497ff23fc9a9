"""Where a service's alembic-safe-migrations comes from: a requirement that pip and PDM install, without a secret."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from releases import commit, git
from support import Render, bare_environment

URL = "https://git.example.com/platform/template.git"


@pytest.fixture(scope="session")
def repository(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template in a repository: the tag 2.0.0, and one commit after it."""
    folder = tmp_path_factory.mktemp("repository") / "a template"
    shutil.copytree(template, folder)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    git(folder, "tag", "2.0.0")
    commit(folder, "not released")
    return folder


def copy(source: str, folder: Path, repository: Path, *options: str, working: Path | None = None) -> str:
    """Copy a service from there; git finds the repository under every address, without a network."""
    addresses = {"GIT_CONFIG_COUNT": str(len(ADDRESSES)), "HOME": str(repository.parent)}
    for number, address in enumerate(ADDRESSES):
        addresses[f"GIT_CONFIG_KEY_{number}"] = f"url.{repository}.insteadOf"
        addresses[f"GIT_CONFIG_VALUE_{number}"] = address
    command = [sys.executable, "-m", "copier", "copy", "--defaults", "--data=service_name=orders", *options]
    environment = bare_environment(**addresses)
    process = subprocess.run(
        [*command, source, str(folder)], cwd=working, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stderr


def requirement(folder: Path) -> str:
    """What a service depends on."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    (line,) = (each for each in project["project"]["dependencies"] if each.startswith("alembic-safe-migrations"))
    Requirement(line)
    return str(line)


# As typed, as git gets it, and as a service has it.
SOURCES = {
    URL: (URL, f"git+{URL}"),
    f"git+{URL}": (URL, f"git+{URL}"),
    "https://somebody:s3cret@git.example.com/platform/template.git": (None, f"git+{URL}"),
    "https://s3cret@git.example.com/platform/template.git": (None, f"git+{URL}"),
    "ssh://git@git.example.com:2222/platform/template.git": (
        None,
        "git+ssh://git@git.example.com:2222/platform/template.git",
    ),
    "ssh://git:s3cret@git.example.com/platform/template.git": (
        None,
        "git+ssh://git@git.example.com/platform/template.git",
    ),
    "git@git.example.com:platform/template.git": (None, "git+ssh://git@git.example.com/platform/template.git"),
    "gh:platform/template": ("https://github.com/platform/template.git", "git+https://github.com/platform/template"),
    "gl:platform/template.git": (
        "https://gitlab.com/platform/template.git",
        "git+https://gitlab.com/platform/template.git",
    ),
}
ADDRESSES = [address or typed for typed, (address, _) in SOURCES.items()]


@pytest.mark.parametrize("typed", SOURCES)
def test_release_is_named_by_its_tag(typed: str, repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "orders"
    copy(typed, folder, repository)
    assert requirement(folder) == f"alembic-safe-migrations @ {SOURCES[typed][1]}@2.0.0"
    for file in folder.rglob("*"):  # Copier itself writes the address that was typed into its answers
        assert not file.is_file() or file.name == ".copier-answers.yml" or "s3cret" not in file.read_text()


def test_anything_else_is_named_by_its_commit(repository: Path, tmp_path: Path) -> None:
    copy(URL, tmp_path / "orders", repository, "--vcs-ref=HEAD")
    head = git(repository, "rev-parse", "HEAD").strip()
    assert requirement(tmp_path / "orders") == f"alembic-safe-migrations @ git+{URL}@{head}"


@pytest.mark.parametrize("typed", ["{0}", "../{1}/{2}", "git+file://{0}", "~/{2}"])
def test_folder_is_named_by_its_path(repository: Path, typed: str, tmp_path: Path) -> None:
    source = typed.format(repository, repository.parent.name, repository.name)
    copy(source, tmp_path / "orders", repository, working=repository.parent)
    assert requirement(tmp_path / "orders") == f"alembic-safe-migrations @ {repository.as_uri()}"


def test_package_index(render: Render) -> None:
    service = render(library_source="index")
    project = tomllib.loads(service.folder.joinpath("pyproject.toml").read_text())
    assert "alembic-safe-migrations>=2.0,<3" in project["project"]["dependencies"]
    assert "file://" not in service.folder.joinpath("pyproject.toml").read_text()


def test_development_takes_the_extras_from_there(render: Render) -> None:
    """Where the library comes from stands once, and pip and PDM read the second line by the first."""
    groups = tomllib.loads(render().folder.joinpath("pyproject.toml").read_text())["dependency-groups"]
    (extras,) = (Requirement(each) for each in groups["dev"] if "alembic-safe-migrations" in each)
    assert (extras.extras, extras.url) == ({"dev", "lint", "template"}, None)


def test_message_tells_that_a_folder_is_one_machines(repository: Path, tmp_path: Path) -> None:
    assert "library_source=index" in copy(str(repository), tmp_path / "folder", repository)
    assert "library_source=index" not in copy(URL, tmp_path / "address", repository)

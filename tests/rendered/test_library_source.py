"""Where a service's alembic-safe-migrations comes from: a requirement that pip and PDM install, without a secret."""

import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from releases import commit, git
from support import Render, bare_environment
from warm_python import run

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


def addresses(repository: Path) -> dict[str, str]:
    """The environment in which git finds the repository under every address, without a network."""
    variables = {"GIT_CONFIG_COUNT": str(len(ADDRESSES)), "HOME": str(repository.parent)}
    for number, address in enumerate(ADDRESSES):
        variables[f"GIT_CONFIG_KEY_{number}"] = f"url.{repository}.insteadOf"
        variables[f"GIT_CONFIG_VALUE_{number}"] = address
    return bare_environment(**variables)


def copy(source: str, folder: Path, repository: Path, *options: str, working: Path | None = None) -> str:
    """Copy a service from there, and return what Copier says."""
    command = (sys.executable, "-m", "copier", "copy", "--defaults", "--data=service_name=orders", *options)
    process = run((*command, source, str(folder)), working or repository.parent, addresses(repository))
    assert process.returncode == 0, process.stderr
    return process.stderr


def requirement(folder: Path) -> str:
    """What a service depends on; what its developers install besides comes from the same place."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    (line,) = (line for line in project["project"]["dependencies"] if line.startswith("alembic-safe-migrations"))
    (extras,) = (line for line in project["dependency-groups"]["dev"] if line.startswith("alembic-safe-migrations"))
    base, development = Requirement(line), Requirement(extras)
    assert development.extras == {"dev", "lint", "template"}
    assert (base.name, base.url, base.specifier) == (development.name, development.url, development.specifier)
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
    "ssh://git:s3:cr@t@git.example.com/platform/template.git": (
        None,
        "git+ssh://git@git.example.com/platform/template.git",
    ),
    "git.example.com:platform/template.git": (None, "git+ssh://git.example.com/platform/template.git"),
    "git@git.example.com:/platform/template.git": (None, "git+ssh://git@git.example.com/platform/template.git"),
    "git+https://git.example.com/platform/another/": (
        "https://git.example.com/platform/another",
        "git+https://git.example.com/platform/another",
    ),
    "gh:/platform/template": ("https://github.com/platform/template.git", "git+https://github.com/platform/template"),
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


@pytest.mark.parametrize("typed", ["{0}", "git+file://{0}"])
def test_bare_repository_is_asked_through_git(repository: Path, typed: str, tmp_path: Path) -> None:
    """It holds no files to build from. PDM takes git+file:/// for ssh, so the host is named."""
    bare = tmp_path / "[a] template.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), str(bare))
    copy(typed.format(bare), tmp_path / "orders", repository)
    expected = bare.as_uri().replace("file:///", "git+file://localhost/")
    assert requirement(tmp_path / "orders") == f"alembic-safe-migrations @ {expected}@2.0.0"


def test_package_index(render: Render) -> None:
    folder = render(library_source="index").folder
    assert requirement(folder) == "alembic-safe-migrations>=2.0,<3"
    assert "file://" not in folder.joinpath("pyproject.toml").read_text()


def test_requirement_moves_with_an_update(repository: Path, tmp_path: Path) -> None:
    """A bot needs no answer: the next release is named in both lines."""
    template = tmp_path / "template"
    git(tmp_path, "clone", "--quiet", str(repository), str(template))
    folder = tmp_path / "orders"
    copy(URL, folder, template)
    before = requirement(folder)
    git(folder, "init", "--quiet")
    commit(folder)
    git(template, "tag", "2.1.0")
    command = (sys.executable, "-m", "copier", "update", "--defaults", "--skip-answered", str(folder))
    process = run(command, folder, addresses(template))
    assert process.returncode == 0, process.stderr
    assert requirement(folder) == before.replace("@2.0.0", "@2.1.0") != before


@pytest.mark.parametrize(
    ("source", "option", "image", "reason"),
    [
        (URL, "template", "python:3.11", "which has no git"),
        (URL, "index", "python:3.11-slim", None),
        ("{0}", "template", "python:3.11-slim", "local folder"),
    ],
)
def test_dockerfile_has_git_where_it_needs_git_and_a_message_says_that_a_folder_is_one_machines(
    repository: Path, tmp_path: Path, source: str, option: str, image: str, reason: str | None
) -> None:
    message = copy(source.format(repository), tmp_path / "orders", repository, f"--data=library_source={option}")
    assert ("copier copy" in message) is (source == "{0}")
    lines = (tmp_path / "orders" / "Dockerfile").read_text().splitlines()
    assert next(line for line in lines if line.startswith("FROM")) == f"FROM {image} AS build"
    assert reason in lines[0] if reason else lines[0].startswith("FROM")


@pytest.mark.parametrize(
    ("added", "expected"),
    [("", f"alembic-safe-migrations @ git+{URL}@2.0.0"), ("library_source=index", "alembic-safe-migrations>=2.0,<3")],
)
def test_command_of_the_message_takes_it_from_elsewhere(
    repository: Path, template: Path, tmp_path: Path, added: str, expected: str
) -> None:
    """Also after a copy from a folder without git, by a relative path, where `copier update` fails."""
    shutil.copytree(template, tmp_path / "template")
    folder = tmp_path / "orders"
    message = copy("template", folder, repository, "--data=ci=gitlab", working=tmp_path)
    (line,) = re.findall(r"^ +copier (copy .*)$", message, re.MULTILINE)
    assert not added or f"--data {added}" in message
    options = [*shlex.split(line.replace("URL", URL)), *(["--data", added] * bool(added))]
    process = run((sys.executable, "-m", "copier", *options), folder, addresses(repository))
    assert process.returncode == 0, process.stderr
    assert requirement(folder) == expected
    assert (folder / ".gitlab-ci.yml").exists(), "answers are kept"
    assert str(tmp_path) not in "".join(path.read_text() for path in folder.rglob("*") if path.is_file())

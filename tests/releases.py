"""The template's releases, each under its tag, and services that were made of them."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy

from support import ROOT, Service, bare_environment

IDENTITY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
RELEASES: list[dict[str, str]] = tomllib.loads((ROOT / "RELEASES.toml").read_text())["release"]
VERSIONS = [release["version"] for release in RELEASES]
NEXT = f"{VERSIONS[-1].partition('.')[0]}.{int(VERSIONS[-1].split('.')[1]) + 1}.0"  # what the working tree would be
LATER = f"{int(VERSIONS[-1].partition('.')[0]) + 1}.0.0"  # and one after that, as a test makes it


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody, and return what it prints."""
    environment = bare_environment(**IDENTITY)
    process = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, f"git {arguments}: {process.stdout}{process.stderr}"
    return process.stdout


def commit(folder: Path, message: str = "own work") -> None:
    """Commit whatever is new."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


def release(template: Path, version: str) -> None:
    """Commit the template's files, and tag them as a version."""
    commit(template, version)
    git(template, "tag", version)


def copy_working_tree(destination: Path) -> None:
    """The files of this repository as they are now, without what git ignores."""
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if (ROOT / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, destination / name)


def template_file(template: Path, name: str) -> Path:
    """The file of which a file of services is made; its own name may have conditions in it."""
    for path in (template / "template").rglob("*"):
        plain = re.sub(r"\{[%{].*?[%}]\}", "", path.relative_to(template / "template").as_posix())
        if plain.removesuffix(".jinja") == name:
            return path
    raise LookupError(name)


def clone_with_releases(destination: Path) -> None:
    """A clone of this repository with a tag for each release, and the working tree as the next one."""
    if not (ROOT / ".git").exists() or git(ROOT, "rev-parse", "--is-shallow-repository").strip() == "true":
        pytest.skip("the releases are in the history, which is not here: git fetch --unshallow")
    git(ROOT, "clone", "--quiet", "--no-local", "--no-checkout", "--no-tags", str(ROOT), str(destination))
    for each in RELEASES:
        git(destination, "tag", each["version"], each["commit"])
    copy_working_tree(destination)
    release(destination, NEXT)


class Releases:
    """A tagged clone of the template, and services made of its versions.

    Attributes:
        template: the clone.
    """

    def __init__(self, folder: Path) -> None:
        self.template = folder / "copier-postgres-service.git"
        self._folder = folder
        self._rendered: dict[str, Path] = {}
        clone_with_releases(self.template)

    def fresh(self, version: str, **answers: Any) -> Path:
        """A rendering of a version, to be looked at."""
        data = {"service_name": "orders", **answers}
        key = f"{version} {sorted(data.items())}"
        if key not in self._rendered:
            folder = self._folder / f"rendered{len(self._rendered)}"
            run_copy(str(self.template), folder, data, vcs_ref=version, defaults=True, unsafe=False, quiet=True)
            self._rendered[key] = folder
        return self._rendered[key]

    def service(self, folder: Path, version: str, *, template: Path | None = None, **answers: Any) -> Service:
        """A service of a version, committed in a repository of its own; updates come from the template, if given."""
        shutil.copytree(self.fresh(version, **answers), folder)
        if template is not None:
            file = folder / ".copier-answers.yml"
            file.write_text(file.read_text().replace(str(self.template), str(template)))
        git(folder, "init", "--quiet")
        commit(folder, "new service")
        return Service(folder, "ORDERS", environment=dict(IDENTITY))

    def with_later(self, folder: Path, change: Callable[[Path], None]) -> Path:
        """The template with one more release, in which something has changed."""
        git(self.template, "clone", "--quiet", str(self.template), str(folder))
        change(folder)
        release(folder, LATER)
        return folder

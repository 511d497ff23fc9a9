"""The template's releases, each under its tag, and services that were made of them."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy

from support import ROOT, Service, alone, bare_environment
from warm_python import warm_program

IDENTITY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
RELEASES: list[dict[str, str]] = tomllib.loads((ROOT / "RELEASES.toml").read_text())["release"]
VERSIONS = [release["version"] for release in RELEASES]
NEWEST = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
MAJOR, MINOR, _ = map(int, NEWEST.split("."))
NEXT = f"{MAJOR}.{MINOR + 1}.0" if NEWEST in VERSIONS else NEWEST  # what the working tree is, or would be
LATER = f"{MAJOR + 1}.0.0"  # and one after that, as a test makes it
# Services are updated from the first release, and from the last one of each major version.
LAST_OF_MAJORS = {version.partition(".")[0]: version for version in VERSIONS}.values()
UPDATED_FROM = list(dict.fromkeys([VERSIONS[0], *LAST_OF_MAJORS]))
# Services of 1.x carried their machinery themselves.
LAST_OF_1 = [version for version in VERSIONS if version.startswith("1.")][-1]


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


def change(file: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def copy_working_tree(destination: Path, *names: str) -> None:
    """The files of this repository as they are now, without what git ignores; all, or those of these names."""
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *names).split("\0"):
        if (ROOT / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, destination / name)


def plain_name(path: str) -> str:
    """The name of a template's file without the conditions and answers in it."""
    return re.sub(r"\{[%{].*?[%}]\}", "", path).removesuffix(".jinja")


def template_file(template: Path, name: str) -> Path:
    """The file of which a file of services is made; its own name may have conditions in it."""
    for path in (template / "template").rglob("*"):
        if plain_name(path.relative_to(template / "template").as_posix()) == name:
            return path
    raise LookupError(name)


def skip_without_history() -> None:
    """Skip a test that needs the releases."""
    if not (ROOT / ".git").exists() or git(ROOT, "rev-parse", "--is-shallow-repository").strip() == "true":
        pytest.skip("the releases are in the history, which is not here: git fetch --unshallow")


def clone_with_releases(destination: Path) -> None:
    """A clone of this repository with a tag for each release, and the working tree as the next one."""
    skip_without_history()
    git(ROOT, "clone", "--quiet", "--no-checkout", "--no-tags", str(ROOT), str(destination))
    for entry in RELEASES:
        git(destination, "tag", entry["version"], entry["commit"])
    copy_working_tree(destination)
    release(destination, NEXT)


# What services are made of.
OF_THE_TEMPLATE = ("copier.yml", "RELEASES.toml", "hooks", "template")


def template_with_releases(destination: Path) -> None:
    """The releases without the library, its tests and documentation, which Copier would check out for each update."""
    skip_without_history()
    destination.mkdir()
    git(destination, "init", "--quiet", "--initial-branch=main")
    objects = git(ROOT, "rev-parse", "--path-format=absolute", "--git-path", "objects")
    (destination / ".git" / "objects" / "info" / "alternates").write_text(objects)
    others = [".", *(f":!{name}" for name in OF_THE_TEMPLATE)]
    for entry in RELEASES:
        git(destination, "read-tree", entry["commit"])
        git(destination, "rm", "-r", "--quiet", "--force", "--cached", "--", *others)
        git(destination, "commit", "--quiet", "--message", entry["version"])
        git(destination, "tag", entry["version"])
    copy_working_tree(destination, *OF_THE_TEMPLATE)
    release(destination, NEXT)


# A small template that has all that `template-update` deals with: questions, a file that an answer switches off.
TOY = {
    "copier.yml": """
_subdirectory: template
_envops:
  undefined: jinja2.StrictUndefined

service_name:
  type: str

layout:
  type: str
  default: standalone

postgres_version:
  type: yaml
  choices: [15, 16, 17, 18]
  default: 18

containers:
  type: yaml
  default: true
  validator: "{% if containers is not boolean %}use true or false{% endif %}"
""",
    "RELEASES.toml": """
[[release]]
version = "NEXT"
commit = "0000000000000000000000000000000000000000"
summary = "The toy"
operators = ""
""".replace("NEXT", NEXT),
    "template/{{ _copier_conf.answers_file }}.jinja": "{{ _copier_answers | to_nice_yaml }}",
    "template/.dockerignore": ".env\n",
    "template/.github/workflows/ci.yml": "on: push\njobs:\n  test:\n    timeout-minutes: 15\n",
    "template/README.md.jinja": "# {{ service_name }}\n{% if containers %}\nIt has an image.\n{% endif %}",
    "template/alembic.ini": "[alembic]\nscript_location = %(here)s/alembic\nprepend_sys_path = %(here)s\n",
    "template/alembic/env.py": 'from safe_migrations import run_env\n\nrun_env(database_url="postgresql://localhost")\n',
    "template/config.py": "HOST = 'localhost'\n",
    "template/database.py": '"""Its engine."""\n\nPOOL = 5\n',
    "template/pyproject.toml.jinja": '[project]\nname = "{{ service_name }}"\ndependencies = ["pytest>=9.0"]\n',
    "template/tests/conftest.py": 'pytest_plugins = ["safe_migrations.testing"]\n',
    "template/tests/test_template.py": "from safe_migrations.testing.suite import test_nothing_is_left_of_an_update\n",
    "template/{% if containers %}Dockerfile{% endif %}.jinja": "FROM postgres:{{ postgres_version }}\nUSER 10001\n",
}


def path_to_pdm(folder: Path, *, failing: str = "") -> str:
    """A PATH whose `pdm` does nothing but write down what it is called with, in a file `called` of the folder.

    Args:
        folder: a new one.
        failing: the arguments with which it fails.
    """
    folder.mkdir()
    program = folder / "pdm"
    program.write_text(f'#!/bin/sh\necho "$*" >> {folder}/called\ntest "$*" != "{failing}"\n')
    program.chmod(0o755)
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent), "/usr/bin", "/bin"])


def own_update(service: Service, programs: Path) -> subprocess.CompletedProcess[str]:
    """As `pdm run template-update`, which in a service of 1.x is the service's own code; its Copier runs in a fork.

    Args:
        service: of any version.
        programs: a new folder, for the PDM of `path_to_pdm`.
    """
    run = "runpy.run_module('safe_migrations', run_name='__main__', alter_sys=True)"
    code = f"import runpy, sys; sys.executable = {str(warm_program('python'))!r}; {run}"
    return service.run("python", "-c", code, "template-update", path=path_to_pdm(programs))


def update_by_the_library(service: Service, programs: Path) -> subprocess.CompletedProcess[str]:
    """As `safe-migrations template-update` in an environment with the library, also for a service of 1.x.

    Args:
        service: of any version.
        programs: a new folder, for the PDM of `path_to_pdm`.
    """
    return service.run(str(warm_program("safe-migrations")), "template-update", path=path_to_pdm(programs))


def environment_without_library(folder: Path) -> Path:
    """Python and Alembic, with all libraries of this environment but ours, whose plugin Alembic loads in any service.

    Args:
        folder: a new one.

    Returns:
        The folder of the programs.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    for library in Path(sysconfig.get_path("purelib")).iterdir():
        if "safe_migrations" not in library.name and not (packages / library.name).exists():
            (packages / library.name).symlink_to(library)
    _, _, program = Path(sys.executable).with_name("alembic").read_text().partition("\n")
    (folder / "bin" / "alembic").write_text(f"#!{folder / 'bin' / 'python'}\n{program}")
    (folder / "bin" / "alembic").chmod(0o755)
    return folder / "bin"


def make_toy(destination: Path) -> None:
    """The small template, in a repository, with one release."""
    for name, text in TOY.items():
        file = destination / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.lstrip("\n"))
    shutil.copytree(ROOT / "hooks", destination / "hooks", ignore=shutil.ignore_patterns("__pycache__"))
    git(destination, "init", "--quiet", "--initial-branch=main")
    release(destination, NEXT)


class Releases:
    """A tagged clone of the template, and services made of its versions; once for all workers.

    Attributes:
        template: the clone.
    """

    def __init__(self, folder: Path, make: Callable[[Path], None] = template_with_releases) -> None:
        self.template = folder / "copier-postgres-service.git"
        self._folder = folder
        folder.mkdir(exist_ok=True)
        with alone(self.template):
            if not self.template.exists():
                make(self.template)

    def fresh(self, version: str, **answers: Any) -> Path:
        """A rendering of a version, to be looked at."""
        data = {"service_name": "orders", **answers}
        folder = self._folder / sha256(f"{version} {sorted(data.items())}".encode()).hexdigest()
        with alone(folder):
            if not folder.exists():
                run_copy(str(self.template), folder, data, vcs_ref=version, defaults=True, unsafe=False, quiet=True)
        return folder

    def service(self, folder: Path, version: str, *, template: Path | None = None, **answers: Any) -> Service:
        """A service of a version, committed in a repository of its own; updates come from the template, if given."""
        service = self.uncommitted(folder, version, template=template, **answers)
        git(folder, "init", "--quiet")
        commit(folder, "new service")
        return service

    def uncommitted(self, folder: Path, version: str, *, template: Path | None = None, **answers: Any) -> Service:
        """The same without a repository."""
        shutil.copytree(self.fresh(version, **answers), folder)
        if template is not None:
            change(folder / ".copier-answers.yml", str(self.template), str(template))
        return Service(folder, "ORDERS", environment=dict(IDENTITY))

    def with_later(self, folder: Path, change: Callable[[Path], None]) -> Path:
        """The template with one more release, in which something has changed."""
        git(self.template, "clone", "--quiet", str(self.template), str(folder))
        change(folder)
        release(folder, LATER)
        return folder

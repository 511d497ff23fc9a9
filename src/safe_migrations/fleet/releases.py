"""The releases of a service: of the template that it was made from, and of the library that it runs with."""

import asyncio
import os
import re
import tomllib
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from safe_migrations.errors import MigrationError
from safe_migrations.fleet.processes import kill
from safe_migrations.fleet.services import Member
from safe_migrations.history.git import address_for_git, environment_of_git, without_login
from safe_migrations.template.releases import read_answers

LIBRARY = "alembic-safe-migrations"
TIMEOUT = 5.0  # seconds for the list of a template's tags


@dataclass(frozen=True)
class Template:
    """The template of a service.

    Attributes:
        release: that the service has, such as "2.0.0"; by `git describe` for a commit without a tag.
        source: the template's repository, with the login that its URL may have.
        folder: of the service, from which a relative path leads to the repository.
    """

    release: str
    source: str
    folder: Path

    @property
    def repository(self) -> str:
        """What is the same for all services with the same template."""
        path = self.folder / os.path.expanduser(self.source)
        return os.path.realpath(path) if os.path.isdir(path) else self.source

    @property
    def shown(self) -> str:
        """The repository, for messages."""
        return without_login(self.repository)


def read_template(member: Member) -> Template | None:
    """The template of a service; None if the service was not made from one, or Copier's record can't be read."""
    try:
        answers = read_answers(member.folder)
    except MigrationError:
        return None
    return Template(str(answers["_commit"]).removeprefix("v"), str(answers["_src_path"]), member.folder)


async def newest_releases(templates: Iterable[Template]) -> dict[str, str | None]:
    """The newest release of each repository, asked once and side by side; None where it can't be found out."""
    repositories = {template.repository: template for template in templates}
    newest = await asyncio.gather(*map(_newest_release, repositories.values()))
    return dict(zip(repositories, newest, strict=True))


def waits(release: str, newest: str) -> bool:
    """Whether a release is newer than a service's.

    Args:
        release: the service's, as `git describe` has it.
    """
    from packaging.version import InvalidVersion, Version  # as Copier orders them

    with suppress(InvalidVersion):
        return Version(newest) > Version(re.sub(r"-\d+-g[0-9a-f]+$", "", release))
    return True


def library_release(member: Member) -> str | None:
    """The release of the library that runs in a service: installed in its environment, or locked; or this one."""
    if environment := member.virtual_environment:
        for packages in (*environment.glob("lib/python*/site-packages"), environment / "Lib" / "site-packages"):
            for installed in distributions(name=LIBRARY, path=[str(packages)]):
                return installed.version
    return _locked(member.folder) or _own()


def _locked(folder: Path) -> str | None:
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):  # also a file that is not PDM's
        for package in tomllib.loads(folder.joinpath("pdm.lock").read_text(encoding="utf-8")).get("package", []):
            if package.get("name") == LIBRARY:
                return str(package["version"])
    return None


def _own() -> str | None:
    try:
        return version(LIBRARY)
    except PackageNotFoundError:
        return None


async def _newest_release(template: Template) -> str | None:
    from packaging.version import Version

    tags = await _tags(template)
    versions = [Version(tag) for tag in tags if re.fullmatch(r"v?\d+(\.\d+)*", tag)]
    return str(max(versions)) if versions else None


async def _tags(template: Template) -> list[str]:
    address = address_for_git(template.repository).removeprefix("git+")
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", "ls-remote", "--tags", "--refs", "--", address),
            env=environment_of_git(template.source),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=DEVNULL,
            start_new_session=True,  # so that ssh can't ask questions, and all processes end together
        )
    except (OSError, ValueError):  # without git, or with a zero byte in the address
        return []
    try:
        async with asyncio.timeout(TIMEOUT):
            output, _ = await process.communicate()
    except TimeoutError:
        return []
    finally:
        if process.returncode is None:
            kill(process)
    return re.findall(r"\trefs/tags/(\S+)$", os.fsdecode(output), re.MULTILINE)

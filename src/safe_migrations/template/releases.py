"""What the template has released since this service was made from it, or last updated."""

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safe_migrations.errors import MigrationError, NotInstalledError
from safe_migrations.history.git import environment_of_git, git, without_login

ANSWERS = ".copier-answers.yml"
UPDATE_WAITS = 10  # the exit status
_NO_TAG = "0.0.0.post"  # how Copier names a commit that no tag precedes
# What Copier takes for an URL, for git as well.
_SHORTHANDS = ("-c", "url.https://github.com/.insteadOf=gh:", "-c", "url.https://gitlab.com/.insteadOf=gl:")


@dataclass(frozen=True)
class Release:
    """An entry of the template's RELEASES.toml.

    Attributes:
        version: such as "1.1.0".
        summary: what a service gets, in a line.
        operators: what to know before the next deploy; empty if nothing.
        trust: why an update past this release runs code of the template's; empty if it does not.
    """

    version: str
    summary: str
    operators: str = ""
    trust: str = ""


@dataclass(frozen=True)
class News:
    """How far this service is behind the template.

    Attributes:
        current: the release that it has.
        latest: the newest one.
        waits: whether that is newer.
        releases: those after the current one, up to the latest, oldest first.
    """

    current: str
    latest: str
    waits: bool
    releases: tuple[Release, ...]

    def as_text(self) -> str:
        """For a person."""
        if not self.waits:
            return f"Up to date: the newest release of the template is {self.latest}."
        lines = [f"The template has released {self.latest}; this service has {self.current}. What is new:"]
        lines += [] if self.releases else ["", "  RELEASES.toml of the template does not tell."]
        for release in self.releases:
            lines += ["", f"  {release.version}  {release.summary}"]
            lines += [f"  Before the next deploy: {release.operators}"] if release.operators else []
            lines += [f"  It runs code of the template's here: {release.trust}"] if release.trust else []
        return "\n".join(lines)

    def as_json(self) -> str:
        """For a machine."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def read_news(folder: Path) -> News:
    """Ask the template's repository.

    Args:
        folder: of the service.

    Raises:
        MigrationError: it can't be asked, has no release, or knows nothing of this service's version.
    """
    source = str(read_answers(folder)["_src_path"])
    address = without_login(source)
    write = f"sed -i.before 's#^_src_path:.*#_src_path: ADDRESS#' {ANSWERS}"
    moved = (
        f"The address of the template is {address}. If the template has moved, write its new address into the line "
        f"_src_path, the only one there to change by hand: {write}; and into pyproject.toml, if the library comes from "
        "there. Commit, then run the same command again."
    )
    found = json.loads(copier(folder, "check-update", "--output-format=json", advice=moved))
    current, latest, waits = found["current_version"], found["latest_version"], found["update_available"]
    if latest.startswith(_NO_TAG):
        raise MigrationError(
            f"The template at {address} has no release: none of its commits has a tag. Whoever keeps it makes one: "
            "pdm run tag-releases. To take its newest commit: pdm run copier update --vcs-ref=HEAD --skip-answered"
        )
    return News(current, latest, waits, tuple(_released(folder, source, current, latest)) if waits else ())


def read_answers(folder: Path) -> dict[str, Any]:
    """What Copier keeps of a service: its answers, `_src_path` and `_commit`.

    Args:
        folder: of the service.

    Raises:
        MigrationError: the file is missing or can't be read, or Copier is not installed.
    """
    try:
        import yaml  # type: ignore[import-untyped, unused-ignore]  # comes with Copier
    except ModuleNotFoundError:
        raise NotInstalledError("Copier", "template") from None
    try:
        answers = dict(yaml.safe_load(folder.joinpath(ANSWERS).read_text()))
        return answers | {name: answers[name] for name in ("_src_path", "_commit")}
    except (OSError, TypeError, ValueError, KeyError, yaml.YAMLError) as error:
        raise MigrationError(
            f"{ANSWERS} can't be read ({type(error).__name__}), and without it nobody knows from which release this "
            f"service comes: git checkout HEAD -- {ANSWERS}"
        ) from error


def copier(folder: Path, *arguments: str, advice: str = "Put that right, then run the same command again.") -> str:
    """Run Copier, which asks nothing, and return what it prints.

    Args:
        folder: of the service.
        arguments: its command and options.
        advice: what a person can do if it fails.

    Raises:
        MigrationError: it is not installed, or has failed.
    """
    process = subprocess.run(
        [sys.executable, "-P", "-m", "copier", *arguments],  # -P: the service's modules are not Copier's
        cwd=folder,
        env=environment_of_git(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if "No module named copier" in process.stderr:
        raise NotInstalledError("Copier", "template")
    if process.returncode != 0:
        raise MigrationError(
            f"copier {arguments[0]} failed ({without_login(_reason(process.stderr))}); nothing was changed. {advice}"
        )
    return process.stdout


def _reason(said: str) -> str:
    """The line in which git, a hook of the template, or Copier says what is wrong; Copier says last that a hook did."""
    if "Unknown revision" in said:
        return "the template's repository lacks the tag of a release: whoever keeps it, pdm run tag-releases"
    if "git-tracked templates" in said:
        return "no git repository is there"
    lines = [line.strip(" |") for line in said.splitlines() if line.strip(" |") and not line.startswith("Task ")]
    return (re.findall("fatal: .*", said) or lines or ["it does not say why"])[-1]


def _released(folder: Path, source: str, current: str, latest: str) -> list[Release]:
    """The entries of RELEASES.toml on the template's main branch, after one version and up to another."""
    from packaging.version import Version  # as Copier orders them

    with TemporaryDirectory(prefix="template-releases-") as clone:
        options = ("--quiet", "--depth=1", "--no-checkout")
        git(folder, *_SHORTHANDS, "clone", *options, "--", source.removeprefix("git+"), clone)
        text = git(Path(clone), "show", "HEAD:RELEASES.toml", may_fail=True)
    try:
        entries = tomllib.loads(text.decode()).get("release", [])
        newer = [each for each in entries if Version(current) < Version(each["version"]) <= Version(latest)]
        return [Release(*(str(each.get(field.name, "")) for field in fields(Release))) for each in newer]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MigrationError(
            f"RELEASES.toml of the template can't be read ({type(error).__name__}: {error}), so nobody knows what is "
            "new; nothing was changed. Tell those who keep the template."
        ) from error

"""The releases of the template since the release that this service has."""

import json
import os
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from safe_migrations.errors import HistoryError, NotInstalledError, TemplateError
from safe_migrations.history.git import address_for_git, environment_of_git, git, without_login

if TYPE_CHECKING:
    from packaging.version import Version

ANSWERS = ".copier-answers.yml"
UPDATE_WAITS = 10  # the exit status

# Parts of Copier's messages that need an explanation.
COPIER_ERRORS = {
    "Unknown revision": "the template's repository lacks the tag of a release; to create the tag: pdm run tag-releases",
}


@dataclass(frozen=True)
class Release:
    """An entry of the template's RELEASES.toml.

    Attributes:
        version: such as "1.1.0".
        summary: what a service gets, in one line.
        operators: what to know before the next deployment; may be empty.
        trust: why an update to this release runs code of the template; empty if it runs none.
    """

    version: str
    summary: str
    operators: str = ""
    trust: str = ""


@dataclass(frozen=True)
class News:
    """How far this service is behind the template.

    Attributes:
        current: the service's release.
        latest: the newest release.
        waits: whether `latest` is newer than `current`.
        releases: the entries after `current`, up to `latest`, oldest first.
    """

    current: str
    latest: str
    waits: bool
    releases: tuple[Release, ...]

    def as_text(self) -> str:
        """The news as text."""
        if not self.waits:
            return f"Up to date: the newest release of the template is {self.latest}."
        lines = [f"The template has released {self.latest}; this service has {self.current}. What is new:"]
        lines += [] if self.releases else ["", "  The template's RELEASES.toml has no entry for this release."]
        for release in self.releases:
            lines += ["", f"  {release.version}  {release.summary}"]
            lines += [f"  Before the next deployment: {release.operators}"] if release.operators else []
            lines += [f"  The update runs code of the template here: {release.trust}"] if release.trust else []
        return "\n".join(lines)

    def as_json(self) -> str:
        """The news as JSON."""
        return json.dumps(asdict(self), indent=2)


def read_news(folder: Path) -> News:
    """Read the news from the template's repository.

    Raises:
        TemplateError: the repository can't be read, or has no release.
    """
    answers = read_answers(folder)
    source, current = str(answers["_src_path"]), _version_of(str(answers["_commit"]))
    releases = _listed(folder, source)
    if not releases:
        raise TemplateError(
            f"The template at {without_login(source)} has no release: no commit has a tag. The maintainers of the "
            "template can create the tags by `pdm run tag-releases`. To update to the newest commit:\n"
            "copier update --vcs-ref=HEAD --skip-answered"
        )
    latest = max(releases)
    waits = latest > current
    news = _released(folder, source, current, latest) if waits else []
    return News(str(current), str(latest), waits, tuple(news))


def _version_of(commit: str) -> "Version":
    """The version of `2.1.0`, and of `2.1.0-3-gabcdef0`, which is the third commit after that; 0 of a mere id."""
    from packaging.version import InvalidVersion, Version  # as Copier orders them

    with suppress(InvalidVersion):
        if "." in commit:
            return Version(re.sub(r"-(\d+)-g[0-9a-f]+$", r".post\1", commit))
    return Version("0")


def _listed(folder: Path, source: str) -> list["Version"]:
    """The releases by the tags, without those before a release."""
    from packaging.version import InvalidVersion, Version

    try:
        listed = git(folder, "ls-remote", "--tags", "--refs", "--", _for_git(source), url=source)
    except HistoryError as error:
        raise TemplateError(
            f"{error}\nThe address of the template is {without_login(source)}. If the template has moved, write the "
            "new address into pyproject.toml (if the library comes from the template) and into the answers, commit, "
            "and run the same command again. To write the address into the answers:\n"
            f"sed -i.before 's#^_src_path:.*#_src_path: ADDRESS#' {ANSWERS}"
        ) from error
    versions = []
    for tag in re.findall(r"\trefs/tags/(\S+)$", os.fsdecode(listed), re.MULTILINE):
        with suppress(InvalidVersion):
            versions.append(Version(tag))
    return [version for version in versions if not version.is_prerelease]


def _for_git(source: str) -> str:
    """The address of the template for a command line of git."""
    return os.path.expanduser(address_for_git(source).removeprefix("git+"))


def read_answers(folder: Path) -> dict[str, Any]:
    """Copier's record of a service: the answers, `_src_path` and `_commit`.

    Raises:
        NotInstalledError: Copier is not installed.
        TemplateError: the file is missing or can't be read.
    """
    try:
        import packaging.version  # noqa: F401  # comes with Copier, as does yaml
        import yaml  # type: ignore[import-untyped, unused-ignore]
    except ModuleNotFoundError:
        raise NotInstalledError("Copier", "template") from None
    try:
        answers = dict(yaml.safe_load(folder.joinpath(ANSWERS).read_text()))
        return answers | {name: answers[name] for name in ("_src_path", "_commit")}
    except (OSError, TypeError, ValueError, KeyError, yaml.YAMLError) as error:
        raise TemplateError(
            f"{ANSWERS}, which records the release of this service, can't be read ({type(error).__name__}). To restore "
            f"the committed file:\ngit checkout HEAD -- {ANSWERS}"
        ) from error


def replace_source(folder: Path, source: str) -> None:
    """Write another `_src_path` into Copier's record."""
    file = folder / ANSWERS
    file.write_text(re.sub("^_src_path:.*$", lambda _: f"_src_path: {source}", file.read_text(), flags=re.MULTILINE))


def copier(folder: Path, *arguments: str) -> str:
    """Run Copier without questions, and return what it prints.

    Raises:
        NotInstalledError: Copier is not installed.
        TemplateError: Copier failed.
    """
    process = subprocess.run(
        [sys.executable, "-P", "-m", "copier", *arguments],  # -P: the service's modules are not Copier's
        cwd=folder,
        env=environment_of_git(str(read_answers(folder)["_src_path"])),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if "No module named copier" in process.stderr:  # Python's own message
        raise NotInstalledError("Copier", "template")
    if process.returncode != 0:
        raise TemplateError(
            f"copier {arguments[0]} failed ({without_login(_reason(process.stderr))}). Nothing was changed. Correct "
            "the cause, then run the same command again."
        )
    return process.stdout


def _reason(stderr: str) -> str:
    """The line that explains the failure; Copier prints a hook's own message before that the hook failed."""
    for part, meaning in COPIER_ERRORS.items():
        if part in stderr:
            return meaning
    lines = [line.strip(" |") for line in stderr.splitlines() if line.strip(" |") and not line.startswith("Task ")]
    return (re.findall("fatal: .*", stderr) or lines or ["without a message"])[-1]


def _released(folder: Path, source: str, current: "Version", latest: "Version") -> list[Release]:
    """The entries of the template's RELEASES.toml after one version, up to another."""
    from packaging.version import Version

    with TemporaryDirectory(prefix="template-releases-") as clone:
        git(folder, "clone", "--quiet", "--depth=1", "--no-checkout", "--", _for_git(source), clone, url=source)
        text = git(Path(clone), "show", "HEAD:RELEASES.toml", may_fail=True)
    try:
        entries = tomllib.loads(text.decode()).get("release", [])
        newer = [entry for entry in entries if current < Version(entry["version"]) <= latest]
        return [Release(*(str(entry.get(field.name, "")) for field in fields(Release))) for entry in newer]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TemplateError(
            f"RELEASES.toml of the template can't be read ({type(error).__name__}: {error}). Nothing was changed. "
            "Report this to the maintainers of the template."
        ) from error

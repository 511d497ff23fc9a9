"""The releases of the template since the release that this service has."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safe_migrations.errors import NotInstalledError, TemplateError
from safe_migrations.history.git import address_for_git, environment_of_git, git, without_login

ANSWERS = ".copier-answers.yml"
UPDATE_WAITS = 10  # the exit status
_NO_TAG = "0.0.0.post"  # Copier's version of a commit without an earlier tag

# Parts of Copier's messages that need an explanation.
COPIER_ERRORS = {
    "Unknown revision": "the template's repository lacks the tag of a release; to create the tag: pdm run tag-releases",
    "git-tracked templates": "this address is not a git repository",
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
    source = str(read_answers(folder)["_src_path"])
    address = without_login(source)
    write = f"sed -i.before 's#^_src_path:.*#_src_path: ADDRESS#' {ANSWERS}"
    moved = (
        f"The address of the template is {address}. If the template has moved, write the new address into "
        "pyproject.toml (if the library comes from the template) and into the answers, commit, and run the same "
        f"command again. To write the address into the answers:\n{write}"
    )
    with TemporaryDirectory(prefix="template-releases-") as record:
        shutil.copy(folder / ANSWERS, record)
        if (without := address_for_git(source)) != source:
            replace_source(Path(record), without)
        versions = json.loads(copier(folder, "check-update", "--output-format=json", record, advice=moved))
    current, latest, waits = (versions[name] for name in ("current_version", "latest_version", "update_available"))
    if latest.startswith(_NO_TAG):
        raise TemplateError(
            f"The template at {address} has no release: no commit has a tag. The maintainers of the template can "
            "create the tags by `pdm run tag-releases`. To update to the newest commit:\n"
            "copier update --vcs-ref=HEAD --skip-answered"
        )
    return News(current, latest, waits, tuple(_released(folder, source, current, latest)) if waits else ())


def read_answers(folder: Path) -> dict[str, Any]:
    """Copier's record of a service: the answers, `_src_path` and `_commit`.

    Raises:
        NotInstalledError: Copier is not installed.
        TemplateError: the file is missing or can't be read.
    """
    try:
        import yaml  # type: ignore[import-untyped, unused-ignore]  # comes with Copier
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


def copier(folder: Path, *arguments: str, advice: str = "Correct the cause, then run the same command again.") -> str:
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
            f"copier {arguments[0]} failed ({without_login(_reason(process.stderr))}). Nothing was changed. {advice}"
        )
    return process.stdout


def _reason(stderr: str) -> str:
    """The line that explains the failure; Copier prints a hook's own message before that the hook failed."""
    for part, meaning in COPIER_ERRORS.items():
        if part in stderr:
            return meaning
    lines = [line.strip(" |") for line in stderr.splitlines() if line.strip(" |") and not line.startswith("Task ")]
    return (re.findall("fatal: .*", stderr) or lines or ["without a message"])[-1]


def _released(folder: Path, source: str, current: str, latest: str) -> list[Release]:
    """The entries of the template's RELEASES.toml after one version, up to another."""
    from packaging.version import Version  # as Copier orders them

    with TemporaryDirectory(prefix="template-releases-") as clone:
        options = ("--quiet", "--depth=1", "--no-checkout")
        git(folder, "clone", *options, "--", address_for_git(source).removeprefix("git+"), clone, url=source)
        text = git(Path(clone), "show", "HEAD:RELEASES.toml", may_fail=True)
    try:
        entries = tomllib.loads(text.decode()).get("release", [])
        newer = [entry for entry in entries if Version(current) < Version(entry["version"]) <= Version(latest)]
        return [Release(*(str(entry.get(field.name, "")) for field in fields(Release))) for entry in newer]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TemplateError(
            f"RELEASES.toml of the template can't be read ({type(error).__name__}: {error}). Nothing was changed. "
            "Report this to the maintainers of the template."
        ) from error

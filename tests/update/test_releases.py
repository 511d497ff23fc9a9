"""RELEASES.toml tells the truth, and no release takes a file away from services without being a major one."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.version import Version

from releases import NEWEST, NEXT, RELEASES, VERSIONS, Releases, clone_with_releases, git, plain_name
from support import ROOT

LISTED = ("-c", "core.quotePath=false", "ls-tree", "-r", "--name-only")
CHANGELOG = re.findall(r"^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("release", RELEASES, ids=VERSIONS)
def test_each_entry_is_complete(release: dict[str, str]) -> None:
    assert release.keys() - {"trust"} == {"version", "commit", "summary", "operators"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", release["version"])
    assert re.fullmatch(r"[0-9a-f]{40}", release["commit"])
    assert re.fullmatch(r".{10,120}", release["summary"]), "one line"
    assert "\n" not in release["operators"]


def test_they_are_in_order_and_in_the_changelog() -> None:
    assert sorted(map(Version, VERSIONS)) == [Version(version) for version in VERSIONS]
    assert CHANGELOG[0] == NEWEST
    being_released = [] if VERSIONS[-1] == NEWEST else [NEWEST]  # its commit is recorded in the next one
    assert [*being_released, *reversed(VERSIONS)] == CHANGELOG


def test_a_file_disappears_with_a_major_release_only(releases: Releases) -> None:
    for version, following in pairwise([*VERSIONS, NEXT]):
        before, after = (
            {plain_name(path) for path in git(releases.template, *LISTED, release, "template/").splitlines()}
            for release in (version, following)
        )
        assert before <= after or Version(version).major < Version(following).major


def test_each_is_in_the_history_and_its_tag_is_made_once_and_never_moved(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone_with_releases(clone)
    for version, following in pairwise([*VERSIONS, NEXT]):
        git(clone, "merge-base", "--is-ancestor", version, following)
        assert f'\nversion = "{version}"\n' in git(clone, "show", f"{version}:pyproject.toml")
        assert f"\n## {version} - " in git(clone, "show", f"{version}:CHANGELOG.md")

    git(clone, "tag", "--delete", *VERSIONS)
    tag = [sys.executable, str(clone / "scripts" / "tag_releases.py")]
    assert "(new)" in subprocess.run(tag, check=True, capture_output=True, text=True).stdout
    assert "(new)" not in subprocess.run(tag, check=True, capture_output=True, text=True).stdout
    for release in RELEASES:
        assert git(clone, "rev-parse", release["version"]).strip() == release["commit"]

    git(clone, "tag", "--force", VERSIONS[0], NEXT)
    process = subprocess.run(tag, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.startswith(f"The tag {VERSIONS[0]} is on ")

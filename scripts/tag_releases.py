"""`pdm run tag-releases`: create a tag for each release of RELEASES.toml; an existing tag is never moved."""

import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    """Create the missing tags; refuse if an existing one is on another commit."""
    for release in tomllib.loads(REPOSITORY.joinpath("RELEASES.toml").read_text())["release"]:
        version, commit = release["version"], release["commit"]
        tagged = git("rev-parse", "--quiet", "--verify", f"refs/tags/{version}^{{commit}}").stdout.strip()
        if tagged and tagged != commit:
            sys.exit(f"The tag {version} is on {tagged}, but RELEASES.toml names {commit}: correct RELEASES.toml.")
        if not tagged and (process := git("tag", version, commit)).returncode != 0:
            sys.exit(
                f"{version} can't be tagged: {process.stderr.strip()}\nIn a shallow clone, run: git fetch --unshallow"
            )
        print(f"{version} {commit}{'' if tagged else ' (new)'}")
    print("To publish the tags:\ngit push origin --tags")


def git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run git in this repository."""
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True)  # noqa: S607


if __name__ == "__main__":
    main()

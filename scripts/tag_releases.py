"""`pdm run tag-releases`: a tag for each release of RELEASES.toml, as `copier` looks for it; none is ever moved."""

import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    """Make the tags that are missing, or say which one is not where it should be."""
    for release in tomllib.loads(REPOSITORY.joinpath("RELEASES.toml").read_text())["release"]:
        version, commit = release["version"], release["commit"]
        tagged = git("rev-parse", "--quiet", "--verify", f"refs/tags/{version}^{{commit}}").stdout.strip()
        if tagged and tagged != commit:
            sys.exit(
                f"The tag {version} is on {tagged}, where services know it; RELEASES.toml says {commit}: correct it."
            )
        if not tagged and (process := git("tag", version, commit)).returncode != 0:
            sys.exit(f"{version} can't be tagged ({process.stderr.strip()}). In a shallow clone: git fetch --unshallow")
        print(f"{version} {commit}{'' if tagged else ' (new)'}")
    print("To publish them: git push origin --tags")


def git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run git in this repository."""
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True)  # noqa: S607


if __name__ == "__main__":
    main()

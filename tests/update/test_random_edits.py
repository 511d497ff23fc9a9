"""Whatever a service has edited, and whatever a release changes: no line that a user wrote disappears."""

import os
import re
from pathlib import Path
from random import Random

import pytest

from releases import UPDATED_FROM, Releases, commit, git
from safe_migrations.template.releases import read_news
from safe_migrations.template.update import update

ROUNDS = 20
BRIEFLY = 1  # of them by default
SEED = os.environ["TEST_SEED"]
OWNED = ("alembic/versions", "README.md", "docs/schema.md", "models_db.py", "tests/test_item.py")


def edit(random: Random, text: str, mark: str) -> str:
    """Insert, replace and remove lines at random; each line that is written has the mark."""
    lines = text.splitlines(keepends=True)
    for number in range(random.randint(1, 6)):
        at = random.randrange(len(lines) + 1)
        begin, count = at, random.choice([0, 0, 0, 1, 3])
        lines[begin : begin + count] = [f"# {mark} {number}.{line}\n" for line in range(random.choice([0, 1, 1, 2]))]
    return "".join(lines)


def change_template(random: Random, template: Path) -> None:
    """A later release: files without answers are edited, dropped and new."""
    for path in sorted((template / "template").rglob("*")):
        if path.suffix not in (".py", ".ini", ".mako") or "versions" in path.parts or "{" in path.as_posix():
            continue
        if random.random() < 0.1:
            path.unlink()
        elif random.random() < 0.7:
            path.write_text(edit(random, path.read_text(), "theirs"))
    for name in ("new.txt", "alembic/new.txt"):
        (template / "template" / name).write_text("theirs\n")


def change_service(random: Random, folder: Path) -> None:
    """What a user does in half a year."""
    names = [name for name in git(folder, "ls-files").splitlines() if name != ".copier-answers.yml"]
    for name in names:
        path, chance = folder / name, random.random()
        if chance < 0.1:
            path.unlink()
        elif chance < 0.15:
            path.rename(path.with_name(f"renamed_{path.name}"))
        elif chance < 0.7:
            path.write_text(edit(random, path.read_text(), f"ours {name}"))
    for name in ("new.txt", "alembic/new.txt", "own.txt"):  # two of them come from the template as well
        if random.random() < 0.7:
            (folder / name).write_text(f"# ours {name}\n")


def texts(folder: Path) -> dict[str, str]:
    """What stands in each file."""
    names = git(folder, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return {name: (folder / name).read_text() for name in names if (folder / name).is_file()}


def written(folder: Path) -> set[str]:
    """The lines that the user has written, in whatever file."""
    return {line for text in texts(folder).values() for line in text.splitlines() if line.startswith("# ours ")}


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(
            n,
            id=f"{SEED}-{n}",
            marks=[] if n < BRIEFLY else pytest.mark.thorough("the first one, which differs in each run"),
        )
        for n in range(ROUNDS)
    ],
)
@pytest.mark.usefixtures("forked_copier")
def test_no_line_disappears(releases: Releases, tmp_path: Path, number: int) -> None:
    random = Random(f"{SEED} {number}")  # noqa: S311
    template = releases.with_later(tmp_path / "template.git", lambda folder: change_template(random, folder))
    service = releases.service(tmp_path / "orders", random.choice(UPDATED_FROM), template=template)
    change_service(random, service.folder)
    commit(service.folder)
    before, lines = texts(service.folder), written(service.folder)
    deleted = git(service.folder, "diff", "--name-only", "--diff-filter=D", "HEAD~").splitlines()

    update(service.folder, read_news(service.folder))
    now = texts(service.folder)
    assert len(lines) > 20
    assert lines - written(service.folder) == set()
    assert not set(deleted) & set(now), "what was deleted stays so"
    assert {name: text for name, text in now.items() if name.startswith(OWNED)} == {
        name: text for name, text in before.items() if name.startswith(OWNED)
    }
    unmerged = git(service.folder, "diff", "--name-only", "--diff-filter=U").splitlines()
    assert {name for name, text in now.items() if re.search("^<<<<<<< ", text, re.MULTILINE)} <= set(unmerged)

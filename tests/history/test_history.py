"""What git tells of revision files, in real repositories."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import URL

from safe_migrations.errors import HistoryError
from safe_migrations.history.frozen import edited_revisions, head_file_problem, new_revisions
from safe_migrations.history.rebase import carry_out, plan, refuse_applied
from support import NewRole, at, bare_environment, fetch

FILE = '''"""{message}

Revision ID: {revision}
Revises: {down}
"""

from alembic import op

revision: str = "{revision}"
down_revision = {down!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go up."""
    op.execute("SELECT 1")  # why


def downgrade() -> None:
    pass
'''
IDENTITY = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Clone:
    """A clone of a repository with a service in services/a b/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.locations: list[str] | None = None
        self.recursive = False
        self.service = folder / "services" / "a b"
        self.versions = self.service / "alembic" / "versions"

    def git(self, *arguments: str) -> str:
        environment = bare_environment(**IDENTITY, GIT_CONFIG_GLOBAL=os.devnull)
        process = subprocess.run(["git", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout.strip()

    def add(self, revision: str, down: str | None, number: int) -> Path:
        """Write a revision file, and HEAD, as a command does."""
        self.versions.mkdir(parents=True, exist_ok=True)
        path = self.versions / f"20300101_{number:04d}_{revision}.py"
        path.write_text(FILE.format(message=f"add {revision}", revision=revision, down=down))
        self.versions.joinpath("HEAD").write_text(f"{revision}\n")
        return path

    def commit(self, *tags: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "work")
        for tag in tags:
            self.git("tag", tag)

    def edit(self, name: str) -> Path:
        """Change the code of a revision file."""
        path = self.versions / name
        path.write_text(path.read_text().replace("SELECT 1", "SELECT 2"))
        return path

    def clone(self, name: str, *options: str) -> "Clone":
        url, folder = f"file://{self.folder}", str(self.folder.parent / name)
        self.git("clone", "--quiet", "--template=", *options, url, folder)
        return Clone(self.folder.parent / name)

    @property
    def scripts(self) -> ScriptDirectory:
        return ScriptDirectory(
            self.service / "alembic", version_locations=self.locations, recursive_version_locations=self.recursive
        )

    def new(self) -> list[str]:
        return [script.revision for script in new_revisions(self.scripts)]

    def edited(self) -> list[tuple[str, str]]:
        return [(edit.path.name, edit.where) for edit in edited_revisions(self.scripts)]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, and copied for each test: a repository with the revisions a and b, and its clone."""
    folder = tmp_path_factory.mktemp("made")
    origin = Clone(folder / "origin")
    origin.folder.mkdir()
    origin.git("init", "--quiet", "--initial-branch=main", "--template=")
    origin.git("config", "receive.denyCurrentBranch", "updateInstead")
    origin.add("a", None, 1)
    origin.commit()
    origin.add("b", "a", 2)
    origin.commit()
    clone = origin.clone("clone")
    clone.git("checkout", "--quiet", "-b", "branch")
    clone.commit()
    return folder


@pytest.fixture(scope="session")
def made_merged(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, in the middle of a merge."""
    folder = tmp_path_factory.mktemp("merged")
    copy(made, folder)
    origin, clone = Clone(folder / "origin"), Clone(folder / "clone")
    origin.add("x", "b", 3)
    origin.add("y", "x", 4)
    origin.commit()
    clone.add("c", "b", 3)
    clone.add("d", "c", 4)
    clone.commit()
    with pytest.raises(AssertionError, match=r"CONFLICT .*alembic/versions/HEAD"):
        clone.git("pull", "--quiet", "--no-rebase", "origin", "main")
    return folder


def copy(made: Path, folder: Path) -> None:
    for name in ("origin", "clone"):
        shutil.copytree(made / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    config = folder / "clone" / ".git" / "config"
    config.write_text(config.read_text().replace(str(made), str(folder)))


@pytest.fixture
def origin(made: Path, tmp_path: Path) -> Clone:
    """A repository with the revisions a and b on its main branch."""
    copy(made, tmp_path)
    return Clone(tmp_path / "origin")


@pytest.fixture
def clone(origin: Clone) -> Clone:
    """A clone, with a branch of its own and a commit there."""
    return Clone(origin.folder.parent / "clone")


# ── New revisions ────────────────────────────────────────────────────────────────────────────────────────────


def test_new_are_those_that_the_main_branch_lacks(clone: Clone) -> None:
    clone.add("c", "b", 3)
    clone.commit()
    clone.add("d", "c", 4)
    assert clone.new() == ["c", "d"], "committed or not"


def test_main_branch_has_gone_on(origin: Clone, clone: Clone) -> None:
    origin.add("x", "b", 3)
    origin.commit()
    clone.git("fetch", "--quiet")
    clone.add("c", "b", 3)
    clone.commit()
    assert clone.new() == ["c"]
    assert clone.edited() == [], "x, which the branch has never had, is not deleted"


def test_branch_is_compared_with_what_it_has_got_of_main(origin: Clone, clone: Clone) -> None:
    origin.edit("20300101_0001_a.py")
    origin.commit()
    clone.git("fetch", "--quiet")
    assert clone.edited() == []
    clone.git("merge", "--quiet", "origin/main")
    assert clone.edited() == []


@pytest.mark.parametrize("detached", [False, True])
def test_on_the_tip_of_the_main_branch(origin: Clone, detached: bool) -> None:
    clone = origin.clone("ci")
    if detached:
        clone.git("checkout", "--quiet", "--detach")
    assert clone.new() == ["b"], "that the commit before lacks"
    clone.add("c", "b", 3)
    assert clone.new() == ["b", "c"], "and what is not committed"


@pytest.mark.parametrize("name", ["trunk", "main", "master"])
def test_name_of_the_main_branch(origin: Clone, name: str) -> None:
    origin.git("branch", "--quiet", "--move", name)
    clone = origin.clone("named")
    if name != "trunk":  # a CI clone has no origin/HEAD
        clone.git("remote", "set-head", "origin", "--delete")
    clone.git("checkout", "--quiet", "-b", "branch")
    clone.add("c", "b", 3)
    clone.commit()
    assert clone.new() == ["c"]
    path = clone.add("a", None, 1)
    clone.edit(path.name)
    assert clone.edited() == [(path.name, f"origin/{name}")]


@pytest.mark.parametrize("name", ["main", "master"])
def test_without_a_remote(origin: Clone, name: str) -> None:
    origin.git("branch", "--quiet", "--move", name)
    origin.git("checkout", "--quiet", "-b", "branch")
    origin.add("c", "b", 3)
    origin.commit()
    assert origin.new() == ["c"]


def test_all_are_new_where_git_has_nothing(
    origin: Clone, clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.git("branch", "--quiet", "--move", "other")
    assert origin.new() == ["a", "b"], "no main branch"
    assert origin.edited() == []
    made = Clone(tmp_path / "new")
    made.add("a", None, 1)
    assert made.new() == ["a"], "no repository"
    assert made.edited() == []
    made.git("init", "--quiet", "--initial-branch=main")
    assert made.new() == ["a"], "no commit"
    assert made.edited() == []
    made.commit()
    assert made.new() == ["a"], "the first commit"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert clone.new() == ["a", "b"], "no git"
    assert clone.edited() == []


def test_renamed_file_is_not_new(clone: Clone) -> None:
    path = clone.versions / "20300101_0002_b.py"
    path.rename(path.with_name("20300101_0007_b.py"))
    assert clone.new() == []
    assert clone.edited() == []


def test_other_service_of_the_repository(clone: Clone) -> None:
    other = Clone(clone.folder)
    other.versions = clone.folder / "services" / "other" / "alembic" / "versions"
    other.service = other.versions.parents[1]
    other.add("a", None, 1)
    assert other.new() == ["a"], "a file of the same name is elsewhere on the main branch"
    assert clone.new() == []


def test_worktree_and_hooks(clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone.git("worktree", "add", "--quiet", str(tmp_path / "tree"), "-b", "other")
    tree = Clone(tmp_path / "tree")
    tree.add("c", "b", 3)
    tree.versions.joinpath("20300101_0002_b.py").write_text("revision = 'b'\ndown_revision = 'a'\n")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert tree.new() == ["c"]
    assert tree.edited() == [("20300101_0002_b.py", "origin/main")]


def test_shallow_clone_says_so(origin: Clone) -> None:
    shallow = origin.clone("shallow", "--depth=1")
    for function in (new_revisions, edited_revisions):
        with pytest.raises(HistoryError, match="git fetch --unshallow"):
            function(shallow.scripts)
    shallow.git("fetch", "--quiet", "--unshallow")
    assert shallow.new() == ["b"]
    assert shallow.edited() == []


def test_shallow_clone_of_a_branch_alone_says_so(origin: Clone) -> None:
    origin.git("branch", "topic")
    shallow = origin.clone("shallow", "--depth=1", "--branch=topic")
    with pytest.raises(HistoryError, match="fetch-depth: 0"):
        new_revisions(shallow.scripts)


def test_partial_clone_says_what_it_lacks(origin: Clone) -> None:
    origin.git("config", "uploadpack.allowFilter", "true")
    origin.edit("20300101_0002_b.py")
    origin.commit()
    origin.git("tag", "v1", "HEAD~1")
    partial = origin.clone("partial", "--filter=blob:none")
    partial.git("remote", "set-url", "origin", "file:///nowhere")
    with pytest.raises(HistoryError, match=r"git fetch --unshallow|git cat-file failed"):
        edited_revisions(partial.scripts)


def test_object_that_is_missing(origin: Clone) -> None:
    contents = origin.git("hash-object", str(origin.versions / "20300101_0002_b.py"))
    origin.folder.joinpath(".git", "objects", contents[:2], contents[2:]).unlink()
    origin.edit("20300101_0002_b.py")
    with pytest.raises(HistoryError, match="git fetch --unshallow"):
        edited_revisions(origin.scripts)


def test_refusal_of_git_is_told(clone: Clone) -> None:
    clone.folder.joinpath(".git", "config").write_text("[nonsense")
    with pytest.raises(HistoryError, match=r"git rev-parse failed .*bad config"):
        new_revisions(clone.scripts)


# ── Edited revisions ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('"""add b', '"""add a b', None),
        ('"""Go up."""', '"""Go."""', None),
        ("  # why", "", None),
        ("\n\n\ndef up", "\ndef up", None),
        ('"SELECT 1"', "('SELECT 1')", None),
        ("SELECT 1", "SELECT 2", 17),
        ("down_revision = 'a'", "down_revision = None", 10),
        ("    pass", '    op.execute("SELECT 1")', 21),
    ],
)
def test_code_may_not_change(clone: Clone, old: str, new: str, line: int | None) -> None:
    path = clone.versions / "20300101_0002_b.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    edits = edited_revisions(clone.scripts)
    assert [edit.line for edit in edits] == ([] if line is None else [line])
    for edit in edits:
        assert (edit.path, edit.where) == (path, "origin/main")
        assert edit.difference.splitlines()[:2] == ["--- origin/main", "+++ 20300101_0002_b.py"]
    clone.commit()
    assert len(edited_revisions(clone.scripts)) == len(edits), "committed as well"


@pytest.mark.parametrize("change", ["edit", "delete", "rename"])
def test_sql_of_a_revision_may_not_change(origin: Clone, change: str) -> None:
    revision = origin.add("c", "b", 3)
    files = [revision, revision.with_suffix(".sql"), revision.with_suffix(".downgrade.sql")]
    for file in files[1:]:
        file.write_text(f"SELECT '{file.name}';\n")
    origin.commit("1.0")
    origin.commit()
    assert origin.edited() == []
    if change == "edit":
        files[1].write_text("SELECT 2;\n")
    elif change == "delete":
        files[1].unlink()
    else:
        for file in files:
            file.rename(file.with_name(file.name.replace("0003_c", "0003_d")))
    assert {name for name, _ in origin.edited()} == (set() if change == "rename" else {files[1].name})


def test_push_to_the_main_branch_that_edits(origin: Clone) -> None:
    origin.edit("20300101_0001_a.py")
    origin.commit()
    assert origin.clone("ci").edited() == [("20300101_0001_a.py", "origin/main before this commit")]


def test_release(origin: Clone) -> None:
    origin.git("tag", "v1.2", "--message", "annotated")
    origin.edit("20300101_0001_a.py")
    origin.commit()
    origin.commit()
    assert origin.edited() == [("20300101_0001_a.py", "tag v1.2")]


def test_release_of_another_branch(origin: Clone, clone: Clone) -> None:
    origin.git("checkout", "--quiet", "-b", "release")
    origin.add("r", "b", 3)
    origin.commit("v2")
    clone.git("fetch", "--quiet", "--tags")
    assert clone.edited() == [], "a revision that this branch has never had is not deleted"
    path = clone.add("r", "b", 3)
    clone.edit(path.name)
    assert clone.edited() == [(path.name, "tag v2")]


@pytest.mark.parametrize("tag", [(), ("v1",)])
def test_deleted_revision(clone: Clone, tag: tuple[str, ...]) -> None:
    clone.commit(*tag)
    clone.versions.joinpath("20300101_0002_b.py").unlink()
    clone.commit()
    assert clone.edited() == [("20300101_0002_b.py", "origin/main")]


def test_deleted_base_is_no_squash(clone: Clone) -> None:
    clone.add("c", "b", 3)
    clone.commit("v1")
    clone.versions.joinpath("20300101_0001_a.py").unlink()
    clone.add("b", None, 2)
    clone.commit()
    assert sorted(clone.edited()) == [("20300101_0001_a.py", "tag v1"), ("20300101_0002_b.py", "tag v1")]


def test_new_file_under_the_name_of_a_frozen_one(clone: Clone) -> None:
    path = clone.add("b", "a", 2)
    path.write_text(path.read_text().replace('"b"', '"bb"'))
    assert clone.edited() == [(path.name, "origin/main")]


@pytest.mark.parametrize("revision", ["b", "squashed"])
def test_squash_of_the_whole_history(origin: Clone, clone: Clone, revision: str) -> None:
    origin.git("tag", "v1")
    clone.git("fetch", "--quiet", "--tags")
    for path in clone.versions.glob("*.py"):
        path.unlink()
    clone.add(revision, None, 3)
    clone.commit()
    assert clone.edited() == []
    clone.add("c", revision, 4)
    clone.commit()
    assert clone.edited() == []
    clone.git("push", "--quiet", "origin", "branch:next")
    origin.git("checkout", "--quiet", "--detach")
    origin.git("branch", "--force", "main", "next")
    origin.git("checkout", "--quiet", "main")
    again = origin.clone("again")
    again.git("checkout", "--quiet", "-b", "branch")
    again.commit()
    assert again.edited() == [], "the release before the squash is another history"
    path = again.edit(f"20300101_0003_{revision}.py")
    assert again.edited() == [(path.name, "origin/main")], "the squashed one is frozen, too"


def test_many_tags_and_revisions_take_no_more_processes(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def processes(revisions: range) -> int:
        for number in revisions:
            clone.add(f"r{number}", f"r{number - 1}" if number > 3 else "b", number)
            clone.commit(f"v{number}")
        trace = tmp_path / f"trace{len(revisions)}"
        with monkeypatch.context() as patch:
            patch.setenv("GIT_TRACE2_EVENT", str(trace))
            assert clone.edited() == []
            assert len(clone.new()) == revisions.stop - 3
        return trace.read_text().count('"event":"start"')

    assert 0 < processes(range(3, 4)) == processes(range(4, 9))


# ── Several folders of revisions ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def several(origin: Clone) -> tuple[Clone, Path]:
    """A branch whose revision b is in a second folder, on the main branch, too; and that folder."""
    folder = origin.service / "more revisions"
    folder.mkdir()
    origin.versions.joinpath("20300101_0002_b.py").rename(folder / "20300101_0002_b.py")
    origin.versions.joinpath("HEAD").rename(folder / "HEAD")
    origin.commit()
    clone = origin.clone("several")
    clone.git("checkout", "--quiet", "-b", "branch")
    clone.commit()
    second = clone.service / "more revisions"
    clone.locations = [str(clone.versions), str(second)]
    return clone, second


def test_each_folder_is_compared(several: tuple[Clone, Path]) -> None:
    clone, second = several
    assert (clone.new(), clone.edited()) == ([], [])
    clone.add("c", "b", 3).rename(second / "20300101_0003_c.py")
    assert clone.new() == ["c"]
    path = second / "20300101_0002_b.py"
    before = path.read_text()
    path.write_text(before.replace("SELECT 1", "SELECT 2"))
    assert clone.edited() == [(path.name, "origin/main")]
    path.write_text(before)
    path.rename(clone.versions / path.name)
    assert clone.new() == ["c"], "moved to the other folder"
    assert clone.edited() == []
    clone.versions.joinpath(path.name).unlink()
    second.joinpath("20300101_0003_c.py").unlink()
    assert clone.edited() == [(path.name, "origin/main")], "deleted"
    clone.versions.joinpath("20300101_0001_a.py").unlink()
    clone.add("squashed", None, 3)
    assert clone.edited() == [], "the whole history is another one"


def test_subfolders(several: tuple[Clone, Path]) -> None:
    clone, second = several
    clone.locations = [str(clone.service)]
    clone.recursive = True
    clone.add("c", "b", 3)
    assert clone.new() == ["c"]
    path = second / "20300101_0002_b.py"
    path.write_text(path.read_text().replace("SELECT 1", "SELECT 2"))
    assert clone.edited() == [(path.name, "origin/main")]


def test_folders_of_other_repositories(several: tuple[Clone, Path], tmp_path: Path) -> None:
    clone, second = several
    outside = tmp_path / "outside"
    second.rename(outside)
    clone.locations = [str(clone.versions), str(outside)]
    assert clone.new() == ["b"], "in no repository"
    clone.folder, within = outside, clone.folder
    clone.git("init", "--quiet", "--initial-branch=main", "--template=")
    clone.commit()
    clone.commit()
    clone.folder = within
    assert clone.new() == [], "each is asked for its own"


def test_rebase_of_several_folders(several: tuple[Clone, Path], origin: Clone) -> None:
    clone, second = several
    origin.add("y", "b", 3)
    origin.commit()
    clone.add("c", "b", 3)
    clone.add("d", "c", 4).rename(second / "20300101_0004_d.py")
    clone.versions.joinpath("HEAD").rename(second / "HEAD")
    clone.commit()
    clone.git("pull", "--quiet", "--no-rebase", "origin", "main")
    assert head_file_problem(clone.scripts) is not None
    move(clone)
    assert clone.scripts.get_heads() == ["d"]
    assert clone.versions.joinpath("20300101_0004_c.py").exists()
    assert second.joinpath("20300101_0005_d.py").exists()
    assert second.joinpath("HEAD").read_text() == "d\n"
    assert head_file_problem(clone.scripts) is None


# ── HEAD ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_head_file(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone.service)
    head = clone.versions / "HEAD"

    def kept() -> ScriptDirectory:
        return ScriptDirectory(clone.service / "alembic", hooks=[{"_hook_name": "any", "type": "head_and_ruff"}])

    assert head_file_problem(kept()) is None
    for text in (None, "", "a\n", "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> x\n"):
        head.unlink() if text is None else head.write_text(text)
        problem = head_file_problem(kept())
        assert problem is not None
        assert problem[0] == head
        assert "alembic/versions/HEAD" in problem[1]
        command = problem[1].splitlines()[-1]
        subprocess.run(["/bin/sh", "-c", command], check=True, cwd=clone.service)
        assert head_file_problem(kept()) is None, "what it says puts it right"
    head.unlink()
    assert head_file_problem(clone.scripts) is None, "without the hook nobody keeps it"
    clone.add("x", "a", 3)
    assert "safe-migrations rebase" in str(head_file_problem(kept()))
    clone.versions.parent.joinpath("empty", "versions").mkdir(parents=True)
    assert head_file_problem(ScriptDirectory(clone.versions.parent / "empty")) is None, "no revision, no HEAD"


# ── Rebase ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def merged(made_merged: Path, tmp_path: Path) -> Clone:
    """A branch with the revisions c and d, into which the main branch was merged, with x and y after b."""
    copy(made_merged, tmp_path)
    return Clone(tmp_path / "clone")


def move(clone: Clone, revision: str | None = None) -> list[tuple[str, str]]:
    planned = plan(clone.scripts, revision)
    assert planned is not None
    return [(before.name, after.name) for before, after in carry_out(clone.scripts, planned)]


def test_two_branches_conflict_in_git_and_nowhere_else(merged: Clone) -> None:
    assert merged.git("diff", "--name-only", "--diff-filter=U") == "services/a b/alembic/versions/HEAD"
    assert sorted(merged.scripts.get_heads()) == ["d", "y"]


def test_rebase(merged: Clone) -> None:
    before = {path.name[14:]: path.read_bytes() for path in merged.versions.glob("*.py")}
    assert move(merged) == [
        ("20300101_0003_c.py", "20300101_0005_c.py"),
        ("20300101_0004_d.py", "20300101_0006_d.py"),
    ]
    assert [script.revision for script in merged.scripts.walk_revisions()] == ["d", "c", "y", "x", "b", "a"]
    assert merged.versions.joinpath("HEAD").read_text() == "d\n"
    assert head_file_problem(merged.scripts) is None
    after = {path.name[14:]: path.read_bytes() for path in merged.versions.glob("*.py")}
    assert after.pop("c.py") == before.pop("c.py").replace(b"Revises: b\n", b"Revises: y\n").replace(b"= 'b'", b"= 'y'")
    assert after == before
    merged.git("add", "--all")
    assert "0003_c.py -> " in merged.git("status", "--short").replace('"', "")
    merged.commit()
    assert merged.new() == ["c", "d"]
    assert merged.edited() == []
    assert plan(merged.scripts, None) is None, "nothing is left to move"


def test_rebase_takes_the_sql_along(merged: Clone) -> None:
    (revision,) = merged.versions.glob("*_0003_c.py")
    revision.with_suffix(".downgrade.sql").write_text("SELECT 1;\n")
    move = plan(merged.scripts, None)
    assert move is not None
    moved = dict(carry_out(merged.scripts, move))
    assert moved[revision].with_suffix(".downgrade.sql").read_text() == "SELECT 1;\n"
    assert not revision.with_suffix(".downgrade.sql").exists()


def test_branch_becomes_main_as_it_is(merged: Clone) -> None:
    """After a fast-forward, the first parent of the merge is the branch, as it was before the rebase."""
    move(merged)
    merged.commit()
    origin = Clone(merged.folder.parent / "origin")
    origin.git("tag", "v1")
    merged.git("push", "--quiet", "origin", "branch:main")
    clone = origin.clone("ci")
    assert clone.git("rev-list", "--count", "HEAD", "^v1") == "3", "the merge, and the branch's own two commits"
    assert clone.git("diff", "--name-status", "HEAD^1", "HEAD").count("0003_c.py") == 1, "it was moved"
    assert clone.edited() == []
    assert clone.new() == ["x", "y", "c", "d"], "that one of the parents lacks"


@pytest.mark.parametrize("fast_forward", [True, False])
def test_merge_that_edits(merged: Clone, fast_forward: bool) -> None:
    move(merged)
    merged.edit("20300101_0003_x.py")
    assert merged.edited() == [("20300101_0003_x.py", "origin/main")]
    merged.edit("20300101_0001_a.py")
    merged.commit()
    both = [(name, "origin/main") for name in ("20300101_0001_a.py", "20300101_0003_x.py")]
    assert merged.edited() == both, "before it becomes main"
    if fast_forward:
        merged.git("push", "--quiet", "origin", "branch:main")
    else:
        commit = merged.git("commit-tree", "-p", "origin/main", "-p", "branch^1", "-m", "merge", "branch^{tree}")
        merged.git("push", "--quiet", "origin", f"{commit}:main")
    origin = Clone(merged.folder.parent / "origin")
    clone = origin.clone("ci")
    assert clone.edited() == [("20300101_0001_a.py", "origin/main before this commit")], "that all parents have"
    clone.git("tag", "v1", "HEAD^2" if fast_forward else "HEAD^1")
    assert ("20300101_0003_x.py", "tag v1") in clone.edited()


def test_rebase_during_a_rebase_of_git(origin: Clone, clone: Clone) -> None:
    origin.add("x", "b", 3)
    origin.commit()
    clone.add("c", "b", 3)
    clone.commit()
    clone.git("fetch", "--quiet")
    with pytest.raises(AssertionError, match="CONFLICT"):
        clone.git("rebase", "origin/main")
    assert move(clone) == [("20300101_0003_c.py", "20300101_0004_c.py")]
    clone.git("add", "--all")
    clone.git("-c", "core.editor=true", "rebase", "--continue")
    assert clone.scripts.get_heads() == ["c"]
    assert clone.git("log", "--oneline", "origin/main..").count("\n") <= 1


def test_rebase_onto_fewer_revisions(merged: Clone) -> None:
    """Names are exchanged: the number goes down, over a name that another of the moved files has had."""
    c, d = (merged.versions / f"20300101_000{number}.py" for number in ("3_c", "4_d"))
    d.rename(d.with_name("20300101_0006_same.py"))
    c.rename(c.with_name("20300101_0005_same.py"))
    y = merged.versions / "20300101_0004_y.py"
    y.rename(y.with_name("20300101_0005_y.py"))
    merged.git("checkout", "--quiet", "--theirs", "services/a b/alembic/versions/HEAD")
    assert [after for _, after in move(merged, "d")] == ["20300101_0006_same.py", "20300101_0007_same.py"]
    assert merged.scripts.get_heads() == ["d"]


def test_names_that_are_right_already_stay(merged: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for old, new in (("20300101_0003_c.py", "20300101_0005_c.py"), ("20300101_0004_d.py", "20300101_0006_d.py")):
        merged.versions.joinpath(old).rename(merged.versions / new).touch()
    assert all(before == after for before, after in move(merged, "d"))
    assert merged.scripts.get_heads() == ["d"], "Python does not run what it compiled in the same second"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_only_the_two_places_change(merged: Clone, ending: str) -> None:
    path = merged.versions / "20300101_0003_c.py"
    text = "\ufeff" + path.read_text().replace("why", "b ≠ 'b'").replace("= 'b'", "=  'b'  # 'b' ≠ b").replace(
        "\n", ending
    )
    path.write_bytes(text.encode())
    move(merged)
    expected = text.replace(f"Revises: b{ending}", f"Revises: y{ending}").replace("=  'b'  ", "=  'y'  ")
    assert merged.versions.joinpath("20300101_0005_c.py").read_bytes() == expected.encode()


def test_other_branch_by_name(merged: Clone) -> None:
    merged.git("update-ref", "-d", "refs/remotes/origin/main")
    merged.git("update-ref", "-d", "refs/heads/main")
    merged.git("update-ref", "-d", "refs/remotes/origin/HEAD")
    with pytest.raises(HistoryError, match=r"0004_d\.py\):\n.* rebase d\n.*0004_y\.py\):\n.* rebase y$"):
        plan(merged.scripts, None)
    with pytest.raises(HistoryError, match="c is not a head"):
        plan(merged.scripts, "c")
    move(merged, "y")
    assert [script.revision for script in merged.scripts.walk_revisions()] == ["y", "x", "d", "c", "b", "a"]


def test_a_name_that_is_no_head_where_nothing_is_to_move(clone: Clone) -> None:
    with pytest.raises(HistoryError, match="no_such is not a head"):
        plan(clone.scripts, "no_such")
    (head,) = clone.scripts.get_heads()
    assert plan(clone.scripts, head) is None


def test_what_others_have_stays(merged: Clone) -> None:
    with pytest.raises(HistoryError, match=r"0004_y.py .*origin/main(.|\n)*alembic merge"):
        plan(merged.scripts, "y")
    merged.git("tag", "v1-rc", "branch")
    with pytest.raises(HistoryError, match=r"0004_d.py .*tag v1-rc(.|\n)*alembic merge"):
        plan(merged.scripts, "d")


def test_both_branches_are_on_main(merged: Clone) -> None:
    merged.git("commit", "--quiet", "--all", "--message", "merge")
    merged.git("push", "--quiet", "origin", "branch:new")
    merged.git("update-ref", "refs/remotes/origin/main", "HEAD")
    with pytest.raises(HistoryError, match=r"origin/main(.|\n)*alembic merge"):
        plan(merged.scripts, None)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("4_d", "'c'", "('c', 'x')", "0004_d.py is a merge"),
        ("4_y", "depends_on = None", "depends_on = 'c'", "0003_c.py is in the depends_on"),
        ("3_c", "= 'b'", "= 'B'.lower()", "0003_c.py can't be rewritten"),
        ("3_c", "= 'b'", "= '\\x62'", "0003_c.py can't be rewritten"),
    ],
)
def test_what_can_not_be_told_is_refused(merged: Clone, name: str, old: str, new: str, message: str) -> None:
    path = merged.versions / f"20300101_000{name}.py"
    path.write_text(path.read_text().replace(old, new))
    before = contents(merged)
    with pytest.raises(HistoryError, match=message):
        move(merged, "d")
    assert contents(merged) == before


def applied(clone: Clone, *urls: URL) -> list[str]:
    planned = plan(clone.scripts, "d")
    assert planned is not None
    return refuse_applied(clone.scripts, planned, map(at, urls), {})


def recorded(database: URL, *revisions: str) -> URL:
    fetch(database, "CREATE TABLE IF NOT EXISTS alembic_version (version_num text)")
    fetch(database, "DELETE FROM alembic_version")
    for revision in revisions:
        fetch(database, "INSERT INTO alembic_version VALUES (:revision)", revision=revision)
    return database


def test_databases_are_asked(merged: Clone, database: URL, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert applied(merged, database) == [], "it is empty"
    assert caplog.records == [], "not that Alembic reads a database"
    for revisions in (["b"], ["y"], ["a"]):
        assert applied(merged, recorded(database, *revisions)) == []
    for revisions in (["c"], ["d"], ["y", "d"]):
        names = f"{database.database!r} at 127.* is at revision .*_[cd].py(.|\\n)*alembic downgrade b && "
        with pytest.raises(HistoryError, match=names):
            applied(merged, recorded(database, *revisions))
    with pytest.raises(HistoryError, match="is at revision elsewhere"):
        applied(merged, recorded(database, "elsewhere"))


def test_a_database_that_does_not_answer_is_told(merged: Clone, database: URL, new_role: NewRole) -> None:
    silent = applied(merged, database.set(port=1, password="s3cret"), recorded(database, "b"))
    assert len(silent) == 1
    assert "does not answer at 127.0.0.1:1" in silent[0]
    assert "s3cret" not in silent[0]
    stranger = database.set(username=new_role("LOGIN", "s3cret"), password="s3cret")
    assert "permission denied" in applied(merged, stranger)[0]
    with pytest.raises(HistoryError, match=r"is at revision .*_d\.py"):
        applied(merged, database.set(port=1), recorded(database, "d"))


def test_three_heads(merged: Clone) -> None:
    merged.add("z", "a", 5)
    with pytest.raises(HistoryError, match=r"3 heads \(.*d\.py.*, .*y\.py.*, .*z\.py.*\)"):
        plan(merged.scripts, None)


def test_all_or_nothing(merged: Clone) -> None:
    merged.versions.joinpath("20300101_0006_d.py").mkdir()  # the last file can't take its place
    before = contents(merged)
    with pytest.raises(HistoryError, match=r"versions failed .*Nothing was moved"):
        move(merged, "d")
    assert contents(merged) == before


def contents(clone: Clone) -> dict[str, object]:
    paths = [path for path in clone.versions.iterdir() if path.name != "__pycache__"]
    return {path.name: path.is_file() and path.read_bytes() for path in paths}

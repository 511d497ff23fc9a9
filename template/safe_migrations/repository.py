"""The git repository around the revision files: what the main branch and the releases have of them."""

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safe_migrations.errors import MigrationError

_MAIN = (
    "refs/remotes/origin/HEAD",
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
    "refs/heads/main",
    "refs/heads/master",
)
_PARENT = "HEAD^1"
# Git sets them for its hooks; they would lead us to another index, or to another worktree.
_OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
INCOMPLETE = (
    "This clone lacks a part of the history, so git can't tell which revisions are new or released. Fetch it: "
    "git fetch --unshallow --tags (in GitHub Actions: fetch-depth: 0 for actions/checkout; in GitLab CI: GIT_DEPTH: 0)."
)


@dataclass(frozen=True)
class Published:
    """The revision files of a commit that others may have.

    Attributes:
        where: the commit's name for a person, such as "origin/main" or "tag v1.2".
        files: the id of the contents, by the file's name.
        required: those that the checked-out commit has had: if one is missing now, it was deleted.
    """

    where: str
    files: Mapping[str, str]
    required: frozenset[str] = frozenset()

    def has(self, name: str, contents: str) -> bool:
        """Whether a file is among them.

        Args:
            name: its name.
            contents: the id of its contents, by which it is known under another name.
        """
        return name in self.files or contents in self.files.values()


@dataclass(frozen=True)
class Repository:
    """A git repository, as it is checked out.

    Attributes:
        root: its folder.
        prefix: where the revision files are, from there; a monorepo has others elsewhere.
        shallow: whether older commits are missing.
        main: the main branch's full name, if there is one.
        tags: the full names of the tags, newest first.
    """

    root: Path
    prefix: str
    shallow: bool
    main: str | None
    tags: tuple[str, ...]

    @classmethod
    def around(cls, folder: Path) -> "Repository | None":
        """The repository; None where there is none, or no git.

        Args:
            folder: of the revision files.

        Raises:
            MigrationError: git refuses to read it.
        """
        try:
            found = _git(folder, "rev-parse", "--is-shallow-repository", "--show-toplevel", "--show-prefix")
            form = "--format=%(refname) %(symref)"
            listed = _git(folder, "for-each-ref", "--sort=-creatordate", form, "refs/tags", *_MAIN)
        except FileNotFoundError:
            return None
        except MigrationError as error:
            if "not a git repository" in str(error):
                return None
            raise
        shallow, root, prefix = os.fsdecode(found).splitlines()
        refs = dict(line.split(" ") for line in os.fsdecode(listed).splitlines())
        main = next((refs[ref] or ref for ref in _MAIN if ref in refs), None)
        tags = tuple(ref for ref in refs if ref.startswith("refs/tags/"))
        return cls(Path(root), prefix.rstrip("/"), shallow == "true", main, tags)

    def base(self) -> Published | None:
        """What new revisions are compared with: the main branch, or on its tip the first parent.

        Raises:
            MigrationError: the clone is too shallow to tell.
        """
        tip, parent, main = self._commits("HEAD", _PARENT, str(self.main))
        if self.main and main != tip:
            return self._published(self.main)[0]
        if self.shallow and not (self.main and parent):
            raise MigrationError(INCOMPLETE)
        return self._published(_PARENT)[0] if self.main and parent else None

    def releases(self) -> list[Published]:
        """What the main branch, which comes first if there is one, and every tag have."""
        return self._published(*([self.main] if self.main else []), *self.tags)

    def frozen(self) -> list[Published]:
        """What must not change: of the main branch, of the commit before its tip if that is here, of every tag.

        Raises:
            MigrationError: the clone is shallow.
        """
        if self.shallow:
            raise MigrationError(INCOMPLETE)
        tip, parent, main = self._commits("HEAD", _PARENT, str(self.main))
        if not tip:
            return []
        found = [self._main_since_fork(self.main)] if self.main else []
        if main == tip and parent:
            found += [_required(each) for each in self._published(_PARENT)]
        merged = set(self._lines("for-each-ref", "--merged=HEAD", "--format=%(refname)", "refs/tags"))
        tags = zip(self.tags, self._published(*self.tags), strict=True)
        return [*found, *(_required(each) if tag in merged else each for tag, each in tags)]

    def contents_ids(self, paths: Iterable[Path]) -> dict[str, str]:
        """The ids that the contents of files have in git, by the files' names.

        Args:
            paths: files in the folder of the revision files.
        """
        names = [path.name for path in paths]
        given = [f"{self.prefix}/{name}" for name in names]
        return dict(zip(names, self._lines("hash-object", "--stdin-paths", given=given), strict=True))

    def objects(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Contents by their ids.

        Args:
            ids: of files or folders.

        Raises:
            MigrationError: one is missing, as in a partial clone.
        """
        found, start = {}, 0
        wanted = list(dict.fromkeys(ids))
        output = _git(self.root, "cat-file", "--batch", given=wanted) if wanted else b""
        for each in wanted:
            header, _, _ = output[start:].partition(b"\n")
            if header.endswith(b" missing"):
                raise MigrationError(INCOMPLETE)
            start += len(header) + 1
            size = int(header.rpartition(b" ")[2])
            found[each] = output[start : start + size]
            start += size + 1
        return found

    def _main_since_fork(self, main: str) -> Published:
        """The main branch's files, as the checked-out branch has got them: it may be behind."""
        fork = self._lines("merge-base", "HEAD", main, may_fail=True)
        now, *before = self._published(main, *fork)
        got = before[0].files if before else {}
        files = {name: got.get(name, contents) for name, contents in now.files.items()}
        return Published(now.where, files, frozenset(files.keys() & got.keys()))

    def _published(self, *commits: str) -> list[Published]:
        trees = self._ids(*(f"{commit}:{self.prefix}" for commit in commits))
        files = {tree: _entries(source, len(tree) // 2) for tree, source in self.objects(filter(None, trees)).items()}
        return [Published(self._shown(each), files.get(tree, {})) for each, tree in zip(commits, trees, strict=True)]

    def _commits(self, *names: str) -> list[str]:
        return self._ids(*(name + "^{commit}" for name in names))

    def _ids(self, *names: str) -> list[str]:
        """The ids of what these names stand for, each empty where there is nothing."""
        lines = self._lines("cat-file", "--batch-check=%(objectname)", given=names)
        return [line if re.fullmatch("[0-9a-f]{40,64}", line) else "" for line in lines]

    def _lines(self, *arguments: str, given: Iterable[str] = (), may_fail: bool = False) -> list[str]:
        return os.fsdecode(_git(self.root, *arguments, given=given, may_fail=may_fail)).splitlines()

    def _shown(self, commit: str) -> str:
        if commit == _PARENT:
            return f"the commit before the tip of {self._shown(str(self.main))}"
        return re.sub("^refs/(heads|remotes|(tag)s)/", lambda match: f"{match[2]} " if match[2] else "", commit)


def _required(published: Published) -> Published:
    return replace(published, required=frozenset(published.files))


def _entries(tree: bytes, size: int) -> dict[str, str]:
    """The files in a folder, as git keeps it: `MODE NAME`, a zero byte, and the bytes of the id, again and again."""
    entries = re.findall(rb"\d+ ([^\0]+)\0(" + rb"." * size + rb")", tree, re.DOTALL)
    return {os.fsdecode(name): contents.hex() for name, contents in entries if name.endswith(b".py")}


def _git(folder: Path, *arguments: str, given: Iterable[str] = (), may_fail: bool = False) -> bytes:
    """Run git, which asks nothing and fetches nothing, and return what it prints.

    Raises:
        FileNotFoundError: git is not installed.
        MigrationError: git refuses.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _OF_HOOKS}
    process = subprocess.run(
        ["git", *arguments],  # noqa: S607
        cwd=folder,
        env=kept | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"},
        input=b"".join(os.fsencode(f"{line}\n") for line in given),
        capture_output=True,
    )
    if process.returncode != 0 and not may_fail:
        said = " ".join(os.fsdecode(process.stderr).split())
        raise MigrationError(f"git {arguments[0]} failed ({said}): put that right, then run the same command again.")
    return process.stdout

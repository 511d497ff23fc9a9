"""The git repository around the revision files: what the main branch and the releases have of them."""

import os
import re
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from alembic.script import Script

from safe_migrations.errors import MigrationError

_MAIN = (
    "refs/remotes/origin/HEAD",
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
    "refs/heads/main",
    "refs/heads/master",
)
# Git sets them for its hooks; they would lead us to another index, or to another worktree.
_OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
# A person may have told git to print something else, to call programs, or to change lines of a merge.
_SETTINGS = {
    "apply.ignoreWhitespace": "no",
    "apply.whitespace": "nowarn",
    "color.ui": "never",
    "commit.gpgSign": "false",
    "core.attributesFile": os.devnull,
    "core.hooksPath": os.devnull,
    "core.quotePath": "true",
    "diff.mnemonicPrefix": "false",
    "diff.noprefix": "false",
    "status.branch": "false",
    "status.showUntrackedFiles": "normal",
}
INCOMPLETE = (
    "This clone lacks a part of the history, so git can't tell which revisions are new or released. Fetch it: "
    "git fetch --unshallow --tags (in GitHub Actions: fetch-depth: 0 for actions/checkout; in GitLab CI: GIT_DEPTH: 0)."
)


@dataclass(frozen=True)
class Published:
    """The revision files of a commit that others may have.

    Attributes:
        where: the commit's name for a person, such as "origin/main" or "tag v1.2".
        files: the id of the contents, by the file's path from the repository's root.
        is_ours: whether the checked-out commit comes after it: a file that is missing now was deleted.
    """

    where: str
    files: Mapping[str, str]
    is_ours: bool = False

    def has(self, name: str, contents: str) -> bool:
        """Whether a file is among them.

        Args:
            name: its path from the repository's root.
            contents: the id of its contents, by which it is known under another name.
        """
        return name in self.files or contents in self.files.values()


@dataclass(frozen=True)
class Repository:
    """A git repository, as it is checked out.

    Attributes:
        root: its folder.
        prefixes: where the revision files are, from there; a monorepo has others elsewhere.
        shallow: whether older commits are missing.
        main: the main branch's full name, if there is one.
        tags: the full names of the tags, newest first.
    """

    root: Path
    prefixes: tuple[str, ...]
    shallow: bool
    main: str | None
    tags: tuple[str, ...]

    @classmethod
    def around(cls, folders: Iterable[Path]) -> "list[Repository]":
        """The repositories that folders are in; none where there is none, or no git.

        Args:
            folders: of the revision files.

        Raises:
            MigrationError: git refuses to read one.
        """
        prefixes: dict[tuple[str, str], list[str]] = {}
        for folder in folders:
            try:
                found = git(folder, "rev-parse", "--is-shallow-repository", "--show-toplevel", "--show-prefix")
            except (FileNotFoundError, MigrationError) as error:
                if isinstance(error, FileNotFoundError) or "not a git repository" in str(error):
                    continue
                raise
            shallow, root, prefix = os.fsdecode(found).splitlines()
            prefixes.setdefault((root, shallow), []).append(prefix)
        return [cls._read(Path(root), found, shallow == "true") for (root, shallow), found in prefixes.items()]

    @classmethod
    def _read(cls, root: Path, prefixes: Iterable[str], shallow: bool) -> "Repository":
        form = "--format=%(refname) %(symref)"
        listed = git(root, "for-each-ref", "--sort=-creatordate", form, "refs/tags", *_MAIN)
        refs = dict(line.split(" ") for line in os.fsdecode(listed).splitlines())
        main = next((refs[ref] or ref for ref in _MAIN if ref in refs), None)
        tags = tuple(ref for ref in refs if ref.startswith("refs/tags/"))
        return cls(root, tuple(prefixes), shallow, main, tags)

    def named(self, scripts: Iterable[Script]) -> dict[str, Script]:
        """Those of the revisions whose files are in this repository, by the files' paths from its root.

        Args:
            scripts: this code's revisions.
        """
        folders = {self.root.resolve() / prefix: prefix for prefix in self.prefixes}
        paths = [(script, Path(script.path)) for script in scripts]
        return {
            folders[path.parent.resolve()] + path.name: script
            for script, path in paths
            if path.parent.resolve() in folders
        }

    def of_main(self) -> list[Published]:
        """What main has got since this branch left it, and what both have; then, on main, what was there before.

        Before a merge that is what all parents have: after a fast-forward the first one was never on main.

        Raises:
            MigrationError: the clone is shallow.
        """
        if self.shallow:
            raise MigrationError(INCOMPLETE)
        if self.main is None:
            return []
        name, fork = _shown(self.main), self._words("merge-base", "HEAD", self.main)
        *ours, now = self._files([*fork, self.main])
        had = ours[0] if ours else {}
        since = {file: id_ for file, id_ in now.items() if file not in had}
        found = [Published(name, since), Published(name, had, True)]
        commit, *parents = self._words("rev-list", "--no-walk", "--parents", "HEAD") or [""]
        if fork == [commit]:
            before = [set(files.items()) for files in self._files(parents)]
            common = dict(set.intersection(*before)) if before else {}
            found.append(Published(f"{name} before this commit", common, True))
        return found

    def at(self, refs: Collection[str]) -> list[Published]:
        """What branches and tags have.

        Args:
            refs: their full names.
        """
        ours = self._words("for-each-ref", "--merged=HEAD", "--format=%(refname)", "refs/tags")
        return [Published(_shown(ref), files, ref in ours) for ref, files in zip(refs, self._files(refs), strict=True)]

    def contents_ids(self, names: Collection[str]) -> dict[str, str]:
        """The ids that the contents of files have in git, by the files' names.

        Args:
            names: their paths from the repository's root.
        """
        ids = git(self.root, "hash-object", "--stdin-paths", given=names)
        return dict(zip(names, ids.decode().split(), strict=True))

    def contents(self, ids: Collection[str]) -> dict[str, bytes]:
        """Contents by their ids.

        Args:
            ids: of files.

        Raises:
            MigrationError: one is missing, as in a partial clone.
        """
        found = self._objects(ids)
        if len(found) < len(ids):
            raise MigrationError(INCOMPLETE)
        return {id_: contents for id_, (_, contents) in found.items()}

    def _files(self, commits: Collection[str]) -> list[dict[str, str]]:
        """The revision files of commits: the ids of their contents, by their paths from the repository's root."""
        trees = self._objects([f"{commit}:{prefix}" for commit in commits for prefix in self.prefixes])
        found = []
        for commit in commits:
            folders = [(prefix, trees.get(f"{commit}:{prefix}")) for prefix in self.prefixes]
            files = [(prefix, _entries(*tree)) for prefix, tree in folders if tree]
            found.append({prefix + name: id_ for prefix, entries in files for name, id_ in entries.items()})
        return found

    def _objects(self, names: Collection[str]) -> dict[str, tuple[str, bytes]]:
        """Id and contents of those objects that are there."""
        found = {}
        output = BytesIO(git(self.root, "cat-file", "--batch", given=names) if names else b"")
        for name in names:
            *header, last = output.readline().split()  # ID TYPE SIZE, or NAME missing
            if last != b"missing":
                found[name] = header[0].decode(), output.read(int(last))
                output.read(1)
        return found

    def _words(self, *arguments: str) -> list[str]:
        """What git prints; nothing if it can't, as where there is no commit yet."""
        return os.fsdecode(git(self.root, *arguments, may_fail=True)).split()


def _shown(ref: str) -> str:
    return re.sub("^refs/(heads|remotes)/", "", ref).replace("refs/tags/", "tag ")


def _entries(id_: str, tree: bytes) -> dict[str, str]:
    """The files in a folder, as git keeps it: `MODE NAME`, a zero byte, and the bytes of the id, again and again."""
    size = len(id_) // 2  # SHA-1 or SHA-256
    entries = re.findall(rb"\d+ ([^\0]+)\0(" + rb"." * size + rb")", tree, re.DOTALL)
    return {os.fsdecode(name): contents.hex() for name, contents in entries if name.endswith(b".py")}


def environment_of_git() -> dict[str, str]:
    """The environment for git, which is not to ask, and to do the same whoever calls it, and be it in a hook.

    See https://git-scm.com/docs/git-config#ENVIRONMENT.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _OF_HOOKS}
    given = int(kept.get("GIT_CONFIG_COUNT") or 0)
    for number, (name, value) in enumerate(_SETTINGS.items(), given):
        kept |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return kept | {"GIT_CONFIG_COUNT": str(given + len(_SETTINGS)), "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}


def without_login(text: str) -> str:
    """A text whose URLs have lost their user and password.

    Args:
        text: such as what git says.
    """
    return re.sub(r"(\w+://)" r"[^@\s]+@", r"\1", text)


def git(folder: Path, *arguments: str, given: Iterable[str] | bytes = (), may_fail: bool = False) -> bytes:
    """Run git, which asks nothing and fetches nothing unbidden, and return what it prints.

    Args:
        folder: where.
        arguments: its command and options.
        given: what its standard input gets, or the lines of it.
        may_fail: whether to return what it has printed even if it fails.

    Raises:
        FileNotFoundError: git is not installed.
        MigrationError: git refuses.
    """
    process = subprocess.run(
        ["git", *arguments],  # noqa: S607
        cwd=folder,
        env=environment_of_git() | {"GIT_NO_LAZY_FETCH": "1"},
        input=given if isinstance(given, bytes) else b"".join(os.fsencode(f"{line}\n") for line in given),
        capture_output=True,
    )
    if process.returncode != 0 and not may_fail:
        said = without_login(" ".join(os.fsdecode(process.stderr).split()))
        raise MigrationError(f"git {arguments[0]} failed ({said}): put that right, then run the same command again.")
    return process.stdout

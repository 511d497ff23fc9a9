"""The git repository around the revision files, and the versions of these files on the main branch and in releases."""

import os
import re
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from safe_migrations.env_files import environment_of_programs
from safe_migrations.errors import HistoryError

if TYPE_CHECKING:  # template-check and fleet status do not wait for Alembic
    from alembic.script import Script

_MAIN = (
    "refs/remotes/origin/HEAD",
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
    "refs/heads/main",
    "refs/heads/master",
)
# Git sets these variables for its hooks; they name another index or worktree.
_OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
# They override settings of the user that change what git prints, or which programs it calls.
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
    # Copier's abbreviations of URLs.
    "url.https://github.com/.insteadOf": "gh:",
    "url.https://gitlab.com/.insteadOf": "gl:",
}
_LOGIN = re.compile(r"^((?:git\+)?)(https?://)([^/\s]+)@([^/\s]+)")
# Prints the password, as gitcredentials(7) describes.
_HELPER = """!f() { printf 'password=%s\\n' "$URL_PASSWORD"; }; f"""
INCOMPLETE = (
    "This clone is shallow or partial, so git does not know which revisions are new or released. Fetch the whole "
    "history (GitHub Actions: fetch-depth: 0 of actions/checkout; GitLab CI: GIT_DEPTH: 0):\n"
    "git fetch --unshallow --tags"
)


@dataclass(frozen=True)
class Published:
    """The revision files of a commit that a database may have run.

    Attributes:
        where: the commit's name in messages, such as "origin/main" or "tag v1.2".
        files: the id of the contents, by the file's path from the repository's root; also of the SQL that revisions
            execute.
        is_ours: whether it is an ancestor of the checked-out commit: a missing file was deleted.
    """

    where: str
    files: Mapping[str, str]
    is_ours: bool = False

    @property
    def revisions(self) -> dict[str, str]:
        """The Python files; all other files are SQL."""
        return {name: id_ for name, id_ in self.files.items() if name.endswith(".py")}

    def has(self, name: str, contents: str) -> bool:
        """Whether it has a file.

        Args:
            contents: the id of its contents, which finds a renamed file.
        """
        return name in self.files or contents in self.files.values()


@dataclass(frozen=True)
class Repository:
    """A git repository, as it is checked out.

    Attributes:
        root: its folder.
        prefixes: the folders of the revision files, relative to `root`.
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
        """The repositories that contain folders; none where git is not installed.

        Raises:
            HistoryError: git refuses to read one.
        """
        prefixes: dict[tuple[str, str], list[str]] = {}
        for folder in folders:
            try:
                answer = git(folder, "rev-parse", "--is-shallow-repository", "--show-toplevel", "--show-prefix")
            except (FileNotFoundError, HistoryError) as error:
                if isinstance(error, FileNotFoundError) or "not a git repository" in str(error):
                    continue
                raise
            shallow, root, prefix = os.fsdecode(answer).splitlines()
            prefixes.setdefault((root, shallow), []).append(prefix)
        return [cls._read(Path(root), inside, shallow == "true") for (root, shallow), inside in prefixes.items()]

    @classmethod
    def _read(cls, root: Path, prefixes: Iterable[str], shallow: bool) -> "Repository":
        form = "--format=%(refname) %(symref)"
        listed = git(root, "for-each-ref", "--sort=-creatordate", form, "refs/tags", *_MAIN)
        refs = dict(line.split(" ") for line in os.fsdecode(listed).splitlines())
        main = next((refs[ref] or ref for ref in _MAIN if ref in refs), None)
        tags = tuple(ref for ref in refs if ref.startswith("refs/tags/"))
        return cls(root, tuple(prefixes), shallow, main, tags)

    @property
    def is_empty(self) -> bool:
        """Whether it has no commit yet, so that nothing is published."""
        return not self._words("rev-list", "--all", "--max-count=1")

    def named(self, scripts: "Iterable[Script]") -> "dict[str, Script]":
        """The revisions whose files are in this repository, by the files' paths from its root."""
        folders = {self.root.resolve() / prefix: prefix for prefix in self.prefixes}
        paths = [(script, Path(script.path)) for script in scripts]
        return {
            folders[path.parent.resolve()] + path.name: script
            for script, path in paths
            if path.parent.resolve() in folders
        }

    def of_main(self) -> list[Published]:
        """The files of main since the merge base, and at the merge base; on main itself, also those before this commit.

        Before a merge commit, those are what all parents have: after a fast-forward, main never had the first parent.

        Raises:
            HistoryError: the clone is shallow.
        """
        if self.shallow:
            raise HistoryError(INCOMPLETE)
        if self.main is None:
            return []
        name, fork = _shown(self.main), self._words("merge-base", "HEAD", self.main)
        *ours, now = self._files([*fork, self.main])
        had = ours[0] if ours else {}
        since = {file: id_ for file, id_ in now.items() if file not in had}
        published = [Published(name, since), Published(name, had, True)]
        commit, *parents = self._words("rev-list", "--no-walk", "--parents", "HEAD") or [""]
        if fork == [commit]:
            before = [set(files.items()) for files in self._files(parents)]
            common = dict(set.intersection(*before)) if before else {}
            published.append(Published(f"{name} before this commit", common, True))
        return published

    def at(self, refs: Collection[str]) -> list[Published]:
        """The revision files of branches and tags."""
        ours = self._words("for-each-ref", "--merged=HEAD", "--format=%(refname)", "refs/tags")
        return [Published(_shown(ref), files, ref in ours) for ref, files in zip(refs, self._files(refs), strict=True)]

    def tags_with(self, name: str) -> list[str]:
        """The tags whose commits have a file of this name in a folder of the revision files."""
        paths = {f"{tag}:{prefix}{name}": tag for tag in self.tags for prefix in self.prefixes}
        return list(dict.fromkeys(paths[path] for path in self._objects(paths)))

    def uncommitted(self, folders: Collection[Path]) -> list[Path]:
        """The files and folders whose content no commit has: changed, ignored or unknown to git."""
        options = ("--porcelain", "-z", "--untracked-files=all", "--ignored", "--no-renames")
        output = git(self.root, "status", *options, "--", *map(str, folders))
        return [self.root / line[3:] for line in os.fsdecode(output).split("\0") if line]

    def release_with(self, script: "Script") -> str:
        """The newest tag with a revision; without a tag, the checked-out commit."""
        named = self.named([script])
        ids = self.contents_ids(named)
        for tag in self.at(self.tags):
            if any(tag.has(name, ids[name]) for name in named):
                return tag.where.removeprefix("tag ")
        return " ".join(self._words("rev-parse", "--short", "HEAD")) if named else ""

    def contents_ids(self, names: Collection[str]) -> dict[str, str]:
        """The ids that the contents of files have in git, by the files' names."""
        ids = git(self.root, "hash-object", "--stdin-paths", standard_input=names)
        return dict(zip(names, ids.decode().split(), strict=True))

    def contents(self, ids: Collection[str]) -> dict[str, bytes]:
        """Contents by their ids.

        Raises:
            HistoryError: one is missing, as in a partial clone.
        """
        objects = self._objects(ids)
        if len(objects) < len(ids):
            raise HistoryError(INCOMPLETE)
        return {id_: contents for id_, (_, contents) in objects.items()}

    def _files(self, commits: Collection[str]) -> list[dict[str, str]]:
        """The revision files of commits: the ids of their contents, by their paths from the repository's root."""
        trees = self._objects([f"{commit}:{prefix}" for commit in commits for prefix in self.prefixes])
        files_of_commits = []
        for commit in commits:
            folders = [(prefix, trees.get(f"{commit}:{prefix}")) for prefix in self.prefixes]
            files = [(prefix, _entries(*tree)) for prefix, tree in folders if tree]
            files_of_commits.append({prefix + name: id_ for prefix, entries in files for name, id_ in entries.items()})
        return files_of_commits

    def _objects(self, names: Collection[str]) -> dict[str, tuple[str, bytes]]:
        """Id and contents of the existing objects."""
        objects = {}
        output = BytesIO(git(self.root, "cat-file", "--batch", standard_input=names) if names else b"")
        for name in names:
            *header, last = output.readline().split()  # ID TYPE SIZE, or NAME missing
            if last != b"missing":
                objects[name] = header[0].decode(), output.read(int(last))
                output.read(1)
        return objects

    def _words(self, *arguments: str) -> list[str]:
        """The words that git prints; none if git fails, for instance without a commit."""
        return os.fsdecode(git(self.root, *arguments, may_fail=True)).split()


def _shown(ref: str) -> str:
    return re.sub("^refs/(heads|remotes)/", "", ref).replace("refs/tags/", "tag ")


def _entries(id_: str, tree: bytes) -> dict[str, str]:
    """The files of a git tree, whose entries are `MODE NAME`, a zero byte, and the bytes of the id."""
    size = len(id_) // 2  # SHA-1 or SHA-256
    entries = re.findall(rb"\d+ ([^\0]+)\0(" + rb"." * size + rb")", tree, re.DOTALL)
    return {os.fsdecode(name): contents.hex() for name, contents in entries if name.endswith((b".py", b".sql"))}


def environment_of_git(url: str = "") -> dict[str, str]:
    """The environment for git: it asks nothing, and the settings of the user and of hooks do not matter.

    See https://git-scm.com/docs/git-config#ENVIRONMENT.

    Args:
        url: a URL whose user and password git uses for its host, so that no command line has them.
    """
    kept = {name: value for name, value in environment_of_programs().items() if name not in _OF_HOOKS}
    settings = [*_SETTINGS.items()]
    if login := _LOGIN.match(url):
        _, scheme, user_and_password, host = login.groups()
        user, _, password = user_and_password.partition(":")
        kept |= {"URL_PASSWORD": unquote(password)}
        credential = f"credential.{scheme}{host}"
        others = [(f"{credential}.helper", "")] if password else []  # removes the helpers of the user, which come first
        settings += [(f"{credential}.username", unquote(user)), *others, (f"{credential}.helper", _HELPER)]
        # A clone that Copier has kept may have a URL with the login, which git would pass to its own programs.
        settings += [(f"url.{scheme}{host}/.insteadOf", f"{scheme}{user_and_password}@{host}/")]
    first = int(kept.get("GIT_CONFIG_COUNT") or 0)
    for number, (name, value) in enumerate(settings, first):
        kept |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    kept |= {"GIT_CONFIG_COUNT": str(first + len(settings)), "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    return kept | {"GIT_OPTIONAL_LOCKS": "0"}  # `git status` takes no lock that another git in the repository needs


def address_for_git(url: str) -> str:
    """A URL for a command line, without the user and the password of HTTP: `environment_of_git` passes these to git."""
    return _LOGIN.sub(r"\1\2\4", url)


def without_login(text: str) -> str:
    """A text without the users and passwords of its URLs."""
    return re.sub(r"(\w+://)(?:[^/\s]+|[^@\s]+)@", r"\1", text)


def git(
    folder: Path, *arguments: str, standard_input: Iterable[str] | bytes = (), may_fail: bool = False, url: str = ""
) -> bytes:
    """Run git, and return what it prints; git asks nothing, and fetches no objects.

    Args:
        may_fail: whether to return the output also if git fails.

    Raises:
        FileNotFoundError: git is not installed.
        HistoryError: git failed.
    """
    if not isinstance(standard_input, bytes):
        standard_input = b"".join(os.fsencode(f"{line}\n") for line in standard_input)
    process = subprocess.run(
        ["git", *arguments],  # noqa: S607
        cwd=folder,
        env=environment_of_git(url) | {"GIT_NO_LAZY_FETCH": "1"},
        input=standard_input,
        capture_output=True,
    )
    if process.returncode != 0 and not may_fail:
        message = without_login(" ".join(os.fsdecode(process.stderr).split()))
        raise HistoryError(
            f"git {arguments[0]} failed ({message}). Correct the cause, then run the same command again."
        )
    return process.stdout

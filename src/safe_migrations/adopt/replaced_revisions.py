"""The revisions that a squash replaces, and what databases and git need before."""

import os
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple
from sqlalchemy import Connection

from safe_migrations.backfill.definition import (
    NothingThereError,
    backfill_command,
    is_complete,
    load_backfill,
    required_backfills,
)
from safe_migrations.ddl.sql_file import files_beside
from safe_migrations.errors import BackfillError, HistoryError, RefusedError
from safe_migrations.history.applied import configured_databases, read_applied
from safe_migrations.history.frozen import repositories
from safe_migrations.history.git import Repository
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.database import Database
from safe_migrations.printable import printable
from safe_migrations.upgrade.loading import load_revisions
from safe_migrations.upgrade.phases import declared
from safe_migrations.upgrade.project import Project, version_folders
from safe_migrations.upgrade.revision_names import full_name
from safe_migrations.upgrade.states import BEHIND, EXIT_STATUS

AGAIN = "Then run the same command again."


@dataclass(frozen=True)
class Squashed:
    """The revisions that one baseline replaces.

    Attributes:
        scripts: in the order in which they run; the baseline gets the id of the last one.
        rest: the revisions that are kept, newest first.
    """

    scripts: tuple[Script, ...]
    rest: tuple[Script, ...]

    @property
    def last(self) -> Script:
        """The revision whose id the baseline gets."""
        return self.scripts[-1]

    @property
    def replaced(self) -> tuple[str, ...]:
        """The ids that the squash removes, and the ids that an earlier squash has replaced."""
        earlier = (old for script in self.scripts for old in declared(script, "replaces"))
        return (*earlier, *(script.revision for script in self.scripts[:-1]))

    @property
    def labels(self) -> set[str]:
        """The labels of branches in the replaced part of the history."""
        return {label for script in self.scripts for label in script.branch_labels}

    @property
    def backfills(self) -> set[str]:
        """The backfills that only replaced revisions require."""
        kept = {name for script in self.rest for name in required_backfills(script)}
        return {name for script in self.scripts for name in required_backfills(script)} - kept

    def files(self, project: Project) -> set[Path]:
        """The files to delete: of the revisions, and of the backfills that only they require."""
        paths = [Path(script.path).absolute() for script in self.scripts]
        backfills = (project.backfills.absolute() / f"{name}.py" for name in self.backfills)
        return {*paths, *(file for path in paths for file in files_beside(path)), *backfills}


def select(script_directory: ScriptDirectory, to: str | None) -> Squashed:
    """Find the revisions that a baseline can replace.

    Args:
        to: the last revision to replace; by default the head.

    Raises:
        HistoryError: the history has open branches, or several folders.
    """
    load_revisions(script_directory)
    heads = script_directory.get_revisions("heads")
    if len(heads) > 1:
        raise HistoryError(
            f"The history has several heads ({', '.join(map(full_name, heads))}), but a baseline replaces a single "
            "line of revisions. Nothing was changed. First join the heads, with one of these "
            "commands:\nsafe-migrations rebase\nalembic merge -m 'merge heads' heads"
        )
    last = script_directory.get_revision(to or "head")
    newest = () if last is None else script_directory.iterate_revisions(last.revision, "base", implicit_base=True)
    scripts = tuple(reversed([script for script in newest if isinstance(script, Script)]))
    ids = {script.revision for script in scripts}
    rest = tuple(script for script in script_directory.walk_revisions() if script.revision not in ids)
    _refuse_branches(rest, scripts)
    if len(folders := version_folders(script_directory)) > 1:
        where = ", ".join(map(os.path.relpath, folders))
        raise HistoryError(
            f"The revisions are in several folders ({where}), but a baseline needs a single folder. Nothing was "
            "changed. Move the files into one folder, and name only this folder in version_locations."
        )
    return Squashed(scripts, rest)


def _refuse_branches(rest: Collection[Script], scripts: Collection[Script]) -> None:
    """Refuse kept revisions that need a replaced revision other than the last."""
    gone = {script.revision: script for script in list(scripts)[:-1]}
    for script in rest:
        below = {*to_tuple(script.down_revision, default=()), *to_tuple(script.dependencies, default=())}
        if needed := sorted(below & gone.keys()):
            raise HistoryError(
                f"An open branch begins at the revision {full_name(gone[needed[0]])}: {Path(script.path).name} needs "
                "this revision, and the baseline would replace it. Nothing was changed. With --to, name a revision "
                "before the branch."
            )


def refuse_unfinished(project: Project, squashed: Squashed) -> list[str]:
    """Refuse a squash while a database still needs one of the revisions, or one of their backfills.

    Returns:
        A warning for each database that could not be read.

    Raises:
        BackfillError: a backfill is not complete.
        HistoryError: a database is at a revision that this code does not have.
        RefusedError: a database is behind.
    """
    databases, missing = configured_databases(project)
    applied, unread = read_applied(databases, project.version_options)
    sufficient = {script.revision for script in (squashed.last, *squashed.rest)}
    for database, current in applied:
        _refuse_behind(database, current, sufficient, squashed)
        if current:
            run_async(_refuse_incomplete(project, database, squashed.backfills))
    return missing + unread


def _refuse_behind(
    database: Database, current: Collection[str], sufficient: Collection[str], squashed: Squashed
) -> None:
    name = f"The database {database.name!r} at {database.host}"
    known = {script.revision: script for script in squashed.scripts}
    for revision in sorted(set(current) - set(sufficient)):
        if revision not in known:
            raise HistoryError(
                f"{name} is at revision {printable(revision)}, which this code does not have. The database may be "
                f"behind {full_name(squashed.last)}. Nothing was changed. Migrate the database with the code that has "
                f"this revision, or configure another database. {AGAIN}"
            )
        raise RefusedError(
            f"{name} is at revision {full_name(known[revision])}. After the squash, this database could not be "
            "upgraded. Nothing was changed. First upgrade the database, with all backfills and contract revisions. "
            f"{AGAIN}\nalembic upgrade {shlex.quote(squashed.last.revision)}",
            EXIT_STATUS[BEHIND],
        )


async def _refuse_incomplete(project: Project, database: Database, names: Collection[str]) -> None:
    def incomplete(connection: Connection, name: str) -> bool:
        try:
            return not is_complete(connection, load_backfill(project.backfills, name), name)
        except NothingThereError:  # a later revision has dropped the column
            return False

    async with connected(database, isolation_level="AUTOCOMMIT") as connection:
        for name in sorted(names):
            if await connection.run_sync(incomplete, name):
                raise BackfillError(
                    f"The backfill {name} is not complete in the database {database.name!r} at {database.host}, and "
                    f"the squash would delete it. Nothing was changed. Complete the backfill. {AGAIN}\n"
                    f"{backfill_command(name)}"
                )


def uncommitted(project: Project, files: Collection[Path]) -> list[Path]:
    """The files whose content git does not have.

    Raises:
        HistoryError: git fails.
    """
    folders = [folder for folder in (*version_folders(project.script), project.backfills.absolute()) if folder.is_dir()]
    enclosing = Repository.around(folders[:1])
    if not enclosing:
        return sorted(files)
    lost = {path.resolve() for path in enclosing[0].uncommitted(folders)}
    return sorted(file for file in files if lost & {file.resolve(), *file.resolve().parents})


def last_release(script_directory: ScriptDirectory, script: Script) -> str:
    """The newest tag, or else the commit, that has a revision; empty without git."""
    return next(filter(None, (repository.release_with(script) for repository in repositories(script_directory))), "")

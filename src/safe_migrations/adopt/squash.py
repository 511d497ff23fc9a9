"""`safe-migrations squash`: one baseline instead of a long history, with the proof that nothing else changes."""

import os
import shlex
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from alembic.util import to_tuple
from sqlalchemy import Connection

from safe_migrations.adopt import draft as drafts
from safe_migrations.adopt.baseline import PHASE, write_baseline
from safe_migrations.adopt.dump import Dump
from safe_migrations.adopt.proof import Scratch, config_of_folder, prove, refuse_difference, refuse_differing_models
from safe_migrations.adopt.refusals import refuse_not_reproducible, refuse_settings
from safe_migrations.adopt.replaced_revisions import Squashed, last_release, refuse_unfinished, select, uncommitted
from safe_migrations.adopt.scratch import empty_database, scratch_server
from safe_migrations.backfill.definition import required_backfills
from safe_migrations.errors import AdoptionError, RefusedError
from safe_migrations.history.numbering import HEAD
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import scratch_database
from safe_migrations.postgres.database import Database
from safe_migrations.prompt import confirm
from safe_migrations.revisions import NUMBER, REPLACED_REVISION
from safe_migrations.trace.copies import complete_backfills
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.states import EXIT_STATUS

SHOWN = 5  # names of files
HISTORY = "what the history makes"
_KEEP = "With --to, leave the revisions that make these objects out of the squash."
_MISSING = "Correct the models, or write the missing revisions, then run the same command again."
Report = Callable[[str], None]


def squash(project: Project, to: str | None, report: Report, *, yes: bool) -> None:
    """Replace revisions with one baseline.

    Args:
        to: the last revision to replace; by default the head.

    Raises:
        AdoptionError: the baseline would make something else.
        BackfillError: a backfill is not complete.
        HistoryError: the history has open branches.
        NotConfirmedError: the user does not agree.
        RefusedError: a database still needs one of the revisions.
    """
    drafts.recover(project)
    squashed = select(project.script, to)
    if len(squashed.scripts) < 2:
        report("There is nothing to squash: a squash replaces at least two revisions.")
        return
    for warning in refuse_unfinished(project, squashed):
        report(warning)
    files = squashed.files(project)
    if lost := uncommitted(project, files):
        names = ", ".join(map(os.path.relpath, lost[:SHOWN])) + (", …" if len(lost) > SHOWN else "")
        confirm(
            f"The squash deletes these files, and git does not have their present content ({len(lost)}: {names}).",
            "Delete these files permanently",
            yes=yes,
        )
    written = run_async(_squash(project, squashed, files, report))
    report(f"Wrote {written[0]}, with {' and '.join(path.name for path in written[1:])}.")
    report(f"Deleted {len(files)} files of {len(squashed.scripts)} revisions.")
    report(
        "A database that has run these revisions needs no change. Run the tests, then commit:\n"
        f"{shlex.join(['git', 'add', '--all', os.path.relpath(project.script.dir)])}"
    )


async def _squash(project: Project, squashed: Squashed, files: set[Path], report: Report) -> list[Path]:
    """Write the baseline, prove it, and put it into the project; return its files."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(scratch_server(project))
        old = await stack.enter_async_context(empty_database(server, project))
        report(f"Running {len(squashed.scripts)} revisions on the scratch database {old.name!r} at {old.host} …")
        history = Scratch(project, old, complete=True)
        await _run_history(project, history, old, squashed, stop=len(squashed.scripts) // 2)
        behind = await stack.enter_async_context(scratch_database(server, project.database.name, template=old.name))
        await _run_history(project, history, old, squashed)
        await history.call(_refuse_objects)
        expected = await history.dump()
        draft = stack.enter_context(drafts.new_draft(project, files))
        baseline = _write_baseline(project, squashed, draft, expected)
        new = await stack.enter_async_context(empty_database(server, project))
        report(f"Proving the baseline on the scratch database {new.name!r} at {new.host} …")
        scratch = Scratch(project, new, draft.versions, complete=True)
        await prove(scratch, expected, report, of=HISTORY, revision=squashed.last.revision)
        await _prove_passing(project, squashed, draft, old, new, expected, report)
        await _prove_refused(Scratch(project, behind, draft.versions, complete=True))
        report("  from the middle of the history: refused, nothing changed")
        obsolete = [file for file in files if file.parent == project.backfills.absolute()]
        draft.publish(obsolete)
    return [Path(os.path.relpath(Path(squashed.last.path).with_name(name))) for name in baseline]


def _refuse_objects(connection: Connection) -> None:
    refuse_not_reproducible(connection, (), _KEEP)
    refuse_settings(connection, _KEEP)


async def _run_history(
    project: Project, history: Scratch, database: Database, squashed: Squashed, stop: int | None = None
) -> None:
    """Run the revisions up to the last one, or up to the one before `stop`, with the backfills that they require."""
    scripts = squashed.scripts[:stop]
    for script in scripts:
        if required_backfills(script):
            for below in to_tuple(script.down_revision, default=()):
                await history.upgrade(below)
            await complete_backfills(project, script, database)
    await history.upgrade(scripts[-1].revision)


def _write_baseline(project: Project, squashed: Squashed, draft: drafts.Draft, expected: Dump) -> list[str]:
    """Write the baseline into a folder of its own, because the rest of the history follows the baseline; then move it.

    Returns:
        The names of its files.
    """
    folder = draft.folder / "baseline"
    folder.mkdir()
    stem, number = Path(squashed.last.path).stem, NUMBER.match(Path(squashed.last.path).name)
    release = last_release(project.script, squashed.last)
    write_baseline(
        config_of_folder(project, folder),
        squashed.last.revision,
        expected,
        project.service.version_table_schema,
        _declarations(squashed, release),
        name=f"{stem[: number.end()]}baseline" if number else None,
        labels=squashed.labels,
    )
    names = sorted((path.name for path in folder.iterdir() if path.is_file() and path.name != HEAD), key=len)
    for name in names:
        os.rename(folder / name, draft.versions / name)
    return names


def _declarations(squashed: Squashed, release: str) -> str:
    ids = "".join(f"    {revision!r},\n" for revision in squashed.replaced)
    first = f"deploy_first = {release!r}\n" if release else ""
    return (
        f"{PHASE}\n# A database at one of these revisions first needs a release that still has the revisions.\n"
        f"replaces = (\n{ids})\n{first}".rstrip("\n")
    )


async def _prove_passing(
    project: Project,
    squashed: Squashed,
    draft: drafts.Draft,
    old: Database,
    new: Database,
    expected: Dump,
    report: Report,
) -> None:
    """Prove that later revisions run the same after the history and after the baseline, and that the models fit."""
    complete = not squashed.rest  # revisions that follow may write the time into rows
    passing, fresh = (Scratch(project, database, draft.versions, complete=complete) for database in (old, new))
    await passing.upgrade()
    await fresh.upgrade()
    after = await passing.dump()
    refuse_difference(after, await fresh.dump(), "what baseline and later revisions make", HISTORY)
    if complete:
        refuse_difference(expected, after, "what the baseline changes in a database that has it", HISTORY)
    report("  from the last replaced revision: nothing to do" if complete else "  the revisions that follow: equal")
    models = drafts.models_of(project)
    await fresh.call(lambda connection: refuse_differing_models(connection, project.options, models, _MISSING))
    report("  models: no difference")


async def _prove_refused(behind: Scratch) -> None:
    """Prove that a database which is behind is refused, and not changed."""
    before = await behind.dump()
    try:
        await behind.upgrade()
    except AdoptionError as error:
        cause = error.__cause__
        if not isinstance(cause, RefusedError) or cause.exit_status != EXIT_STATUS[REPLACED_REVISION]:
            raise
    else:
        raise AdoptionError("A database in the middle of the history was not refused. Nothing was changed.")
    refuse_difference(before, await behind.dump(), "what the refused upgrade leaves", "the database in the middle")

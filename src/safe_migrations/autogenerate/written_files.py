"""Formatting and listing the files that `alembic revision --autogenerate` has written."""

import io
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from textwrap import shorten
from typing import Any

from alembic.script import Script, ScriptDirectory

from safe_migrations.autogenerate.formatting import format_with_ruff
from safe_migrations.autogenerate.new_backfill import NewBackfill
from safe_migrations.autogenerate.plan import PlannedRevision
from safe_migrations.env_files import find_program
from safe_migrations.errors import runnable
from safe_migrations.history.numbering import HOOK, keep_head
from safe_migrations.printable import printable
from safe_migrations.upgrade.phases import CONTRACT, EXPAND

_MOST = 7  # lines about files; two follow, and a note on a rename may stand above
_UNRELEASED = (
    "neither the main branch nor a tag has the table, so the change has no phases, and fails if the table has rows"
)
_NEXT = "Read and complete these files, then run lint:\nsafe-migrations lint"


def finish_when_written(
    script_directory: ScriptDirectory, planned: Mapping[str, PlannedRevision], backfills: Sequence[NewBackfill]
) -> None:
    """When the last file is written, format all files at once, and print one line for each in place of Alembic's lines.

    Alembic has no option that silences its lines about post-write hooks, and calls nothing after the last file.
    """
    generate, hooks, paths = script_directory.generate_revision, script_directory.hooks, dict[str, str]()
    is_last_hook = bool(hooks) and hooks[-1].get("type") == HOOK  # one after it would get a file that is not formatted
    if is_last_hook:
        script_directory.hooks = hooks[:-1]
    folder = Path(script_directory.dir, "backfills")

    def generate_quietly(revid: str, *arguments: Any, **options: Any) -> Script | None:
        with redirect_stdout(io.StringIO()):
            script = generate(revid, *arguments, **options)
        if script is not None:
            paths[revid] = os.path.relpath(script.path)
            if is_last_hook:
                keep_head(script.path)
        if paths.keys() == planned.keys():
            files = [str(folder / f"{backfill.name}.py") for backfill in backfills]
            if is_last_hook or (files and find_program("ruff") is not None):
                format_with_ruff([*files, *(paths.values() if is_last_hook else ())])
            print("\n".join(map(printable, _lines(planned, paths, backfills, folder))), runnable(_NEXT), sep="\n")
        return script

    script_directory.generate_revision = generate_quietly  # type: ignore[method-assign]


def _lines(
    planned: Mapping[str, PlannedRevision], paths: Mapping[str, str], backfills: Sequence[NewBackfill], folder: Path
) -> list[str]:
    """A line for each file, in the order in which they run."""
    files = [(planned[revision], path) for revision, path in paths.items()]
    lines = [
        *(_line(revision, path) for revision, path in files if revision.phase == EXPAND),
        *(_line_of_backfill(backfill, folder) for backfill in backfills),
        *(_line(revision, path) for revision, path in files if revision.phase == CONTRACT),
    ]
    unreleased = sorted({revision.table for revision, _ in files if revision.is_unreleased})
    notes = [f"{shorten(', '.join(unreleased), 40, placeholder=' …')}: {_UNRELEASED}"] if unreleased else []
    most = _MOST - len(notes)
    shown = most if len(lines) <= most else most - 1
    return [*lines[:shown], *([f"and {len(lines) - shown} more files"] if lines[shown:] else []), *notes]


def _line(revision: PlannedRevision, path: str) -> str:
    steps = shorten("; ".join(step.title for step in revision.steps), 60, placeholder=" …")
    return f"{revision.phase:8}  {path}: {steps}{'; to acknowledge' if revision.danger else ''}"


def _line_of_backfill(backfill: NewBackfill, folder: Path) -> str:
    path = os.path.relpath(folder / f"{backfill.name}.py")
    advice = "" if backfill.value else "; write the value into this file"
    column = ".".join(filter(None, (backfill.schema, backfill.table, backfill.column)))
    return f"backfill  {path}: fills {column}{advice}"

"""Which revisions the rules of style check: not revisions that are older than the project's use of this library."""

import re
from pathlib import Path

from alembic.script import ScriptDirectory

from safe_migrations.history.frozen import new_revisions

_WRITTEN_WITH_LIBRARY = re.compile(
    r"^(?:phase|acknowledged|requires_backfill)\b|^(?:from|import)\s+safe_migrations\b", re.MULTILINE
)


def revisions_with_style(script_directory: ScriptDirectory) -> set[str]:
    """The first revisions written with this library, all later ones, and revisions that are not on the main branch.

    A revision is written with this library if its file imports the library, or declares a phase, an acknowledgement or
    a backfill.

    Raises:
        HistoryError: git can't read the repository.
    """
    scripts = list(script_directory.walk_revisions())
    following = {script.revision: script.nextrev for script in scripts}
    texts = ((script.revision, Path(script.path).read_text(encoding="utf-8")) for script in scripts)
    pending = [revision for revision, text in texts if _WRITTEN_WITH_LIBRARY.search(text)]
    with_style: set[str] = set()
    while pending:
        if (revision := pending.pop()) not in with_style:
            with_style.add(revision)
            pending += following[revision]
    new = {script.revision for script in new_revisions(script_directory)}
    # All are new where git does not know the main branch's files, as without a repository.
    return with_style if len(new) == len(scripts) else with_style | new

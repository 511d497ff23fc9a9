"""The tables that no release has: only revisions create them that are neither on the main branch nor in a release.

No code in production reads or writes such a table, and the table is empty when the next revision runs, which needs no
phases and no backfill.
"""

from collections.abc import Iterable

from alembic.script import Script, ScriptDirectory

from safe_migrations.errors import HistoryError
from safe_migrations.history.frozen import repositories
from safe_migrations.postgres.statements import parts, pattern
from safe_migrations.revisions import assigned
from safe_migrations.upgrade.offline import offline_statements
from safe_migrations.upgrade.phases import CONTRACT, phase_of

_CREATED = pattern(r"CREATE (?:UNLOGGED )?TABLE (?!IF NOT EXISTS)(<name>)")
_REMOVED = pattern(r"(?:DROP TABLE (?:IF EXISTS )?(?P<dropped><names>)|ALTER TABLE .* RENAME TO (?P<renamed><name>)$)")


def unreleased_tables(script_directory: ScriptDirectory, before: str | None = None) -> set[str] | None:
    """The tables that no release has, with their schema unless it is the default one.

    Args:
        before: a revision, to leave out this revision and all later ones; by default the whole history.

    Returns:
        None where git does not know what is published, or the revision itself is.
    """
    unpublished = _unpublished(script_directory)
    if unpublished is None or (before is not None and before not in unpublished):
        return None
    end = list(unpublished).index(before) if before is not None else None
    return _created(list(unpublished.values())[:end])


def _unpublished(script_directory: ScriptDirectory) -> dict[str, Script] | None:
    """The revisions whose ids neither the main branch nor a tag has, in the order of the history."""
    published: set[str] = set()
    try:
        in_git = repositories(script_directory)
        for repository in in_git:
            if repository.shallow or (repository.main is None and not repository.is_empty):
                return None
            versions = repository.at([*filter(None, [repository.main]), *repository.tags])
            texts = repository.contents({id_ for version in versions for id_ in version.files.values()})
            published.update(*(assigned(text.decode(errors="replace"), "revision") for text in texts.values()))
    except HistoryError:
        return None
    scripts = reversed(list(script_directory.walk_revisions()))
    return {script.revision: script for script in scripts if script.revision not in published} if in_git else None


def _created(scripts: Iterable[Script]) -> set[str]:
    """The tables that revisions create; code uses them once a contract revision waits for the deployment."""
    tables: set[str] = set()
    for script in scripts:
        statements = None if phase_of(script) == CONTRACT else offline_statements(script, "upgrade")
        if statements is None:
            tables.clear()
        for statement in statements or ():
            if match := _CREATED.match(statement):
                tables.add(".".join(parts(match[1])))
            elif match := _REMOVED.match(statement):
                tables -= {".".join(parts(name)) for name in (match["dropped"] or match["renamed"]).split(",")}
    return tables

"""What a revision loses and what the running code needs, against the phase and the names that the file declares."""

from collections.abc import Iterator

from safe_migrations.backfill.definition import load_backfill, required_backfills
from safe_migrations.errors import MigrationError
from safe_migrations.lint.registry import Place, rule
from safe_migrations.lint.revision import Revision
from safe_migrations.lint.statements import DROP_COLUMN, altered, losses, names_in
from safe_migrations.postgres.statements import pattern
from safe_migrations.upgrade.phases import CONTRACT, EXPAND

_NEEDED = {
    "DROP COLUMN": DROP_COLUMN,
    "RENAME": pattern(r"RENAME (?!CONSTRAINT\b)"),
    "SET NOT NULL": pattern(r"\bSET NOT NULL\b|\bADD (?:CONSTRAINT <name> )?NOT NULL <name>"),
    "SET GENERATED ALWAYS": pattern(r"\bSET GENERATED ALWAYS\b"),
    "CHECK of NOT NULL": pattern(r"\bCHECK \(+<name> IS NOT NULL\)"),
    "DROP DEFAULT": pattern(r"\bDROP (?:DEFAULT|IDENTITY|EXPRESSION)\b"),
    "SET SCHEMA": pattern(r"\bSET SCHEMA\b"),
}
_GONE = pattern(
    r"(DROP (?:TABLE|(?:MATERIALIZED )?VIEW|FUNCTION|PROCEDURE|SEQUENCE|SCHEMA|DOMAIN|TYPE|TRIGGER)|"
    r"TRUNCATE(?: TABLE)?|"
    r"ALTER (?:TYPE|(?:MATERIALIZED )?VIEW|SEQUENCE|SCHEMA|FUNCTION|PROCEDURE)"
    r"(?= <name>(?: ?\(.*\))? (?:RENAME|SET SCHEMA))) (?:IF EXISTS )?(?:ONLY )?<names>"
)


@rule(
    "unacknowledged",
    why="not acknowledged yet; a downgrade does not restore what the commit deletes",
    instead="""\
# below depends_on; where this line exists as a comment, uncomment it
acknowledged = "the column … and its data are lost\"""",
)
def unacknowledged_loss(revision: Revision) -> Iterator[Place]:
    if revision.asked is not None:
        yield revision.asked
    elif not revision.acknowledged:
        for statement in revision.upgrade:
            for lost in losses(statement, revision.created):
                yield statement.line, lost


@rule(
    "unwritten-backfill",
    why="every upgrade, from base as well, stops at this revision until the backfill has its values",
    instead="""\
# alembic/backfills/item_sku.py
backfill = Backfill(table=item, key=("id",), where=item.c.sku.is_(None), values={"sku": item.c.name})""",
)
def unwritten_backfill(revision: Revision) -> Iterator[Place]:
    folder = revision.path.parent.parent / "backfills"
    for name in required_backfills(revision.script):
        try:
            written = bool(load_backfill(folder, name).values)
        except MigrationError as error:
            yield revision.line_of("requires_backfill"), str(error).rstrip(".")
            continue
        if not written:
            yield revision.line_of("requires_backfill"), f"values is empty in alembic/backfills/{name}.py"


@rule(
    "contract-in-expand",
    why='the running code may still need the object, and `phase = "expand"` runs before that code is replaced',
    instead='phase = "contract"  # in a revision of its own',
)
def contract_in_expand(revision: Revision) -> Iterator[Place]:
    if revision.value("phase") != EXPAND:
        return
    for statement, table, action in altered(revision.upgrade, revision.created):
        for name, needed in _NEEDED.items():
            if needed.search(action):
                yield statement.line, f"{name} of {table}"
    for statement in revision.upgrade:
        if (match := _GONE.match(statement.plain)) and names_in(match[2]) - revision.created:
            yield statement.line, f"{match[1].upper()} {match[2]}"


@rule(
    "missing-phase",
    why="deploy can't know whether the revision is safe while the previous code runs",
    instead='phase = "expand"  # safe before the new code is deployed; or "contract": only after the deployment',
    is_style=True,
)
def missing_phase(revision: Revision) -> Iterator[Place]:
    phase = revision.value("phase")
    if phase not in (EXPAND, CONTRACT):
        yield revision.line_of("phase"), "" if phase is None else f"phase = {phase!r}"

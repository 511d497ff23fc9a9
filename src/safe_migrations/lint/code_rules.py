"""Rules of what running code needs, what is lost, and which types there are."""

from collections.abc import Iterator
from functools import reduce
from itertools import chain

from safe_migrations.backfill.definition import load_backfill, required_backfills
from safe_migrations.ddl.enums import ReplaceEnumOp
from safe_migrations.errors import MigrationError
from safe_migrations.lint.revision_files import Revision
from safe_migrations.lint.rule_table import Place, altered, rule
from safe_migrations.lint.statements import (
    ANY,
    CREATE_TYPE,
    DROP_COLUMN,
    Types,
    bare,
    losses,
    names_in,
    pattern,
    types_after,
    types_used,
)
from safe_migrations.upgrade.phases import CONTRACT, EXPAND

_NEEDED = {
    "DROP COLUMN": DROP_COLUMN,
    "RENAME": pattern(r"RENAME (?!CONSTRAINT\b)"),
    "SET NOT NULL": pattern(r"\bSET NOT NULL\b"),
    "CHECK of NOT NULL": pattern(r"\bCHECK \(+<name> IS NOT NULL\)"),
    "DROP DEFAULT": pattern(r"\bDROP (?:DEFAULT|IDENTITY|EXPRESSION)\b"),
    "SET SCHEMA": pattern(r"\bSET SCHEMA\b"),
}
_GONE = pattern(
    r"(DROP (?:TABLE|(?:MATERIALIZED )?VIEW|FUNCTION|PROCEDURE|SEQUENCE|SCHEMA|DOMAIN|TYPE)|TRUNCATE(?: TABLE)?|"
    r"ALTER (?:TYPE|(?:MATERIALIZED )?VIEW|SEQUENCE|FUNCTION)(?= <name> (?:RENAME|SET SCHEMA)))"
    r" (?:IF EXISTS )?(?:ONLY )?<names>"
)


@rule(
    "unacknowledged",
    hurts="nobody has agreed to it yet, and what is lost with the commit no downgrade brings back",
    instead="""\
# below depends_on; where the line is there in a comment, take the comment's sign away
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
    hurts="the upgrade stops here and can't go on, also from base, before somebody has written it",
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
            yield revision.line_of("requires_backfill"), str(error)
            continue
        if not written:
            yield revision.line_of("requires_backfill"), f"values is empty in alembic/backfills/{name}.py"


@rule(
    "contract-in-expand",
    hurts='the running code may still need it, and `phase = "expand"` runs before that code is replaced',
    instead='phase = "contract"  # and in a revision of its own',
)
def contract_in_expand(revision: Revision) -> Iterator[Place]:
    if revision.value("phase") != EXPAND:
        return
    for statement, table, action in altered(revision):
        for name, needed in _NEEDED.items():
            if needed.search(action):
                yield statement.line, f"{name} of {table}"
    for statement in revision.upgrade:
        if (match := _GONE.match(statement.plain)) and names_in(match[2]) - revision.created:
            yield statement.line, f"{match[1].upper()} {match[2]}"


@rule(
    "missing-phase",
    hurts="deploy can't tell whether it is safe while the code from before still runs",
    instead='phase = "expand"  # safe before the new code is deployed; or "contract": only after it',
)
def missing_phase(revision: Revision) -> Iterator[Place]:
    phase = revision.value("phase")
    if phase not in (EXPAND, CONTRACT):
        yield revision.line_of("phase"), "" if phase is None else f"phase = {phase!r}"


@rule(
    "json-type",
    hurts="json has no equality: DISTINCT, GROUP BY and UNION over the column fail",
    instead='sa.Column("payload", postgresql.JSONB())',
)
def json_type(revision: Revision) -> Iterator[Place]:
    # "data JSON" in a list of columns, or "TYPE JSON"; not "CAST(data AS JSON)"
    json = pattern(
        r"(?<![\w$.:\"])(?!(?:AS|IS|NOT) )(<name>) JSON(?=\[| ?[,)]| ?$| (?:NOT|NULL|DEFAULT|CONSTRAINT|CHECK|USING)\b)"
    )
    for statement in revision.upgrade:
        for match in json.finditer(statement.plain) if statement.is_schema else ():
            yield statement.line, "" if match[1].upper() == "TYPE" else bare(match[1])


@rule(
    "enum-replacement",
    hurts="ACCESS EXCLUSIVE while every row is written anew, defaults and checks can get lost, and the running code's "
    "statements fail",
    instead="""\
acknowledged = "item is locked while its rows are written anew"
op.replace_enum("status", ["new", "paid"], columns=[("item", "status")])
# or, for one more value: op.add_enum_value("status", "paid")""",
)
def enum_replacement(revision: Revision) -> Iterator[Place]:
    renamed = pattern(r"(?:ALTER TYPE (?=.* RENAME TO )|DROP TYPE (?:IF EXISTS )?(?=.* CASCADE$))(<name>)")
    converted = pattern(r"ALTER TABLE .*\bALTER (?:COLUMN )?<name> (?:SET DATA )?TYPE (<name>)(?: |\[\]).*USING\b")
    created: Types = {}
    told = False  # what follows a new name belongs to it
    for statement in revision.upgrade:
        created = types_after(created, statement)
        if isinstance(statement.operation, ReplaceEnumOp):
            if not revision.acknowledged:
                yield statement.line, statement.operation.name
        elif match := renamed.match(statement.plain):
            told = True
            yield statement.line, bare(match[1])
        elif (match := converted.match(statement.plain)) and bare(match[1]) in created and not told:
            yield statement.line, bare(match[1])


@rule(
    "duplicate-type",
    hurts="type already exists: the upgrade fails; or the next one does, after a downgrade that leaves it",
    instead="""\
op.create_enum("status", ["new", "paid"])  # once, in the revision that needs it first; then
sa.Column("status", postgresql.ENUM("new", "paid", name="status", create_type=False))
# in its downgrade(), at the end: op.drop_table and op.drop_column leave the type
op.drop_enum("status")""",
)
def duplicate_type(revision: Revision) -> Iterator[Place]:
    created = [(statement, match[1]) for statement in revision.upgrade if (match := CREATE_TYPE.match(statement.plain))]
    left = _left_types(revision) if created else set()
    for statement, name in created:
        if bare(name) in revision.types_at(statement):
            yield statement.line, bare(name)
        elif bare(name) in left:
            yield statement.line, f"downgrade() leaves {bare(name)}"


@rule(
    "missing-type",
    hurts="type does not exist: the upgrade fails; only op.create_table creates the types of its columns by itself",
    instead="""\
op.create_enum("status", ["new", "paid"])  # and op.drop_enum("status") at the end of downgrade()
op.add_column("item", sa.Column("status", postgresql.ENUM("new", "paid", name="status", create_type=False)))""",
)
def missing_type(revision: Revision) -> Iterator[Place]:
    for statement in revision.upgrade:
        if used := types_used(statement):
            types = revision.types_at(statement)
            missing = set() if ANY in types else used - types.keys()
            yield from ((statement.line, name) for name in sorted(missing))


def _left_types(revision: Revision) -> set[str]:
    """The types that an upgrade and its downgrade leave, as far as the downgrade can be read."""
    if revision.problems or revision.is_empty("downgrade") or any(each.is_program for each in revision.downgrade):
        return set()
    before = revision.types_before()
    return reduce(types_after, chain(revision.upgrade, revision.downgrade), before).keys() - before.keys()

"""Which types the columns of a revision have, and which types exist: enums, domains and json."""

from collections.abc import Iterator
from functools import reduce
from itertools import chain

from safe_migrations.ddl.enums import ReplaceEnumOp
from safe_migrations.lint.registry import Place, rule
from safe_migrations.lint.revision import Revision
from safe_migrations.lint.statements import ANY, CONVERSION, CREATE_TYPE, Types, bare, types_after, types_used
from safe_migrations.postgres.statements import pattern


@rule(
    "json-type",
    why="json has no equality operator: DISTINCT, GROUP BY and UNION fail on the column",
    instead='sa.Column("payload", postgresql.JSONB())',
    is_style=True,
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
    why="rewrites every row while holding ACCESS EXCLUSIVE, can lose defaults and checks, and makes statements of the "
    "running code fail",
    instead="""\
acknowledged = "the rewrite of item blocks reads and writes"
op.replace_enum("status", ["new", "paid"], columns=[("item", "status")])
# or, to add a value: op.add_enum_value("status", "paid")""",
)
def enum_replacement(revision: Revision) -> Iterator[Place]:
    """A rename alone rewrites nothing; the rename of a replaced type is the place of all that follows."""
    dropped = pattern(r"DROP TYPE (?:IF EXISTS )?(?=.* CASCADE$)(<name>)")
    renamed = pattern(r"ALTER TYPE (?=.* RENAME TO )(<name>)")
    created: Types = {}
    converts = any(CONVERSION.match(statement.plain) for statement in revision.upgrade)
    reported = False
    for statement in revision.upgrade:
        created = types_after(created, statement)
        if isinstance(statement.operation, ReplaceEnumOp):
            if not revision.acknowledged:
                yield statement.line, statement.operation.name
        elif match := dropped.match(statement.plain) or (renamed.match(statement.plain) if converts else None):
            reported = True
            yield statement.line, bare(match[1])
        elif (match := CONVERSION.match(statement.plain)) and bare(match[1]) in created and not reported:
            yield statement.line, bare(match[1])


@rule(
    "duplicate-type",
    why="type already exists: the upgrade fails, or the next one fails after a downgrade that leaves the type",
    instead="""\
op.create_enum("status", ["new", "paid"])  # once, in the first revision that needs it; then
sa.Column("status", postgresql.ENUM("new", "paid", name="status", create_type=False))
# at the end of its downgrade(), because op.drop_table and op.drop_column do not drop the type
op.drop_enum("status")""",
)
def duplicate_type(revision: Revision) -> Iterator[Place]:
    created = [(statement, match[1]) for statement in revision.upgrade if (match := CREATE_TYPE.match(statement.plain))]
    left = _left_types(revision) if created else set()
    for statement, name in created:
        if bare(name) in revision.types_at(statement) and not statement.branch:
            yield statement.line, bare(name)
        elif bare(name) in left:
            yield statement.line, f"downgrade() leaves {bare(name)}"


@rule(
    "missing-type",
    why="type does not exist: the upgrade fails; of Alembic's operations, only op.create_table creates a column's type",
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
    """The types that exist after an upgrade and its downgrade, and did not before; none if the downgrade is unknown."""
    if (
        revision.problems
        or revision.is_empty("downgrade")
        or any(statement.is_program for statement in revision.downgrade)
    ):
        return set()
    before = revision.types_before()
    return reduce(types_after, chain(revision.upgrade, revision.downgrade), before).keys() - before.keys()

"""What the history, the models, the offline run and the acknowledgements of a revision show; `check.py` finds these."""

from safe_migrations.lint.registry import rule

rule(
    "edited-revision",
    why="databases that have applied the revision keep the old schema; new databases get a different one",
    instead="restore the file as it is on the main branch, and put the change in a new revision",
)
rule(
    "head-file",
    why="two branches that each add a revision merge without a conflict, and production has two heads",
    instead="the id of the newest revision on the only line of alembic/versions/HEAD; the revision commands write it",
)
rule(
    "released-table",
    why="code in production may use the table, and rows may be in it: the revision changes it at once, without phases",
    instead="delete the file, run safe-migrations rebase, then write the change in phases with autogenerate",
)
rule(
    "needs-database",
    why="the revision does not run without a database, so no linter sees its locks, and --sql fails",
    instead="statements that need no query result: WHERE, IF EXISTS, column types; a backfill to change many rows",
)
rule(
    "python-error",
    why="the call fails with a database as well: in the upgrade, or in the downgrade when it is needed most",
    instead="correct the call: names and arguments as Alembic, SQLAlchemy and safe_migrations.operations document them",
)
rule(
    "unseen-statement",
    why="the effect depends on a query, or on code that lint does not run: no rule has checked this statement",
    instead="""\
op.drop_column("item", "sku")  # the names, types and SQL in the revision itself
# or, if you have read the statement
# safe: unseen-statement because it only reads""",
)
rule(
    "still-in-models",
    why="the models still have the table or column: their queries fail as soon as the revision has run",
    instead="""\
# remove the table or column from the models as well; in this release, if the revision drops it in the contract phase:
phase = "contract"  # runs when the code without it runs everywhere""",
)
rule(
    "unused-acknowledgement",
    why="the comment hides the next finding on this line, which nobody has reviewed",
    instead="remove the comment; an acknowledgement has this form: # safe: several-tables because no code uses them",
)

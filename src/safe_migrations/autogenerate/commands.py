"""The commands that compare the models with the database: revision, preview."""

import argparse
import json
from dataclasses import asdict

from safe_migrations.command_line import JSON, Commands, Option, project_of, run_alembic
from safe_migrations.printable import printable

_ANSWERS: tuple[Option, ...] = (
    ("--rename", {"action": "append", "metavar": "OLD=NEW", "help": "a rename: item.title=name, item=product"}),
    ("--no-rename", {"action": "store_true", "help": "nothing else was renamed"}),
    ("--value", {"action": "append", "metavar": "COLUMN=VALUE", "help": "what existing rows get: item.sku=none"}),
    ("--expression", {"action": "append", "metavar": "COLUMN=SQL", "help": "the same in SQL: item.sku=lower(name)"}),
)
_OF_ALEMBIC = ("--head", "--branch-label", "--version-path", "--rev-id", "--depends-on")


def register(commands: Commands) -> None:
    """Register the commands of this room."""
    message: Option = ("message", {"help": "what the change does"})
    of_alembic: list[Option] = [(name, {"metavar": "…", "help": "as for alembic revision"}) for name in _OF_ALEMBIC]
    splice: Option = ("--splice", {"action": "store_true", "help": "as for alembic revision"})
    help = "write revisions from the models, and ask what the models do not show"
    commands.add("revision", revision, help, message, *_ANSWERS, *of_alembic, splice)
    parser = commands.add("preview", preview, "show the revisions that autogenerate would write, their locks and SQL")
    json_or_sql = parser.add_mutually_exclusive_group()
    for option, settings in (JSON, ("--sql", {"action": "store_true", "help": "print the SQL alone"})):
        json_or_sql.add_argument(option, **settings)


def revision(arguments: argparse.Namespace) -> int:
    """Call `alembic revision --autogenerate`, which gets the answers as `-x`."""
    values = vars(arguments)
    x = [f"{name}={answer}" for name in ("rename", "value", "expression") for answer in values[name] or ()]
    of_alembic = [f"{name}={value}" for name in _OF_ALEMBIC if (value := values[name[2:].replace("-", "_")])]
    return run_alembic(
        arguments,
        "revision",
        "--autogenerate",
        f"--message={arguments.message}",
        *of_alembic,
        *(["--splice"] if arguments.splice else []),
        x=[*x, *(["no-rename"] if arguments.no_rename else [])],
    )


def preview(arguments: argparse.Namespace) -> int:
    """Show the revisions that `revision --autogenerate` would write."""
    from safe_migrations.autogenerate.preview import read_preview

    plan = read_preview(project_of(arguments))
    if arguments.json:
        print(json.dumps([asdict(revision) for revision in plan.revisions], indent=2))
        return 0
    no_difference = "-- No difference between the models and the database was found; nothing to migrate."
    texts = [revision.as_text() for revision in plan.revisions] or [no_difference]
    comment = "\n".join(f"-- {printable(line)}" for line in plan.not_compared)
    tree = "" if arguments.sql else plan.as_text()
    print("\n\n".join(filter(None, (tree, *texts, comment))))
    return 0

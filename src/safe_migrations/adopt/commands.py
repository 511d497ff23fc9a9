"""The commands adopt, for a database without a revision; init, for an existing Alembic project; and squash."""

import argparse
import shlex

from safe_migrations.command_line import YES, Commands, config_of, project_of
from safe_migrations.errors import runnable


def register(commands: Commands) -> None:
    """Register the commands of this room."""
    schema = "adopt this schema only; the option may be repeated"
    commands.add(
        "adopt",
        adopt,
        "write and prove a baseline and models for a database without a revision, and record the revision",
        ("--schema", {"action": "append", "default": [], "metavar": "NAME", "help": schema}),
        ("--dry-run", {"action": "store_true", "help": "do everything but record the revision in the database"}),
        YES,
    )
    passed = {"action": "append", "default": [], "dest": "passed", "metavar": "NAME=EXPRESSION", "type": _argument}
    dropped = {"action": "append", "default": [], "metavar": "LINE", "type": int}
    commands.add(
        "init",
        init,
        "make an existing Alembic project use this library",
        ("--pass", {**passed, "help": "an argument of run_env that env.py does not show, as a Python expression"}),
        ("--drop", {**dropped, "help": "the number of a line of env.py to leave out"}),
        YES,
    )
    commands.add(
        "squash",
        squash,
        "replace the revisions of a long history by one baseline with the same schema and rows, and prove this",
        ("--to", {"metavar": "REVISION", "help": "the last revision to replace; by default the head"}),
        YES,
    )


def squash(arguments: argparse.Namespace) -> int:
    """Replace the revisions of a long history with one baseline."""
    from safe_migrations.adopt import squash

    squash.squash(project_of(arguments), arguments.to, _report, yes=arguments.yes)
    return 0


def adopt(arguments: argparse.Namespace) -> int:
    """Adopt a database that was built without migrations."""
    from safe_migrations.adopt import adoption

    project, yes = project_of(arguments), arguments.yes
    adoption.adopt(project, arguments.schema, _report, yes=yes, dry_run=arguments.dry_run)
    return 0


def _report(line: str) -> None:
    print(runnable(line), flush=True)


def _argument(text: str) -> tuple[str, str]:
    name, _, expression = text.partition("=")
    try:
        compile(expression, "--pass", "eval")
    except (SyntaxError, ValueError):
        name = ""
    if not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=EXPRESSION, such as database_url=get_url")
    return name, expression


def init(arguments: argparse.Namespace) -> int:
    """Show the missing lines in the files of an existing Alembic project, and write them."""
    from safe_migrations.adopt.existing import plan, write
    from safe_migrations.prompt import confirm

    changes = plan(config_of(arguments), dict(arguments.passed), arguments.drop)
    if not changes:
        print("The project uses this library already; nothing to change.")
        return 0
    print("\n".join(change.as_text() for change in changes), flush=True)
    names = [change.name for change in changes]
    warning = f"These files change: {', '.join(names)}."
    confirm(warning, "Make these changes", yes=arguments.yes)
    write(changes)
    print("Done. Next, compare the database with the revisions and the models, and commit the files:")
    print(runnable(f"safe-migrations state\n{shlex.join(['git', 'add', *names])}"))
    return 0

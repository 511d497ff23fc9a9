"""The command `report`."""

import argparse
import sys
from contextlib import redirect_stdout

from safe_migrations.command_line import Commands, config_of


def register(commands: Commands) -> None:
    """Register the command of this room."""
    copy = "rehearse the pending revisions of the configured database on a copy, as `rehearse` does"
    gitlab = "in a job of GitLab CI, also write the report into a note of the merge request (MIGRATION_REPORT_TOKEN)"
    commands.add(
        "report",
        report,
        "print lint and rehearsal of the revisions that are not on the main branch, as Markdown",
        ("--copy", {"action": "store_true", "help": copy}),
        ("--gitlab", {"action": "store_true", "help": gitlab}),
    )


def report(arguments: argparse.Namespace) -> int:
    """Print lint and rehearsal of the new revisions as Markdown."""
    from safe_migrations.logs import quiet
    from safe_migrations.report.collect import collect
    from safe_migrations.report.gitlab import write_note
    from safe_migrations.report.markdown import as_markdown

    with redirect_stdout(sys.stderr):  # what the project's own code prints
        collected = collect(config_of(arguments), on_copy=arguments.copy)
        with quiet("alembic"):
            text = as_markdown(collected)
    print(text, flush=True)
    if arguments.gitlab:
        write_note(text, collected.service)
    if collected.failure is not None:
        raise collected.failure
    return 1 if collected.findings or collected.not_allowed else 0

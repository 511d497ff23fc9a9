"""The author's command: preview."""

import argparse
import json
from dataclasses import asdict

from safe_migrations.command_line import JSON, Commands, project_of


def register(commands: Commands) -> None:
    """Register the command of this room.

    Args:
        commands: of the command line.
    """
    commands.add("preview", preview, "show what differs from the models, and the SQL of the revisions to write", JSON)


def preview(arguments: argparse.Namespace) -> int:
    """Show what `revision --autogenerate` would write."""
    from safe_migrations.autogenerate.preview import read_preview

    previews = read_preview(project_of(arguments))
    if arguments.json:
        print(json.dumps([asdict(each) for each in previews], indent=2, ensure_ascii=False))
    else:
        nothing = "-- The models and the database agree: there is nothing to migrate."
        print("\n\n".join(each.as_text() for each in previews) or nothing)
    return 0

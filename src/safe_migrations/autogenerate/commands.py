"""The command `preview`."""

import argparse
import json
from dataclasses import asdict

from safe_migrations.command_line import JSON, Commands, project_of
from safe_migrations.printable import printable


def register(commands: Commands) -> None:
    """Register the command of this room."""
    commands.add("preview", preview, "show the revisions that autogenerate would write, and their SQL", JSON)


def preview(arguments: argparse.Namespace) -> int:
    """Show the revisions that `revision --autogenerate` would write."""
    from safe_migrations.autogenerate.preview import read_preview

    previews, not_compared = read_preview(project_of(arguments))
    if arguments.json:
        print(json.dumps([asdict(preview) for preview in previews], indent=2))
    else:
        no_difference = "-- No difference between the models and the database was found; nothing to migrate."
        texts = [preview.as_text() for preview in previews] or [no_difference]
        comment = "\n".join(f"-- {printable(line)}" for line in not_compared)
        print("\n\n".join(filter(None, (*texts, comment))))
    return 0

"""The command that writes the diagram of the models: schema."""

import argparse
import os
import shlex
from pathlib import Path

from safe_migrations.command_line import Commands, project_of
from safe_migrations.errors import MigrationError, ModelError

_DEFAULT = Path("docs", "schema.md")
_MARK = "<!-- Written by safe-migrations schema, which replaces this file. -->\n"


def register(commands: Commands) -> None:
    """Register the command of this room."""
    file = ("file", {"nargs": "?", "type": Path, "metavar": "FILE", "help": "by default docs/schema.md"})
    check = ("--check", {"action": "store_true", "help": "write nothing, and fail if the file differs from the models"})
    commands.add("schema", schema, "write the diagram of the models into a Markdown file", file, check)


def schema(arguments: argparse.Namespace) -> int:
    """Write the diagram of the models, or check that it is current."""
    from safe_migrations.schema.mermaid import mermaid
    from safe_migrations.schema.structure import read_tables
    from safe_migrations.upgrade.target_metadata import explained_models

    project = project_of(arguments)
    with explained_models("their structure"):
        tables = read_tables(project.options["target_metadata"])
    text = f"{_MARK}# Schema\n\n```mermaid\n{mermaid(tables)}```\n"
    path: Path = arguments.file or project.service.config_file.parent / _DEFAULT
    try:
        print(_check(path, text, arguments.file) if arguments.check else _write(path, text))
    except OSError as error:
        raise MigrationError(
            f"{os.path.relpath(path)} can't be used ({error.strerror}). To write another file:\n"
            "safe-migrations schema FILE"
        ) from error
    return 0


def _check(path: Path, text: str, argument: Path | None) -> str:
    file, current = os.path.relpath(path), _read(path)
    if argument is None and not (current or "").startswith(_MARK):  # a service need not have the file
        return f"There is no diagram in {file} to check."
    if current != text:
        command = " ".join(["safe-migrations schema", *([shlex.quote(file)] if argument else [])])
        raise ModelError(f"{file} differs from the models. To write it again:\n{command}")
    return f"{file} is current."


def _write(path: Path, text: str) -> str:
    file, current = os.path.relpath(path), _read(path)
    if current is not None and not current.startswith(_MARK):
        raise MigrationError(
            f"This command has not written {file}, so the file was not changed. Move the file, or name another file:\n"
            "safe-migrations schema FILE"
        )
    if current == text:
        return f"{file} is current."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f"The diagram of the models was written into {file}"


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else None

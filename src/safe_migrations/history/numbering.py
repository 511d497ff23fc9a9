"""The numbers of revision files, and the file HEAD with the newest revision."""

import re
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory

from safe_migrations.upgrade.project import version_folders

HEAD = "HEAD"  # beside the newest revision; one line with its id
HOOK = "head_and_ruff"  # the post-write hook that writes HEAD
NUMBER = re.compile(r"\d{8}_(\d{4})_")  # YYYYMMDD_NNNN_description.py


class _NumberedFileTemplate(str):
    """Alembic's `file_template`, with one more token: `number`, counted when a file is named.

    Alembic formats this string with `%`, and has no hook for file names.
    """

    script: ScriptDirectory

    def __mod__(self, tokens: Any) -> str:
        slug = tokens["slug"].rstrip("_") or "empty_message"  # as Alembic has it in the file
        return str(self) % {**tokens, "slug": slug, "number": next_number(self.script)}


def number_files(script: ScriptDirectory) -> None:
    """Make the `number` token of `file_template` in alembic.ini work for every file that this command writes.

    Args:
        script: the script directory of the running command.
    """
    template = _NumberedFileTemplate(script.file_template)
    template.script = script
    script.file_template = template


def next_number(script: ScriptDirectory) -> int:
    """The number of the next revision: one more than the highest of the history.

    Args:
        script: the script directory whose files are numbered.
    """
    names = (Path(revision.path).name for revision in script.walk_revisions())
    return 1 + max((int(number[1]) for name in names if (number := NUMBER.match(name))), default=0)


def head_file(script_directory: ScriptDirectory) -> Path:
    """The file HEAD beside the newest revision; it may not exist."""
    newest = script_directory.get_revisions("heads")
    folders = [Path(script.path).parent for script in newest if script] or version_folders(script_directory)
    return folders[0] / HEAD


def keep_head(path: str) -> None:
    """Write the new revision into the file HEAD, so that two branches conflict in git.

    As django-linear-migrations does, see https://github.com/adamchainz/django-linear-migrations
    """
    file = Path(path)
    revision = re.search(r"""^revision(?:: str)? *= *["'](.+)["']""", file.read_text(), re.MULTILINE)
    if revision:  # script.py.mako writes this line
        file.with_name(HEAD).write_text(f"{revision[1]}\n")

"""The numbers of revision files, and the file HEAD with the newest revision."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from safe_migrations.revisions import NUMBER, assigned, read_revisions
from safe_migrations.upgrade.revision_ids import LIMIT

HEAD = "HEAD"  # beside the newest revision; one line with its id, and one for the head of each other declared branch
HOOK = "head_and_ruff"  # the post-write hook that writes HEAD


class _NumberedFileTemplate(str):
    """Alembic's `file_template`, with one more token: `number`, counted when a file is named.

    Alembic formats this string with `%`, and has no hook for file names. An id that the version table can't take ends
    the command; a history that has such an id has a wider column.
    """

    script: ScriptDirectory

    def __mod__(self, tokens: Any) -> str:
        if (length := len(tokens["rev"])) > LIMIT and not any(
            len(script.revision) > LIMIT for script in self.script.walk_revisions()
        ):
            raise CommandError(
                f"The id {tokens['rev']} has {length} characters, but Alembic's version table holds {LIMIT}. No file "
                "was written. Choose a shorter id (--rev-id)."
            )
        slug = tokens["slug"].rstrip("_") or "empty_message"  # as Alembic has it in the file
        return str(self) % {**tokens, "slug": slug, "number": next_number(self.script)}


def number_files(script: ScriptDirectory) -> None:
    """Make the `number` token of `file_template` in alembic.ini work for every file that this command writes."""
    template = _NumberedFileTemplate(script.file_template)
    template.script = script
    script.file_template = template


def next_number(script: ScriptDirectory) -> int:
    """The number of the next revision: one more than the highest of the history."""
    return 1 + highest_number(script.walk_revisions())


def highest_number(scripts: Iterable[Script]) -> int:
    """The highest number of revision files; 0 if none has a number."""
    numbers = (NUMBER.match(Path(script.path).name) for script in scripts)
    return max((int(number[1]) for number in numbers if number), default=0)


def head_files(script_directory: ScriptDirectory) -> dict[Path, list[str]]:
    """The files HEAD beside the newest revisions, which may not exist, with the ids that belong into each."""
    files: dict[Path, list[str]] = {}
    for script in sorted(script_directory.get_revisions("heads"), key=lambda script: script.revision):
        files.setdefault(Path(script.path).with_name(HEAD), []).append(script.revision)
    return files


def head_text(heads: Iterable[str]) -> str:
    """What a file HEAD contains: a line for each head."""
    return "".join(f"{head}\n" for head in sorted(heads))


def keep_head(path: str) -> None:
    """Write the new revision into the file HEAD, so that two branches conflict in git.

    As django-linear-migrations does, see https://github.com/adamchainz/django-linear-migrations
    """
    file = Path(path)
    text, head = file.read_text(), file.with_name(HEAD)
    if revision := assigned(text, "revision"):  # script.py.mako writes this line
        beside = read_revisions([file.parent])
        kept = set(head.read_text().split()) & (beside.heads - beside.unmerged) if head.exists() else set()
        known = set(assigned(text, "down_revision")) <= beside.files.keys()  # or other folders have more of the history
        head.write_text(head_text({*revision, *(kept if known else ())}))

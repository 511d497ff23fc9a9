"""A baseline revision that makes the schema of a dump: the revision file, its SQL, and the SQL of its downgrade."""

import io
import re
from collections.abc import Collection, Iterable
from contextlib import redirect_stdout
from pathlib import Path

from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from safe_migrations.adopt.dump import Dump
from safe_migrations.autogenerate.script import DECLARATIONS, calls_declarations
from safe_migrations.history.numbering import number_files
from safe_migrations.postgres.statements import parts, pattern, split, terminated
from safe_migrations.upgrade.project import version_folders

MESSAGE = "baseline"
PHASE = 'phase = "expand"  # runs before the new code is deployed'
UP, DOWN = ".sql", ".downgrade.sql"
_SCHEMA = pattern(r"(?:CREATE|DROP) SCHEMA (<name>)$")
_CREATE = re.compile(r"^CREATE SCHEMA ", re.MULTILINE)
_DROP = re.compile(r"^DROP SCHEMA ([\s\S]*)")
_HEADER = """\
-- {title}
-- {revision} executes these statements one by one, in its transaction.

"""
# As pg_dump sets it: the body of a function may use what is created after it.
_SESSION = "SET LOCAL check_function_bodies = false"


def write_baseline(
    config: Config,
    revision: str,
    dump: Dump,
    version_schema: str | None,
    declarations: str = PHASE,
    *,
    name: str | None = None,
    labels: Collection[str] = (),
) -> Script:
    """Write a revision that nothing precedes, and the two files of SQL that it executes.

    Args:
        version_schema: the schema of Alembic's version table, which exists before the revision runs, and afterwards.
        declarations: the lines of the file below its ids.
        name: of the file, without its suffix, instead of `file_template`.

    Raises:
        CommandError: Alembic or a post-write hook can't write the file.
    """
    script_directory = ScriptDirectory.from_config(config)
    number_files(script_directory)
    if name is not None:
        script_directory.file_template = name.replace("%", "%%")
    config.attributes[DECLARATIONS] = {revision: declarations}
    with redirect_stdout(io.StringIO()):  # the post-write hooks print
        script = script_directory.generate_revision(
            revision,
            MESSAGE,
            head="base",
            branch_labels=sorted(labels) or None,
            version_path=version_folders(script_directory)[0],
            upgrades=f'op.execute_file(__file__, "{UP}")',
            downgrades=f'op.execute_file(__file__, "{DOWN}")',
            imports="" if calls_declarations(Path(script_directory.dir)) else declarations,
            config=config,
        )
    if script is None:
        raise RuntimeError("script.py.mako wrote a file that is not a revision")
    _write_statements(Path(script.path), dump, version_schema)
    return script


def _write_statements(path: Path, dump: Dump, version_schema: str | None) -> None:
    """Write the two files of SQL beside the revision."""
    creating = [
        _CREATE.sub(r"\g<0>IF NOT EXISTS ", statement) if _is_of_schema(statement, version_schema) else statement
        for statement in (_SESSION, *dump.create_statements())
    ]
    dropping = [
        _DROP.sub(r"COMMENT ON SCHEMA \1 IS NULL", drop) if _is_of_schema(drop, version_schema) else drop
        for drop in dump.drop_statements()
    ]
    _write(path.with_suffix(UP), "Creates the schema, as pg_dump wrote it.", path.name, creating)
    _write(path.with_suffix(DOWN), "Drops the schema.", path.name, dropping)


def _is_of_schema(statement: str, name: str | None) -> bool:
    """Whether a statement creates or drops a schema of this name."""
    matches = (_SCHEMA.match(plain) for _, plain in split(statement))
    return any(match and parts(match[1]) == [name] for match in matches)


def _write(file: Path, title: str, revision: str, statements: Iterable[str]) -> None:
    text = "".join(f"{terminated(statement)}\n\n" for statement in statements)
    file.write_text(_HEADER.format(title=title, revision=revision) + text.rstrip("\n") + "\n", encoding="utf-8")

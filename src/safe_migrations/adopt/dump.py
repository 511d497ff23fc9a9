"""A database as pg_dump writes it, with or without rows, and the statements that a migration can run."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from safe_migrations.autogenerate.plugin import PROGRESS_SCHEMA
from safe_migrations.errors import AdoptionError, LockedError
from safe_migrations.postgres.connection import major_version, with_connection
from safe_migrations.postgres.database import Database
from safe_migrations.postgres.program_runs import problem_of, run_program
from safe_migrations.postgres.programs import find_tools
from safe_migrations.postgres.statements import NAME, parts, pattern, split

LOCK_TIMEOUT = 5.0  # seconds that pg_dump waits for ACCESS SHARE, while later sessions may queue behind it
# Owners and tablespaces belong to the platform. With --clean, pg_dump also writes what drops each object.
_OPTIONS = ("--clean", "--no-owner", "--no-tablespaces", "--no-security-labels")
# Privileges of an existing database belong to the platform; the privileges of a history are what its revisions grant.
_SCHEMA_ONLY = ("--schema-only", "--no-privileges")
_COMPLETE = ("--inserts", "--rows-per-insert=1000")  # a migration can't run COPY
_QUIET = ("--no-password", "--encoding=UTF8", f"--lock-wait-timeout={LOCK_TIMEOUT * 1000:.0f}")
# What pg_dump writes must not depend on settings of the database or the user.
_SETTINGS = ("timezone=UTC", "bytea_output=hex", "standard_conforming_strings=on", "quote_all_identifiers=off")
_RESTRICT = re.compile(r"^\\(?:un)?restrict \w+\n", re.MULTILINE)  # of psql, with a random key in each run
_FIRST = re.compile(r"^--\n-- Name: ", re.MULTILINE)
_END = "--\n-- PostgreSQL database dump complete\n--\n"
# What pg_dump writes above the rows of a table that has none.
_NO_ROWS = re.compile(r"\A(?:--\n-- Data for Name: .*\n--\n\s*)+(?=--\n)")
_ACCESS_METHOD = re.compile(r"^SET (?=default_table_access_method = )", re.MULTILINE)
# What the platform decides: the schema public, which pg_dump names if its owner is not the usual one, or if --schema
# names it; and the comment on an extension, which is the installed version's, and needs more rights than the creation.
_OF_PLATFORM = re.compile(
    r"^--\n-- Name: (?:public; Type: SCHEMA; .*\n--\n\n(?:-- \*not\* creating schema, since initdb creates it"
    r"|CREATE SCHEMA public;)"
    r"|SCHEMA public; Type: COMMENT; .*\n--\n\nCOMMENT ON SCHEMA public IS 'standard public schema';"
    r"|EXTENSION .*; Type: COMMENT; .*\n--\n\nCOMMENT ON EXTENSION .* IS '(?:''|[^'])*';)\n\n\n",
    re.MULTILINE,
)
# Statements that only set up a session.
_LEFT_OUT = pattern(r"(?:SET |SELECT pg_catalog\.set_config)")
_FOREIGN_KEY = pattern(r"ALTER TABLE (?:ONLY )?(<name>) ADD CONSTRAINT (<name>) FOREIGN KEY\b")
_CHECK = pattern(r"ALTER TABLE (?:ONLY )?(<name>) ADD CONSTRAINT (<name>) (?:CHECK|EXCLUDE)\b")
_CHILD = pattern(
    r"(?:CREATE (?:\w+ )?TABLE (<name>) .*\bINHERITS \(|ALTER TABLE ONLY <name> ATTACH PARTITION (<name>))"
)
_DROP_CONSTRAINT = pattern(r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?(<name>) DROP CONSTRAINT (<name>)$")
_TABLE = pattern(r"CREATE (?:\w+ )?TABLE (<name>) ")
_NAMED_NOT_NULL = re.compile(rf" CONSTRAINT ({NAME}) NOT NULL,?$", re.MULTILINE)
_NOT_NULL = re.compile(rf"^    ({NAME}) (?!.* CONSTRAINT {NAME} NOT NULL)(.*) NOT NULL(?=,?$)", re.MULTILINE)
# Dropped with their table, unless a function that needs the table, and that they may call, is dropped before.
_GOES_WITH_TABLE = pattern(r"DROP (?:INDEX|TRIGGER|RULE|POLICY|STATISTICS)\b")
_DROPS = pattern(
    r"(?:DROP (?!SCHEMA public$)|CREATE OR REPLACE VIEW |"
    r"ALTER TABLE (?:ONLY )?<name> ALTER COLUMN <name> DROP DEFAULT$)"
)
_SHELL = pattern(r"CREATE TYPE (<name>)$")
# The comment on the one schema that is not dropped.
_COMMENT = "COMMENT ON SCHEMA public IS 'standard public schema'"


@dataclass(frozen=True)
class Dump:
    """The schema of a database, and maybe its rows and privileges.

    Attributes:
        creating: what pg_dump wrote to create the objects, and their rows if it read them; equal for equal databases.
        dropping: what pg_dump wrote to drop the objects, in the reverse order.
    """

    creating: str
    dropping: str

    def create_statements(self) -> Iterator[str]:
        """The statements that create the objects, with pg_dump's comments, as a migration can run them."""
        named = {parts(match[1])[0] for match in _NAMED_NOT_NULL.finditer(self.creating)}
        for whole, plain in split(self.creating):
            statement = _NO_ROWS.sub("", whole)
            if _ACCESS_METHOD.match(plain):
                yield _ACCESS_METHOD.sub("SET LOCAL ", statement)
            elif table := _TABLE.match(plain):
                yield _name_not_nulls(statement, table[1], named)
            elif not _LEFT_OUT.match(plain):
                yield statement

    def drop_statements(self) -> Iterator[str]:
        """The statements that drop the objects, and nothing else; without those for parts of a dropped table."""
        constraints = self._droppable_constraints()
        gone = ["DROP EXTENSION "]  # which may no longer exist
        statements = list(split(self.dropping))
        kinds = [plain.split(" ", 2)[1] for _, plain in statements if plain.startswith("DROP ")]
        shells = {f"DROP TYPE {match[1]}" for _, plain in split(self.creating) if (match := _SHELL.match(plain))}
        drops_function_first = "TABLE" in kinds[kinds.index("FUNCTION") :] if "FUNCTION" in kinds else False
        for statement, plain in statements:
            if match := _DROP_CONSTRAINT.match(plain):
                if match.groups() in constraints:
                    yield statement
            elif _DROPS.match(plain) and (drops_function_first or not _GOES_WITH_TABLE.match(plain)):
                if plain in shells:  # pg_dump does so for base types, but not for ranges
                    statement += " CASCADE"
                if statement.endswith(" CASCADE"):  # the type needs its functions as they need the type
                    gone.append("DROP FUNCTION ")
                begin = next((begin for begin in gone if plain.startswith(begin)), "")
                yield statement.replace(begin, f"{begin}IF EXISTS ", 1) if begin else statement
        if any(plain.startswith("COMMENT ON SCHEMA public ") for _, plain in split(self.creating)):
            yield _COMMENT

    def _droppable_constraints(self) -> set[tuple[str, ...]]:
        """Foreign keys, which may form a cycle, and what may need a function, each with its table."""
        plain = [plain for _, plain in split(self.creating)]
        children = {match[1] or match[2] for match in map(_CHILD.match, plain) if match}  # inherit their checks
        keys = {match.groups() for match in map(_FOREIGN_KEY.match, plain) if match}
        return keys | {match.groups() for match in map(_CHECK.match, plain) if match and match[1] not in children}


async def dump_schema(
    database: Database,
    version_table: Sequence[str | None],
    schemas: Sequence[str] = (),
    snapshot: str | None = None,
    *,
    complete: bool = False,
) -> Dump:
    """Read the schema of a database; only ACCESS SHARE is locked.

    Args:
        version_table: the schema, if any, and the name of Alembic's version table, which is left out.
        schemas: the only schemas to read; by default all of them.
        snapshot: exported by a transaction that is open, from `pg_export_snapshot()`.
        complete: whether to read rows, positions of sequences and privileges as well.

    Raises:
        AdoptionError: pg_dump failed.
        BackupError: there is no suitable pg_dump.
        LockedError: another session locked a table for too long.
    """
    arguments = [*(_COMPLETE if complete else _SCHEMA_ONLY), *_selection(version_table, schemas)]
    arguments += [f"--snapshot={snapshot}"] if snapshot else []
    pg_dump = find_tools("pg_dump", await with_connection(database, major_version))[0]
    with TemporaryDirectory(prefix="dump-") as folder:
        file = Path(folder) / "schema.sql"
        status, errors = await run_program(pg_dump, *arguments, f"--file={file}", database=database, settings=_SETTINGS)
        problem = problem_of("pg_dump", status, errors)
        if problem == "no matching schemas were found":
            return Dump("", "")
        if problem:
            raise _failure(problem, database)
        return read_dump(file.read_text(encoding="utf-8"))


def _selection(version_table: Sequence[str | None], schemas: Sequence[str]) -> Iterator[str]:
    """The options of pg_dump for what a schema consists of."""
    own = ".".join(_quoted(name) for name in version_table if name)
    yield from (*_OPTIONS, *_QUIET, f"--exclude-table={own}", f"--exclude-schema={_quoted(PROGRESS_SCHEMA)}")
    yield from (f"--schema={_quoted(name)}" for name in schemas)
    yield from ["--extension=*"] if schemas else []


def read_dump(text: str) -> Dump:
    """The parts of what `pg_dump --clean` wrote."""
    text = _RESTRICT.sub("", text, count=1).removesuffix("\n").rpartition(_END)[0]
    schema, *rows = text.partition("-- Data for Name: ")
    text = "".join([_OF_PLATFORM.sub("", schema), *rows])
    first = _FIRST.search(text)
    begin = first.start() if first else len(text)
    before, clean, dropping = text[:begin].rpartition("SET row_security = off;\n")
    # pg_dump sets the access method of the first table above the table's comment.
    method = re.search(r"^SET default_table_access_method = .*\n", text[:begin], re.MULTILINE)
    return Dump((method[0] if method else "") + text[begin:], dropping if clean else before)


def _name_not_nulls(statement: str, table: str, taken: Collection[str]) -> str:
    """Write the usual names of NOT NULL constraints, which pg_dump 18 leaves out, where another table has such a name.

    A partition that is created first has the names of its parent, for which PostgreSQL would then choose other names.
    """

    def named(match: re.Match[str]) -> str:
        name = f"{parts(table)[-1]}_{parts(match[1])[0]}_not_null"
        return f"    {match[1]} {match[2]} CONSTRAINT {_quoted(name)} NOT NULL" if name in taken else match[0]

    return _NOT_NULL.sub(named, statement)


def _quoted(name: str) -> str:
    """A name as a pattern of pg_dump."""
    return '"' + name.replace('"', '""') + '"'


def _failure(problem: str, database: Database) -> AdoptionError | LockedError:
    if "statement timeout" in problem:  # so pg_dump implements its --lock-wait-timeout
        return LockedError(
            f"The schema could not be read: another session locked a table of {database.name!r} for longer than "
            f"{LOCK_TIMEOUT:g} s. Find the blocking session, then run the same command again:\nsafe-migrations locks"
        )
    if "permission denied" in problem:
        return AdoptionError(
            f"The schema could not be read: the user {database.url.username!r} may not read every table ({problem}). "
            f"Connect as the owner of the tables ({database.service.migration_url})."
        )
    return AdoptionError(
        f"The schema could not be read: pg_dump failed ({problem}). If another session changed the schema at the same "
        "time, run the same command again; otherwise correct the cause first."
    )

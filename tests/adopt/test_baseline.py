"""The baseline of a schema: it makes what pg_dump has read, and drops what it has made."""

from pathlib import Path

from alembic import command
from sqlalchemy import URL

from adopt_comparison import load
from plain_project import PlainProject
from safe_migrations.adopt.baseline import write_baseline
from safe_migrations.adopt.dump import Dump, dump_schema
from safe_migrations.lint.check import lint
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import scratch_database
from support import at, fetch

# A small schema for each kind of object that PostgreSQL's documentation of CREATE has.
KINDS = sorted(Path(__file__).with_name("kinds").glob("*.sql"))


def test_each_kind(tmp_path: Path, url_of_each_version: URL) -> None:
    live = url_of_each_version
    available = {row.name for row in fetch(live, "SELECT name FROM pg_available_extensions")}
    for kinds in KINDS:
        if kinds.stem != "extensions_and_servers" or "citext" in available:  # the wheel of 16 has none of them
            load(live, kinds.read_text())
    expected = dump(live)

    async def prove() -> None:
        async with scratch_database(at(live), "kinds") as scratch:
            project = PlainProject(tmp_path, scratch.url)
            config = project.config()
            empty = dump(scratch.url)
            write_baseline(config, "abc", expected, None)
            project.alembic(command.upgrade, "head")
            assert dump(scratch.url).creating == expected.creating
            project.alembic(command.downgrade, "base", x="yes")
            assert dump(scratch.url).creating == empty.creating
            project.alembic(command.upgrade, "head")
            assert dump(scratch.url) == expected
            assert lint(project.script, project.scripts("abc"), 18) == []

    run_async(prove())


def dump(url: URL) -> Dump:
    return run_async(dump_schema(at(url), (None, "alembic_version")))

"""`safe-migrations squash`: the baseline that it writes, what it proves, and what it refuses."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from sqlalchemy import URL

from plain_project import PlainProject
from safe_migrations.adopt import draft
from safe_migrations.adopt.dump import Dump
from safe_migrations.adopt.squash import squash
from safe_migrations.errors import (
    AdoptionError,
    BackfillError,
    HistoryError,
    MigrationError,
    NotConfirmedError,
    RefusedError,
)
from safe_migrations.history.frozen import edited_revisions
from safe_migrations.operate.status import read_report
from safe_migrations.revisions import EXIT_STATUS, REPLACED_REVISION, compare, read_revisions
from support import Administrator, NewDatabase, NewRole, Service, bare_environment, fetch, on, tables

IDENTITY = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
VERSION = "SELECT version_num FROM alembic_version"
# What rows may have, with a trigger that writes rows of its own, and keys that form a cycle.
ROWS = r"""
op.execute('''
    CREATE TYPE mood AS ENUM ('so, so', 'it''s');
    CREATE TABLE person (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text,
        doubled text GENERATED ALWAYS AS (name || name) STORED,
        moods mood[], raw bytea, data jsonb, friend integer REFERENCES person DEFERRABLE, at timestamptz DEFAULT now()
    );
    CREATE TABLE log (what text, at timestamptz DEFAULT clock_timestamp());
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN INSERT INTO log VALUES ('a; b ' || NEW.name); RETURN NEW; END $$;
    CREATE TRIGGER noted AFTER INSERT ON person FOR EACH ROW EXECUTE FUNCTION noted();
    CREATE MATERIALIZED VIEW names AS SELECT name FROM person;
    CREATE SEQUENCE ticket START 7;
    GRANT SELECT (name), UPDATE ON person TO pg_monitor;
    GRANT USAGE ON SCHEMA public TO pg_monitor;
''')
op.get_bind().exec_driver_sql(
    "INSERT INTO person (name, moods, raw, data, friend) VALUES ($1, ARRAY['so, so', 'it''s']::mood[], "
    "'\\x00ff', '{\"a\": \":b %% %s\"}', 2), ('-- no; comment', NULL, NULL, 'null', 1)",
    ("it's\n\\. \\copy $$ ü",),
)
op.execute("SELECT nextval('ticket'); REFRESH MATERIALIZED VIEW names; DELETE FROM log WHERE what LIKE '%no%'")
"""
DROP_ROWS = "op.execute('DROP MATERIALIZED VIEW names; DROP TABLE person, log; DROP FUNCTION noted; DROP TYPE mood')"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, server: URL, administrator: Administrator) -> Iterator[PlainProject]:
    """Made once, and copied for each test."""
    url = server.set(database=f"squash_{uuid4().hex}")
    administrator.create(str(url.database))
    project = PlainProject(tmp_path_factory.mktemp("made") / "project", url)
    project.add("a")
    project.add("b", ROWS, DROP_ROWS, after="a")
    project.add("c", "op.add_column('a', sa.Column('extra', sa.Text()))", "op.drop_column('a', 'extra')", after="b")
    project.add("d", after="c")
    git(project, "init", "--quiet", "--initial-branch=main", "--template=")
    commit(project, "v1")
    project.alembic(command.upgrade, "heads")
    yield project
    administrator.drop(str(url.database))


@pytest.fixture
def project(made: PlainProject, tmp_path: Path, database: URL, administrator: Administrator) -> PlainProject:
    """A project with the revisions a, b, c and d, in the release v1, whose database is at d."""
    administrator.drop(str(database.database))
    administrator.create(str(database.database), str(made.url.database))
    shutil.copytree(made.folder, tmp_path / "project")
    project = copy(made)
    project.folder, project.url = tmp_path / "project", database
    project.versions = project.folder / "migrations" / "versions"
    return project


def git(project: PlainProject, *arguments: str) -> None:
    environment = bare_environment(**IDENTITY, GIT_CONFIG_GLOBAL=os.devnull)
    subprocess.run(["git", *arguments], cwd=project.folder, env=environment, check=True, capture_output=True)


def commit(project: PlainProject, tag: str) -> None:
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "work")
    git(project, "tag", tag)


def run(project: PlainProject, to: str | None = None, *, yes: bool = False) -> str:
    """Squash, and return what this reports."""
    lines: list[str] = []
    squash(project.project, to, lines.append, yes=yes)
    return "\n".join(lines)


def refused(project: PlainProject, kind: type[MigrationError], to: str | None = None) -> str:
    """The message of a squash that is refused, and changes nothing."""
    before = contents(project)
    with pytest.raises(kind) as failure:
        run(project, to)
    assert contents(project) == before
    return str(failure.value)


def contents(project: PlainProject) -> dict[str, bytes]:
    paths = (
        path for path in project.folder.rglob("*") if path.is_file() and not {"__pycache__", ".git"} & {*path.parts}
    )
    return {str(path.relative_to(project.folder)): path.read_bytes() for path in paths}


def execute(url: URL, statement: str) -> None:
    on(url, lambda connection: connection.exec_driver_sql(statement), isolation_level="AUTOCOMMIT")


def revisions(project: PlainProject) -> list[str]:
    return [script.revision for script in project.script.walk_revisions()]


def at_new_database(project: PlainProject, url: URL, revision: str = "heads") -> None:
    project.url = url
    project.alembic(command.upgrade, revision)


def state(project: PlainProject) -> str:
    """The state, which the probe, that runs no Alembic, has to see in the same way."""
    report = read_report(project.project)
    assert compare(report.current, read_revisions(project.service.version_folders())).state == report.state
    return report.state


def test_database_at_head_needs_nothing_and_one_behind_is_refused(
    project: PlainProject, new_database: NewDatabase
) -> None:
    head, behind, fresh = project.url, new_database(), new_database()
    rows = "SELECT id, name, doubled, moods::text, raw, data, friend, what FROM person, log"
    at_new_database(project, behind, "b")
    project.url = head
    output = run(project)
    assert "4 revisions" in output
    assert revisions(project) == ["d"]
    assert [path.name for path in project.versions.glob("*.py")] == ["d_baseline.py"]
    assert edited_revisions(project.script) == [], "lint knows the squash"
    assert state(project) == "at head"
    project.alembic(command.upgrade, "heads")
    assert fetch(head, VERSION) == [("d",)]

    at_new_database(project, fresh)
    assert fetch(fresh, VERSION) == [("d",)]
    assert fetch(fresh, rows) == fetch(head, rows)
    assert len(fetch(fresh, "SELECT what FROM log")) == 1, "the trigger has not run again"
    (next_id,) = fetch(fresh, "INSERT INTO person (name) VALUES ('next') RETURNING id, nextval('ticket')")
    assert next_id == (3, 8), "sequences go on"
    assert len(fetch(fresh, "SELECT name FROM names")) == 2
    assert fetch(fresh, "SELECT has_table_privilege('pg_monitor', 'person', 'UPDATE')") == [(True,)]
    project.alembic(command.downgrade, "base", x="yes")
    assert tables(fresh) == {"alembic_version"}

    project.url = behind
    for function in (command.upgrade, command.downgrade):
        with pytest.raises(RefusedError, match="v1") as failure:
            project.alembic(function, "d")
        assert failure.value.exit_status == EXIT_STATUS[REPLACED_REVISION]
        assert "alembic upgrade d" in str(failure.value)
    assert state(project) == REPLACED_REVISION
    assert "v1" in read_report(project.project).next
    assert fetch(behind, VERSION) == [("b",)]


def test_part_of_the_history_then_all_with_a_merge(project: PlainProject, new_database: NewDatabase) -> None:
    tail = {name: text for name, text in contents(project).items() if name.endswith(("/c.py", "/d.py"))}
    assert "nothing to squash" in run(project, "a")
    run(project, "b")
    assert revisions(project) == ["d", "c", "b"]
    assert {name: contents(project).get(name) for name in tail} == tail
    assert edited_revisions(project.script) == []
    baseline = project.versions / "b_baseline.py"
    text = baseline.read_text()
    baseline.write_text(text.replace("    'a',\n", "    'other',\n"))
    assert {edited.path.name for edited in edited_revisions(project.script)} == {"a.py", baseline.name}
    baseline.write_text(text)
    commit(project, "v2")
    project.add("e", after="b")
    assert "several heads" in refused(project, HistoryError)
    project.add("m", "pass", after=("d", "e"))
    assert "e.py" in refused(project, HistoryError, "c"), "it would follow a replaced revision"
    assert "is at revision d" in refused(project, RefusedError)
    assert "nothing to squash" in run(project, "b")
    at_new_database(project, new_database())
    run(project, yes=True)
    assert revisions(project) == ["m"]
    assert edited_revisions(project.script) == [], "of both releases"
    assert sorted(read_revisions([project.versions]).replaced) == ["a", "b", "c", "d", "e"]
    at_new_database(project, new_database())
    assert "person" in tables(project.url) and "e" in tables(project.url)

    commit(project, "v3")
    for suffix, line in ((".sql", "SELECT 1;\n"), (".py", "more = 1\n")):
        file = project.versions / f"m_baseline{suffix}"
        file.write_text(f"{file.read_text()}{line}")
        edits = {edited.path.name for edited in edited_revisions(project.script)}
        assert file.name in edits, "the baseline is frozen, too"


def test_a_baseline_that_makes_something_else_is_not_kept(
    project: PlainProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = Dump.create_statements
    monkeypatch.setattr(Dump, "create_statements", lambda self: (s for s in statements(self) if "ticket'" not in s))
    assert "ticket" in refused(project, AdoptionError), "a sequence stands at another position"


def test_databases_that_are_behind_or_elsewhere(project: PlainProject, new_database: NewDatabase) -> None:
    at_new_database(project, new_database(), "c")
    assert "alembic upgrade d" in refused(project, RefusedError)
    execute(project.url, "UPDATE alembic_version SET version_num = 'elsewhere'")
    assert "elsewhere" in refused(project, HistoryError)


def add_backfill(project: PlainProject) -> Path:
    """Write the revisions e and f, of which f needs a backfill, and upgrade; return the backfill's file."""
    folder = project.folder / "migrations" / "backfills"
    folder.mkdir()
    file = folder / "fill.py"
    file.write_text(
        "import sqlalchemy as sa\nfrom safe_migrations.backfills import Backfill\n"
        "filled = sa.table('filled', sa.column('id'), sa.column('extra'))\n"
        "backfill = Backfill(table=filled, key=('id',), where=filled.c.extra.is_(None), values={'extra': 'x'})\n"
    )
    create = "CREATE TABLE filled (id integer PRIMARY KEY, extra text); INSERT INTO filled VALUES (1)"
    project.add("e", f"op.execute('{create}')", "op.execute('DROP TABLE filled')", after="d")
    needing(project, "f", "fill", after="e")
    commit(project, "v2")
    with pytest.raises(BackfillError):
        project.alembic(command.upgrade, "f")
    execute(project.url, "UPDATE filled SET extra = 'x'")
    project.alembic(command.upgrade, "f")
    return file


def needing(project: PlainProject, revision: str, backfill: str, after: str, statement: str = "SELECT 1") -> None:
    file = project.add(revision, f"op.execute({statement!r})", after=after)
    file.write_text(f"{file.read_text()}\nrequires_backfill = {backfill!r}\n")


def test_files_that_git_does_not_have(project: PlainProject) -> None:
    file = project.versions / "b.py"
    file.write_text(file.read_text() + "\n# later\n")
    sentence = refused(project, NotConfirmedError)
    assert "b.py" in sentence and "a.py" not in sentence


def test_what_no_baseline_can_make(project: PlainProject, new_role: NewRole) -> None:
    role = new_role("NOLOGIN", "")
    statements = (
        f"ALTER TABLE log OWNER TO {role}",
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role}",
        "DO 'BEGIN EXECUTE format(''ALTER DATABASE %I SET timezone = utc'', current_database()); END'",
    )
    project.add("e", "\n".join(f"op.execute({statement!r})" for statement in statements), after="d")
    project.add("f", "op.execute('CREATE PUBLICATION news')", "op.execute('DROP PUBLICATION news')", after="e")
    commit(project, "v2")
    project.alembic(command.upgrade, "heads")
    assert "news" in refused(project, AdoptionError)
    sentence = refused(project, AdoptionError, "e")
    assert "table log" in sentence and role in sentence
    assert "default privileges" in sentence
    assert "TimeZone=utc" in sentence
    execute(project.url, f"DROP OWNED BY {role}")


def run_until_killed(project: PlainProject, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    """As a kill after so many moves of folders: nothing is cleaned up."""
    rename, settle = os.rename, draft._settle

    def dying(source: Path, target: Path) -> None:
        nonlocal moves
        if Path(source).is_dir():
            if not moves:
                raise KeyboardInterrupt
            moves -= 1
        rename(source, target)

    def settle_alive(*folders: Path) -> None:
        if not moves:
            raise KeyboardInterrupt
        settle(*folders)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rename", dying)
        patch.setattr(draft, "_settle", settle_alive)
        run(project, "f")


def test_backfills_and_kills_while_files_are_moved(project: PlainProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The squash after a kill ends as the first one would have."""
    fill = add_backfill(project)
    later = fill.with_name("later.py")
    later.write_text(fill.read_text())
    needing(project, "g", "later", after="f", statement="CREATE PUBLICATION news")  # which no baseline could make
    commit(project, "v3")
    execute(project.url, "UPDATE filled SET extra = NULL")
    assert "safe-migrations backfill fill" in refused(project, BackfillError, "f")
    execute(project.url, "UPDATE filled SET extra = 'x'")
    run_until_killed(project, monkeypatch, moves=1)
    assert not project.versions.exists()
    run_until_killed(project, monkeypatch, moves=3)  # the first of them undoes the one before
    assert fill.exists(), "it is deleted last"
    run(project, "f")
    assert revisions(project) == ["g", "f"]
    assert not fill.exists()
    assert later.exists(), "a revision that stays needs it"
    assert not list(project.folder.rglob(".adopt*"))
    assert len(list(project.versions.glob("f*.*"))) == 3


def test_rendered_service(at_head: Service) -> None:
    """With its numbers, its HEAD, its models, and lint."""
    at_head.succeed("alembic", "revision", "-m", "the first item")
    (revision,) = at_head.versions.glob("*_0002_*.py")
    insert = "op.execute(\"INSERT INTO item (name) VALUES ('first')\")"
    revision.write_text(revision.read_text().replace("    pass\n", f"    {insert}\n", 1))
    at_head.succeed("alembic", "upgrade", "head")
    head = at_head.versions.joinpath("HEAD").read_text()
    output = at_head.succeed("safe-migrations", "squash", "--yes")
    assert "models: no difference" in output
    (file,) = at_head.versions.glob("*.py")
    assert re.fullmatch(r"\d{8}_0002_baseline\.py", file.name)
    assert at_head.versions.joinpath("HEAD").read_text() == head
    assert "at head" in at_head.succeed("safe-migrations", "state")
    assert "no findings" in at_head.succeed("safe-migrations", "lint")
    at_head.succeed("pytest", "-q", "-k", "order or offline", "tests/test_migrations.py")
    at_head.succeed("ruff", "check", ".")
    at_head.succeed("ruff", "format", "--check", ".")

"""`op.execute_file`: the statements of a file beside the revision, one by one, and in a script."""

import io
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL

from plain_project import PlainProject
from safe_migrations.errors import RevisionError
from safe_migrations.postgres.statements import split
from support import fetch, tables

SQL = """\
-- It's a comment; "with quotes
CREATE TABLE a (name text DEFAULT '50%; :x');

CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN '%s;'; END $$;
CREATE TABLE "b; ""c"" d" (id integer) -- the last line
"""


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    project = PlainProject(tmp_path, database)
    project.add("one", "op.execute_file(__file__)", 'op.execute_file(__file__, ".down.sql")')
    project.versions.joinpath("one.sql").write_text(SQL)
    project.versions.joinpath("one.down.sql").write_text('DROP TABLE a; DROP TABLE "b; ""c"" d"; DROP FUNCTION f()')
    return project


def test_up_and_down(project: PlainProject) -> None:
    project.alembic(command.upgrade, "head")
    assert tables(project.url) == {"a", 'b; "c" d', "alembic_version"}
    fetch(project.url, "INSERT INTO a DEFAULT VALUES")
    (row,) = fetch(project.url, "SELECT name, f() AS value FROM a")
    assert (row.name, row.value) == ("50%; :x", "%s;")
    project.alembic(command.downgrade, "base", x="yes")
    assert tables(project.url) == {"alembic_version"}


def test_script_has_the_same_statements(project: PlainProject) -> None:
    output = io.StringIO()
    config = project.config()
    config.output_buffer = output
    command.upgrade(config, "head", sql=True)
    statements = [plain for _, plain in split(output.getvalue())]
    expected = [plain for _, plain in split(SQL)]
    assert [plain for plain in statements if plain in expected] == expected
    assert "INSERT INTO alembic_version" in statements[-2], "the comment at the end hides no semicolon"


def test_error_names_the_line(project: PlainProject) -> None:
    project.versions.joinpath("one.sql").write_text(SQL + ";\n\nCREATE TABLE c (x no_such_type);\n")
    with pytest.raises(RevisionError, match=r"no_such_type") as failure:
        project.alembic(command.upgrade, "head")
    assert "line 8 of one.sql" in str(failure.value)
    assert "a" not in tables(project.url)


def test_file_that_is_missing(project: PlainProject) -> None:
    project.versions.joinpath("one.sql").unlink()
    with pytest.raises(RevisionError, match=r"one\.sql"):
        project.alembic(command.upgrade, "head")

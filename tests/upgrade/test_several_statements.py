"""A text of several statements runs as psql runs it."""

from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL

from plain_project import PlainProject
from safe_migrations.errors import RevisionError
from safe_migrations.lint.offline import run_offline
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.statements import split
from safe_migrations.trace.copies import upgrade
from support import at, fetch, tables

TWO = "CREATE TABLE a (n int); CREATE TABLE b (n int)"
BODY = """
CREATE TABLE log (n int);  -- a comment; with a semicolon
/* one /* nested; */ comment; */
CREATE FUNCTION one() RETURNS int LANGUAGE sql
BEGIN ATOMIC
    SELECT CASE WHEN true THEN 1 END;
    SELECT 1;
END;
CREATE FUNCTION two() RETURNS int LANGUAGE plpgsql AS $body$ BEGIN INSERT INTO log VALUES (1); RETURN 2; END $body$;
CREATE RULE r AS ON DELETE TO log DO ALSO (SELECT 1; SELECT 2);
DO $$ BEGIN PERFORM two(); PERFORM one(); END $$;
INSERT INTO log SELECT count(*) FROM (VALUES ('a;b'), ('50%'), (E'c\\';d')) v (text) WHERE text LIKE '%;%';
-- the end
"""


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    return PlainProject(tmp_path / "project", database)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("A; B;", 2),
        (";;", 0),
        ("A; -- ; B\n", 1),
        ("A /* ; /* ; */ ; */; B", 2),
        ("SELECT '/*'; SELECT '*/'", 2),
        ("DO $a$ $$ ; $$ $a$; B", 2),
        ("SELECT E'a\\';b'; SELECT 'a\\'; B", 3),
        ('SELECT "a;b"; B', 2),
        ("CREATE /* ; */ OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END; B", 2),
        ("CREATE FUNCTION f(begin int) RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT 2'; B", 2),
        ('CREATE FUNCTION public.begin() RETURNS int BEGIN ATOMIC SELECT "end" FROM public.begin; END; B', 2),
        ("CREATE RULE r AS ON INSERT TO t DO ALSO (A; B); C", 2),
        ("BEGIN; SELECT CASE WHEN a THEN b END; END; A", 4),
    ],
)
def test_split(text: str, count: int) -> None:
    assert len(list(split(text))) == count


def test_every_call(project: PlainProject) -> None:
    """Also on the connection of a caller."""
    calls = [
        "op.execute({!r})",
        "op.execute(sa.text({!r}))",
        "op.get_bind().execute(sa.text({!r}))",
        "op.get_bind().exec_driver_sql({!r})",
        "with op.get_context().autocommit_block():\n    op.execute({!r})",
    ]
    texts = [f"CREATE TABLE a{number} (n int); CREATE TABLE b{number} (n int)" for number in range(5)]
    for number, (call, text) in enumerate(zip(calls, texts, strict=True)):
        project.add(
            str(number),
            call.format(text),
            "op.execute('SELECT 1; SELECT 2')",
            after=str(number - 1) if number else None,
        )
    project.alembic(command.upgrade, "3")
    run_async(_on_own_connection(project))
    assert tables(project.url) == {"alembic_version", *(f"{table}{number}" for number in range(5) for table in "ab")}
    project.alembic(command.downgrade, "base", x="yes")


async def _on_own_connection(project: PlainProject) -> None:
    async with connected(at(project.url)) as connection:
        await connection.run_sync(upgrade, project.project, "head")


def test_a_whole_script(project: PlainProject) -> None:
    """What a semicolon does not end stays one statement; a percent sign stays as it is written."""
    project.add("one", f"op.get_bind().exec_driver_sql({BODY!r})")
    project.alembic(command.upgrade, "head")
    assert sorted(row.n for row in fetch(project.url, "SELECT n FROM log")) == [1, 2]


def test_names_with_many_quotes(project: PlainProject) -> None:
    """How long the search for a command of psql takes does not depend on the quotes in names."""
    name = '"' + '""a' * 20 + '"'
    project.add("one", f"op.execute({f'CREATE TABLE {name} (n int, CONSTRAINT {name} CHECK (n > 0)); SELECT 1'!r})")
    project.alembic(command.upgrade, "head")
    assert tables(project.url) == {"alembic_version", '"a' * 20}


def test_the_result_of_the_last_statement(project: PlainProject) -> None:
    project.add("one", f"assert op.get_bind().execute(sa.text({TWO + '; SELECT 3;'!r})).scalar_one() == 3")
    project.alembic(command.upgrade, "head")


def test_a_failure_undoes_the_whole_text(project: PlainProject) -> None:
    project.add("one", f"\nop.execute({TWO + '; SELECT 1 / 0'!r})")
    with pytest.raises(RevisionError, match=r"one\.py:\d+ failed and was rolled back: division by zero"):
        project.alembic(command.upgrade, "head")
    assert tables(project.url) == set()


def test_with_parameters_the_text_is_one_statement(project: PlainProject) -> None:
    project.add("one", "op.get_bind().execute(sa.text('SELECT :a; SELECT 2'), {'a': 1})")
    with pytest.raises(RevisionError, match="multiple commands"):
        project.alembic(command.upgrade, "head")


def test_what_only_psql_understands(project: PlainProject) -> None:
    """It is refused before a statement of the text runs; a backslash in a literal or a name is neither."""
    project.add("one", """op.execute("SELECT '\\\\ STDIN', 1 AS \\"\\\\\\"")""")
    for text, named in (
        ("CREATE TABLE a (n int);\n\\set x 1\nSELECT 1;", "set x 1"),
        ("\\restrict abc\nCREATE TABLE a (n int);", "restrict"),
        ("CREATE TABLE a (n int) \\gexec", "gexec"),
        ("CREATE TABLE a (n int); COPY a (n) FROM stdin;\n1\n\\.\n", "COPY a"),
        ("COPY (SELECT 1) TO STDOUT", "COPY"),
    ):
        project.add("two", f"op.execute({text!r})", after="one")
        with pytest.raises(RevisionError, match=f"two.py.*only psql.*{named}"):
            project.alembic(command.upgrade, "head")
    assert tables(project.url) == {"alembic_version"}
    assert fetch(project.url, "SELECT version_num FROM alembic_version") == [("one",)]


def test_the_end_of_the_transaction_is_reported(project: PlainProject, caplog: pytest.LogCaptureFixture) -> None:
    """It runs as stock Alembic runs it, and a warning says that a failure can't undo the revision."""
    project.add("one", f"op.execute({f'BEGIN; {TWO}; COMMIT;'!r})")
    project.add("two", "op.execute('COMMIT')", after="one")
    project.add("three", "op.execute('SELECT 1')", after="two")
    with caplog.at_level("WARNING", "safe_migrations"):
        project.alembic(command.upgrade, "head")
    messages = [record.getMessage() for record in caplog.records]
    assert [Path(message.split()[0]).name for message in messages] == ["one.py", "two.py"]
    assert tables(project.url) == {"alembic_version", "a", "b"}
    assert fetch(project.url, "SELECT version_num FROM alembic_version") == [("three",)]


def test_lint_sees_each_statement(project: PlainProject) -> None:
    file = project.add("one", f"op.execute(\n    {TWO!r}\n)")
    line = file.read_text().splitlines().index("    op.execute(") + 1
    statements, problems = run_offline(project.scripts("one")[0], "upgrade")
    assert problems == []
    assert [(statement.plain, statement.line) for statement in statements[1:-1]] == [
        (text.strip(), line) for text in TWO.split(";")
    ]

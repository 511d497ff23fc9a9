"""Steps of a revision commit one after the other; after a failure, the next run goes on at the one that is not done."""

import io
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest
from alembic import command
from sqlalchemy import URL, Connection

from plain_project import PlainProject
from safe_migrations.errors import ConfigurationError, MigrationError, NotConfirmedError, RefusedError, RevisionError
from safe_migrations.operate.deploy import deploy
from safe_migrations.operate.status import read_report
from safe_migrations.postgres.database import client_environment
from safe_migrations.postgres.programs import find_programs
from safe_migrations.upgrade.states import AT_HEAD, BEHIND, EXIT_STATUS, PARTLY_UNDONE
from support import NewRole, bare_environment, fetch, on, tables

RECORDS = "SELECT revision, direction, name FROM safe_migrations.revision_step ORDER BY completed_at"
COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = 'item'::regclass AND attnum > 0 AND NOT attisdropped"
UPGRADE = """
    if op.step("columns"):
        op.add_column("item", sa.Column("sku", sa.String(20)))

    if op.step("index"):
        op.create_index_concurrently("ix_item_sku", "item", ["sku"])

    if op.step("name"):
        op.add_column("item", sa.Column("name", sa.{type}()))
"""
DOWNGRADE = """
    if op.step("name"):
        op.drop_column("item", "name")

    if op.step("index"):
        op.drop_index_concurrently("ix_item_sku", "item")

    if op.step("columns"):
        op.drop_column("item", "sku")
"""
RIGHT, WRONG = UPGRADE.format(type="Text"), UPGRADE.format(type="TextOfNoKind")


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    project = PlainProject(tmp_path / "project", database)
    project.begin("item", "CREATE TABLE item (id int)")
    return project


def recorded(project: PlainProject) -> list[tuple[str, ...]]:
    return [tuple(row) for row in fetch(project.url, RECORDS)]


def columns(project: PlainProject) -> list[str]:
    return [name for (name,) in fetch(project.url, COLUMNS)]


def test_a_run_leaves_no_record(project: PlainProject) -> None:
    project.add("sku", RIGHT, DOWNGRADE, after="item")
    project.alembic(command.upgrade, "head")
    assert columns(project) == ["id", "sku", "name"]
    assert recorded(project) == []
    project.alembic(command.downgrade, "-1")
    assert columns(project) == ["id"]
    assert recorded(project) == []
    project.alembic(command.upgrade, "head")


def test_after_a_failure_the_next_run_goes_on_at_the_step(project: PlainProject) -> None:
    project.add("sku", WRONG, DOWNGRADE, after="item")
    for _ in range(2):
        with pytest.raises(RevisionError, match="TextOfNoKind"):
            project.alembic(command.upgrade, "head")
        assert columns(project) == ["id", "sku"]
        assert recorded(project) == [("sku", "upgrade", "columns"), ("sku", "upgrade", "index")]
    project.add("sku", RIGHT, DOWNGRADE, after="item")
    project.alembic(command.upgrade, "head")
    assert columns(project) == ["id", "sku", "name"]
    assert recorded(project) == []


def test_one_step_needs_no_table(project: PlainProject) -> None:
    project.add("sku", 'if op.step("columns"):\n    op.add_column("item", sa.Column("sku", sa.Text()))', after="item")
    project.alembic(command.upgrade, "head")
    assert columns(project) == ["id", "sku"]
    assert fetch(project.url, "SELECT to_regnamespace('safe_migrations')") == [(None,)]


def script(project: PlainProject, direction: str, range_: str) -> str:
    config = project.config()
    config.output_buffer = io.StringIO()
    getattr(command, direction)(config, range_, sql=True)
    return config.output_buffer.getvalue()


def test_a_script_commits_each_step(project: PlainProject, database: URL) -> None:
    project.add("sku", RIGHT, DOWNGRADE, after="item")
    psql = [str(find_programs(18) / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    for direction, range_, expected in (
        ("upgrade", "item:sku", ["id", "sku", "name"]),
        ("downgrade", "sku:item", ["id"]),
    ):
        sql = script(project, direction, range_)
        assert [sql.count(f"-- Step {name}\n") for name in ("columns", "index", "name")] == [1, 1, 1]
        environment = bare_environment() | client_environment(database)
        subprocess.run(psql, input=sql, env=environment, text=True, check=True)
        assert columns(project) == expected
    assert fetch(database, "SELECT to_regnamespace('safe_migrations')") == [(None,)]


def test_a_connection_of_the_caller_commits_steps_unless_it_is_in_a_transaction(project: PlainProject) -> None:
    project.add("sku", RIGHT, DOWNGRADE, after="item")

    def refused(connection: Connection) -> None:
        connection.begin()
        with pytest.raises(ConfigurationError, match="transaction"):
            command.upgrade(project.config(connection=connection), "head")
        connection.commit()  # by a caller that goes on

    on(project.url, refused)
    assert columns(project) == ["id"]
    on(project.url, lambda connection: command.upgrade(project.config(connection=connection), "head"))
    assert columns(project) == ["id", "sku", "name"]
    assert recorded(project) == []


def test_without_run_env_a_revision_says_what_it_lacks(project: PlainProject) -> None:
    environment = project.folder / "migrations" / "env.py"
    environment.write_text("""
from alembic import context
context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
""")
    project.add("sku", RIGHT, DOWNGRADE, after="item")
    with pytest.raises(ConfigurationError, match="run_env"):
        on(project.url, lambda connection: command.upgrade(project.config(connection=connection), "head"))
    assert columns(project) == ["id"]


STEP = """
if op.step("first"):
    op.add_column("item", sa.Column("sku", sa.Text()))
"""
SELECT = 'op.execute("SELECT 1")'


@pytest.mark.parametrize(
    ("upgrade", "named"),
    [
        (f"{SELECT}{STEP}", "before its first step"),
        (f"op.get_bind().execute(sa.text('SELECT 1')){STEP}", "before its first step"),
        (f"{STEP}{STEP}", "'first'"),
        ("with op.get_context().autocommit_block():" + indent(STEP + 'op.step("second")', "    "), "autocommit_block"),
    ],
)
def test_what_would_not_be_run_once_is_refused(project: PlainProject, upgrade: str, named: str) -> None:
    project.add("sku", upgrade, after="item")
    with pytest.raises(RevisionError, match=named):
        project.alembic(command.upgrade, "head")


def test_a_statement_after_a_completed_step_is_refused(project: PlainProject) -> None:
    body = f"{STEP}{SELECT}\nif op.step('second'):\n    op.add_column('item', sa.Column('name', sa.{{}}()))"
    project.add("sku", body.format("Wrong"), after="item")
    with pytest.raises(RevisionError, match="Wrong"):
        project.alembic(command.upgrade, "head")
    project.add("sku", body.format("Text"), after="item")
    with pytest.raises(RevisionError, match=r"outside .*'first'.*SELECT 1"):
        project.alembic(command.upgrade, "head")
    assert columns(project) == ["id", "sku"]


def test_a_completed_step_that_the_file_has_no_more_is_named(project: PlainProject) -> None:
    project.add("sku", WRONG, DOWNGRADE, after="item")
    with pytest.raises(RevisionError):
        project.alembic(command.upgrade, "head")
    only = 'if op.step("name"):\n    op.add_column("item", sa.Column("name", sa.Text()))'
    for upgrade in (only, 'op.add_column("item", sa.Column("name", sa.Text()))'):
        project.add("sku", upgrade, DOWNGRADE, after="item")
        with pytest.raises(RevisionError, match="'columns', 'index'"):
            project.alembic(command.upgrade, "head")
        assert columns(project) == ["id", "sku"]


TARGETS = {"upgrade": "sku", "downgrade": "item"}


def interrupt(project: PlainProject, direction: str) -> None:
    """Leave a revision with two completed steps, and one that remains."""
    broken = DOWNGRADE.replace('"sku")', '"skew")')
    project.add("sku", WRONG if direction == "upgrade" else RIGHT, broken, after="item")
    if direction == "downgrade":
        project.alembic(command.upgrade, "head")
    with pytest.raises(RevisionError, match=r"TextOfNoKind|skew"):
        project.alembic(
            command.upgrade if direction == "upgrade" else command.downgrade, "head" if direction == "upgrade" else "-1"
        )
    project.add("sku", RIGHT, DOWNGRADE, after="item")


@pytest.mark.parametrize(
    ("direction", "state", "refused"),
    [
        ("upgrade", BEHIND, [(command.downgrade, "-1"), (command.downgrade, "base"), (command.stamp, "head")]),
        ("downgrade", PARTLY_UNDONE, [(command.upgrade, "head"), (command.upgrade, "sku"), (command.stamp, "item")]),
    ],
)
def test_a_revision_is_completed_before_the_way_back(
    project: PlainProject, direction: str, state: str, refused: list[tuple[Callable[..., None], str]]
) -> None:
    interrupt(project, direction)
    completing = f"alembic {direction} {TARGETS[direction]}"
    before = recorded(project)
    for function, target in refused:
        with pytest.raises(RefusedError, match=f"(?s)'?sku.py.*columns.*{completing}") as caught:
            project.alembic(function, target)
        assert caught.value.exit_status == EXIT_STATUS[state]
    report = read_report(project.project)
    assert report.state == state
    names = ["columns", "index", "name"] if direction == "upgrade" else ["name", "index", "columns"]
    facts = {"revision": "sku", "file": "sku.py", "direction": direction}
    steps = {"completed": names[:2], "remaining": names[2:]}
    assert json.loads(report.as_json())["partly_applied"] == [facts | steps]
    assert all(f'"{name}"' in report.as_text() for name in names)
    assert recorded(project) == before
    project.alembic(getattr(command, direction), TARGETS[direction])
    assert recorded(project) == []
    assert columns(project) == (["id", "sku", "name"] if direction == "upgrade" else ["id"])


def test_a_revision_that_has_begun_asks_for_its_backfill_no_more(project: PlainProject) -> None:
    """Its first step may have dropped the column that the backfill has read."""
    folder = project.folder / "migrations" / "backfills"
    folder.mkdir()
    folder.joinpath("numbers.py").write_text("""
import sqlalchemy as sa
from safe_migrations.backfills import Backfill
item = sa.table("item", sa.column("id"), sa.column("number"))
backfill = Backfill(table=item, key=("id",), where=item.c.number.is_(None), values={"number": item.c.id})
""")
    fetch(project.url, "ALTER TABLE item ADD number int")
    body = """
    if op.step("drop"):
        op.drop_column("item", "number")
    if op.step("name"):
        op.add_column("item", sa.Column("name", sa.{}()))
    """
    declared = 'depends_on = None\nphase = "contract"\nrequires_backfill = "numbers"\n'
    for type_ in ("Wrong", "Text"):
        path = project.add("sku", body.format(type_), after="item")
        path.write_text(path.read_text().replace("depends_on = None\n", declared))
        if type_ == "Wrong":
            with pytest.raises(RevisionError, match="Wrong"):
                project.alembic(command.upgrade, "head")
    assert "backfill" not in read_report(project.project).next
    lines: list[str] = []
    deploy(project.project, None, lines.append, contract=True)
    assert '"drop"' in lines[0]
    assert columns(project) == ["id", "name"]


def test_a_deployment_that_ends_between_two_steps_says_so(project: PlainProject) -> None:
    project.add("sku", WRONG, DOWNGRADE, after="item")
    with pytest.raises(RevisionError, match=r'(?s)TextOfNoKind.*partly applied.*"columns", "index".*revert') as caught:
        deploy(project.project, None, lambda _: None)
    assert "did not change" not in str(caught.value)


def test_a_deployment_that_changes_nothing_ends_with_the_command_to_run(project: PlainProject) -> None:
    fetch(project.url, "INSERT INTO item SELECT n FROM generate_series(1, 2) n")
    project.add("unique", 'op.execute("CREATE UNIQUE INDEX ON item ((id * 0))")', after="item")
    with pytest.raises(RevisionError, match="did not change") as caught:
        deploy(project.project, None, lambda _: None)
    assert [row[-1] for row in fetch(project.url, str(caught.value).splitlines()[-1])] == [2]


@pytest.mark.parametrize(("completed", "lost"), [([], ["item.name", "item.sku"]), (["name"], ["item.sku"])])
def test_a_completed_step_destroys_nothing(project: PlainProject, completed: list[str], lost: list[str]) -> None:
    project.add("sku", RIGHT, DOWNGRADE, after="item")
    project.alembic(command.upgrade, "head")
    fetch(project.url, "INSERT INTO item (id, sku, name) VALUES (1, 'a', 'b')")
    if completed:
        fetch(project.url, "ALTER TABLE item DROP name")
        fetch(
            project.url,
            "INSERT INTO safe_migrations.revision_step VALUES ('public.alembic_version', 'sku', 'downgrade', 'name')",
        )
    with pytest.raises(NotConfirmedError) as caught:
        project.alembic(command.downgrade, "item")
    assert re.findall(r"the column (\S+)", str(caught.value)) == lost
    project.alembic(command.downgrade, "item", x="yes")
    assert columns(project) == ["id"]


def test_the_first_revision_of_a_database_goes_on_too(tmp_path: Path, database: URL) -> None:
    """Its tables have no revision yet, and are not somebody else's."""
    project = PlainProject(tmp_path / "project", database)
    body = """
    if op.step("one"):
        op.create_table("one", sa.Column("id", sa.Integer()))
    if op.step("two"):
        op.create_table("two", sa.Column("id", sa.{}()))
    """
    project.add("first", body.format("Wrong"))
    with pytest.raises(RevisionError, match="Wrong"):
        project.alembic(command.upgrade, "head")
    assert read_report(project.project).state == BEHIND
    project.add("first", body.format("Integer"))
    project.alembic(command.upgrade, "head")
    assert tables(database) == {"one", "two", "alembic_version"}


def test_a_revision_of_another_release_is_not_completed_here(project: PlainProject) -> None:
    interrupt(project, "upgrade")
    project.versions.joinpath("sku.py").unlink()
    with pytest.raises(RefusedError, match=r"(?s)sku.*git log"):
        project.alembic(command.downgrade, "base")
    report = read_report(project.project)
    assert (report.state, report.partly_applied[0]["file"]) == (AT_HEAD, None)
    assert "sku" in report.as_text()


def test_the_right_to_record_steps_is_asked_for_beforehand(project: PlainProject, new_role: NewRole) -> None:
    role = new_role("LOGIN", "secret")
    owner, project.url = project.url, project.url.set(username=role, password="secret")
    fetch(owner, f"GRANT CREATE ON SCHEMA public TO {role}")
    fetch(owner, f"ALTER TABLE item OWNER TO {role}")
    fetch(owner, f"ALTER TABLE alembic_version OWNER TO {role}")
    project.add("sku", RIGHT, DOWNGRADE, after="item")
    for command_of_owner in (f"CREATE SCHEMA safe_migrations AUTHORIZATION {role};", None):
        with pytest.raises(MigrationError, match=r"sku\.py") as refused:
            project.alembic(command.upgrade, "head")
        assert columns(project) == ["id"]
        _, *statements = str(refused.value).splitlines()
        assert command_of_owner in (None, *statements)
        if command_of_owner:
            fetch(owner, "CREATE SCHEMA safe_migrations")  # by somebody else
    for statement in statements:
        fetch(owner, statement)
    project.alembic(command.upgrade, "head")
    assert columns(project) == ["id", "sku", "name"]

    project.url = owner.set(username=new_role("LOGIN", "secret"), password="secret")
    fetch(owner, f"GRANT SELECT ON alembic_version TO {project.url.username}")
    project.alembic(command.upgrade, "head")  # a replica without privileges, which has nothing to do
    assert read_report(project.project).state == AT_HEAD


def test_two_version_tables_have_records_of_their_own(project: PlainProject) -> None:
    interrupt(project, "upgrade")
    project.options = {"version_table": "other"}
    assert read_report(project.project).partly_applied == ()


def test_a_step_that_can_not_be_committed_is_rolled_back_as_a_whole(project: PlainProject) -> None:
    fetch(project.url, "ALTER TABLE item ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED")
    twice = """
    if op.step("first"):
        op.add_column("item", sa.Column("sku", sa.Text()))
        op.execute("INSERT INTO item (id) VALUES (1), (1)")
    if op.step("second"):
        op.add_column("item", sa.Column("name", sa.Text()))
    """
    project.add("sku", twice, after="item")
    with pytest.raises(RevisionError, match=r'step 1 of 2 "first" failed and was rolled back: duplicate key'):
        project.alembic(command.upgrade, "head")
    assert columns(project) == ["id"]
    assert read_report(project.project).partly_applied == ()


def test_what_a_step_sets_ends_with_the_step(project: PlainProject) -> None:
    body = """
    if op.step("first"):
        op.execute("SET work_mem = '7MB'")
    if op.step("second"):
        op.execute("CREATE TABLE seen AS SELECT current_setting('work_mem') AS work_mem")
    """
    project.add("sku", body, after="item")
    project.alembic(command.upgrade, "head")
    assert fetch(project.url, "SELECT work_mem FROM seen") == fetch(project.url, "SELECT current_setting('work_mem')")


def test_a_step_that_ends_its_transaction_concerns_that_step_only(
    project: PlainProject, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade = """
    if op.step("first"):
        op.add_column("item", sa.Column("sku", sa.Text()))
        op.execute("COMMIT")
        op.execute("SELECT 1")
    if op.step("second"):
        op.add_column("item", sa.Column("name", sa.Wrong()))
    """
    project.add("sku", upgrade, after="item")
    with pytest.raises(RevisionError, match='"second" failed and was rolled back'):
        project.alembic(command.upgrade, "head")
    assert any("ended its transaction itself" in record.getMessage() for record in caplog.records)
    assert columns(project) == ["id", "sku"]
    assert recorded(project) == [("sku", "upgrade", "first")]


def test_a_downgrade_says_what_was_undone_and_which_step_failed(project: PlainProject) -> None:
    project.add("sku", RIGHT, DOWNGRADE.replace('"ix_item_sku", "item"', '"ix_item_sku", 1 / 0'), after="item")
    project.add(
        "more", 'op.add_column("item", sa.Column("more", sa.Text()))', 'op.drop_column("item", "more")', after="sku"
    )
    project.alembic(command.upgrade, "head")
    with pytest.raises(RevisionError, match=r'step 2 of 3 "index" failed') as failed:
        project.alembic(command.downgrade, "item")
    assert re.search(r"undone before \(\S*more\.py\)", str(failed.value))

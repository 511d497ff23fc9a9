"""What state a database is in: states are distinguished, and what would do harm is refused and changes nothing."""

import json
import re
from collections.abc import Callable

import pytest
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from safe_migrations.errors import ConfigurationError, ConnectionFailedError, MigrationError, RevisionError
from safe_migrations.postgres.connection import connected, run_async
from support import Service, ToHead, at, fetch, tables
from warm_python import warm_path

STATE = ("safe-migrations", "state")
DEFINITION = "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index WHERE indexrelid = 'ix_item_name'::regclass"
KEYS = {
    "state",
    "current",
    "heads",
    "pending",
    "partly_applied",
    "unacknowledged",
    "backfills",
    "drift",
    "not_compared",
    "invalid",
    "blockers",
    "next",
}
COLUMN = 'op.add_column("item", sa.Column("note", sa.Text()))'


# Commands of the library and of Alembic, one after the other in one process; each ends with the status of an error.
RUN_ALL = """
import sys
from alembic.config import main as alembic
from safe_migrations.cli import main as safe_migrations

for line in sys.argv[1:]:
    print("$", line)
    program, *sys.argv[1:] = line.split()
    try:
        alembic() if program == "alembic" else safe_migrations()
    except SystemExit as end:
        print("ended with", end.code, flush=True)
"""


def run_all(service: Service, *commands: str) -> tuple[list[tuple[int, str]], str]:
    """The exit status and the standard output of each command, and the standard error of all."""
    process = service.run("python", "-c", RUN_ALL, *commands)
    assert process.returncode == 0, process.stderr
    ends = re.findall(r"^\$ [^\n]+\n(.*?)^ended with (\d+)$", process.stdout, re.DOTALL | re.MULTILINE)
    assert len(ends) == len(commands), process.stdout
    return [(int(status), printed) for printed, status in ends], process.stderr


def everything(database: URL) -> object:
    """The rows of the catalog, which each change of the schema replaces, and the recorded revisions."""
    rows = fetch(database, "SELECT oid, xmin::text FROM pg_class ORDER BY oid")
    return rows, fetch(database, "SELECT * FROM alembic_version") if "alembic_version" in tables(database) else None


def leave_invalid_index(database: URL, name: str = "ix_item_updated_at") -> None:
    """As a concurrent build does that finds duplicates."""
    fetch(database, "INSERT INTO item (name) VALUES ('a'), ('b')")
    fetch(database, "UPDATE item SET created_at = '2026-01-01'")
    statements = {
        "ix_item_updated_at": "CREATE UNIQUE INDEX CONCURRENTLY ix_item_updated_at ON item (created_at)",
        "ix_item_name": "CREATE UNIQUE INDEX CONCURRENTLY ix_item_name ON item (created_at)",
    }
    with pytest.raises(DBAPIError, match="could not create unique index"):
        fetch(database, statements[name])


def as_it_is(_service: Service, _database: URL) -> None:
    pass


def behind(service: Service, _database: URL) -> None:
    service.add_revision("note", COLUMN)


def drift(_service: Service, database: URL) -> None:
    fetch(database, "ALTER TABLE item ADD COLUMN note text, ALTER COLUMN name TYPE varchar(9)")
    fetch(database, "CREATE INDEX ix_item_note ON item (note)")


def untracked(_service: Service, database: URL) -> None:
    fetch(database, "CREATE TABLE customer (id int)")


def unknown_revision(_service: Service, database: URL) -> None:
    fetch(database, "UPDATE alembic_version SET version_num = 'abc'")


def several_heads(service: Service, _database: URL) -> None:
    path = service.versions / service.revisions()[0]
    service.add_revision("one", COLUMN)
    (baseline,) = (line for line in path.read_text().splitlines() if line.startswith("revision: str"))
    other = service.versions / "20300101_0002_two.py"
    one = service.versions / "20300101_0002_one.py"
    assert baseline.split('"')[1] in one.read_text()
    other.write_text(one.read_text().replace('"0002_one"', '"0002_two"'))


def invalid_objects(_service: Service, database: URL) -> None:
    leave_invalid_index(database)


STATES: dict[str, tuple[Callable[[Service, URL], None], int, str, str]] = {
    "fresh": (as_it_is, 3, "is empty", "alembic upgrade head"),
    "at head": (as_it_is, 0, "is at head", "nothing to do"),
    "behind": (behind, 4, "revisions to run: 1", "alembic upgrade head"),
    "drift": (drift, 8, "differs from the models", "alembic revision --autogenerate"),
    "untracked": (untracked, 5, "has tables but no revision (1: public.customer)", "safe-migrations adopt"),
    "unknown revision": (unknown_revision, 6, "newer than this code", "-S abc -- alembic/versions"),
    "several heads": (several_heads, 7, "20300101_0002_two.py", "safe-migrations rebase"),
    "invalid objects": (invalid_objects, 9, "ix_item_updated_at on item", "REINDEX INDEX CONCURRENTLY"),
}
FROM_EMPTY = ("fresh", "untracked")  # the others begin at head
REFUSED = ("untracked", "unknown revision", "several heads", "invalid objects")


@pytest.mark.parametrize("name", STATES)
def test_each_state_is_told_apart(service: Service, database: URL, to_head: ToHead, name: str) -> None:
    prepare, status, reason, following = STATES[name]
    if name not in FROM_EMPTY:
        to_head()
    prepare(service, database)
    before = everything(database)
    migrate = ("alembic upgrade head", "alembic downgrade -1") if name in REFUSED else ()
    ended, refusals = run_all(service, "safe-migrations state", "safe-migrations state --json", *migrate)
    assert [end for end, _ in ended] == [status] * len(ended), refusals
    output, answer = ended[0][1], json.loads(ended[1][1])
    assert output.startswith(f"{name}: ")
    assert reason in output
    assert following in output.split("next: ")[1]
    assert (answer["state"], set(answer)) == (name, KEYS)
    assert following in answer["next"]
    for part in (reason, "Nothing was changed.", following):
        assert refusals.count(part) == len(migrate), refusals
    assert everything(database) == before


@pytest.mark.parametrize("kind", [ConnectionFailedError, ConfigurationError, RevisionError])
def test_json_ends_with_the_status_of_the_error(service: Service, database: URL, kind: type[MigrationError]) -> None:
    """Of each command; and `state --json` prints the error."""
    if kind is ConnectionFailedError:
        service.configure(database.set(port=1))
    elif kind is ConfigurationError:
        service.environment.clear()
    else:
        (service.versions / service.revisions()[0]).write_text("revision =")
    plain = [f"safe-migrations {name}" for name in ("state", "locks", "preview", "rehearse", "backfill", "lint")]
    (state, *statuses), errors = run_all(service, *plain)
    (as_json, *statuses_of_json), _ = run_all(service, *(f"{command} --json" for command in plain))
    assert [status for status, _ in statuses_of_json] == [status for status, _ in statuses]
    answer = json.loads(as_json[1])
    assert (state[0], as_json[0], answer["state"], set(answer)) == (*2 * [kind.exit_status], "could not tell", KEYS)
    assert errors.startswith(answer["next"])


def test_what_state_tells_in_detail(at_head: Service, database: URL) -> None:
    drift(at_head, database)
    fetch(
        database,
        "ALTER TABLE item DROP CONSTRAINT ck_item_name_not_empty, "
        "ADD CONSTRAINT ck_item_name_not_empty CHECK (name > '')",
    )
    secret = "hunter2"

    async def ask_beside_an_open_transaction() -> str:
        async with connected(at(database)) as other:
            await other.exec_driver_sql(f"UPDATE item SET name = '{secret}'")  # noqa: S608
            return at_head.run(*STATE, "--json").stdout

    output = run_async(ask_beside_an_open_transaction())
    answer = json.loads(output)
    assert sorted(answer["drift"]) == [
        "modify_constraint ck_item_name_not_empty on item: CHECK (((name)::text > ''::text)) in the database, "
        "CHECK ((name <> ''::text)) in the models",
        "modify_type item.name: VARCHAR(length=9) in the database, Text() in the models",
        "remove_column item.note",
        "remove_index ix_item_note on item",
    ]
    (blocker,) = answer["blockers"]
    assert (blocker["state"], blocker["query"]) == ("idle in transaction", "UPDATE item SET name = '…'")
    assert secret not in output
    assert at_head.run(*STATE, "--json", "--quick").returncode == 2


def test_tables_that_no_model_has_are_named_and_not_read(at_head: Service, database: URL) -> None:
    """SQLAlchemy warns of a type that it does not know when it reads a table."""
    fetch(database, "CREATE TABLE archive (content xml)")
    fetch(database, "CREATE TABLE measurement (day date) PARTITION BY RANGE (day)")
    fetch(database, "CREATE TABLE partition_of_measurement PARTITION OF measurement DEFAULT")  # goes with its parent
    fetch(
        database,
        """DO $$ BEGIN FOR year IN 1000..1029 LOOP EXECUTE format(
        'CREATE TABLE measurement_%s (day date)', year); END LOOP; END $$""",
    )
    ((_, as_json), (_, as_text)), errors = run_all(at_head, "safe-migrations state --json", "safe-migrations state")
    years = [f"remove_table measurement_{year}" for year in range(1000, 1030)]
    assert json.loads(as_json)["drift"] == ["remove_table archive", "remove_table measurement", *years]
    assert errors == ""
    drift_lines = [line for line in as_text.splitlines() if line.startswith("drift: ")]
    assert "remove_table archive" in drift_lines[1]
    assert len(drift_lines) < len(years)
    assert "12 more" in drift_lines[-1]
    pipe = at_head.run("bash", "-c", "set -o pipefail; safe-migrations state --json | true", path=warm_path())
    assert (pipe.returncode, pipe.stderr) == (141, "")


def test_drift_names_the_schema(at_head: Service, database: URL) -> None:
    fetch(database, "CREATE SCHEMA tenant")
    fetch(database, "CREATE TABLE tenant.item (LIKE item INCLUDING ALL)")
    fetch(database, "ALTER TABLE tenant.item ALTER name TYPE varchar(9), ADD note text")
    fetch(database, "CREATE INDEX ix_tenant ON tenant.item (name)")
    env = at_head.folder / "alembic" / "env.py"
    env.write_text(env.read_text().replace("run_env(", "run_env(include_schemas=True, ", 1))
    models = at_head.folder / "models_db.py"
    copies = (f'Base.metadata.tables["item"].to_metadata(Base.metadata, schema="{name}")' for name in ("tenant", "new"))
    models.write_text("\n".join([models.read_text(), *copies, ""]))
    assert {
        "add_table new.item",
        "modify_type tenant.item.name: VARCHAR(length=9) in the database, Text() in the models",
        "remove_column tenant.item.note",
        "remove_index ix_tenant on tenant.item",
    } <= set(json.loads(at_head.run(*STATE, "--json").stdout)["drift"])


def test_include_object_sees_whole_tables(at_head: Service, database: URL) -> None:
    fetch(database, "CREATE TABLE archive (content text)")
    fetch(database, "CREATE TABLE legacy (removed bool)")
    env = at_head.folder / "alembic" / "env.py"
    option = "include_object=lambda table, name, kind, *_: kind != 'table' or 'removed' not in table.columns, "
    env.write_text(env.read_text().replace("run_env(", f"run_env({option}", 1))
    assert json.loads(at_head.run(*STATE, "--json").stdout)["drift"] == ["remove_table archive"]


def test_pending_revisions_have_a_phase(at_head: Service) -> None:
    one = at_head.add_revision("one", "pass")
    two = at_head.add_revision("two", "pass")
    path = at_head.versions / "20300101_0003_two.py"
    path.write_text(path.read_text().replace("branch_labels = None", 'branch_labels = None\nphase = "contract"'))
    answer = json.loads(at_head.run(*STATE, "--json").stdout)
    assert [(revision["revision"], revision["phase"], one in revision["file"]) for revision in answer["pending"]] == [
        (one, None, True),
        (two, "contract", False),
    ]
    assert answer["drift"] is None


def test_an_invalid_index_that_a_pending_revision_builds_is_no_obstacle(at_head: Service, database: URL) -> None:
    leave_invalid_index(database, "ix_item_name")
    at_head.add_revision("index", 'op.create_index_concurrently("ix_item_name", "item", ["created_at"])')
    at_head.succeed("alembic", "upgrade", "head")
    (index,) = fetch(database, DEFINITION)
    assert tuple(index) == ("CREATE INDEX ix_item_name ON public.item USING btree (created_at)", True)


def test_where_nothing_can_be_written_state_says_so(service: Service, database: URL) -> None:
    name = database.database or ""
    fetch(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    process = service.run(*STATE)
    assert (process.returncode, "ORDERS_MIGRATION_DATABASE_URL" in process.stdout) == (3, True)


def test_what_can_t_be_compared_is_named(at_head: Service, database: URL) -> None:
    name = database.database or ""
    fetch(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    report = json.loads(at_head.run(*STATE, "--json").stdout)
    assert (report["state"], report["drift"]) == ("at head", [])
    assert "public.item" in report["not_compared"][0]


def test_tables_of_an_extension_do_not_count(service: Service, database: URL) -> None:
    fetch(database, "CREATE EXTENSION pg_stat_statements")
    service.succeed("alembic", "upgrade", "head")


def test_other_commands_tell_an_unknown_revision_until_it_is_purged(at_head: Service, database: URL) -> None:
    unknown_revision(at_head, database)
    ended, errors = run_all(at_head, "alembic current", "alembic check", "alembic stamp head")
    assert [status for status, _ in ended] == [6, 6, 6]
    assert errors.count("newer than this code") == 3
    assert "Traceback" not in errors
    at_head.succeed("alembic", "stamp", "--purge", "head")
    assert fetch(database, "SELECT 1 FROM alembic_version WHERE version_num = 'abc'") == []
    at_head.succeed("alembic", "current")


def test_stock_alembic_hurts_where_this_refuses(service: Service, database: URL) -> None:
    """Untracked tables get company, and an invalid index is nobody's business."""
    service.use_stock_environment()
    untracked(service, database)
    service.succeed("alembic", "upgrade", "head")
    leave_invalid_index(database)
    service.succeed("alembic", "upgrade", "head")

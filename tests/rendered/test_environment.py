"""env.py as a library calls it, and the traps that it has to stay out of (each broke a stock environment)."""

import json
import sys
import textwrap

from sqlalchemy import URL, text

from safe_migrations.errors import ConfigurationError, LockedError
from safe_migrations.postgres.connection import connected, run_async
from support import MypyCache, NewRole, Service, as_text, at, fetch, tables

CALL_ALEMBIC = """
import asyncio, logging, sys
from alembic import command
from alembic.config import Config
alembic = Config("alembic.ini")
"""


def call(service: Service, code: str, **variables: str) -> str:
    """Run Python code in the service's folder, as its application would."""
    service.environment |= variables
    return service.succeed("python", "-c", CALL_ALEMBIC + textwrap.dedent(code))


def test_inside_a_running_loop(service: Service, database: URL) -> None:
    call(
        service,
        """
        async def application():
            command.upgrade(alembic, "head")
        asyncio.run(application())
        """,
    )
    assert "item" in tables(database)


def test_injected_connection_keeps_the_callers_transaction(service: Service, database: URL) -> None:
    output = call(
        service,
        """
        from config import load_settings
        from database import create_engine

        def upgrade(connection, end):
            alembic.attributes["connection"] = connection
            transaction = connection.begin()
            command.upgrade(alembic, "head")
            getattr(transaction, end)()

        async def application():
            engine = create_engine(load_settings())
            for end in ("rollback", "commit"):
                async with engine.connect() as connection:
                    await connection.run_sync(upgrade, end)
                async with engine.connect() as connection:
                    found = await connection.exec_driver_sql("SELECT to_regclass('item')")
                    print(end, found.scalar())
            await engine.dispose()

        asyncio.run(application())
        """,
    )
    assert output.splitlines() == ["rollback None", "commit item"]
    assert "item" in tables(database)


def test_an_error_is_raised_to_a_caller_and_printed_for_a_person(service: Service) -> None:
    service.environment.clear()
    output = call(
        service,
        """
        from safe_migrations import ConfigurationError
        try:
            command.upgrade(alembic, "head")
        except ConfigurationError as error:
            print("raised:", error)
        """,
    )
    assert output.startswith("raised: No database is configured for orders")


def test_logging_of_the_application_goes_on(service: Service) -> None:
    output = call(
        service,
        """
        logging.basicConfig(level=logging.INFO, stream=sys.stdout)
        application = logging.getLogger("application")
        before = logging.root.handlers, logging.root.level
        command.upgrade(alembic, "head")
        assert (logging.root.handlers, logging.root.level) == before
        application.info("goes on")
        """,
    )
    assert "application:goes on" in output


def test_session_settings_commit_and_do_not_leak(service: Service, database: URL) -> None:
    """A SET before the migrations would begin a transaction that nobody commits; one in a block would stay."""
    service.add_revision(
        "added",
        "with op.get_context().autocommit_block():\n"
        "    op.execute('CREATE TABLE seen AS SELECT current_setting($$lock_timeout$$) AS lock_timeout')\n"
        "    op.execute('CREATE INDEX CONCURRENTLY ix_seen ON seen (lock_timeout)')",
    )
    service.add_revision("next", "op.execute('INSERT INTO seen SELECT current_setting($$lock_timeout$$)')")
    service.succeed("alembic", "upgrade", "head")
    assert fetch(database, "SELECT lock_timeout FROM seen") == [("1s",), ("1s",)]
    assert {"item", "seen"} <= tables(database)


def test_each_revision_has_a_transaction_of_its_own(service: Service, database: URL) -> None:
    service.add_revision("good", "op.execute('CREATE TABLE good ()')")
    service.add_revision("bad", "op.execute('CREATE TABLE half ()')\nop.execute('SELECT 1 / 0')")
    process = service.run("alembic", "upgrade", "head")
    assert process.returncode != 0
    assert "division by zero" in process.stderr
    assert tables(database) == {"alembic_version", "item", "good"}


def test_a_lock_that_is_not_free_is_one_sentence(at_head: Service, database: URL) -> None:
    at_head.environment |= {"MIGRATION_LOCK_TIMEOUT": "100ms", "MIGRATION_RETRY_WINDOW": "0s"}

    async def downgrade_while_somebody_reads() -> str:
        async with connected(at(database)) as other:
            await other.execute(text("SELECT * FROM item"))
            return at_head.fail("alembic", "downgrade", "base", kind=LockedError)

    assert "Tries: 1, each of at most 0.1 s" in run_async(downgrade_while_somebody_reads())
    assert "item" in tables(database)
    at_head.succeed("alembic", "downgrade", "base")


def test_a_role_that_may_not_migrate_is_one_sentence(service: Service, database: URL, new_role: NewRole) -> None:
    service.configure(database.set(username=new_role("LOGIN", "secret"), password="secret"))
    sentence = service.fail("alembic", "upgrade", "head")
    assert "permission denied for schema public" in sentence
    assert "ORDERS_MIGRATION_DATABASE_URL" in sentence


def test_values_of_a_failing_statement_are_not_shown(service: Service) -> None:
    service.add_revision(
        "added",
        "op.get_bind().execute(sa.text('SELECT 1 / :zero, :secret'), {'zero': 0, 'secret': 'pass' + 'word'})",
    )
    process = service.run("alembic", "upgrade", "head")
    assert process.returncode != 0
    assert "password" not in process.stdout + process.stderr


def test_x_arguments_from_python(service: Service, database: URL) -> None:
    output = call(
        service,
        """
        from argparse import Namespace
        from safe_migrations import ConnectionFailedError
        alembic.cmd_opts = Namespace(x=["tenant=one"])
        command.upgrade(alembic, "head")

        import os
        os.environ["ORDERS_MIGRATION_DATABASE_URL"] = "postgresql://user@127.0.0.1:1/name"
        try:
            command.current(alembic)
        except ConnectionFailedError:
            print("raised, not printed")
        """,
    )
    assert "item" in tables(database)
    assert "raised, not printed" in output


def test_rows_and_secrets_of_an_error_are_not_shown(at_head: Service, database: URL) -> None:
    fetch(database, "INSERT INTO item (name) VALUES ('hunter2')")
    at_head.add_revision("twice", "op.execute(\"INSERT INTO item (name) VALUES ('hunter2')\")")
    sentence = at_head.fail("alembic", "upgrade", "head")
    assert 'duplicate key value violates unique constraint "uq_item_name"' in sentence
    assert "hunter2" not in sentence


def test_an_error_of_python_is_one_sentence(at_head: Service) -> None:
    at_head.add_revision("python", "open('missing.sql')")
    error = "[Errno 2] No such file or directory: 'missing.sql'"
    assert error in at_head.fail("safe-migrations", "rehearse")
    assert f"{error}. No revision was applied before." in at_head.fail("alembic", "upgrade", "head")
    (file,) = at_head.versions.glob("*_python.py")
    file.write_text(file.read_text().replace("open('missing.sql')", "raise ValueError('no')"))
    message = at_head.fail("alembic", "upgrade", "head")
    assert "ValueError: no. No revision was applied before. Correct the revision" in message


def test_injected_connections_exclude_others_however_they_connect(service: Service, database: URL) -> None:
    """An engine with a creator knows no database's name."""
    output = call(
        service,
        f"""
        import asyncpg
        from sqlalchemy.ext.asyncio import create_async_engine
        from safe_migrations import LockedError

        url = {as_text(database)!r}
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url))

        def upgrade(connection):
            alembic.attributes["connection"] = connection
            command.upgrade(alembic, "head")

        async def application():
            async with engine.connect() as first, engine.connect() as second:
                await first.begin()
                await first.run_sync(upgrade)
                try:
                    await second.run_sync(upgrade)
                except LockedError as error:
                    print(error)
                await first.rollback()
                await second.rollback()
                await second.run_sync(upgrade)

        asyncio.run(application())
        """,
        MIGRATION_LOCK_WAIT="500ms",
    )
    assert "MIGRATION_LOCK_WAIT" in output
    assert "item" in tables(database)


def test_offline_the_bounds_of_env_files_count(service: Service) -> None:
    service.environment.clear()
    service.folder.joinpath(".env").write_text("MIGRATION_LOCK_TIMEOUT=7s\n")
    assert service.succeed("alembic", "upgrade", "head", "--sql").startswith("SET lock_timeout = '7000ms';")
    service.folder.joinpath(".env").write_text("MIGRATION_LOCK_TIMEOUT=7\n")
    sentence = service.fail("alembic", "upgrade", "head", "--sql", kind=ConfigurationError)
    assert "MIGRATION_LOCK_TIMEOUT is '7'" in sentence


# ── The section of alembic.ini ───────────────────────────────────────────────────────────────────────────────


def declare(service: Service, **values: str) -> None:
    """Write values into the section of alembic.ini."""
    path = service.folder / "alembic.ini"
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    path.write_text(path.read_text().replace("[safe_migrations]\n", f"[safe_migrations]\n{lines}", 1))


def test_the_version_table_is_honoured_everywhere(service: Service, server: URL, database: URL) -> None:
    """It has names that have to be quoted."""
    declare(service, version_table="Revision of orders", version_table_schema="Ops")
    fetch(database, 'CREATE SCHEMA "Ops"')
    service.succeed("alembic", "upgrade", "head")
    ((baseline,),) = fetch(database, 'SELECT version_num FROM "Ops"."Revision of orders"')
    assert tables(database) == {"item"}

    asked = (
        ("safe-migrations", "state"),
        ("safe-migrations", "state", "--quick"),
        ("python", "-m", "database"),
        ("alembic", "current"),
    )
    for command in asked:
        output = service.succeed(*command)
        assert baseline in output or "_0001_baseline.py" in output
        assert "head" in output
    service.succeed("alembic", "check")
    added = service.add_revision("added", "op.execute('SELECT 1')")
    for command in asked[:3]:
        process = service.run(*command)
        assert process.returncode != 0
        assert "_0001_baseline.py" in process.stdout
        assert "alembic upgrade head" in process.stdout
    (rehearsed,) = json.loads(service.succeed("safe-migrations", "rehearse", "--json"))
    assert rehearsed["revision"] == added
    service.succeed("safe-migrations", "deploy", "--without-backup")
    assert fetch(database, 'SELECT version_num FROM "Ops"."Revision of orders"') == [(added,)]
    service.succeed("alembic", "downgrade", "base")
    assert tables(database) == set()

    service.environment["ORDERS_TEST_DATABASE_URL"] = as_text(server)
    assert " passed" in service.succeed("pytest", "--quiet", "-k", "stairway or offline")


def test_another_version_table_in_env_py_is_refused(service: Service, database: URL) -> None:
    """`state --quick` does not run env.py, and would look elsewhere."""
    env = service.folder / "alembic" / "env.py"
    env.write_text(env.read_text().replace("run_env(", 'run_env(version_table="revisions", ', 1))
    for command in (("alembic", "upgrade", "head"), ("safe-migrations", "state"), ("safe-migrations", "rehearse")):
        sentence = service.fail(*command)
        for name in ("version_table = revisions", "alembic.ini", "[safe_migrations]"):
            assert name in sentence
    assert tables(database) == set()
    declare(service, version_table="revisions")
    service.succeed("alembic", "upgrade", "head")
    assert tables(database) == {"item", "revisions"}
    assert "at head" in service.succeed("safe-migrations", "state", "--quick")


# ── What is left of template 1.x ─────────────────────────────────────────────────────────────────────────────


def test_a_kept_package_that_hides_the_library_is_refused_and_other_files_do_no_harm(
    service: Service, database: URL, mypy_cache: MypyCache
) -> None:
    kept = service.folder / "safe_migrations" / "__init__.py"
    kept.parent.mkdir()
    kept.touch()
    upgrade = ("python", "-m", "alembic", "upgrade", "head")
    for command in (upgrade, ("safe-migrations", "state"), ("safe-migrations", "state", "--quick")):
        sentence = service.fail(*command)
        assert sentence.startswith("safe_migrations/__init__.py comes from template 1.x")
        assert "git rm -r safe_migrations" in sentence
    assert "orders/safe_migrations/__init__.py" in service.fail(
        "safe-migrations", "-c", "orders/alembic.ini", "state", "--quick", folder=service.folder.parent
    )
    process = service.run("python", "-c", "import safe_migrations, alembic")
    assert process.returncode == 1
    assert f"ImportError: {kept} comes from template 1.x" in process.stderr
    assert tables(database) == set()

    kept.unlink()
    kept.with_name("__pycache__").mkdir(exist_ok=True)
    kept.with_name("__pycache__").joinpath(f"operations.{sys.implementation.cache_tag}.pyc").write_bytes(b"old")
    kept.with_name("operations.py").write_text('raise ImportError("of template 1.x")\n')
    service.succeed(*upgrade)
    assert "at head" in service.succeed("python", "-m", "safe_migrations", "state", "--quick")
    assert " passed" in service.succeed("python", "-m", "pytest", "--quiet", "tests/test_config.py")
    with mypy_cache() as cache:
        service.succeed("mypy", "--cache-dir", cache, ".")

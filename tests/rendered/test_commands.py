"""Every command of the standard, as written, on a real database, and what each says where there is none."""

import re
from typing import Any

import pytest
from sqlalchemy import URL

from support import MypyCache, Service, bare_python, fetch, tables


def revision_of(database: URL) -> list[str]:
    return [row.version_num for row in fetch(database, "SELECT version_num FROM alembic_version")]


def test_upgrade_and_downgrade_by_every_kind_of_target(service: Service, database: URL) -> None:
    first = service.succeed("alembic", "heads").split()[0]
    service.succeed("alembic", "upgrade", "+1")
    assert revision_of(database) == [first]
    service.succeed("alembic", "revision", "-m", "second")
    second = service.succeed("alembic", "heads").split()[0]
    for command, expected in [
        (("upgrade", second), [second]),
        (("downgrade", "-1"), [first]),
        (("upgrade", "head"), [second]),
        (("downgrade", first), [first]),
        (("downgrade", "base"), []),
    ]:
        service.succeed("alembic", *command)
        assert revision_of(database) == expected
    assert tables(database) == {"alembic_version"}


def test_upgrade_persists_and_is_read_back(service: Service, database: URL) -> None:
    service.succeed("alembic", "upgrade", "head")
    assert "item" in tables(database)
    assert service.succeed("alembic", "current").split()[1] == "(head)"
    service.succeed("alembic", "check")


def test_stamp_and_check(service: Service, database: URL) -> None:
    service.succeed("alembic", "stamp", "head")
    assert tables(database) == {"alembic_version"}
    process = service.run("alembic", "check")
    assert process.returncode != 0
    assert "add_table" in process.stdout


@pytest.mark.parametrize("module", ["alembic", "pytest"])
def test_run_as_a_module(at_head: Service, module: str) -> None:
    assert not (at_head.folder / "alembic" / "__init__.py").exists()
    arguments = {"alembic": ["current"], "pytest": ["--quiet", "tests/test_revisions.py"]}[module]
    assert {"alembic": "(head)", "pytest": "3 passed"}[module] in at_head.succeed("python", "-m", module, *arguments)


def test_autogenerate_numbers_types_and_formats(at_head: Service, mypy_cache: MypyCache) -> None:
    models = at_head.folder / "models_db.py"
    models.write_text(models.read_text() + "    note: Mapped[str | None]\n")
    at_head.succeed("alembic", "revision", "--autogenerate", "-m", 'Add a "note" to items')
    assert re.fullmatch(r"\d{8}_0002_add_a_note_to_items\.py", at_head.revisions()[1])
    text = (at_head.folder / "alembic" / "versions" / at_head.revisions()[1]).read_text()
    assert text.startswith('"""Add a "note" to items\n')
    assert "\ndown_revision: str | Sequence[str] | None = " in text
    assert re.search(r'^revision: str = "[0-9a-f]{12}"$', text, re.MULTILINE)
    at_head.succeed("ruff", "check", ".")
    at_head.succeed("ruff", "format", "--check", ".")
    with mypy_cache() as cache:
        at_head.succeed("mypy", "--cache-dir", cache, ".")
    at_head.succeed("alembic", "upgrade", "head")
    at_head.succeed("alembic", "check")
    at_head.succeed("alembic", "downgrade", "-1")


def test_autogenerate_without_a_change_writes_no_file(at_head: Service) -> None:
    said = at_head.succeed("alembic", "revision", "--autogenerate", "-m", "nothing")
    assert "no file was written" in said
    assert len(at_head.revisions()) == 1


@pytest.mark.parametrize("message", ['three """ quotes', r"a \n backslash \x", "ends with a \\"])
def test_any_message_gives_a_file_that_runs(service: Service, message: str) -> None:
    service.succeed("alembic", "revision", "-m", message)
    service.succeed("alembic", "upgrade", "head")


def test_a_default_that_differs_is_seen(at_head: Service) -> None:
    models = at_head.folder / "models_db.py"
    models.write_text(models.read_text().replace("server_default=func.now(), on", "server_default='epoch', on"))
    process = at_head.run("alembic", "check")
    assert process.returncode != 0
    assert "modify_default" in process.stdout


@pytest.mark.parametrize("message", [[], ["-m", "!!!"]], ids=["none", "signs"])
def test_a_file_without_a_message_has_a_name(service: Service, message: list[str]) -> None:
    service.succeed("alembic", "revision", *message)
    assert service.revisions()[1].endswith("_0002_empty_message.py")


def test_merge_is_numbered_and_needs_no_database(at_head: Service) -> None:
    first = at_head.succeed("alembic", "heads").split()[0]
    for branch in ("left", "right"):
        at_head.succeed("alembic", "revision", "--splice", "--head", first, "-m", branch)
    at_head.environment.clear()
    at_head.succeed("alembic", "merge", "-m", "join", "heads")
    assert [name.split("_", 1)[1] for name in at_head.revisions()] == [
        "0001_baseline.py",
        "0002_left.py",
        "0003_right.py",
        "0004_join.py",
    ]
    assert len(at_head.succeed("alembic", "heads").splitlines()) == 1


def test_missing_ruff_says_what_to_run(service: Service) -> None:
    python = bare_python(service.folder.parent / "environment")
    process = service.run(str(python), "-m", "alembic", "revision", "-m", "unformatted", path="/usr/bin:/bin")
    assert process.returncode != 0
    assert "Traceback" not in process.stderr
    assert "written but not formatted, because ruff is not installed: run pdm install" in process.stderr
    assert len(service.revisions()) == 2


# ── Without a database ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "command",
    [
        ["history"],
        ["history", "--verbose"],
        ["heads"],
        ["branches"],
        ["show", "head"],
        ["revision", "-m", "second"],
        ["upgrade", "head", "--sql"],
        ["upgrade", "base:head", "--sql"],
        ["downgrade", "head:base", "--sql"],
        ["stamp", "head", "--sql"],
    ],
    ids=" ".join,
)
def test_works_with_nothing_configured(service: Service, command: list[str]) -> None:
    service.environment.clear()
    process = service.run("alembic", *command)
    assert process.returncode == 0, process.stderr
    assert "--sql" in command or "static SQL" not in process.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["current"],
        ["upgrade", "head"],
        ["downgrade", "base"],
        ["stamp", "head"],
        ["check"],
        ["history", "--indicate-current"],
        ["revision", "--autogenerate", "-m", "second"],
    ],
    ids=" ".join,
)
def test_says_what_is_missing_with_nothing_configured(service: Service, command: list[str]) -> None:
    service.environment.clear()
    sentence = service.fail("alembic", *command)
    for name in ("ORDERS_DATABASE_URL", "ORDERS_DB_USER", "ORDERS_DB_PASSWORD", str(service.folder / ".env")):
        assert name in sentence
    assert len(service.revisions()) == 1


def test_offline_sql_is_nothing_but_sql(service: Service) -> None:
    service.environment.clear()
    sql = service.succeed("alembic", "upgrade", "head", "--sql")
    assert sql.startswith("SET lock_timeout = '1000ms';\n\nSET statement_timeout = '900000ms';\n\nBEGIN;\n")
    assert sql.rstrip().endswith("COMMIT;")
    assert "CREATE TABLE item" in sql


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wr%ong"}, "refused the password of the user 'postgres'"),
        ({"port": 1}, "does not answer at 127.0.0.1:1"),
        ({"database": "missing"}, "has no database 'missing'"),
    ],
    ids=["password", "server", "database"],
)
def test_one_sentence_for_a_connection_that_fails(
    service: Service, database: URL, change: dict[str, Any], message: str
) -> None:
    service.configure(database.set(**change))
    sentence = service.fail("alembic", "upgrade", "head")
    assert message in sentence
    assert "ORDERS_DATABASE_URL" in sentence
    assert str(database.password) not in sentence
    assert "wr%ong" not in sentence


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ORDERS_DATABASE_URL", "mysql://u:s3cret@h/d", "ORDERS_DATABASE_URL is not a URL of PostgreSQL"),
        (
            "ORDERS_DATABASE_URL",
            "postgresql://u:s3cret@h/d?sslmode=yes",
            "unknown ssl or sslmode: write one of disable",
        ),
        ("ORDERS_DATABASE_URL", "postgresql://u:s3cret@h/d?sslrootcert=x", "has the parameter sslrootcert"),
        ("ORDERS_MIGRATION_DATABASE_URL", "s3cret", "ORDERS_MIGRATION_DATABASE_URL is not a URL"),
        ("ORDERS_DATABASE_URL", "postgresql://u:half@s3cret@h/d", "percent-encoded"),
        ("ORDERS_DATABASE_URL", "postgresql://u:a?b@s3cret@h/d", "percent-encoded"),
        ("ORDERS_DATABASE_URL", "postgresql://u:s3cret@h:99999/d", "a port is a number from 1 to 65535"),
        ("ORDERS_DATABASE_URL", "postgresql://u:s3cret@h/d?port=x", "correct its hosts, ports or parameters"),
        ("ORDERS_DB_PORT", "s3cret", "ORDERS_DB_PORT: Input should be a valid integer"),
    ],
)
def test_one_sentence_for_a_setting_that_can_not_be_used(
    service: Service, variable: str, value: str, message: str
) -> None:
    service.environment[variable] = value
    sentence = service.fail("alembic", "current")
    assert message in sentence
    assert "s3cret" not in sentence


def test_one_sentence_for_an_env_file_that_can_not_be_read(service: Service) -> None:
    (service.folder / ".env").write_bytes(b"\xff\xfe")
    assert f"{service.folder / '.env'} can't be read" in service.fail("alembic", "current")


def test_an_empty_revision_keeps_what_its_author_will_need(at_head: Service, mypy_cache: MypyCache) -> None:
    at_head.succeed("alembic", "revision", "-m", "index by hand")
    path = at_head.versions / at_head.revisions()[-1]
    create = 'op.create_index_concurrently("ix_item_updated_at", "item", ["updated_at"])'
    drop = 'op.drop_index_concurrently("ix_item_updated_at", table_name="item")'
    upgrade, _, downgrade = path.read_text().replace("pass", create, 1).partition("def downgrade")
    path.write_text(f"{upgrade}def downgrade{downgrade.replace('pass', drop)}")
    at_head.succeed("ruff", "check", "--fix-only", "alembic")
    at_head.succeed("ruff", "check", ".")
    with mypy_cache() as cache:
        at_head.succeed("mypy", "--cache-dir", cache, ".")
    at_head.succeed("alembic", "upgrade", "head")
    at_head.succeed("alembic", "downgrade", "-1")

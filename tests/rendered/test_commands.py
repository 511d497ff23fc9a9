"""Every command of the standard, as written, on a real database, and what each says where there is none."""

import ast
import json
import os
import re
import shlex
from pathlib import Path

import pytest
from sqlalchemy import URL

from safe_migrations.errors import ConfigurationError, ConnectionFailedError
from support import MypyCache, Render, Service, bare_python, fetch, tables

# Command lines of Alembic, one after the other in one process.
ALL = """
from alembic.config import main

for arguments in {}:
    print("$ alembic", *arguments)
    main(argv=arguments)
"""


def test_upgrade_and_downgrade_by_every_kind_of_target(service: Service, database: URL) -> None:
    (first,) = re.findall(r'^revision: str = "(\w+)"', next(service.versions.glob("*.py")).read_text(), re.MULTILINE)
    commands = [
        *(["upgrade", "+1"], ["revision", "-m", "second", "--rev-id", "second"], ["upgrade", "second"]),
        *(["downgrade", "-1"], ["upgrade", "head"], ["downgrade", first], ["downgrade", "base"]),
    ]
    process = service.run("python", "-c", ALL.format(commands))
    assert process.returncode == 0, process.stderr
    up, again = [("upgrade", "", first), ("upgrade", first, "second")], ("upgrade", first, "second")
    down = [("downgrade", "second", first), ("downgrade", first, "")]
    assert re.findall(r"Running (\w+) (\w*) -> (\w*)", process.stderr) == [*up, down[0], again, *down]
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


def test_pytest_runs_as_a_module(service: Service) -> None:
    assert not (service.folder / "alembic" / "__init__.py").exists()
    assert "4 passed" in service.succeed("python", "-m", "pytest", "--quiet", "tests/test_config.py")


def test_the_command_and_its_module_are_the_same(service: Service) -> None:
    for arguments in (["--help"], ["state", "--quick"], ["lint", "no:such"], ["no-such-command"]):
        process = service.run("safe-migrations", *arguments)
        other = service.run("python", "-m", "safe_migrations", *arguments)
        assert (process.returncode, process.stdout) == (other.returncode, other.stdout)
        assert process.stderr == other.stderr
        assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("alembic.config", ["history"]), ("safe_migrations.cli", ["lint", "--explain", "missing-phase"])],
)
def test_a_command_ends_without_a_search_for_cycles(service: Service, module: str, arguments: list[str]) -> None:
    program = f"""
import atexit, gc, sys
gc.unfreeze()  # what tests have frozen
atexit.register(lambda: print(gc.get_freeze_count(), gc.get_count()[0], end=""))
sys.argv = ["program", *{arguments}]
from {module} import main
main()
"""
    frozen, left = service.succeed("python", "-c", program).splitlines()[-1].split()
    assert int(frozen) > 10 * int(left)


def test_revisions_are_numbered_typed_and_formatted(at_head: Service, mypy_cache: MypyCache) -> None:
    """Also an empty one, which keeps what its author will need."""
    models = at_head.folder / "models_db.py"
    models.write_text(models.read_text() + "    note: Mapped[str | None]\n")
    at_head.succeed("alembic", "revision", "--autogenerate", "-m", 'Add a "note" to items')
    assert re.fullmatch(r"\d{8}_0002_add_a_note_to_items\.py", at_head.revisions()[1])
    text = (at_head.versions / at_head.revisions()[1]).read_text()
    assert text.startswith('"""Add a "note" to items\n')
    assert "\ndown_revision: str | Sequence[str] | None = " in text
    assert re.search(r'^revision: str = "[0-9a-f]{12}"$', text, re.MULTILINE)

    at_head.succeed("alembic", "revision", "-m", "index by hand")
    path = at_head.versions / at_head.revisions()[-1]
    create = 'op.create_index_concurrently("ix_item_updated_at", "item", ["updated_at"])'
    drop = 'op.drop_index_concurrently("ix_item_updated_at", table_name="item")'
    upgrade, _, downgrade = path.read_text().replace("pass", create, 1).partition("def downgrade")
    path.write_text(f"{upgrade}def downgrade{downgrade.replace('pass', drop)}")
    at_head.succeed("ruff", "check", "--fix-only", str(path))
    at_head.succeed("ruff", "check", ".")
    at_head.succeed("ruff", "format", "--check", ".")
    with mypy_cache() as cache:
        at_head.succeed("mypy", "--cache-dir", cache, ".")
    at_head.succeed("python", "-c", ALL.format([["upgrade", "head"], ["downgrade", "-2"]]))


def test_autogenerate_without_a_change_writes_no_file(at_head: Service) -> None:
    output = at_head.succeed("alembic", "revision", "--autogenerate", "-m", "nothing")
    assert "no file was written" in output
    assert len(at_head.revisions()) == 1


def test_any_message_gives_a_file_that_runs(service: Service) -> None:
    messages = ['three """ quotes', r"a \n backslash \x", "ends with a \\", "!!!"]
    revisions = [["revision", "-m", message] for message in messages]
    service.succeed("python", "-c", ALL.format([*revisions, ["revision"], ["upgrade", "head"]]))
    assert [name[14:] for name in service.revisions()[-2:]] == ["empty_message.py"] * 2


def test_a_default_that_differs_is_seen(at_head: Service) -> None:
    models = at_head.folder / "models_db.py"
    models.write_text(models.read_text().replace("server_default=func.now(), on", "server_default='epoch', on"))
    process = at_head.run("alembic", "check")
    assert process.returncode != 0
    assert "modify_default" in process.stdout


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
    assert "not formatted" in process.stderr
    assert "alembic-safe-migrations[lint]" in process.stderr
    assert len(service.revisions()) == 2


# ── From another folder ──────────────────────────────────────────────────────────────────────────────────────


def test_from_any_folder(render: Render, database: URL, tmp_path: Path) -> None:
    """The files of the service, and its `.env` files, are found from alembic.ini."""
    root = tmp_path / "repository"
    service = render(root / "services" / "orders", layout="monorepo")
    (root / ".env").write_text(f"PLATFORM_DB_USER={database.username}\nPLATFORM_DB_PASSWORD='{database.password}'\n")
    (service.folder / ".env").write_text(
        f"ORDERS_DB_HOST={database.host}\nORDERS_DB_PORT={database.port}\nORDERS_DB_NAME={database.database}\n"
    )
    ini = service.folder / "alembic.ini"
    service.succeed("alembic", "-c", str(ini), "upgrade", "head", folder=Path("/"))
    assert tables(database) == {"alembic_version", "item"}
    for folder in (service.folder / "tests", Path("/")):
        path = os.path.relpath(ini, folder)
        assert "(head)" in service.succeed("alembic", "-c", path, "current", folder=folder)
        assert "at head" in service.succeed("safe-migrations", "-c", path, "state", "--quick", folder=folder)
        service.environment["ALEMBIC_CONFIG"] = path
        assert "(head)" in service.succeed("alembic", "current", folder=folder)
        del service.environment["ALEMBIC_CONFIG"]
    service.environment["ALEMBIC_CONFIG"] = str(ini)
    assert json.loads(service.succeed("safe-migrations", "state", "--json", folder=Path("/")))["state"] == "at head"


def test_a_revision_is_written_from_another_folder(at_head: Service) -> None:
    models = at_head.folder / "models_db.py"
    models.write_text(models.read_text() + "    note: Mapped[str | None]\n")
    ini, parent = f"{at_head.folder.name}/alembic.ini", at_head.folder.parent
    at_head.succeed("alembic", "-c", ini, "revision", "--autogenerate", "-m", "add a note", folder=parent)
    assert len(at_head.revisions()) == 2
    assert (at_head.versions / "HEAD").read_text().split() == at_head.succeed("alembic", "heads").split()[:1]
    at_head.succeed("ruff", "format", "--check", ".")
    at_head.succeed("python", "-m", "alembic", "-c", ini, "upgrade", "head", folder=parent)
    assert "at head" in at_head.succeed("safe-migrations", "-c", ini, "state", "--quick", folder=parent)


def test_the_commands_of_messages_name_the_same_configuration(service: Service, database: URL) -> None:
    parent, ini = service.folder.parent, "the 'orders'/alembic.ini"
    service.folder.rename(parent / "the 'orders'")

    def last_line(*command: str) -> list[str]:
        process = service.run(*command, folder=parent)
        return shlex.split((process.stdout + process.stderr).splitlines()[-1])

    upgrade = last_line("safe-migrations", "-c", ini, "state")
    assert upgrade == ["alembic", "-c", ini, "upgrade", "head"]
    for options in (("state", "--quick"), ("wait", "--timeout", "0")):
        process = service.run("safe-migrations", "-c", ini, *options, folder=parent)
        assert (process.stdout + process.stderr).rstrip().endswith(shlex.join(upgrade))
    process = service.run("safe-migrations", "-c", ini, "state", "--json", folder=parent)
    assert json.loads(process.stdout)["next"].endswith(shlex.join(upgrade))
    service.succeed(*upgrade, folder=parent)
    fetch(database, "INSERT INTO item (name) VALUES ('kept')")
    downgrade = last_line("alembic", "-c", ini, "downgrade", "base")
    assert downgrade == ["alembic", "-c", ini, "-x", "yes", "downgrade", "base"]
    service.succeed(*downgrade, folder=parent)
    assert last_line("safe-migrations", "-c", "missing.ini", "state") == [
        "safe-migrations",
        "-c",
        "path/alembic.ini",
        "…",
    ]


def test_one_sentence_without_alembic_ini(tmp_path: Path) -> None:
    for command in ("state", "state --quick", "lint", "rebase", "preview", "db-up", "deploy", "template-check"):
        sentence = Service(tmp_path, "ORDERS").fail("safe-migrations", *command.split())
        assert "alembic.ini" in sentence
        assert str(tmp_path) in sentence
    assert list(tmp_path.iterdir()) == []


def test_one_sentence_names_the_file_that_is_missing(tmp_path: Path) -> None:
    nowhere = Service(tmp_path, "ORDERS")
    assert "alembic.ini" in nowhere.fail("python", "-m", "safe_migrations", "state")
    assert "other/alembic.ini" in nowhere.fail("safe-migrations", "-c", "other/alembic.ini", "state")
    nowhere.environment["ALEMBIC_CONFIG"] = "another.ini"
    assert "another.ini" in nowhere.fail("safe-migrations", "state", "--quick")


# ── Without a database ───────────────────────────────────────────────────────────────────────────────────────


def test_works_with_nothing_configured(render: Render) -> None:
    commands = [
        *("history", "history --verbose", "heads", "branches", "show head", "revision -m second"),
        *("upgrade head --sql", "upgrade base:head --sql", "downgrade head:base --sql", "stamp head --sql"),
    ]
    process = render().run("python", "-c", ALL.format([command.split() for command in commands]))
    assert process.returncode == 0, process.stderr
    printed = process.stdout.split("$ alembic ")[1:]
    assert [text.startswith(command) for text, command in zip(printed, commands, strict=True)] == [True] * 10
    assert [("alembic_version" in text) for text in printed] == ["--sql" in command for command in commands]


def test_says_what_is_missing_with_nothing_configured(render: Render) -> None:
    service = render()
    for command in (
        *("current", "upgrade head", "downgrade base", "stamp head", "check", "history --indicate-current"),
        "revision --autogenerate -m second",
    ):
        sentence = service.fail("alembic", *command.split())
        for name in ("ORDERS_DATABASE_URL", "ORDERS_DB_USER", "ORDERS_DB_PASSWORD", str(service.folder / ".env")):
            assert name in sentence
    assert len(service.revisions()) == 1


def test_offline_sql_is_nothing_but_sql(render: Render) -> None:
    sql = render().succeed("alembic", "upgrade", "head", "--sql")
    assert sql.startswith("SET lock_timeout = '1000ms';\n\nSET statement_timeout = '900000ms';\n\nBEGIN;\n")
    assert sql.rstrip().endswith("COMMIT;")
    assert "CREATE TABLE item" in sql


def test_one_sentence_for_a_connection_that_fails(service: Service, database: URL) -> None:
    for change, message in (
        ({"password": "wr%ong"}, "refused the password of the user 'postgres'"),
        ({"port": 1}, "does not answer at 127.0.0.1:1"),
        ({"database": "missing"}, "has no database 'missing'"),
    ):
        service.configure(database.set(**change))
        sentence = service.fail("alembic", "upgrade", "head", kind=ConnectionFailedError)
        assert message in sentence
        assert "ORDERS_DATABASE_URL" in sentence
        assert str(database.password) not in sentence
        assert "wr%ong" not in sentence


UNUSABLE = [
    ("ORDERS_DATABASE_URL", "mysql://u:s3cret@h/d", "ORDERS_DATABASE_URL is not a URL of PostgreSQL"),
    ("ORDERS_DATABASE_URL", "postgresql://u:s3cret@h/d?sslmode=yes", "unknown ssl or sslmode; write one of disable"),
    ("ORDERS_DATABASE_URL", "postgresql://u:s3cret@h/d?sslcertificate=x", "has the parameter sslcertificate"),
    ("ORDERS_MIGRATION_DATABASE_URL", "s3cret", "ORDERS_MIGRATION_DATABASE_URL is not a URL"),
    ("ORDERS_DATABASE_URL", "postgresql://u:half@s3cret@h/d", "percent-encode"),
    ("ORDERS_DATABASE_URL", "postgresql://u:a?b@s3cret@h/d", "percent-encode"),
    ("ORDERS_DATABASE_URL", "postgresql://u:s3cret@h:99999/d", "a port is a number from 1 to 65535"),
    ("ORDERS_DATABASE_URL", "postgresql://u:s3cret@h/d?port=x", "correct its hosts, ports or parameters"),
    ("ORDERS_DB_PORT", "s3cret", "ORDERS_DB_PORT: Input should be a valid integer"),
]
LOAD_EACH = """
import os, sys
from config import load_settings
from safe_migrations import ConfigurationError

for variable, value in zip(sys.argv[1::2], sys.argv[2::2]):
    os.environ[variable] = value
    try:
        print(load_settings().migration_database_url)
    except ConfigurationError as error:
        print(repr(str(error)))
    del os.environ[variable]
"""


def test_one_sentence_for_a_setting_that_can_not_be_used(render: Render) -> None:
    service = render()
    settings = [text for variable, value, _ in UNUSABLE for text in (variable, value)]
    sentences = service.succeed("python", "-c", LOAD_EACH, *settings).splitlines()
    for sentence, (variable, value, message) in zip(sentences, UNUSABLE, strict=True):
        assert message in sentence, value
        assert variable in sentence
        assert "s3cret" not in sentence
    service.environment[variable] = value
    assert service.fail("alembic", "current", kind=ConfigurationError) == ast.literal_eval(sentence)


def test_one_sentence_for_an_env_file_that_can_not_be_read(render: Render) -> None:
    service = render()
    (service.folder / ".env").write_bytes(b"\xff\xfe")
    assert f"{service.folder / '.env'} can't be read" in service.fail("alembic", "current")

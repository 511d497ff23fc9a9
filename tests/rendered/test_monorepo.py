"""Several services in one repository, with one interpreter environment at its root."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL

import warm_python
from releases import LAST_OF_1, Releases, commit, git
from support import ROOT, NewDatabase, Render, Service, as_text, bare_environment, bare_python, tables

NAMES = ("orders", "payments")
UPGRADE = ("alembic", "upgrade", "head")
COMMANDS = (UPGRADE, ("safe-migrations", "state"), ("safe-migrations", "state", "--quick"))


@pytest.fixture
def services(render: Render, new_database: NewDatabase, tmp_path: Path) -> dict[str, tuple[Service, URL]]:
    """Two services below services/, both with this test environment."""
    root = tmp_path / "repository"
    services = {}
    for name in NAMES:
        service = render(root / "services" / name, service_name=name, layout="monorepo")
        database = new_database()
        (service.folder / ".env").write_text(
            f"{name.upper()}_DB_HOST={database.host}\n"
            f"{name.upper()}_DB_PORT={database.port}\n"
            f"{name.upper()}_DB_NAME={database.database}\n"
            f"PLATFORM_DB_USER={database.username}\n"
            f"PLATFORM_DB_PASSWORD={database.password}\n"
        )
        services[name] = (service, database)
    return services


def test_each_migrates_its_own_database_from_its_folder(services: dict[str, tuple[Service, URL]]) -> None:
    """By the programs of an environment at the root, and by those on PATH."""
    (orders, of_orders), (payments, of_payments) = services["orders"], services["payments"]
    python = bare_python(orders.folder.parents[1] / ".venv")
    program = python.with_name("alembic")
    program.write_text(f"#!{python}\nfrom alembic.config import main\nmain()\n")
    program.chmod(0o755)
    orders.succeed("../../.venv/bin/alembic", "upgrade", "head")
    assert (tables(of_orders), tables(of_payments)) == ({"alembic_version", "item"}, set())
    payments.succeed(*UPGRADE)
    orders.succeed("alembic", "downgrade", "base")
    assert (tables(of_orders), tables(of_payments)) == ({"alembic_version"}, {"alembic_version", "item"})


def test_the_database_of_another_service_is_not_mistaken_for_its_own(
    services: dict[str, tuple[Service, URL]],
) -> None:
    (orders, database), (payments, _) = services["orders"], services["payments"]
    orders.succeed(*UPGRADE)
    payments.configure(database)
    process = payments.run(*UPGRADE)
    assert process.returncode == 6
    assert "which this code does not have" in process.stderr


def test_shared_login_at_the_root_and_pieces_of_each_service(services: dict[str, tuple[Service, URL]]) -> None:
    service, database = services["orders"]
    (service.folder / ".env").rename(service.folder.parents[1] / ".env")
    service.succeed(*UPGRADE)
    assert "item" in tables(database)
    code = [path.read_text() for path in service.folder.rglob("*.py")]
    assert code
    assert not any("services." in text for text in code), "no package of the monorepo is imported"


def test_one_library_serves_an_older_service(services: dict[str, tuple[Service, URL]]) -> None:
    """The library has learnt to read more of alembic.ini than that service's template wrote into it."""
    orders, database = services["orders"]
    ini = orders.folder / "alembic.ini"
    lines = ini.read_text().splitlines(keepends=True)
    ini.write_text("".join(line for line in lines if not line.startswith(("database_port", "postgres_version"))))
    assert len(ini.read_text().splitlines()) == len(lines) - 2
    for command in COMMANDS:
        orders.succeed(*command)
    assert "State: at head" in orders.succeed("safe-migrations", "deploy")
    orders.succeed("python", "-m", "database")
    assert "item" in tables(database)


def test_a_service_of_a_newer_template_says_that_the_library_has_to_move(
    services: dict[str, tuple[Service, URL]],
) -> None:
    (orders, database), (payments, of_payments) = services["orders"], services["payments"]
    ini = orders.folder / "alembic.ini"
    ini.write_text(ini.read_text().replace("[safe_migrations]\n", "[safe_migrations]\nof_next_year = yes\n"))
    for command in (*COMMANDS, ("python", "-m", "database")):
        sentence = orders.fail(*command)
        assert "of_next_year" in sentence
        assert "pdm update alembic-safe-migrations" in sentence
    assert tables(database) == set()
    payments.succeed(*UPGRADE)
    assert "item" in tables(of_payments)


def test_a_service_of_template_1_says_that_it_has_to_move(
    services: dict[str, tuple[Service, URL]], releases: Releases, new_database: NewDatabase
) -> None:
    """It carries a package of the library's name, and the environment has the library by now."""
    payments, database = services["payments"]
    orders = releases.service(payments.folder.with_name("old_orders"), LAST_OF_1, layout="monorepo")
    own = new_database()
    orders.configure(own)
    sentence = orders.fail(*UPGRADE)
    assert "safe_migrations/__init__.py" in sentence
    assert "template-update" in sentence
    assert tables(own) == set()
    payments.succeed(*UPGRADE)
    assert "item" in tables(database)


def test_pytest_from_the_root(render: Render, server: URL, tmp_path: Path) -> None:
    """Both have a module `config`, and fixtures of the library; a folder beside them has tests of its own."""
    root, how_to = tmp_path / "repository", ROOT.joinpath("docs", "how-to", "monorepo.md").read_text()
    for name in NAMES:
        service = render(root / "services" / name, service_name=name, layout="monorepo")
        (service.folder / "tests" / "test_migrations.py").unlink()  # as long as all others
    (root / "shared").mkdir()
    (root / "shared" / "test_shared.py").write_text("def test_shared() -> None: ...\n")
    setting = re.search(r"^\[tool\.pytest\.ini_options\]\naddopts = .*monorepo.*\n", how_to, re.MULTILINE)
    assert setting
    (root / "pyproject.toml").write_text(setting[0])
    environment = bare_environment(ORDERS_TEST_DATABASE_URL=as_text(server), PAYMENTS_TEST_DATABASE_URL=as_text(server))

    (root / "services" / "payments" / "tests" / "test_own.py").write_text("def test_own() -> None:\n    assert False\n")
    process = warm_python.run((sys.executable, "-m", "pytest", "services", "shared"), root, environment)
    assert (process.returncode, "1 failed, 2 passed" in process.stdout) == (1, True), process.stdout
    assert "tests/test_own.py::test_own" in process.stdout


@pytest.mark.skipif(shutil.which("pdm") is None, reason="PDM is not installed")
def test_choosing_the_environment_leaves_nothing_to_commit(render: Render, tmp_path: Path) -> None:
    """The commands of the README before `pdm install`: PDM would write .python-version."""
    root = tmp_path / "repository"
    service = render(root / "services" / "orders", layout="monorepo")
    (root / ".gitignore").write_text(".venv/\n.env\n")
    git(root, "init", "--quiet")
    commit(root)
    start = re.search(
        r"^```sh\n(.*?)^pdm install", (service.folder / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert start
    assert "pdm use" in start[1]
    assert "-m venv " in start[1]
    environment = bare_environment(PDM_CHECK_UPDATE="false", HOME=str(tmp_path))
    script = start[1].replace("-m venv ", "-m venv --without-pip ")  # pip takes seconds, and PDM needs none
    command = ["bash", "-euo", "pipefail", "-c", script]
    process = subprocess.run(command, cwd=service.folder, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert (service.folder / ".pdm-python").read_text().endswith("/.venv/bin/python")
    assert git(root, "status", "--porcelain", "--untracked-files=all") == ""

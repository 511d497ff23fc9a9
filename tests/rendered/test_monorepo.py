"""Several services in one repository, with one interpreter environment at its root."""

from pathlib import Path

import pytest
from sqlalchemy import URL

from support import NewDatabase, Render, Service, bare_python, tables

NAMES = ("orders", "payments")


@pytest.fixture
def services(render: Render, new_database: NewDatabase, tmp_path: Path) -> dict[str, tuple[Service, URL]]:
    """Two services below services/, and ../../.venv with the libraries of this test environment."""
    root = tmp_path / "repository"
    python = bare_python(root / ".venv")
    alembic = python.with_name("alembic")
    alembic.write_text(f"#!{python}\nfrom alembic.config import main\nmain()\n")
    alembic.chmod(0o755)

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
    for name in NAMES:
        service, database = services[name]
        service.succeed("../../.venv/bin/alembic", "upgrade", "head")
        assert "item" in tables(database)
        assert "(head)" in service.succeed("../../.venv/bin/alembic", "current")
    orders, database = services["orders"]
    orders.succeed("../../.venv/bin/alembic", "downgrade", "base")
    assert tables(database) == {"alembic_version"}
    payments, database = services["payments"]
    assert "item" in tables(database), "the other service's database is as it was"
    payments.succeed("../../.venv/bin/python", "-m", "alembic", "check")


def test_the_database_of_another_service_is_not_mistaken_for_its_own(
    services: dict[str, tuple[Service, URL]],
) -> None:
    (orders, database), (payments, _) = services["orders"], services["payments"]
    orders.succeed("../../.venv/bin/alembic", "upgrade", "head")
    payments.configure(database)
    process = payments.run("../../.venv/bin/alembic", "upgrade", "head")
    assert process.returncode == 6
    assert "which this code does not have" in process.stderr


def test_no_services_package_is_imported(services: dict[str, tuple[Service, URL]]) -> None:
    service, _ = services["orders"]
    for path in service.folder.rglob("*.py"):
        assert "services." not in path.read_text()


def test_shared_login_at_the_root_and_pieces_of_each_service(services: dict[str, tuple[Service, URL]]) -> None:
    service, database = services["orders"]
    (service.folder / ".env").rename(service.folder.parents[1] / ".env")
    service.succeed("../../.venv/bin/alembic", "upgrade", "head")
    assert "item" in tables(database)

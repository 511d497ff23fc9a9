"""The tests that a service gets: they pass, leave nothing behind, and fail when what they guard is broken."""

import pytest

from support import Render, Service


def run_own_tests(service: Service, expected_status: int) -> str:
    process = service.run("pytest", "--quiet", "-p", "no:cacheprovider")
    assert process.returncode == expected_status, process.stdout + process.stderr
    return process.stdout


def test_they_start_an_embedded_server_and_leave_nothing(render: Render) -> None:
    service = render(outbox=True)
    before = {path.name for path in service.folder.iterdir()}
    assert " passed" in run_own_tests(service, 0)
    assert {path.name for path in service.folder.iterdir()} - before <= {"__pycache__"}


def test_they_do_not_touch_the_configured_database(service: Service) -> None:
    (service.folder / ".env").write_text("ORDERS_DATABASE_URL=postgresql://user:secret@127.0.0.1:1/production\n")
    service.environment.clear()
    run_own_tests(service, 0)


@pytest.mark.parametrize(
    ("file", "old", "new", "caught_by"),
    [
        ("models_db.py", "name: Mapped[str]", "name: Mapped[int]", "test_models_equal_schema"),
        ("alembic/versions", 'op.drop_table("item")', "pass", "test_stairway"),
        (
            "safe_migrations/runner.py",
            "    context.configure(connection=connection",
            "    connection.exec_driver_sql('SELECT 1')\n    context.configure(connection=connection",
            "test_upgrade_persists",
        ),
        ("safe_migrations/runner.py", '"postgresql+asyncpg://"', '"sqlite://"', "test_offline_sql"),
        ("config.py", "interpolate=False", "interpolate=True", "test_any_password"),
        ("config.py", "if self.migration_url is None:", "if True:", "test_migrations_may_have_a_url"),
        ("database.py", "if current == heads:", "if True:", "test_not_ready_behind"),
        ("database.py", "if current - known:", "if False:", "test_ready_beside_a_newer_release"),
    ],
    ids=["models", "downgrade", "commit", "offline", "interpolation", "migration-url", "readiness", "newer"],
)
def test_they_fail_when_what_they_guard_is_broken(
    render: Render, file: str, old: str, new: str, caught_by: str
) -> None:
    service = render()
    path = service.folder / file
    (path,) = path.glob("*.py") if path.is_dir() else [path]
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert f"::{caught_by}" in run_own_tests(service, 1)

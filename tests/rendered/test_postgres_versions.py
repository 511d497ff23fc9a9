"""The full cycle on every supported PostgreSQL, and the service's own tests on it."""

import json
from collections.abc import Iterator

import pytest

from safe_migrations.dev.cluster import Cluster, throw_away_cluster
from safe_migrations.errors import EmbeddedPostgresError
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import create_database
from safe_migrations.postgres.programs import find_programs
from support import Render, as_text, at, fetch, tables


@pytest.fixture(params=[15, 16, 17, 18])
def cluster(request: pytest.FixtureRequest, thorough: bool) -> Iterator[Cluster]:
    if request.param != 15 and not thorough:
        pytest.skip("the oldest is enough, and the newest runs all other tests: pdm run test-all")
    try:
        programs = find_programs(request.param, exactly=True)
    except EmbeddedPostgresError as error:
        pytest.skip(f"PostgreSQL {request.param} is not here: {error}")
    with throw_away_cluster(programs) as cluster:
        assert cluster.version().startswith(f"{request.param}.")
        yield cluster


def test_full_cycle_and_the_services_own_tests(render: Render, cluster: Cluster) -> None:
    version = int(cluster.version().partition(".")[0])
    service = render(outbox=True, postgres_version=version)
    run_async(create_database(at(cluster.url()), "orders"))
    database = cluster.url("orders")
    service.configure(database)
    service.succeed("alembic", "upgrade", "head")
    assert tables(database) == {"alembic_version", "event_outbox", "item"}
    service.succeed("alembic", "check")
    service.succeed("alembic", "downgrade", "base")
    assert tables(database) == {"alembic_version"}
    service.succeed("alembic", "upgrade", "head")

    service.add_revision("index", 'op.create_index_concurrently("ix_item_stamp", "item", ["created_at"])')
    service.add_revision("rebuild", 'op.rebuild_index_concurrently("ix_item_stamp")')
    service.add_revision("drop", 'op.drop_index_concurrently("ix_item_stamp")')
    rehearsed = json.loads(service.succeed("safe-migrations", "rehearse", "--json"))
    assert [each["locks"]["item"][-1] for each in rehearsed] == ["ShareUpdateExclusiveLock"] * 3
    assert "at head" in service.succeed("safe-migrations", "deploy")
    (backup,) = service.folder.glob("*.dump")
    name = service.succeed("safe-migrations", "restore", backup.name).strip()
    assert tables(cluster.url(name)) == {"alembic_version", "event_outbox", "item"}
    for path in service.versions.glob("20300101_*"):
        path.unlink()

    service.environment = {"ORDERS_TEST_DATABASE_URL": as_text(cluster.url())}
    service.succeed("pytest", "--quiet")
    left = fetch(cluster.url(), "SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'")
    assert left == [], "the service's tests drop the databases that they make"

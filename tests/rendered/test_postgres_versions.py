"""The full cycle on every supported PostgreSQL, and the service's own tests on it."""

import json
from collections.abc import Iterator

import pytest

from safe_migrations.dev.cluster import Cluster, throw_away_cluster
from safe_migrations.errors import EmbeddedPostgresError
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import create_database
from safe_migrations.postgres.programs import find_programs
from support import UP_DOWN_UP, Render, as_text, at, fetch, tables


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
    service.succeed("python", "-c", UP_DOWN_UP)
    assert tables(database) == {"alembic_version", "event_outbox", "item"}

    create = 'op.create_index_concurrently("ix_item_stamp", "item", ["created_at"])'
    both = 'op.rebuild_index_concurrently("ix_item_stamp")\nop.drop_index_concurrently("ix_item_stamp")'
    service.add_revision("index", f"{create}\n{both}")
    (rehearsed,) = json.loads(service.succeed("safe-migrations", "rehearse", "--json"))
    assert rehearsed["locks"]["item"][-1] == "ShareUpdateExclusiveLock"
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

"""A fleet of services, each with a database of its own, and how long `fleet status` takes.

`python benchmarks/fleets.py` measures this alone.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # as pytest's pythonpath

from commands import seconds_of
from pairs import UPGRADE, Renderings

from safe_migrations.dev.cluster import throw_away_cluster
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import create_database
from safe_migrations.postgres.programs import find_programs
from support import Service, as_text, at

SERVICES = 100
STATUS = ("safe-migrations", "fleet", "status", "--json")


def make_fleet(renderings: Renderings) -> Service:
    """Copy a service, and its database at head, under other names.

    Returns:
        The folder of all services, in which commands run.
    """
    original = renderings.pair("fleet").ours
    database = renderings.new_database(original)
    original.succeed(*UPGRADE)
    root = renderings.folder / "fleet" / "services"
    for number in range(SERVICES):
        name = f"service_{number:03}"
        run_async(create_database(at(renderings.server), name, str(database.database)))
        for file in original.folder.rglob("*"):
            if file.is_file() and file.suffix != ".pyc":
                copy = root / name / file.relative_to(original.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                text = file.read_text().replace("ORDERS", name.upper())
                copy.write_text(text.replace("orders", name))
        url = as_text(renderings.server.set(database=name))
        root.joinpath(name, ".env").write_text(f"{name.upper()}_DATABASE_URL={url}\n")
    return Service(root, "FLEET")


def seconds_of_status(fleet: Service) -> tuple[float, float]:
    """How long `fleet status` takes for services that are all at head, and how long the processor works."""
    seconds, processor, output = seconds_of(fleet, *STATUS)
    if [(row["state"], row["drift"]) for row in json.loads(output)] != [("at head", [])] * SERVICES:
        raise RuntimeError(f"Not all services are at head:\n{output}")
    return seconds, processor


if __name__ == "__main__":
    with TemporaryDirectory() as folder, throw_away_cluster(find_programs(18, exactly=True)) as cluster:
        fleet = make_fleet(Renderings(cluster.url(), Path(folder)))
        for _ in range(3):
            seconds, processor = seconds_of_status(fleet)
            print(f"{SERVICES} services: {seconds:.1f} s, processor without the server's: {processor:.1f} s")

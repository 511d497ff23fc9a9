"""The same service as the template renders it, and with stock Alembic, side by side."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from copier import run_copy
from sqlalchemy import URL

from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import create_database
from support import ROOT, TEMPLATE, Service, at

UPGRADE = ("alembic", "upgrade", "head")


@dataclass
class Pair:
    """The same service twice: as the template renders it, and with stock Alembic's env.py."""

    ours: Service
    stock: Service

    def __iter__(self) -> Iterator[Service]:
        return iter((self.ours, self.stock))


class Renderings:
    """Renderings, and their databases.

    Args:
        server: a database of the server.
        folder: where the services are.
    """

    def __init__(self, server: URL, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.template = copy_template(folder / "template")

    def pair(self, name: str, *upgrades: str) -> Pair:
        """Render a service twice, with a further revision for each of these bodies of upgrade()."""
        ours, stock = (Service(self.folder / name / stack / "orders", "ORDERS") for stack in ("ours", "stock"))
        answers = {"service_name": "orders", "outbox": True}
        run_copy(str(self.template), ours.folder, data=answers, defaults=True, unsafe=False, quiet=True)
        for number, upgrade in enumerate(upgrades, start=2):
            ours.add_revision(f"revision_{number}", upgrade)
        shutil.copytree(ours.folder, stock.folder)
        stock.use_stock_environment()
        for service in (ours, stock):
            self.new_database(service)
            service.succeed("alembic", "history")  # compiles env.py, what it imports and the revisions
        return Pair(ours, stock)

    def new_database(self, service: Service) -> URL:
        """Give a service an empty database."""
        name = f"database_{uuid4().hex}"
        run_async(create_database(at(self.server), name))
        service.configure(self.server.set(database=name))
        return self.server.set(database=name)


def copy_template(folder: Path) -> Path:
    """The template's files, out of their repository: Copier takes them as they are, without cloning first."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "copier.yml", folder)
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
    shutil.copytree(TEMPLATE, folder / "template", ignore=ignored)
    return folder


def start_at_once(service: Service, number: int) -> tuple[int, float]:
    """Start that many upgrades at once: how many succeed, and the seconds until all have ended."""
    begun = time.perf_counter()
    starters = [service.start(*UPGRADE) for _ in range(number)]
    for starter in starters:
        starter.communicate()
    return sum(starter.returncode == 0 for starter in starters), time.perf_counter() - begun

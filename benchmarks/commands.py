"""What a developer's commands take: seconds, and seconds of the processor, which depend less on a busy machine."""

import resource
import shutil
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from support import Service

NEW_TABLE = """

class Shipment(Base):
    __tablename__ = "shipment"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    carrier: Mapped[str]
"""
# Of the service's alembic.ini, what stock Alembic does not know: our number of a file, and our post-write hook.
OURS_ALONE = ("file_template =", "hooks =", "head_and_ruff.")


def use_stock_settings(service: Service) -> None:
    """Let stock Alembic write revisions, without ruff."""
    ini = service.folder / "alembic.ini"
    lines = ini.read_text().splitlines(keepends=True)
    ini.write_text("".join(line for line in lines if not line.startswith(OURS_ALONE)))


def add_table(service: Service) -> None:
    """Add a table to the models."""
    with service.folder.joinpath("models_db.py").open("a") as file:
        file.write(NEW_TABLE)


def seconds_in_copy(service: Service, *command: str) -> tuple[float, float]:
    """How long a command takes in a copy of the service, and how long the processor works for the command."""
    with TemporaryDirectory() as folder:
        copy = replace(service, folder=Path(folder, "orders"))
        shutil.copytree(service.folder, copy.folder)
        seconds, processor, _ = seconds_of(copy, *command)
    return seconds, processor


def seconds_of(service: Service, *command: str) -> tuple[float, float, str]:
    """How long a command takes, how long the processor works for the command, and what the command prints."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output = service.succeed(*command)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, output

"""`pdm run demo`: render a service, then upgrade, downgrade and upgrade its embedded PostgreSQL."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from copier import run_copy
from rich.console import Console

TEMPLATE = Path(__file__).parents[1]
TABLES = r"\copy (SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1) TO STDOUT"

console = Console(highlight=False)


def main() -> None:
    """Show what a new service can do, in a temporary folder."""
    begin = time.monotonic()
    with TemporaryDirectory(prefix="demo-") as folder:
        service = Path(folder) / "orders"
        with step("copier copy: a new service"):
            answers = {"service_name": "orders", "outbox": True, "database_port": free_port()}
            run_copy(str(TEMPLATE), service, data=answers, defaults=True, quiet=True, vcs_ref="HEAD")
        try:
            with step("pdm run db-up: an embedded PostgreSQL"):
                run(service, "safe_migrations", "db-up")
            for direction, target in (("upgrade", "head"), ("downgrade", "base"), ("upgrade", "head")):
                with step(f"alembic {direction} {target}"):
                    run(service, "alembic", direction, target)
                show(service)
        finally:
            with step("pdm run db-down"):
                run(service, "safe_migrations", "db-down")
    console.print(f"Done in {time.monotonic() - begin:.1f} s.")


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show the current step, with a spinner on a terminal, and how long it took."""
    begin = time.monotonic()
    with console.status(title):
        yield
    console.print(f"{title} ({time.monotonic() - begin:.1f} s)", style="bold")


def show(service: Path) -> None:
    """Print the tables and the revision of the database."""
    tables = run(service, "safe_migrations", "db-shell", sql=TABLES).split()
    console.print(f"  tables:   {', '.join(tables) or 'none'}")
    console.print(f"  revision: {run(service, 'alembic', 'current').strip() or 'base'}")


def run(service: Path, module: str, *arguments: str, sql: str | None = None) -> str:
    """Run a Python module as a command in the service's folder, and return its output."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.run(command, cwd=service, input=sql, capture_output=True, text=True)
    if process.returncode != 0:
        sys.exit(f"{module} {' '.join(arguments)} failed:\n{process.stderr}")
    return process.stdout


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as attempt:
        attempt.bind(("127.0.0.1", 0))
        port: int = attempt.getsockname()[1]
        return port


if __name__ == "__main__":
    main()

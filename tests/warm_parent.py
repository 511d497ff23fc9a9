"""The interpreter whose forks are the programs of warm_python.py; it ends with its standard input."""

import atexit
import gc
import importlib
import marshal
import os
import pkgutil
import runpy
import select
import signal
import socket
import ssl
import struct
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

status: int | str = "not known"  # with which a fork ends


@atexit.register  # the first one, which runs last
def leave() -> None:
    """End without freeing each object, which would have to be copied."""
    if isinstance(status, int):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


from alembic import command  # noqa: E402
from plumbum import local  # noqa: E402
from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, MetaData, Table, Text, func, make_url  # noqa: E402

# What the commands of a service import.
for name in ("alembic.config", "pydantic_settings", "sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql.asyncpg"):
    importlib.import_module(name)
for name in ("logging.config", "mako.template", "yaml", "alembic.ddl.postgresql", "alembic.autogenerate.api"):
    importlib.import_module(name)
import safe_migrations  # noqa: E402
from safe_migrations.operate.status import read_report  # noqa: E402
from safe_migrations.postgres.connection import run_async, share_compiled_statements  # noqa: E402
from safe_migrations.postgres.creation import create_database, drop_database  # noqa: E402
from safe_migrations.postgres.database import Database  # noqa: E402

for module in pkgutil.walk_packages(safe_migrations.__path__, "safe_migrations."):
    if not module.name.endswith("__main__") and ".testing" not in module.name:
        importlib.import_module(module.name)
sys.path.insert(0, os.path.dirname(__file__))
from faster_copier import faster_copier  # noqa: E402
from plain_project import PlainProject  # noqa: E402
from support import at  # noqa: E402

del sys.path[0]


def migrate_once(server: Database) -> None:
    """Let SQLAlchemy and Alembic prepare what each process would prepare, such as the queries of a comparison."""
    share_compiled_statements()
    name = f"warm_parent_{os.getpid()}"
    run_async(create_database(server, name))
    with TemporaryDirectory() as folder:
        project = PlainProject(Path(folder), server.url.set(database=name))
        project.models = MetaData()
        columns = Column("id", BigInteger, primary_key=True), Column("name", Text, unique=True)
        check = CheckConstraint("name <> ''", name="not_empty")
        Table("item", project.models, *columns, Column("at", DateTime(timezone=True), server_default=func.now()), check)
        project.alembic(command.revision, "item", autogenerate=True)
        project.alembic(command.upgrade, "head")
        project.alembic(command.check)
        read_report(project.project)
        project.alembic(command.downgrade, "base")
    run_async(drop_database(server, name))
    sys.stdout.flush()  # or each fork would print it


faster_copier(Path(sys.argv[3], "jinja"))
programs = {name: entry_points(group="console_scripts")[name].load() for name in sys.argv[4:]}
sys.modules.pop("copier.__main__")  # which `python -m copier` runs
migrate_once(at(make_url(os.environ["TEST_SERVER_URL"]).set(drivername="postgresql+asyncpg")))
ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the first one takes three milliseconds, and a connection makes one
python = sys.argv[2]
gc.freeze()
gc.set_threshold(100_000, 50, 100)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request, and the files of standard input, output and error."""
    length, files, _, _ = socket.recv_fds(connection, 4, 3)
    (number,) = struct.unpack("i", length)
    return marshal.loads(connection.recv(number, socket.MSG_WAITALL)), files  # noqa: S302  # of our own tests


def become(request: dict[str, Any]) -> None:
    """Turn this fork into a new process that runs a program."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    local.env.clear()  # Copier's copy of the environment, made when it was imported
    local.env.update(request["environment"])
    local.cwd.chdir(request["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.executable = request.get("executable", python)
    sys.argv = request["arguments"]
    sys.path[:0] = request["path"]


wakeup, write = os.pipe()
os.set_blocking(write, False)
signal.set_wakeup_fd(write)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.signal(signal.SIGINT, signal.SIG_IGN)
listener = socket.socket(fileno=int(sys.argv[1]))
clients: dict[int, socket.socket] = {}
while True:
    ready, _, _ = select.select([sys.stdin, listener, wakeup, *clients.values()], [], [])
    if sys.stdin in ready:
        sys.exit()
    for child in [child for child, client in clients.items() if client in ready]:
        os.kill(child, signal.SIGKILL)  # whoever has started it is gone
    if wakeup in ready:
        os.read(wakeup, 4096)
    for child in list(clients):
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            with clients.pop(child) as client, suppress(BrokenPipeError):
                client.send(struct.pack("i", os.waitstatus_to_exitcode(code)))
    if listener in ready:
        client, _ = listener.accept()
        request, files = receive(client)
        if (child := os.fork()) == 0:
            break
        clients[child] = client
        for file in files:
            os.close(file)

signal.set_wakeup_fd(-1)
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
if request.get("session"):
    os.setsid()
for number, file in enumerate(files):
    os.dup2(file, number)
    os.close(file)
client.send(struct.pack("i", os.getpid()))
client.close()
listener.close()
for connection in clients.values():
    connection.close()
become(request)
try:
    if request["program"] in programs:
        sys.exit(programs[request["program"]]())
    if request["program"] == "-c":
        exec(compile(request["what"], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
    else:
        runpy.run_module(request["what"], run_name="__main__", alter_sys=True)
    status = 0
except SystemExit as end:
    status = end.code or 0
    raise

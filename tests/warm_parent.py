"""The interpreter whose forks are the programs of warm_python.py; it reads requests from standard input."""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import sys
from typing import Any

# What the commands of a service import.
for name in ("alembic.config", "pydantic_settings", "sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql.asyncpg"):
    importlib.import_module(name)
for name in ("asyncpg", "mako.template", "yaml", "alembic.ddl.postgresql", "alembic.autogenerate.api"):
    importlib.import_module(name)
import safe_migrations  # noqa: E402

for module in pkgutil.walk_packages(safe_migrations.__path__, "safe_migrations."):
    if not module.name.endswith("__main__") and ".testing" not in module.name:
        importlib.import_module(module.name)
gc.freeze()


def become(request: dict[str, Any]) -> None:
    """Turn this fork into a new process that runs a program."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, path in enumerate(request["outputs"], start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.argv = request["arguments"]
    sys.path[:0] = [request["path"]]


signal.signal(signal.SIGINT, signal.SIG_IGN)
for line in sys.stdin:
    request = json.loads(line)
    if (child := os.fork()) == 0:
        break
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
else:
    sys.exit()

become(request)
if request["script"]:
    sys.exit(importlib.import_module(request["module"]).main())
runpy.run_module(request["module"], run_name="__main__", alter_sys=True)

"""A process that runs the `env.py` of one service after another, and prints what each database's state is.

A line of its standard input is a question in JSON, with the service's configuration file as `config`; a line of its
standard output is the answer. A question with revisions as `pending` is about the service's revisions and models, and
needs no database. `worker_pool.py` starts it.
"""

import gc
import importlib
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from alembic.util import CommandError

from safe_migrations.errors import MigrationError
from safe_migrations.fleet.worker_pool import TIMEOUT
from safe_migrations.operate.incomplete_backfills import percents
from safe_migrations.operate.status import read_report
from safe_migrations.postgres.connection import share_compiled_statements
from safe_migrations.printable import printable
from safe_migrations.upgrade.project import Project, alembic_config, load_project


def main() -> None:
    """Answer each line. The output of the services' own code is discarded, and its input is empty."""
    gc.set_threshold(200_000)  # as in cli.py
    gc.freeze()
    share_compiled_statements()
    questions, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    for question in questions:
        asked = json.loads(question)
        if hasattr(signal, "alarm"):  # or a hanging env.py would outlive a command that is killed; not on Windows
            signal.alarm(TIMEOUT + 10)
        with _isolated(Path(asked["config"]).parent):
            print(json.dumps(_answer(asked)), file=answers, flush=True)


def _answer(question: Mapping[str, Any]) -> dict[str, Any]:
    try:
        project = load_project(alembic_config([question["config"]]))
        return _details(project, question["pending"]) if "pending" in question else _state(project)
    except (MigrationError, CommandError) as error:
        return {"problem": str(error), "exit_status": getattr(error, "exit_status", MigrationError.exit_status)}
    except ModuleNotFoundError as error:
        return {"not_compared": f"env.py imports {printable(str(error.name))}, which this environment does not have"}
    except (Exception, SystemExit) as error:  # without its message, which may have a password
        return {"not_compared": f"env.py failed ({type(error).__name__})"}


def _state(project: Project) -> dict[str, Any]:
    report = read_report(project)
    return {
        "report": {**asdict(report), "exit_status": report.exit_status},
        "percents": percents(project, [str(backfill["name"]) for backfill in report.backfills]),
        "database": project.database.name,
        "host": project.database.host,
    }


def _details(project: Project, pending: Collection[str]) -> dict[str, Any]:
    from safe_migrations.fleet.details import read_details  # with lint, which the state does without

    return asdict(read_details(project, pending))


@contextmanager
def _isolated(folder: Path) -> Iterator[None]:
    """Work in a service's folder, and undo what its code changes, so that the next service finds what the first did."""
    path, modules, variables = list(sys.path), set(sys.modules), dict(os.environ)
    libraries = [Path(entry) for entry in path if not folder.is_relative_to(entry)]
    handlers, level = list(logging.root.handlers), logging.root.level
    os.chdir(folder)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(variables)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        for name in sys.modules.keys() - modules:
            if not _is_installed(sys.modules[name], libraries):
                del sys.modules[name]
        importlib.invalidate_caches()
        if orm := sys.modules.get("sqlalchemy.orm"):  # mappers that can't be configured would fail in all services
            orm.clear_mappers()


def _is_installed(module: ModuleType, libraries: Sequence[Path]) -> bool:
    """Whether a module is a library's, which services share; the next service may have another one of that name."""
    places = [place for place in (getattr(module, "__file__", None), *getattr(module, "__path__", ())) if place]
    return not places or any(Path(place).is_relative_to(library) for place in places for library in libraries)


if __name__ == "__main__":
    main()

"""A step of an upgrade or a downgrade: the function of a revision file that it runs."""

import os
import sys
from functools import wraps
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from alembic import context
from alembic.runtime.migration import RevisionStep
from alembic.script import Script

from safe_migrations.ddl.step_records import Direction, StepRecords
from safe_migrations.ddl.steps import Between, RecordedSteps
from safe_migrations.errors import RevisionError


def load(script: Script) -> ModuleType | None:
    """A module of a revision's file as in a new process, beside the one that Alembic has loaded.

    Raises:
        RevisionError: the file ends the process.
    """
    specification = spec_from_file_location(script.module.__name__, script.path)
    if specification is None or specification.loader is None:
        return None
    module = module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except SystemExit as error:
        raise _exited(script, error) from error
    return module


def reload(step: RevisionStep, folder: str) -> None:
    """Load the revision's file again, so that its module is as in a new process: nothing in it is used up.

    Args:
        step: that is about to be tried again.
        folder: of Alembic's files; what the revision imports from there is loaded again, too.

    Raises:
        RevisionError: the file ends the process.
    """
    for name, imported in list(sys.modules.items()):
        if Path(getattr(imported, "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[name]
    if (module := load(step.revision)) is not None:
        step.revision.module = module
        step.migration_fn = module.upgrade if step.is_upgrade else module.downgrade


def refuse_exit(step: RevisionStep) -> None:
    """Let a revision that ends the process fail, whatever exit status it asks for."""
    function = step.migration_fn

    @wraps(function)  # Alembic logs its name
    def run(**arguments: object) -> None:
        try:
            function(**arguments)
        except SystemExit as error:
            raise _exited(step.revision, error) from error

    step.migration_fn = run


def direction_of(step: RevisionStep) -> Direction:
    """Which function of the revision's file the step runs."""
    return "upgrade" if step.is_upgrade else "downgrade"


def record_steps(step: RevisionStep, records: StepRecords, between: Between) -> RecordedSteps:
    """Let the revision's function record the steps that it begins by `op.step`, and leave out those of earlier runs.

    Args:
        step: that is about to run.
        records: of the version table.
        between: as `RecordedSteps` takes it.
    """
    steps = RecordedSteps(records, step.revision.revision, direction_of(step), between)
    function = step.migration_fn

    @wraps(function)  # Alembic logs its name
    def run(**arguments: object) -> None:
        with steps.running(context.get_context()):
            function(**arguments)

    step.migration_fn = run
    return steps


def _exited(script: Script, error: SystemExit) -> RevisionError:
    return RevisionError(f"{os.path.relpath(script.path)} ended the process (SystemExit: {error.code})")

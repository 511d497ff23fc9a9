"""A step of an upgrade or a downgrade: the function of a revision file that it runs, and the steps in the function."""

import ast
import os
import sys
from functools import wraps
from pathlib import Path
from types import ModuleType

from alembic import context
from alembic.runtime.migration import RevisionStep
from alembic.script import Script
from sqlalchemy import Connection

from safe_migrations.backfill.definition import refuse_incomplete, required_backfills
from safe_migrations.ddl.step_records import Direction, StepRecords
from safe_migrations.ddl.steps import Between, RecordedSteps
from safe_migrations.errors import RevisionError
from safe_migrations.files import load_module


def load(script: Script) -> ModuleType:
    """A module of a revision's file as in a new process, beside the one that Alembic has loaded.

    Raises:
        RevisionError: the file ends the process.
    """
    try:
        return load_module(script.module.__name__, script.path)
    except SystemExit as error:
        raise _exited(script, error) from error


def reload(step: RevisionStep, folder: str) -> None:
    """Load the revision's file again, so that its module is as in a new process: nothing in it is used up.

    Args:
        folder: of Alembic's files; what the revision imports from there is loaded again, too.

    Raises:
        RevisionError: the file ends the process.
    """
    for name, imported in list(sys.modules.items()):
        if Path(getattr(imported, "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[name]
    step.revision.module = module = load(step.revision)
    step.migration_fn = module.upgrade if step.is_upgrade else module.downgrade


def refuse_exit(step: RevisionStep) -> None:
    """Let a revision that ends the process fail, with any exit status."""
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
    """Let the revision's function record the steps that it begins by `op.step`, and skip the steps of earlier runs."""
    steps = RecordedSteps(records, step.revision.revision, direction_of(step), between)
    function = step.migration_fn

    @wraps(function)  # Alembic logs its name
    def run(**arguments: object) -> None:
        with steps.running(context.get_context()):
            function(**arguments)

    step.migration_fn = run
    return steps


def refuse_unready(connection: Connection, step: RevisionStep, records: StepRecords) -> None:
    """Refuse a revision that needs a backfill which is not complete.

    Args:
        connection: the one that applies the revision; a transaction that this begins is ended.
        records: of completed steps; a revision that has some may have dropped the columns of its backfill.

    Raises:
        BackfillError: the backfill is not complete.
    """
    has_begun = bool(records.of(step.revision.revision, direction_of(step)))
    if step.is_upgrade and required_backfills(step.revision) and not has_begun:
        of_caller = connection.in_transaction()
        refuse_incomplete(connection, step.revision, Path(context.script.dir, "backfills"))
        if not of_caller:
            connection.rollback()


def step_names(script: Script, function: str) -> list[str] | None:
    """The names of the steps of a function, in order, as the file has them.

    Returns:
        None where that can't be known without running the function.
    """
    tree = ast.parse(Path(script.path).read_bytes())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    calls = step_calls(functions[function]) if function in functions else []
    inside = [call for name in ("upgrade", "downgrade") if name in functions for call in step_calls(functions[name])]
    if len(inside) < len(step_calls(tree)):
        return None
    arguments = [argument for call in calls for argument in (*call.args, *(key.value for key in call.keywords))]
    names = [str(argument.value) for argument in arguments if isinstance(argument, ast.Constant)]
    return names if len(names) == len(calls) else None


def step_calls(tree: ast.AST) -> list[ast.Call]:
    """The calls of `op.step`, in the order of the lines."""
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step"
    ]
    return sorted(calls, key=lambda call: (call.lineno, call.col_offset))


def _exited(script: Script, error: SystemExit) -> RevisionError:
    return RevisionError(f"{os.path.relpath(script.path)} ended the process (SystemExit: {error.code})")

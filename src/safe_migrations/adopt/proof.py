"""The proof that revisions make a schema: they run on an empty database, up, down and up again."""

import difflib
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from itertools import islice
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import SAWarning

from safe_migrations.adopt.dump import Dump, dump_schema
from safe_migrations.autogenerate.directives import find_operations, plan
from safe_migrations.errors import AdoptionError
from safe_migrations.logs import quiet
from safe_migrations.postgres.catalog import version_table
from safe_migrations.postgres.connection import connected
from safe_migrations.postgres.database import Database
from safe_migrations.postgres.server_errors import reason
from safe_migrations.printable import printable
from safe_migrations.upgrade.project import Project

SHOWN = 20  # lines of a difference
DATABASE = "the schema of the database"


class Scratch:
    """An empty database in which the revisions of a project run.

    Args:
        project: whose revisions they are.
        database: the scratch database.
        versions: the folder of the revisions; by default the project's own.
        schemas: that are compared; by default all of them.
        complete: whether rows and privileges are compared as well.
    """

    def __init__(
        self,
        project: Project,
        database: Database,
        versions: Path | None = None,
        schemas: Sequence[str] = (),
        *,
        complete: bool = False,
    ) -> None:
        self._project = project
        self._database = database
        self._versions = versions
        self._schemas = schemas
        self._complete = complete

    def config(self) -> Config:
        """Alembic's configuration, with the folder of the revisions."""
        return config_of_folder(self._project, self._versions)

    async def dump(self, *, complete: bool = True) -> Dump:
        """The schema as it is now, with rows and privileges if they are compared."""
        table = version_table(self._project.options)
        return await dump_schema(self._database, table, self._schemas, complete=complete and self._complete)

    async def upgrade(self, revision: str = "heads") -> None:
        """Run the revisions up to one of them.

        Raises:
            AdoptionError: one fails.
        """
        await self._run(command.upgrade, revision)

    async def downgrade(self) -> None:
        """Revert all revisions.

        Raises:
            AdoptionError: one fails.
        """
        await self._run(command.downgrade, "base")

    async def call(self, function: Callable[[Connection], Any]) -> Any:
        """Call a function with a connection to the database; what it changes is rolled back."""
        async with connected(self._database) as connection:
            return await connection.run_sync(function)

    async def _run(self, function: Callable[[Config, str], None], destination: str) -> None:
        def run(connection: Connection) -> None:
            config = self.config()
            config.attributes["connection"] = connection
            logging.disable(logging.INFO)  # env.py sets the levels of the loggers
            try:
                with redirect_stderr(io.StringIO()):  # a downgrade names the rows that it destroys
                    function(config, destination)
            finally:
                logging.disable(logging.NOTSET)

        async with connected(self._database, bounded=False) as connection:
            try:
                await connection.run_sync(run)
            except Exception as error:
                notes = " ".join(getattr(error, "__notes__", ()))
                raise AdoptionError(
                    f"The {function.__name__} of the revisions failed on an empty database: {reason(error)}. {notes} "
                    "Nothing was changed."
                ) from error
        self._database.engines.clear()  # a new schema may be the default schema of later connections


def config_of_folder(project: Project, versions: Path | None) -> Config:
    """A project's configuration for Alembic, with another folder of revisions."""
    config = project.new_config({**project.config.attributes}, x=["yes"], quiet=True)
    if versions is not None:
        if not (config.get_main_option("path_separator") or config.get_main_option("version_path_separator")):
            config.set_main_option("path_separator", "os")  # Alembic's default splits at spaces
        config.set_main_option("version_locations", str(versions).replace("%", "%%"))
    return config


async def prove(
    scratch: Scratch,
    expected: Dump,
    report: Callable[[str], None],
    check_models: Callable[[Connection], None] | None = None,
    *,
    of: str = DATABASE,
    revision: str = "heads",
) -> None:
    """Prove that revisions make a schema, and drop it again.

    Args:
        check_models: raises an error if the models differ from the schema.
        of: what has the expected schema, for messages.

    Raises:
        AdoptionError: the revisions make something else, or leave something behind.
    """
    empty = await scratch.dump(complete=False)  # privileges on the schema public stay
    await scratch.upgrade(revision)
    refuse_difference(expected, await scratch.dump(), "what the revisions make", of)
    report(f"  upgrade: equal to {of}, byte for byte")
    if check_models is not None:
        await scratch.call(check_models)
        report("  models: no difference")
    await scratch.downgrade()
    refuse_difference(empty, await scratch.dump(complete=False), "what the downgrade leaves", "the empty database")
    report("  downgrade: nothing is left")
    await scratch.upgrade(revision)
    refuse_difference(expected, await scratch.dump(), "what a second upgrade makes", of)
    report("  second upgrade: equal again")


def refuse_difference(expected: Dump, actual: Dump, what: str, of: str = DATABASE) -> None:
    """Refuse a schema that differs from another one.

    Args:
        what: what has the actual schema, for messages.
        of: what has the expected schema, for messages.

    Raises:
        AdoptionError: shows the first lines of the difference.
    """
    if expected.creating == actual.creating:
        return
    lines = difflib.unified_diff(
        expected.creating.splitlines(), actual.creating.splitlines(), of, what, n=1, lineterm=""
    )
    shown = "\n".join(printable(line) for line in islice(lines, SHOWN))
    raise AdoptionError(f"There is a difference between {of} and {what}. Nothing was changed.\n{shown}")


def refuse_differing_models(
    connection: Connection, options: dict[str, Any], models: Sequence[MetaData], advice: str
) -> None:
    """Refuse models that differ from a database.

    Args:
        models: to compare; nothing is compared if there are none.
        advice: what to do if they differ, as a sentence.

    Raises:
        AdoptionError: names the changes that autogenerate would write.
    """
    if not models:
        return
    with quiet("alembic"), quiet("safe_migrations"), warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # about types and constraints that this library compares by itself
        context = MigrationContext.configure(connection, opts={**options, "target_metadata": models})
        operations = find_operations(context)
        revisions, _ = plan(context, operations)
    if operations:
        steps = [step.title for revision in revisions for step in revision.steps]
        listed = "\n".join(
            f"  {printable(step)}" for step in steps or [type(operation).__name__ for operation in operations]
        )
        raise AdoptionError(
            f"The models differ from the database. Nothing was changed. {advice} To make the database equal to the "
            f"models, revisions would have to:\n{listed}"
        )

"""The proof that revisions make a schema: they run on an empty database, up, down and up again."""

import difflib
import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData

from safe_migrations.adopt.dump import Dump, dump_schema
from safe_migrations.autogenerate.directives import find_operations, plan
from safe_migrations.errors import AdoptionError
from safe_migrations.logs import quiet
from safe_migrations.postgres.connection import connected
from safe_migrations.postgres.database import Database
from safe_migrations.postgres.server_errors import reason
from safe_migrations.printable import printable
from safe_migrations.upgrade.project import Project

SHOWN = 20  # lines of a difference


class Scratch:
    """An empty database in which the revisions of a project run.

    Args:
        project: whose revisions they are.
        database: the scratch database.
        versions: the folder of the revisions; by default the project's own.
        schemas: that are compared; by default all of them.
    """

    def __init__(self, project: Project, database: Database, versions: str | None, schemas: Sequence[str]) -> None:
        self._project = project
        self._database = database
        self._versions = versions
        self._schemas = schemas

    def config(self) -> Config:
        """Alembic's configuration, with the folder of the revisions."""
        files = self._project.config.config_file_name, self._project.config.toml_file_name
        options = Namespace(x=["yes"], quiet=True)
        config = Config(*files, cmd_opts=options, attributes={**self._project.config.attributes})
        if self._versions:
            if not (config.get_main_option("path_separator") or config.get_main_option("version_path_separator")):
                config.set_main_option("path_separator", "os")  # Alembic's default splits at spaces
            config.set_main_option("version_locations", self._versions.replace("%", "%%"))
        return config

    async def dump(self) -> Dump:
        """The schema as it is now."""
        service = self._project.service
        table = (service.version_table_schema, service.version_table)
        return await dump_schema(self._database, table, self._schemas)

    async def upgrade(self) -> None:
        """Run all revisions.

        Raises:
            AdoptionError: one fails.
        """
        await self._run(command.upgrade, "heads")

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


async def prove(
    scratch: Scratch, expected: Dump, check_models: Callable[[Connection], None], report: Callable[[str], None]
) -> None:
    """Prove that revisions make a schema, and drop it again.

    Args:
        scratch: an empty database.
        expected: the schema.
        check_models: raises an error if the models differ from the schema.
        report: takes a line for each step.

    Raises:
        AdoptionError: the revisions make something else, or leave something behind.
    """
    empty = await scratch.dump()
    await scratch.upgrade()
    refuse_difference(expected, await scratch.dump(), "what the revisions make")
    report("  upgrade: the schema equals that of the database, byte for byte")
    await scratch.call(check_models)
    report("  models: no difference")
    await scratch.downgrade()
    refuse_difference(empty, await scratch.dump(), "what the downgrade leaves")
    report("  downgrade: nothing is left")
    await scratch.upgrade()
    refuse_difference(expected, await scratch.dump(), "what a second upgrade makes")
    report("  second upgrade: equal again")


def refuse_difference(expected: Dump, actual: Dump, what: str) -> None:
    """Refuse a schema that differs from another one.

    Raises:
        AdoptionError: shows the first lines of the difference.
    """
    if expected.creating == actual.creating:
        return
    lines = difflib.unified_diff(
        expected.creating.splitlines(), actual.creating.splitlines(), "the database", what, n=1, lineterm=""
    )
    shown = "\n".join(printable(line) for line in islice(lines, SHOWN))
    raise AdoptionError(f"The schema of the database and {what} differ. Nothing was changed.\n{shown}")


def refuse_differing_models(
    connection: Connection, options: dict[str, Any], models: Sequence[MetaData], advice: str
) -> None:
    """Refuse models that differ from a database.

    Args:
        connection: to the database.
        options: what `context.configure` takes.
        models: to compare; nothing is compared if there are none.
        advice: what to do if they differ, as a sentence.

    Raises:
        AdoptionError: names the changes that autogenerate would write.
    """
    if not models:
        return
    with quiet("alembic"), quiet("safe_migrations"):
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

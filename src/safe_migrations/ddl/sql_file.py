"""The operation for revision files that executes a file of SQL statements beside the revision."""

import glob
from collections.abc import Iterator
from pathlib import Path

from alembic.operations import MigrateOperation, Operations

from safe_migrations.ddl.registration import register
from safe_migrations.errors import RevisionError
from safe_migrations.postgres.statements import split, terminated


@register
class ExecuteFileOp(MigrateOperation):
    """The statements of a file, one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def execute_file(cls, operations: Operations, revision_file: str, suffix: str = ".sql") -> None:
        """Execute the SQL statements of a file beside the revision, which has the revision's name but another suffix.

        Args:
            operations: given by Alembic.
            revision_file: `__file__`.
            suffix: of the file, instead of `.py`.

        Raises:
            RevisionError: the file can't be read.
        """
        operations.invoke(cls(Path(revision_file).with_suffix(suffix)))

    def run(self, operations: Operations) -> None:
        """Execute the statements, or write them into a script."""
        context = operations.get_context()
        for line, statement in self._statements():
            if context.as_sql:
                context.impl.static_output(terminated(statement))
                continue
            try:
                operations.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})
            except Exception as error:
                error.add_note(f"The statement is in line {line} of {self.path.name}.")
                raise

    def _statements(self) -> Iterator[tuple[int, str]]:
        """The statements, each with the line where it begins."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise RevisionError(
                f"{self.path} can't be read ({error}). The revision needs this file. Restore the file from the "
                "repository."
            ) from error
        end, line = 0, 1
        for statement, _ in split(text):
            begin = text.index(statement, end)
            line += text.count("\n", end, begin)
            yield line, statement
            end = begin + len(statement)
            line += statement.count("\n")


def files_beside(revision_file: Path) -> list[Path]:
    """The files of SQL that belong to a revision: they have its name, and another suffix."""
    return sorted(revision_file.parent.glob(f"{glob.escape(revision_file.stem)}.*sql"))

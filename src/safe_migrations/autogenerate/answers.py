"""What the author of a change answers on the command line, as `-x` of Alembic: `alembic -x no-rename revision …`."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from safe_migrations.errors import ConfigurationError

COMMAND = "safe-migrations revision"
RENAME, NO_RENAME, VALUE, EXPRESSION = "rename", "no-rename", "value", "expression"  # as -x and as options of COMMAND


@dataclass(frozen=True)
class Answers:
    """Answers to questions, which need not be asked any more.

    Attributes:
        renames: what was renamed, each as `item.title=name`.
        no_rename: whether nothing else was renamed.
        values: what existing rows get in a column, by the names of table and column.
        expressions: the same in SQL.
    """

    renames: tuple[str, ...]
    no_rename: bool
    values: Mapping[str, str]
    expressions: Mapping[str, str]

    @classmethod
    def read(cls, arguments: Iterable[str]) -> "Answers":
        """Read the arguments of `-x`; those of the project itself are left to it.

        Raises:
            ConfigurationError: an argument has no value.
        """
        given: dict[str, list[str]] = {name: [] for name in (RENAME, NO_RENAME, VALUE, EXPRESSION)}
        for name, separator, value in (argument.partition("=") for argument in arguments):
            if name in given:
                if name != NO_RENAME and not (separator and "=" in value):
                    form = "item.title=name" if name == RENAME else "item.sku=…"
                    raise ConfigurationError(f"The argument {name}={value} has another form than {name}={form}.")
                given[name].append(value)
        return cls(
            tuple(given[RENAME]), bool(given[NO_RENAME]), _by_column(given[VALUE]), _by_column(given[EXPRESSION])
        )

    def command(self, message: str, config_files: Sequence[str], *options: str) -> str:
        """The command that has these answers, and more.

        Args:
            message: of the revision.
            config_files: given by `-c`.
            options: which are added.
        """
        given = [f"--{RENAME}={rename}" for rename in self.renames]
        given += [f"--{VALUE}={column}={value}" for column, value in self.values.items()]
        given += [f"--{EXPRESSION}={column}={value}" for column, value in self.expressions.items()]
        program, command = COMMAND.split()
        configs = (argument for file in config_files for argument in ("-c", file))
        return shlex.join([program, *configs, command, message, *given, *options])


def _by_column(answers: Iterable[str]) -> dict[str, str]:
    pairs = (answer.partition("=") for answer in answers)
    return {column: value for column, _, value in pairs}

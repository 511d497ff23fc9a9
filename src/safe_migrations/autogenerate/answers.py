"""The author's answers on the command line, as `-x` of Alembic: `alembic -x no-rename revision …`."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from safe_migrations.errors import ConfigurationError

COMMAND = "safe-migrations revision"
RENAME, NO_RENAME, VALUE, EXPRESSION = "rename", "no-rename", "value", "expression"  # as -x and as options of COMMAND


@dataclass(frozen=True)
class Answers:
    """Answers to questions, given in advance.

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
        """Read the arguments of `-x`; the project's own arguments are ignored.

        Raises:
            ConfigurationError: an argument has no value.
        """
        texts: dict[str, list[str]] = {name: [] for name in (RENAME, NO_RENAME, VALUE, EXPRESSION)}
        for name, separator, value in (argument.partition("=") for argument in arguments):
            if name in texts:
                if name != NO_RENAME and not (separator and "=" in value):
                    form = "item.title=name" if name == RENAME else "item.sku=…"
                    raise ConfigurationError(f"The argument {name}={value} does not have the form {name}={form}.")
                texts[name].append(value)
        return cls(
            tuple(texts[RENAME]),
            bool(texts[NO_RENAME]),
            _by_column(texts[VALUE]),
            _by_column(texts[EXPRESSION]),
        )

    def command(self, message: str, *options: str) -> str:
        """The command that has these answers, and more."""
        answers = [f"--{RENAME}={rename}" for rename in self.renames]
        answers += [f"--{VALUE}={column}={value}" for column, value in self.values.items()]
        answers += [f"--{EXPRESSION}={column}={value}" for column, value in self.expressions.items()]
        return shlex.join([*COMMAND.split(), message, *answers, *options])


def _by_column(answers: Iterable[str]) -> dict[str, str]:
    pairs = (answer.partition("=") for answer in answers)
    return {column: value for column, _, value in pairs}

"""Which of the possible renames are renames: answered on the command line, or asked on the terminal, as Django does."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from alembic.runtime.migration import MigrationContext

from safe_migrations.autogenerate.answers import NO_RENAME, RENAME, Answers
from safe_migrations.autogenerate.comparison import Comparison
from safe_migrations.autogenerate.renames import Rename, operations_of, possible_renames, without_old_columns
from safe_migrations.autogenerate.values import Values
from safe_migrations.errors import NotConfirmedError, runnable
from safe_migrations.printable import printable
from safe_migrations.prompt import ask_whether, can_ask


@contextmanager
def answered(comparison: Comparison, migration: MigrationContext, message: str) -> Iterator[Comparison]:
    """The comparison for the safe forms, which ask it for values.

    Raises:
        NotConfirmedError: a question is open and can't be asked, or the command line answers another one.
        RevisionError: PostgreSQL can't store a value.
    """
    context = migration.environment_context
    answers = Answers.read(context.get_x_argument() if context else ())
    renames = _choose(possible_renames(comparison), answers, message)
    # These renames explain many other differences; a comparison after the upgrade sees the rest correctly.
    if alone := [rename for rename in renames if rename.kind != "column"]:
        later = replace(answers, renames=tuple(str(rename) for rename in renames if rename not in alone))
        again = later.command(message, *([f"--{NO_RENAME}"] if answers.no_rename else ()))
        print(
            "Only renames are written. After the upgrade, for the other differences:",
            runnable(printable(again)),
            sep="\n",
        )
        yield comparison.of_operations(operations_of(alone))
        return
    for rename in renames:
        print(
            printable(f"Keep {rename.old_name} in the models beside {rename.new}: the code has to write both columns.")
        )
    if renames:
        renamed = {(str(rename.owner), rename.new): rename.old for rename in renames}
        comparison = comparison.of_operations(without_old_columns(comparison, renames), renamed)
    values = Values(comparison.connection, answers)
    comparison.values = values.sql_for
    yield comparison
    values.refuse_unused()


def _choose(possible: Sequence[Rename], answers: Answers, message: str) -> list[Rename]:
    """The possible renames that are renames."""
    chosen = _named(possible, answers)
    open_ = [rename for rename in possible if not any(rename.excludes(other) for other in chosen)]
    if not open_ or answers.no_rename:
        return chosen
    if not can_ask():
        raise NotConfirmedError(_refusal(open_, answers, message))
    return [*chosen, *_ask(open_)]


def _named(possible: Sequence[Rename], answers: Answers) -> list[Rename]:
    """The renames that the command line names."""
    by_text = {str(rename): rename for rename in possible}
    if unknown := [rename for rename in answers.renames if rename not in by_text]:
        others = "\nPossible renames:\n" + "\n".join(map(_option, possible)) if possible else ""
        raise NotConfirmedError(
            f"The models and the database do not differ by this rename: {', '.join(map(printable, unknown))}. A rename "
            "needs a dropped object and an added object of the same type. No file was written."
            f"{others}"
        )
    named = [rename for rename in possible if str(rename) in answers.renames]
    for number, rename in enumerate(named):
        if contradicting := [other for other in named[:number] if rename.excludes(other)]:
            raise NotConfirmedError(
                printable(f"Only one of these can be a rename: {contradicting[0]}, {rename}. No file was written.")
            )
    return named


def _ask(possible: Sequence[Rename]) -> list[Rename]:
    """Ask about each pair, until one of the two is renamed."""
    renames: list[Rename] = []
    for rename in possible:
        taken = any(rename.excludes(other) for other in renames)
        if not taken and ask_whether(printable(f"Was {rename.old_name} renamed to {rename.new_name}")):
            renames.append(rename)
    return renames


def _refusal(possible: Sequence[Rename], answers: Answers, message: str) -> str:
    rest = [f"--{NO_RENAME}"] if len(possible) > 1 else []
    yes = [answers.command(message, f"--{RENAME}={rename}", *rest) for rename in possible]
    no = answers.command(message, f"--{NO_RENAME}")
    more = f" Repeat --{RENAME} if several are renames." if len(possible) > 1 else ""
    return (
        f"No file was written, because this may be a rename, or a dropped and an added object:\n"
        f"{_listed(possible)}\nAfter a rename, run this command; the rows keep their values.{more}\n"
        + "\n".join(map(printable, yes))
        + f"\nWithout a rename, run this command; the dropped object loses its values.\n{printable(no)}"
    )


def _option(rename: Rename) -> str:
    return printable(shlex.quote(f"--{RENAME}={rename}"))


def _listed(possible: Sequence[Rename]) -> str:
    return "\n".join(printable(f"  {rename.old_name} -> {rename.new_name}") for rename in possible)

"""A run of a revision without a database, in all branches: what the code that code_paths.py has rewritten calls."""

import builtins
import enum
import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from types import ModuleType, TracebackType
from typing import Any

from alembic import context
from sqlalchemy import ClauseElement, MetaData
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import TypeEngine

from safe_migrations.lint.connection import Connection
from safe_migrations.lint.unknown import MARKER, Possible, Unknown, is_unknown, shaped, use
from safe_migrations.upgrade.inert import CONNECTING

_DESCRIBING = {"sqlalchemy", "alembic", "safe_migrations"}  # libraries that only describe SQL
_PURE = {"asyncio", "base64", "collections", "contextlib", "copy", "dataclasses", "datetime", "decimal", "functools"}
_PURE |= {"hashlib", "itertools", "json", "logging", "math", "operator", "posixpath", "random", "re", "secrets"}
_PURE |= {"string", "textwrap", "time", "typing", "uuid", "warnings"}
_READING = {"Path", "PosixPath", "get", "getenv", "joinpath", "read", "read_bytes", "read_text", "resolve", "with_name"}
_ACTING = {"open", "exec", "eval", "compile", "__import__", "input", "breakpoint"}
_PLAIN = (str, bytes, int, float, list, tuple, dict, set, frozenset, type(None))
_DESCRIPTIONS = (TypeEngine, ClauseElement, MetaData, enum.Enum, BaseException)
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "Is": operator.is_,
    "IsNot": operator.is_not,
    "In": lambda part, whole: part in whole,
    "NotIn": lambda part, whole: part not in whole,
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
}


class Left(BaseException):
    """The code leaves a branch that only a database would let it take."""


class Run:
    """The knowledge of one run; rewritten code calls the methods.

    Args:
        module: the name of the revision's module.
        unseen: notes what lint has not seen.
        failed: notes that a statement has failed, and whether it calls something.
    """

    unknown = Unknown()
    connection: Connection

    def __init__(self, module: str, unseen: Callable[[str], None], failed: Callable[[Exception, bool], None]) -> None:
        self.module = module
        self.unseen = unseen
        self.failed = failed
        self.guessing = False  # whether an answer of a database has been made up
        self.branch: tuple[int, ...] = ()
        self.branches = 0
        self.shaped = shaped
        self.incomplete = False  # whether a list that is being made depends on a database

    def imported(self, value: Any) -> Any:
        """What a function imports; Alembic's `context` is that of a command, and there is none."""
        return Unknown() if value is context else value

    def frame(self) -> "Frame":
        """The state of one call of a function."""
        return Frame(self)

    def call(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
        """Call a function, unless its answer depends on a database, or it may do more than describe SQL."""
        values = (*arguments, *options.values())
        if isinstance(function, Unknown) or _module(function) == "alembic.context":
            return function(*arguments) if isinstance(function, Unknown) else Unknown()
        unknown, root = any(map(is_unknown, values)), _module(function).partition(".")[0]
        if any(value is self.connection for value in values) and root == "sqlalchemy":
            if _module(function).startswith("sqlalchemy.orm"):
                return self.connection  # a session
            if _reads_the_schema(function, options):
                return self.connection.result(f"the connection: {_name(function)}")
        if _name(function) == "sleep":
            return Unknown()
        if self._is_called(function, root, unknown):
            if root in _DESCRIBING:  # which take what is unknown in these places for a name
                arguments = tuple(MARKER if isinstance(value, Unknown) else value for value in arguments)
            with suppress(SQLAlchemyError) if root == "sqlalchemy" and unknown else nullcontext():
                return function(*arguments, **options)
            return Unknown()  # an expression that is unknown
        if not (root in sys.stdlib_module_names and _name(function) not in _ACTING and unknown):
            self.unseen(f"{_name(function)}() is not called")
        return Unknown()

    def _is_called(self, function: Any, root: str, unknown: bool) -> bool:
        """Whether a function is of the revision itself, or only describes SQL, or answers something that is known."""
        name, own = _name(function), getattr(function, "__self__", None)
        if _module(function) == self.module or (own is not None and isinstance(own, _PLAIN)):
            return True
        if isinstance(function, type) and issubclass(function, _DESCRIPTIONS):
            return True
        if root in _DESCRIBING:
            return name not in CONNECTING
        if unknown:
            return False
        if not self._guesses or name in _READING:
            return True
        return root in _PURE or (root == "builtins" and name not in _ACTING)

    @property
    def _guesses(self) -> bool:
        return self.guessing or bool(self.branch)

    def compared(self, name: str, left: Any, right: Any) -> Any:
        """The answer of a comparison."""
        identity = name in ("Is", "IsNot", "In", "NotIn")
        if (is_unknown(left) or is_unknown(right)) and (
            identity or (isinstance(left, _PLAIN) and isinstance(right, _PLAIN))
        ):
            use(left, "comparison")
            use(right, "comparison")
            return Unknown()
        return _COMPARISONS[name](left, right)

    def negated(self, value: Any) -> Any:
        """`not value`."""
        use(value, "a branch or loop") if is_unknown(value) else None
        return Unknown() if is_unknown(value) else not value

    def joined(self, all_: bool, *values: Callable[[], Any]) -> Any:
        """`and` or `or` of values; an unknown value leaves the result to the other values."""
        unknown = False
        value: Any = None
        for evaluate in values:
            value = evaluate()
            if is_unknown(value):
                use(value, "a branch or loop")
                unknown = True
            elif bool(value) is not all_:
                return value
        return Unknown() if unknown else value

    def chosen(self, test: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """`yes if test else no`."""
        if not is_unknown(test):
            return yes() if test else no()
        use(test, "a branch or loop")
        first, second = yes(), no()
        return first if _same(first, second) else Unknown()

    def rows(self, value: Any, shape: Any) -> Iterator[Any]:
        """What a comprehension iterates over."""
        self.incomplete |= is_unknown(value)
        return (shaped(row, shape) for row in value)

    def possible(self, test: Any) -> bool:
        """Whether a comprehension keeps a value."""
        self.incomplete |= is_unknown(test)
        return is_unknown(test) or bool(test)

    def listed(self, values: list[Any]) -> list[Any]:
        """The list that a comprehension has made."""
        incomplete, self.incomplete = self.incomplete, False
        return Possible(values) if incomplete else values

    def generated(self, values: list[Any]) -> Any:
        """What a generator would yield."""
        values = self.listed(values)
        return values if isinstance(values, Possible) else iter(values)


class Frame:
    """One call of a function.

    Args:
        run: the run that the call is part of.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.depth = 0  # of blocks that only a database would let the code enter
        self.exits = 0  # how often the function or a loop may have ended there
        self.may_return = False

    def result(self, value: Any) -> Any:
        """The value that the function returns."""
        if self.depth:
            self.may_return = True
            self.leave()
        return Unknown() if self.may_return else value

    def leave(self) -> None:
        """Leave the block, if the code may not be there; the code after the block is read as well."""
        if self.depth:
            raise Left

    def choice(self, value: Any, names: Mapping[str, Any]) -> "Choice":
        """The ways to go by a value."""
        both = is_unknown(value)
        if both:
            use(value, "a branch or loop")
        return Choice(self, value, both, dict(names))

    def attempt(self, maybe: bool) -> "Choice":
        """A block that may fail."""
        return Choice(self, None, maybe, {}, counts=False)


class Choice:
    """The ways to go by a value; as a context manager, one of these ways.

    Args:
        frame: where.
        value: the value.
        both: whether only a database knows the way.
        names: the local names before.
        counts: whether the code might not be reached.
    """

    def __init__(self, frame: Frame, value: Any, both: bool, names: dict[str, Any], *, counts: bool = True) -> None:
        self.frame, self.value, self.both, self.names, self.counts = frame, value, both, names, counts
        self.first: dict[str, Any] = {}
        self.exits = frame.exits
        self.rounds = 0

    @property
    def yes(self) -> bool:
        """Whether the code goes this way if the value is true."""
        return self.both or bool(self.value)

    @property
    def no(self) -> bool:
        """Whether the code goes this way if the value is false."""
        return self.both or not self.value

    def again(self, value: Any) -> bool:
        """Whether a loop continues; a loop whose end depends on a database runs once."""
        if self.rounds and (self.both or self.frame.exits > self.exits):
            return False
        self.rounds += 1
        self.both = is_unknown(value)
        if self.both:
            use(value, "a branch or loop")
        return self.both or bool(value)

    def rows(self, shape: Any) -> Iterator[Any]:
        """What a loop iterates over."""
        return (shaped(row, shape) for row in self.value)

    def before(self, name: str, now: Mapping[str, Any]) -> Any:
        """A name as it was before the first way."""
        if name in now:
            self.first[name] = now[name]
        return self.names.get(name, now.get(name, Unknown()))

    def after(self, name: str, now: Mapping[str, Any]) -> Any:
        """A name after both ways."""
        value = now.get(name, Unknown())
        other = self.first.get(name, self.names.get(name, value))
        return value if _same(other, value) else Unknown()

    def __enter__(self) -> None:
        run = self.frame.run
        self.frame.depth += self.both
        self.outside = run.branch
        if self.both and self.counts:
            run.branches += 1
            run.branch = (*run.branch, run.branches)

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        self.frame.depth -= self.both
        self.frame.run.branch = self.outside
        left = self.both and isinstance(error, Exception | Left | SystemExit)
        self.frame.exits += left
        return left


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _reads_the_schema(function: Any, options: Mapping[str, Any]) -> bool:
    module, name = _module(function), _name(function)
    reflects = "autoload_with" in options or name == "reflect" or name.startswith(("has_", "get_"))
    return reflects or module in ("sqlalchemy.inspection", "sqlalchemy.engine.reflection")


def _same(first: Any, second: Any) -> bool:
    return first is second or (type(first) is type(second) and isinstance(first, _PLAIN) and first == second)


def _module(function: Any) -> str:
    """The module that a function is of; of a method of a value, that of the value's type."""
    own = getattr(function, "__self__", None)
    if own is not None and not isinstance(own, ModuleType | type):
        return type(own).__module__
    if isinstance(function, type) or hasattr(function, "__code__"):
        return str(function.__module__)
    return str(
        getattr(function, "__module__", None) or (own.__name__ if isinstance(own, ModuleType) else builtins.__name__)
    )

"""Statements that SQLAlchemy compiles once for all engines of a process, which has an engine for each connection.

A cache of SQLAlchemy's own is used for one engine: its keys begin with the engine's dialect, an object of its own.
"""

from typing import Any

from sqlalchemy.util import LRUCache


class CompiledStatements(LRUCache[Any, Any]):
    """A cache whose keys begin with what compiling asks of a dialect, in the place of the engine's own dialect."""

    def get(self, key: Any, default: Any = None) -> Any:
        """The compiled statement of a key."""
        return super().get(_of_all_engines(key), default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_of_all_engines(key), value)


def _of_all_engines(key: Any) -> tuple[Any, ...]:
    dialect, *rest = key
    simple = {name: value for name, value in vars(dialect).items() if isinstance(value, str | int | tuple | None)}
    return type(dialect), repr(sorted(simple.items())), *rest

"""The result of a query without a database: a value that answers everything, and is known as unknown."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

MARKER = "value_from_query"  # what such a value is in a text, so that the text is known to depend on a query


class Unknown(str):
    """A value that only a database knows. A string, so that operations and SQLAlchemy take it for a name.

    Args:
        used: is called with what the revision does with the value.
    """

    decided = 0  # how often code that lint does not lead down both ways asked such a value whether it is true

    def __new__(cls, used: Callable[[str], None] | None = None) -> "Unknown":
        unknown = super().__new__(cls, MARKER)
        unknown.__dict__["used"] = used
        return unknown

    def __getattribute__(self, name: str) -> Any:
        return super().__getattribute__(name) if name.startswith("__") else self.__answer__(name)

    def __answer__(self, what: str) -> "Unknown":
        if used := self.__dict__["used"]:
            used(what)
        return Unknown()

    def __call__(self, *_args: Any, **_options: Any) -> "Unknown":
        return self.__answer__("a call")

    def __iter__(self) -> Iterator["Unknown"]:
        yield self.__answer__("iteration")

    async def __aiter__(self) -> Any:
        yield self.__answer__("iteration")

    def __await__(self) -> Generator[Any, Any, "Unknown"]:
        return self
        yield

    def __bool__(self) -> bool:
        Unknown.decided += 1
        self.__answer__("its truth")
        return True

    def __add__(self, other: Any) -> Any:
        return f"{MARKER}{other}" if isinstance(other, str) else self.__answer__("addition")

    def __radd__(self, other: Any) -> Any:
        return f"{other}{MARKER}" if isinstance(other, str) else self.__answer__("addition")

    def __format__(self, _specification: str) -> str:
        return MARKER

    def __setattr__(self, _name: str, _value: Any) -> None:
        self.__answer__("assignment")

    def __exit__(self, *_error: object) -> None:
        return None

    async def __aenter__(self) -> "Unknown":
        return Unknown()

    async def __aexit__(self, *_error: object) -> None:
        return None

    __hash__ = str.__hash__


def _answering(what: str) -> Callable[..., Unknown]:
    return lambda self, *_: self.__answer__(what)


for _names, _what in {
    "eq ne lt le gt ge": "comparison",
    "sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod divmod pow neg abs and or": "arithmetic",
    "getitem setitem delitem": "an element",
    "enter": "a block",
}.items():
    for _name in _names.split():
        setattr(Unknown, f"__{_name}__", _answering(_what))


class Possible(list[Any]):
    """A list whose length only a database knows."""


def is_unknown(value: object) -> bool:
    """Whether a value, or a part of it, depends on a database."""
    if isinstance(value, Unknown | Possible):
        return True
    if isinstance(value, str):
        return MARKER in value
    if isinstance(value, dict):
        return any(map(is_unknown, (*value, *value.values())))
    return isinstance(value, list | tuple | set | frozenset) and any(map(is_unknown, value))


def use(value: object, what: str) -> None:
    """Note that a revision does something with a value."""
    if isinstance(value, Unknown):
        value.__answer__(what)


def shaped(value: Any, shape: Any) -> Any:
    """A value that can be unpacked into targets, which are a tuple of tuples and None."""
    if shape is None:
        return value
    if isinstance(value, Unknown):
        use(value, "its columns")
        return tuple(shaped(Unknown(), part) for part in shape)
    if isinstance(value, list | tuple) and len(value) == len(shape):
        return tuple(map(shaped, value, shape))
    return value

"""Statements, compiled once for all engines of a process: the library makes an engine for each connection."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import LRUCache

from safe_migrations.postgres import connection


class _Shared(LRUCache[Any, Any]):
    """A cache whose keys begin with what compiling asks of a dialect, in the place of the engine's own dialect."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_of_all_engines(key), default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_of_all_engines(key), value)


def _of_all_engines(key: Any) -> tuple[Any, ...]:
    dialect, *rest = key
    simple = {name: value for name, value in vars(dialect).items() if isinstance(value, str | int | tuple | None)}
    return type(dialect), repr(sorted(simple.items())), *rest


def share_compiled_statements() -> None:
    """Let all engines that the library makes have one cache."""
    cache = _Shared(1000)

    def create(url: Any, execution_options: dict[str, Any], **options: Any) -> AsyncEngine:
        execution_options = {"compiled_cache": cache, **execution_options}
        return create_async_engine(url, execution_options=execution_options, **options)

    vars(connection)["create_async_engine"] = create

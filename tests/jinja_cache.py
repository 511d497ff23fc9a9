"""Jinja templates, compiled once for all processes of a run: an update renders the same texts three times."""

import marshal
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from jinja2 import Environment


def share_compiled_templates(folder: Path) -> None:
    """Let Jinja look into a folder before it compiles, and keep what it compiles there; Copier has no such setting."""
    compile_: Callable[..., Any] = Environment.compile

    def compile_once(
        self: Environment, source: str, name: str | None = None, filename: str | None = None, *more: Any, **options: Any
    ) -> Any:
        if not isinstance(source, str) or more or options.get("raw"):
            return compile_(self, source, name, filename, *more, **options)
        key = repr((_settings(self), source, name, sorted(options.items())))
        file = folder / sha256(key.encode()).hexdigest()
        with suppress(FileNotFoundError):
            return marshal.loads(file.read_bytes())  # noqa: S302  # this run has written it
        code = compile_(self, source, name, filename, **options)
        with NamedTemporaryFile(dir=folder, delete=False) as new:
            new.write(marshal.dumps(code))
        os.replace(new.name, file)
        return code

    folder.mkdir(exist_ok=True)
    Environment.compile = compile_once  # type: ignore[method-assign,assignment]


@lru_cache(maxsize=4)
def _settings(environment: Environment) -> str:
    """All on which compiled code depends besides the text."""
    simple = {key: value for key, value in vars(environment).items() if isinstance(value, str | int | None)}
    names = [sorted(registry) for registry in (environment.extensions, environment.filters, environment.tests)]
    return repr((type(environment), environment.undefined, sorted(simple.items()), names))

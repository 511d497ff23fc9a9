"""Copier as the tests run it, hundreds of times: an update reads and renders the same texts three times or more."""

import marshal
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import yaml
from copier import _main
from jinja2 import Environment


def faster_copier(folder: Path) -> None:
    """Let Copier read YAML by libyaml, and keep compiled templates in a folder; it has no setting for this."""
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # type: ignore[misc]
    # For each file that it writes, Copier asks git for core.fileMode; where that is on, as here, this does no more.
    _main.Worker._sync_git_index_executable_bit = lambda *_: None  # type: ignore[method-assign]
    _share_compiled_templates(folder)


def _share_compiled_templates(folder: Path) -> None:
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

"""`safe-migrations init`: what the files of an existing Alembic project lack, written completely or not at all."""

import difflib
import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

from safe_migrations.adopt import settings_text
from safe_migrations.adopt.env_text import as_argument, with_run_env
from safe_migrations.adopt.environment import Environment, Unread, read_environment
from safe_migrations.autogenerate.script import calls_declarations
from safe_migrations.env_files import find_program
from safe_migrations.errors import ConfigurationError, MigrationError, NotInstalledError
from safe_migrations.files import replace_files
from safe_migrations.history.numbering import HOOK, head_files, head_text
from safe_migrations.upgrade.project import Project, load_project, service_of

COMMAND = "safe-migrations init"
_VERSION_TABLE = {"version_table": "alembic_version", "version_table_schema": None}  # with Alembic's defaults


@dataclass(frozen=True)
class Change:
    """The change of a file.

    Attributes:
        path: of the file.
        before: its text; empty if it does not exist.
        after: its new text.
    """

    path: Path
    before: str
    after: str

    @property
    def name(self) -> str:
        """The path as the user sees it."""
        return os.path.relpath(self.path)

    def as_text(self) -> str:
        """The change as a unified diff."""
        before, after = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        old = self.name if self.path.exists() else os.devnull
        lines = difflib.unified_diff(before, after, old, self.name)
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def plan(config: Config, passed: Mapping[str, str], dropped: Collection[int]) -> list[Change]:
    """What the files of a project lack, so that the library migrates its database; nothing is written.

    The revisions, their names and ids, and the table that records them stay as they are.

    Args:
        passed: arguments of `run_env` that `env.py` does not show, each an expression.
        dropped: lines of `env.py` whose effect is left out.

    Raises:
        ConfigurationError: a file can't be read or changed, or says what `run_env` does not take.
        ModelError: SQLAlchemy refuses the models.
        NotInstalledError: ruff, which formats new revisions, is not installed.
    """
    if find_program("ruff") is None:
        raise NotInstalledError("ruff", "lint")
    if not config.get_alembic_option("script_location"):  # Flask-Migrate passes it to Alembic
        raise ConfigurationError(
            f"{os.path.relpath(config.config_file_name or '.')} does not name the folder of env.py. Nothing was "
            "changed. Write the folder into the section [alembic], for instance the folder of this file:\n"
            "script_location = %(here)s"
        )
    script = ScriptDirectory.from_config(config)
    path = Path(script.env_py_location)
    environment = read_environment(path)
    text = environment.text
    if not environment.calls_run_env:
        text = with_run_env(environment, _arguments(path, environment, passed, dropped))
    project = _load(config, path, text)
    _refuse_other_database(project)
    changes = [_change(path, text), *_settings(config, script, project), *_templates(script)]
    changes += [_change(file, head_text(heads)) for file, heads in head_files(script).items()]
    return [change for change in changes if change.before != change.after]


def write(changes: Sequence[Change]) -> None:
    """Write all changes, or none.

    Raises:
        MigrationError: a file can't be written; nothing was changed.
    """
    contents = {}
    for change in changes:
        newline = "\r\n" if change.path.exists() and b"\r\n" in change.path.read_bytes() else "\n"
        contents[change.path.resolve()] = change.after.replace("\n", newline).encode()
    try:
        replace_files(contents)
    except OSError as error:
        raise MigrationError(f"{error.filename} can't be written ({error.strerror}). Nothing was changed.") from error


def _arguments(
    path: Path, environment: Environment, passed: Mapping[str, str], dropped: Collection[int]
) -> dict[str, str]:
    """The arguments of `run_env`."""
    unread = [part for part in environment.unread if part.line not in dropped and part.name not in passed]
    if unread:
        raise _not_read(path, unread)
    urls = [passed["database_url"]] if "database_url" in passed else environment.urls
    if len(urls) != 1:
        several = f" ({', or '.join(urls)})" if urls else ""
        raise ConfigurationError(
            f"{os.path.relpath(path)} does not show which URL migrations connect to{several}. Nothing was changed. "
            "Give the URL as a Python expression, or as the name of a function that returns it:\n"
            f"{COMMAND} --pass database_url={shlex.quote([*urls, 'get_url'][0])}"
        )
    arguments = {**environment.options, **passed, "database_url": as_argument(urls[0])}
    first = [name for name in ("target_metadata", "database_url") if name in arguments]
    last = [name for name in arguments if name.startswith("**")]
    return {
        name: arguments[name]
        for name in dict.fromkeys([*first, *(name for name in arguments if name not in last), *last])
    }


def _not_read(path: Path, unread: Sequence[Unread]) -> ConfigurationError:
    """The error that names what `run_env` would not do, and the options that say what to do about it."""
    lines = "\n".join(f"  {path.name}:{part.line}: {part.text}" for part in unread)
    what = {f"--pass {part.name}=EXPRESSION" if part.name.isidentifier() else f"--drop {part.line}" for part in unread}
    return ConfigurationError(
        f"{os.path.relpath(path)} has code that this command can't pass to run_env:\n{lines}\nNothing was changed. "
        "Move the code that you need out of these functions. Give an argument as an expression with --pass, or leave "
        f"out a line with --drop:\n{COMMAND} {' '.join(sorted(what))}"
    )


def _load(config: Config, path: Path, text: str) -> Project:
    """The project that the new `env.py` describes."""
    try:
        return load_project(config, text)
    except MigrationError:
        raise
    except Exception as error:  # of the project's own modules; its message may have a secret
        file, line, *_ = extract_tb(error.__traceback__)[-1]
        what = str(error) if isinstance(error, ImportError | NameError | AttributeError) else type(error).__name__
        raise ConfigurationError(
            f"{os.path.relpath(path)} with run_env can't be loaded ({os.path.relpath(file)}:{line}: {what}). Nothing "
            f"was changed. Run the command with the settings with which Alembic's commands work:\n{COMMAND}"
        ) from error


def _refuse_other_database(project: Project) -> None:
    """Refuse a database that is not PostgreSQL, if its URL is configured here."""
    name, url = "", project.database_url
    with suppress(Exception):  # a URL is not needed here
        name = make_url(url() if callable(url) else url).get_backend_name()
    if name not in ("", "postgresql", "postgres", "driver"):  # a new alembic.ini has "driver"
        raise ConfigurationError(
            f"The database's URL is for {name}, but this library is for PostgreSQL. Nothing was changed."
        )


def _settings(config: Config, script: ScriptDirectory, project: Project) -> Iterator[Change]:
    """The hook that keeps HEAD, and the section of this library."""
    service, toml = service_of(config), Path(config.toml_file_name or "pyproject.toml")
    ini, sections = service.config_file, config.file_config
    before = after = _text(ini)
    if not any(hook.get("type") == HOOK for hook in script.hooks):
        if sections.has_option("alembic", "script_location") or sections.has_section("post_write_hooks"):
            after = settings_text.with_hook(ini, after, bool(script.hooks))
        else:
            yield _change(toml, settings_text.with_hook_in_toml(toml, _text(toml)))
    if before and not service.is_declared:
        options = {name: getattr(project.service, name) for name in _VERSION_TABLE}
        keys = {name: value for name, value in options.items() if value != _VERSION_TABLE[name]}
        after = settings_text.with_service(ini, after, {"service": service.name, **keys})
    yield Change(ini, before, after)


def _templates(script: ScriptDirectory) -> Iterator[Change]:
    """`script.py.mako`, unless the project has written its own."""
    path = Path(script.dir, "script.py.mako")
    if path.exists() and not calls_declarations(path.parent) and (text := settings_text.with_declarations(_text(path))):
        yield _change(path, text)


def _change(path: Path, text: str) -> Change:
    return Change(path, _text(path), text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{path} can't be read ({error}). Nothing was changed.") from None

"""The section of `alembic.ini` that describes a service.

    [safe_migrations]
    service = orders
    env_prefix = ORDERS

Every key is optional. The probe reads the section too, so this module imports no library.
"""

import configparser
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from safe_migrations import env_files
from safe_migrations.address import Address, parse_address
from safe_migrations.errors import ConfigurationError

SECTION = "safe_migrations"
KEYS = {
    *("service", "env_prefix", "platform_prefix", "database_name", "database_port", "postgres_version"),
    *("version_table", "version_table_schema"),
}
_SEPARATORS = {"os": os.pathsep, "space": " ", "newline": "\n", ":": ":", ";": ";"}


@dataclass(frozen=True)
class Service:
    """A service: its files, and the environment variables with the addresses of its databases.

    Attributes:
        config_file: `alembic.ini`.
        name: the service's name.
        env_prefix: prefix of its environment variables; empty if `alembic.ini` names none.
        platform_prefix: prefix of the variables of user and password, which services may share.
        database_name: of its database, if no variable names one.
        database_port: of its development database.
        postgres_version: the major version in production.
        version_table: where Alembic records the revision.
        version_table_schema: that table's schema, if it is not the default one.
        is_declared: whether `alembic.ini` has the section.
        keys: the keys of the section.
    """

    config_file: Path
    name: str
    env_prefix: str = ""
    platform_prefix: str = ""
    database_name: str = ""
    database_port: int = 5432
    postgres_version: int = 18
    version_table: str = "alembic_version"
    version_table_schema: str | None = None
    is_declared: bool = False
    keys: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def read(cls, config_file: Path) -> "Service":
        """Read the section; a missing key has its default.

        Args:
            config_file: `alembic.ini`; it may be missing, as in a project that is configured in `pyproject.toml`.

        Raises:
            ConfigurationError: the file can't be read, a value can't be used, or the package of template 1.x is beside
                the file.
        """
        folder = config_file.absolute().parent
        refuse_hidden_library(folder)
        parser = _parse(config_file)
        if not parser.has_section(SECTION):
            return cls(config_file.absolute(), folder.name, database_name=folder.name)
        names = [name for name in parser[SECTION] if name not in parser.defaults()]
        options = {name: _option(parser, config_file, SECTION, name) for name in names}
        if unknown := sorted(options.keys() - KEYS):
            raise ConfigurationError(
                f"[{SECTION}] in {config_file} has the unknown key {unknown[0]}. The keys are "
                f"{', '.join(sorted(KEYS))}. If a newer release has the key, update the library:\n"
                "pdm update alembic-safe-migrations"
            )
        name = options.get("service") or folder.name
        prefix = options.get("env_prefix", "")
        return cls(
            config_file.absolute(),
            name,
            env_prefix=prefix,
            platform_prefix=options.get("platform_prefix", prefix),
            database_name=options.get("database_name") or name,
            database_port=_number(config_file, options, "database_port", 5432),
            postgres_version=_number(config_file, options, "postgres_version", 18),
            version_table=options.get("version_table") or "alembic_version",
            version_table_schema=options.get("version_table_schema") or None,
            is_declared=True,
            keys=frozenset(options),
        )

    @property
    def folder(self) -> Path:
        """The folder of `alembic.ini`."""
        return self.config_file.parent

    def variable(self, name: str) -> str:
        """An environment variable of the service.

        Args:
            name: its name without the prefix, such as `DATABASE_URL`.
        """
        return f"{self.env_prefix}_{name}" if self.env_prefix else name

    @property
    def proposed_prefix(self) -> str:
        """The prefix to propose where `alembic.ini` names none: the service's name as a variable."""
        prefix = re.sub(r"[^A-Z0-9]+", "_", self.name.upper()).strip("_")
        return prefix if prefix[:1].isalpha() else f"SERVICE_{prefix}".rstrip("_")

    @property
    def settings(self) -> str:
        """The variables with the address of the database; for messages."""
        if not self.env_prefix:
            return "the URL that env.py passes to run_env"
        url, migration = self.variable("DATABASE_URL"), self.variable("MIGRATION_DATABASE_URL")
        return f"{url}, {migration} or the parts (see .env.example)"

    @property
    def migration_url(self) -> str:
        """The variable with the address for migrations; for messages."""
        return self.variable("MIGRATION_DATABASE_URL") if self.env_prefix else self.settings

    @cached_property
    def variables(self) -> dict[str, str]:
        """The variables of the environment that are not empty, then the variables of the `.env` files.

        Raises:
            ConfigurationError: a `.env` can't be read.
        """
        files = env_files.read_env_files(self.folder, self._prefixes) if self.env_prefix else {}
        variables = files | {name: value for name, value in os.environ.items() if value}
        return {name.upper(): value for name, value in variables.items()}  # as pydantic, which ignores case

    @property
    def _prefixes(self) -> tuple[str, str]:
        return self.env_prefix, self.platform_prefix

    def not_configured(self) -> ConfigurationError:
        """The error for missing variables: there is neither a URL nor a user with a password."""
        user, password = (f"{self.platform_prefix}_DB_{part}" for part in ("USER", "PASSWORD"))
        file = env_files.env_files(self.folder)[0]
        return ConfigurationError(
            f"No database is configured for {self.name}. Set {self.variable('DATABASE_URL')}, or {user} and "
            f"{password}, in the environment or in {file} (see .env.example). For a development database:\n"
            "safe-migrations db-up"
        )

    def address(self) -> Address:
        """The address to which the application connects, as in the rendered `Settings.database_url`.

        Raises:
            ConfigurationError: it is not configured, or not a URL of PostgreSQL.
        """
        if url := self.variables.get(self.variable("DATABASE_URL")):
            address = parse_address(url, self.variable("DATABASE_URL"))
            return address._replace(database=address.database or self.name_of_environment())
        user = self.variables.get(f"{self.platform_prefix}_DB_USER")
        password = self.variables.get(f"{self.platform_prefix}_DB_PASSWORD")
        if user is None or password is None:
            raise self.not_configured()
        host = self.variables.get(self.variable("DB_HOST"), "localhost")
        return Address(user, password, host, self.port_of_environment(), self.name_of_environment(), {})

    def migration_address(self) -> tuple[Address, str]:
        """The address for migrations, as in the rendered `Settings.migration_database_url`, and the URL's variable.

        Raises:
            ConfigurationError: it is not configured, or not a URL of PostgreSQL.
        """
        variable = self.variable("MIGRATION_DATABASE_URL")
        if url := self.variables.get(variable):
            address = parse_address(url, variable)
            return address._replace(database=address.database or self.name_of_environment()), variable
        return self.address(), self.variable("DATABASE_URL")

    def name_of_environment(self) -> str:
        """The database's name, if no URL has one."""
        return self.variables.get(self.variable("DB_NAME"), self.database_name)

    def port_of_environment(self) -> int:
        """The server's port, if no URL has one.

        Raises:
            ConfigurationError: it is not a port.
        """
        port = self.variables.get(self.variable("DB_PORT"), str(self.database_port))
        if not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ConfigurationError(f"{self.variable('DB_PORT')} is not a port. Write a number from 1 to 65535.")
        return int(port)

    def version_folders(self) -> list[Path]:
        """The folders of the revision files, as `alembic.ini` names them.

        Raises:
            ConfigurationError: only Alembic can find them.
        """
        parser = _parse(self.config_file)
        separator, old_separator, locations, location = (  # not `sqlalchemy.url`, which may have a % for env.py alone
            _option(parser, self.config_file, "alembic", name)
            for name in ("path_separator", "version_path_separator", "version_locations", "script_location")
        )
        pattern = _SEPARATORS.get(separator or old_separator, ", *| +")  # the default of Alembic for old files
        folders = [folder.strip() for folder in re.split(pattern, locations) if folder.strip()]
        if not folders and location:
            folders = [f"{location}/versions"]
        if not folders or any(":" in folder.partition(os.sep)[0] for folder in folders):
            raise ConfigurationError(
                f"{self.config_file} does not name the folder of the revisions as a path. Add a line such as:\n"
                "script_location = %(here)s/alembic"
            )
        if _option(parser, self.config_file, "alembic", "recursive_version_locations") == "true":
            return [Path(below) for folder in folders for below, _, _ in os.walk(folder)]
        return [Path(folder) for folder in folders]

    def of_deprecated_prefix(self, env_prefix: str) -> "Service":
        """The same service with the prefix that an `env.py` of template 1.x names, if `alembic.ini` names none."""
        return self if self.env_prefix else replace(self, env_prefix=env_prefix, platform_prefix=env_prefix)


def load_env_files(folder: Path) -> None:
    """Put the variables of all `.env` files of a service into the environment, whose own variables win.

    Args:
        folder: of the service, with its `alembic.ini`.

    Raises:
        ConfigurationError: a file can't be read, or there is a file, but no python-dotenv.
    """
    service = Service.read(folder / "alembic.ini")
    env_files.export(env_files.read_env_files(folder, service._prefixes))


def find_config_files(files: Sequence[str] = ()) -> tuple[Path, Path | None]:
    """`alembic.ini`, and the `pyproject.toml` beside it if there is one, found as the command `alembic` finds them.

    Args:
        files: of the option `-c`; by default the value of ALEMBIC_CONFIG, or alembic.ini.

    Raises:
        ConfigurationError: neither file exists.
    """
    names = list(files) or os.environ.get("ALEMBIC_CONFIG", "alembic.ini").split(",")
    ini = next((Path(name) for name in names if not name.endswith("pyproject.toml")), None)
    toml = next((Path(name) for name in names if name.endswith("pyproject.toml")), None)
    ini = ini or Path(toml or "").with_name("alembic.ini")
    toml = toml or ini.with_name("pyproject.toml")  # `alembic init -t pyproject` writes a part there
    if not ini.is_file() and not (toml.is_file() and "[tool.alembic]" in toml.read_text(encoding="utf-8")):
        raise ConfigurationError(
            f"There is no {ini} in {Path.cwd()}. Run the command in the folder of alembic.ini, or name that file:\n"
            "safe-migrations -c path/alembic.ini …"
        )
    return ini, toml if toml.is_file() else None


def refuse_hidden_library(folder: Path) -> None:
    """Refuse a service with the package of template 1.x, which its own code would import instead of this library.

    Raises:
        ConfigurationError: names the file.
    """
    kept = folder / "safe_migrations" / "__init__.py"
    if kept.is_file():
        raise ConfigurationError(
            f"{os.path.relpath(kept)} comes from template 1.x and hides the installed library of the same name. If the "
            "whole service comes from 1.x, update the service:\nsafe-migrations template-update\nOtherwise move your "
            f"own code out of that folder, then run:\n{shlex.join(['git', 'rm', '-r', os.path.relpath(kept.parent)])}"
        )


def _parse(config_file: Path) -> configparser.ConfigParser:
    folder = config_file.absolute().parent
    try:
        written = config_file.stat()
    except OSError:
        return _parsed(config_file, folder, None)
    return _parsed(config_file, folder, (written.st_mtime_ns, written.st_size))


@lru_cache(maxsize=1)  # a command reads the file several times
def _parsed(config_file: Path, folder: Path, _written: tuple[int, int] | None) -> configparser.ConfigParser:
    parser = configparser.ConfigParser({"here": str(folder).replace("%", "%%")})
    try:
        parser.read(config_file, encoding="utf-8")
    except (configparser.Error, UnicodeError) as error:
        raise ConfigurationError(f"{config_file} can't be read ({error}). Correct this file.") from None
    return parser


def _option(parser: configparser.ConfigParser, config_file: Path, section: str, name: str) -> str:
    try:
        return parser.get(section, name, fallback="")
    except configparser.InterpolationError:
        raise ConfigurationError(f"{name} in [{section}] of {config_file} can't be read. Write %% for a %.") from None


def _number(config_file: Path, options: dict[str, str], name: str, default: int) -> int:
    value = options.get(name) or str(default)
    if not value.isdecimal():
        raise ConfigurationError(f"{name} in [{SECTION}] of {config_file} is {value!r}. Write a whole number.")
    return int(value)

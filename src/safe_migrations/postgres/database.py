"""A database: the URL to connect to, whose it is, and the variables of PostgreSQL's programs."""

from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from safe_migrations.address import DSN_PARAMETERS, Address, dsn, parse_address, parse_parameters, place
from safe_migrations.errors import ConfigurationError
from safe_migrations.postgres.timeouts import Timeouts, load_timeouts
from safe_migrations.service import Service

DRIVER = "postgresql+asyncpg"
_CLIENT_VARIABLES = {
    **{"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "database": "PGDATABASE"},
    **{"ssl": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"},
    **{"sslcrl": "PGSSLCRL", "passfile": "PGPASSFILE", "options": "PGOPTIONS", "krbsrvname": "PGKRBSRVNAME"},
    **{"ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION", "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION"},
    **{"target_session_attrs": "PGTARGETSESSIONATTRS", "sslnegotiation": "PGSSLNEGOTIATION", "gsslib": "PGGSSLIB"},
}


@dataclass(frozen=True)
class Database:
    """A database, and how its address is configured.

    Attributes:
        url: where to connect, for asyncpg; its query has the parameters that only a connection string can have.
        service: whose database it is.
        engines: of its connections, by their settings; the first connection of an engine asks what all of them need.
    """

    url: URL
    service: Service
    engines: dict[Any, AsyncEngine] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, url: URL | str, service: Service) -> "Database":
        """The database of a URL for any driver.

        Args:
            url: such as `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE?sslmode=require`.

        Raises:
            ConfigurationError: it is not a URL of PostgreSQL, or has a parameter that asyncpg does not take.
        """
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):  # a port that is no number is a ValueError
            raise _unreadable(service) from None
        if parsed.get_backend_name() not in ("postgresql", "postgres"):
            raise ConfigurationError(
                f"The database's URL is for {parsed.get_backend_name()}, not for PostgreSQL. Correct "
                f"{service.settings}."
            )
        if "@" in (parsed.host or ""):  # of a password that is not encoded, half of which would be the host
            raise _unreadable(service)
        query = {name: [values] if isinstance(values, str) else list(values) for name, values in parsed.query.items()}
        return cls(_checked(parsed.set(drivername=DRIVER), query, service.settings), service)

    def named(self, name: str) -> "Database":
        """Another database of the same server."""
        return replace(self, url=self.url.set(database=name))

    @property
    def name(self) -> str:
        """The database's name."""
        return self.url.database or ""

    @property
    def host(self) -> str:
        """The host and port of the server, or of several servers; for messages."""
        hosts, ports = (client_environment(self.url).get(name) for name in ("PGHOST", "PGPORT"))
        return place(hosts.split(",") if hosts else (), ports.split(",") if ports else ())

    @property
    def timeouts(self) -> Timeouts:
        """The timeouts of migrations, from the service's environment.

        Raises:
            ConfigurationError: a timeout is not a duration, or out of range.
        """
        return load_timeouts(self.service.variables)


def application_database(service: Service) -> Database:
    """Where the application connects, by the service's variables.

    Raises:
        ConfigurationError: it is not configured, or not a URL of PostgreSQL.
    """
    return Database(_url(service.address(), service.variable("DATABASE_URL")), service)


def parse_database_url(text: str, variable: str) -> URL:
    """Make a URL for asyncpg of one as platforms hand them out.

    Args:
        text: the URL, such as `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=require`.
        variable: the environment variable that it came from, to name it in an error; its value is not shown.

    Raises:
        ConfigurationError: it is not a URL of PostgreSQL, or has a parameter that asyncpg does not take.
    """
    return _url(parse_address(text, variable), variable)


def _unreadable(service: Service) -> ConfigurationError:
    return ConfigurationError(
        f"The database's URL can't be read. Correct {service.settings}, and percent-encode the special characters of "
        "user and password."
    )


def _url(address: Address, variable: str) -> URL:
    url = URL.create(DRIVER, address.user, address.password, address.host, address.port, address.database)
    query = {name: [value] if isinstance(value, str) else value for name, value in address.parameters.items()}
    return _checked(url, query, variable)


def _checked(url: URL, query: dict[str, list[str]], variable: str) -> URL:
    url = url.set(query=parse_parameters(query, variable))
    try:
        split_url(url)[0].get_dialect()().create_connect_args(split_url(url)[0])
        if not 1 <= (url.port or 5432) <= 65535:
            raise ValueError("a port is a number from 1 to 65535")
    except (ArgumentError, ValueError) as error:
        message = f"{variable} can't be used ({error}); correct its hosts, ports or parameters."
        raise ConfigurationError(message) from None
    return url


def split_url(url: URL) -> tuple[URL, dict[str, Any]]:
    """The URL for SQLAlchemy's dialect, and the rest as an argument for asyncpg."""
    rest = dsn(dict(url.query))
    return url.difference_update_query(DSN_PARAMETERS), {"dsn": rest} if rest else {}


def client_environment(url: URL) -> dict[str, str]:
    """The variables with which psql and PostgreSQL's other programs connect, so that no command line has a password.

    See https://www.postgresql.org/docs/current/libpq-envars.html

    Args:
        url: the database's URL, for asyncpg; it may have several hosts.
    """
    plain, _ = split_url(url)
    _, arguments = plain.get_dialect()().create_connect_args(plain)
    values = {variable: {**url.query, **arguments}.get(name) for name, variable in _CLIENT_VARIABLES.items()}
    return {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in values.items()
        if value is not None
    }

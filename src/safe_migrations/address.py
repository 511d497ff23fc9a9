"""The address of a database, from URLs as platforms provide them. The probe uses this, so it imports no library."""

import re
from collections.abc import Sequence
from itertools import cycle
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlencode

from safe_migrations.errors import ConfigurationError

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# What asyncpg takes as arguments, what it takes in a connection string only, and what it lacks but the address does not
# depend on, so that URLs for libpq and psycopg work.
ARGUMENTS = {"host", "port", "ssl", "target_session_attrs", "prepared_statement_cache_size"}
DSN_PARAMETERS = {
    *("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "passfile", "krbsrvname", "gsslib", "options"),
}
IGNORED_PARAMETERS = {
    *("application_name", "channel_binding", "connect_timeout", "gssencmode", "client_encoding", "tcp_user_timeout"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("async_fallback", "executemany_mode", "prepare_threshold"),
}

# As SQLAlchemy reads a URL: urllib.parse would end a password that is not encoded at its first slash or #.
URL = re.compile(
    r"postgres[\w+]*://(?:([^:/]*)(?::([^@]*))?@)?(?:\[([^/?]+)\]|([^/:?]+))?(?::([^/?]*))?(?:/([^?]*))?(?:\?(.*))?"
)


class Address(NamedTuple):
    """The address of a database; a URL has the same parts, in this order."""

    user: str | None
    password: str | None
    host: str | None
    port: int | None
    database: str | None
    parameters: dict[str, str | list[str]]

    def connect_arguments(self, variable: str) -> dict[str, Any]:
        """The arguments of `asyncpg.connect` for this address.

        Raises:
            ConfigurationError: the URL has several hosts, and not as many ports.
        """
        hosts, ports = _listed(self.parameters.get("host") or self.host), _listed(self.parameters.get("port"))
        if not ports and all(re.fullmatch(r"[^:/]*:\d+", host) for host in hosts):  # host=one:5432&host=two:5432
            hosts, ports = [host.partition(":")[0] for host in hosts], [host.partition(":")[2] for host in hosts]
        if not all(port.isdecimal() for port in ports) or (
            len(ports) != len(hosts) and max(len(hosts), len(ports)) > 1
        ):
            raise ConfigurationError(
                f"{variable} can't be used (the numbers of hosts and ports differ); correct its hosts, ports or "
                "parameters."
            )
        return {
            "dsn": dsn(self.parameters),
            "host": hosts or None,
            "port": [int(port) for port in ports] or self.port,
            "user": self.user or None,
            "password": self.password or None,
            "database": self.database,
            "ssl": self.parameters.get("ssl"),
            "target_session_attrs": self.parameters.get("target_session_attrs"),
        }

    def place(self, variable: str) -> str:
        """The hosts and ports, for messages."""
        arguments = self.connect_arguments(variable)
        port = arguments["port"] or []
        return place(arguments["host"] or [], port if isinstance(port, list) else [port])


def parse_address(text: str, variable: str) -> Address:
    """Read a URL, as platforms provide them.

    Args:
        text: the URL, such as `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=require`.
        variable: the environment variable that it came from, to name it in an error; its value is not shown.

    Raises:
        ConfigurationError: it is not a URL of PostgreSQL, or has a parameter that asyncpg does not take.
    """
    url = URL.match(text)
    # A second @ is part of a password that is not encoded, half of which would be the host.
    if url is None or text.count("@") > 1 or not (url[5] or "0").isdecimal():
        raise ConfigurationError(
            f"{variable} is not a URL of PostgreSQL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and "
            "percent-encode the special characters of user and password."
        )
    user, password, database = (part if part is None else unquote(part) for part in url.group(1, 2, 6))
    port = int(url[5]) if url[5] else None
    return Address(user, password, url[3] or url[4], port, database, parse_parameters(parse_qs(url[7] or ""), variable))


def parse_parameters(query: dict[str, list[str]], variable: str) -> dict[str, str | list[str]]:
    """The parameters of a URL, with the names that asyncpg has for them.

    Args:
        query: the parameters, as `urllib.parse.parse_qs` returns them.

    Raises:
        ConfigurationError: asyncpg does not take one of them.
    """
    parameters: dict[str, str | list[str]] = {
        name: values if len(values) > 1 else values[0]
        for name, values in query.items()
        if name not in IGNORED_PARAMETERS
    }
    if "sslmode" in parameters:
        parameters["ssl"] = parameters.pop("sslmode")
    if parameters.get("ssl", "prefer") not in SSL_MODES:
        raise ConfigurationError(f"{variable} has an unknown ssl or sslmode; write one of {', '.join(SSL_MODES)}.")
    if unknown := sorted(parameters.keys() - ARGUMENTS - DSN_PARAMETERS):
        raise ConfigurationError(
            f"{variable} has the parameter {unknown[0]}, which asyncpg does not take in a URL; remove that parameter."
        )
    return parameters


def dsn(parameters: dict[str, Any]) -> str | None:
    """The connection string for parameters that asyncpg takes only there, such as `sslrootcert`; None without any."""
    named = {name: value for name, value in parameters.items() if name in DSN_PARAMETERS}
    return f"postgresql://?{urlencode(named)}" if named else None


def place(hosts: Sequence[str], ports: Sequence[int | str]) -> str:
    """The hosts and ports of a server, for messages.

    Args:
        hosts: one or several; by default localhost.
        ports: one for each host, or one for all; by default 5432.
    """
    pairs = zip(hosts or ("localhost",), cycle(ports or (5432,)), strict=False)
    return ", ".join(f"{host}:{port}" for host, port in pairs)


def _listed(value: str | list[str] | None) -> list[str]:
    return value.split(",") if isinstance(value, str) else value or []

"""The databases, ports and variables of all services: a table, and what two services share."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from safe_migrations.command_line import as_table
from safe_migrations.errors import ConfigurationError
from safe_migrations.fleet.services import Member
from safe_migrations.printable import printable
from safe_migrations.service import Service

BEGIN, END = "<!-- safe-migrations ports: begin -->", "<!-- safe-migrations ports: end -->"
HEADER = ("service", "database", "port", "URL", "user and password")
_CHANGE = "copier update --vcs-ref=:current: --skip-answered --data"


def as_text(members: Sequence[Member]) -> str:
    """The table for a terminal."""
    return as_table(HEADER, [[printable(cell) for cell in _row(member)] for member in members])


def as_markdown(members: Sequence[Member]) -> str:
    """The table for a file, between its markers; its columns are as wide as formatters of Markdown make them."""
    rows = [HEADER, *([_escaped(cell) for cell in _row(member)] for member in members)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    lines = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join([BEGIN, "", *(f"| {line} |" for line in lines), "", END])


def replaced(text: str, table: str) -> str:
    """The text of a file with the current table, which comes last in a file without markers.

    Args:
        table: with its markers.

    Raises:
        ConfigurationError: there is one marker without the other, or more than one table.
    """
    begins, ends = text.count(BEGIN), text.count(END)
    if not begins and not ends:
        return f"{text.rstrip()}\n\n{table}\n".lstrip()
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if (begins, ends) != (1, 1) or not end:
        raise ConfigurationError(
            "The file must have each of these lines once, in this order, without text of your own between the lines:\n"
            f"{BEGIN}\n{END}"
        )
    return f"{before}{table}{after}"


def update_file(file: Path, members: Sequence[Member], *, only_check: bool) -> bool:
    """Write the table into a file; return whether the file had the current one.

    Raises:
        ConfigurationError: the file can't be read or written.
    """
    try:
        text = file.read_bytes().decode() if file.exists() else ""
        current = replaced(text.replace("\r\n", "\n"), as_markdown(members))
        current = current.replace("\n", "\r\n") if "\r\n" in text else current
        if current != text and not only_check:
            file.write_bytes(current.encode())
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{file} can't be used ({error}).") from None
    return current == text


def problems(members: Sequence[Member]) -> list[str]:
    """Which services can't be read, and what two services share, with the next command."""
    unread = [f"{printable(member.path)}: {member.problem}" for member in members if member.problem]
    return [*unread, *_doubles(members)]


def _doubles(members: Sequence[Member]) -> Iterator[str]:
    ports = {member.service.database_port for member in members if member.service}
    for port, alike in _groups(members, lambda service: str(service.database_port), "database_port"):
        free = next(number for number in (*range(int(port) + 1, 2**16), *range(1024, 2**16)) if number not in ports)
        yield _double(f"port {port}", alike, "another port", f"database_port={free}", f"; free is {free}")
        ports.add(free)
    # Without a port of their own, services share a server.
    shared = [member for member in members if member.service and "database_port" not in member.service.keys]
    for name, alike in _groups(shared, lambda service: service.database_name, "database_name"):
        yield _double(f"database {name} of the same server", alike, "another database", "database_name=NAME")
    for prefix, alike in _groups(members, lambda service: service.env_prefix.upper(), "env_prefix"):
        yield _double(f"variables {prefix}_…", alike, "other variables", "env_prefix=PREFIX")


def _double(what: str, alike: Sequence[Member], other: str, answer: str, free: str = "") -> str:
    names = ", ".join(printable(member.path) for member in alike)
    key = answer.partition("=")[0]
    return (
        f"{names} have the same {printable(what)}. Give one of these services {other}{free} ({key} in alembic.ini). "
        f"If the template has made the service, run in its folder:\n{_CHANGE} {answer}"
    )


def _groups(members: Sequence[Member], value: Callable[[Service], str], key: str) -> Iterator[tuple[str, list[Member]]]:
    """The values that several services have, with these services.

    Args:
        value: of a service; an empty one counts for nothing.
        key: that has to be in `alembic.ini`.
    """
    groups: dict[str, list[Member]] = {}
    for member in members:
        if member.service and key in member.service.keys:
            groups.setdefault(value(member.service), []).append(member)
    return ((name, alike) for name, alike in groups.items() if name and len(alike) > 1)


def _row(member: Member) -> list[str]:
    service = member.service
    if service is None:
        return [member.path, "can't be read", "", "", ""]
    url = service.variable("DATABASE_URL") if service.env_prefix else "in env.py"
    login = f"{service.platform_prefix}_DB_USER, {service.platform_prefix}_DB_PASSWORD" if service.env_prefix else ""
    port = str(service.database_port) if "database_port" in service.keys else ""
    return [member.path, service.database_name, port, url, login]


def _escaped(cell: str) -> str:
    """A cell of a table in Markdown, whose signs mean nothing there."""
    return "".join(f"\\{sign}" if sign in "\\`*[]<>|&" else sign for sign in printable(cell))

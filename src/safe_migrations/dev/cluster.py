"""PostgreSQL without Docker or an installation: clusters that run the programs of a wheel.

Only the programs of the wheels are used: their own start-up code listens on a socket only, stops the server when Python
exits, and opens the permissions of every parent folder when root runs it.
"""

import os
import secrets
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import URL

from safe_migrations.env_files import environment_of_programs
from safe_migrations.errors import EmbeddedPostgresError
from safe_migrations.postgres.database import parse_database_url
from safe_migrations.postgres.programs import find_programs
from safe_migrations.service import Service

HOST = "127.0.0.1"
USER = "postgres"
START_TIMEOUT = 60  # seconds
PORT_TRIES = 5
# For temporary clusters, whose data need not survive a crash; a revision may make thousands of tables in a transaction.
THROW_AWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
THROW_AWAY |= {"max_locks_per_transaction": "1024"}


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL cluster in a folder of its own, on the loopback interface, with a password.

    Attributes:
        folder: holds the data, the log and the password; created by `start`.
        programs: PostgreSQL's programs, see `find_programs`.
    """

    folder: Path
    programs: Path

    def start(self, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        """Start the server, and create the cluster if necessary.

        Args:
            port: the TCP port; None for any free port.
            settings: written to postgresql.conf when the cluster is created.

        Raises:
            EmbeddedPostgresError: the port is taken, or the server did not start.
        """
        if self.is_running():
            return
        if not self._data.joinpath("PG_VERSION").is_file():
            self._initialise(settings or {})
        options = ("-w", "-t", str(START_TIMEOUT), "-l", self._log, "-o")
        for tries_left in reversed(range(PORT_TRIES)):
            chosen = free_port(port)
            try:
                self._succeed("pg_ctl", "start", *options, f"-p {chosen}")
            except EmbeddedPostgresError:
                if not tries_left or _is_free(chosen):  # else another program has taken the port meanwhile
                    raise
            else:
                return

    def stop(self) -> bool:
        """Stop the server, if it runs: sessions end, and open transactions are rolled back.

        Returns:
            Whether the server was running.

        Raises:
            EmbeddedPostgresError: the cluster is another user's, or the server did not stop.
        """
        if not self.is_running():
            return False
        self._succeed("pg_ctl", "stop", "-w", "-m", "fast")
        return True

    def is_running(self) -> bool:
        """Whether the server runs.

        Raises:
            EmbeddedPostgresError: the cluster is another user's.
        """
        try:
            exists = self._data.is_dir()
        except PermissionError as error:
            raise EmbeddedPostgresError(
                f"{self.folder} belongs to another user ({self.folder.owner()}). Run this command as that user."
            ) from error
        return exists and self._run("pg_ctl", "status").returncode == 0

    def version(self) -> str:
        """PostgreSQL's version, such as `18.6`."""
        command = [str(self.programs / "postgres"), "--version"]
        answer = subprocess.run(command, env=environment_of_programs(), capture_output=True, text=True, check=True)
        return answer.stdout.split()[2]

    def url(self, database: str = "postgres") -> URL:
        """The URL of one of the cluster's databases, for its superuser; the server must be running."""
        port = self._data.joinpath("postmaster.pid").read_text().splitlines()[3]
        password = self._password.read_text()
        return URL.create("postgresql+asyncpg", USER, password, HOST, int(port), database)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    @property
    def _password(self) -> Path:
        return self.folder / "password"

    def _initialise(self, settings: Mapping[str, str]) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._password.is_file():  # new data keeps the password that .env has
            descriptor = os.open(self._password, os.O_WRONLY | os.O_CREAT, 0o600)
            with open(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24))
        if _is_root():
            import pwd  # Windows has no such module

            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        unfinished = self.folder / "unfinished"  # a kill leaves no half of a cluster in the folder of the data
        if unfinished.exists():
            shutil.rmtree(unfinished)
        login = ("--username", USER, "--pwfile", self._password, "--auth", "scram-sha-256")
        options = ("--no-sync", "--no-instructions", "--encoding", "UTF8", "--locale", "C", *login)
        self._succeed("initdb", *options, data=unfinished)
        listen = {"listen_addresses": HOST, "unix_socket_directories": "", **settings}
        listen["track_commit_timestamp"] = "on"  # when a revision was applied, for `fleet status`
        with unfinished.joinpath("postgresql.conf").open("a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in listen.items())
        try:
            unfinished.rename(self._data)
        except OSError as error:  # something else is there
            raise EmbeddedPostgresError(
                f"{self._data} is not the data of a PostgreSQL cluster ({error.strerror}). Move that folder away, then "
                "run:\nsafe-migrations db-up"
            ) from error

    def _succeed(self, program: str, *arguments: str | Path, data: Path | None = None) -> None:
        answer = self._run(program, *arguments, data=data)
        if answer.returncode != 0:
            log = self._log.read_text() if self._log.is_file() else ""
            fatal = [line for line in log.splitlines() if " FATAL: " in line]
            reason = [*answer.stderr.splitlines(), *fatal][-1:]
            raise EmbeddedPostgresError(
                f"PostgreSQL's {program} failed ({''.join(reason)}). {self._log} has the log. To delete the data, and "
                f"start with an empty database:\nrm -r {shlex.quote(str(self._data))} && safe-migrations db-up"
            )

    def _run(self, program: str, *arguments: str | Path, data: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [*self._drop_root(), self.programs / program, "-D", data or self._data, *arguments]
        try:
            return subprocess.run(command, env=environment_of_programs(), capture_output=True, text=True)
        except OSError as error:
            raise EmbeddedPostgresError(f"{command[0]} could not be run: {error}.") from error

    def _drop_root(self) -> list[str]:
        """Run as the cluster's owner, because PostgreSQL refuses root, with access to private parent folders.

        The capability CAP_DAC_OVERRIDE, see capabilities(7), ends with the process. CAP_DAC_READ_SEARCH would suffice,
        but containers do not have it.
        """
        if not _is_root():
            return []
        owner = self.folder.stat()
        become = [f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
        keep_reach = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
        return ["setpriv", *become, *keep_reach]


@contextmanager
def throw_away_cluster(programs: Path) -> Iterator[Cluster]:
    """A running cluster in a temporary folder, deleted at the end.

    Raises:
        EmbeddedPostgresError: the server did not start.
    """
    with TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder) / "cluster", programs)
        cluster.start(settings=THROW_AWAY)
        try:
            yield cluster
        finally:
            cluster.stop()


@contextmanager
def server_for_tests(service: Service) -> Iterator[URL]:
    """A database of the server of <PREFIX>_TEST_DATABASE_URL; without this variable, of a temporary cluster.

    Raises:
        ConfigurationError: the variable has no URL of PostgreSQL.
        EmbeddedPostgresError: the server did not start.
        NotInstalledError: there are no programs.
    """
    variable = service.variable("TEST_DATABASE_URL")
    if url := service.variables.get(variable):
        yield parse_database_url(url, variable)
    else:
        with throw_away_cluster(find_programs(service.postgres_version)) as cluster:
            yield cluster.url()


def free_port(port: int | None = None) -> int:
    """A free TCP port of the loopback interface.

    Args:
        port: the port to check; None for any.

    Raises:
        EmbeddedPostgresError: the port is in use.
    """
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port or 0))
        except OSError as error:
            raise EmbeddedPostgresError(
                f"Port {port} of {HOST} is in use by another program. Set another port in .env (…_DB_PORT), or stop "
                "that program. If the program is the database of another service, run in the folder of that "
                "service:\nsafe-migrations db-down"
            ) from error
        taken: int = attempt.getsockname()[1]
        return taken


def _is_free(port: int) -> bool:
    with suppress(EmbeddedPostgresError):
        return free_port(port) == port
    return False


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0

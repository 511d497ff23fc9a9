"""Clusters of our own, with the real programs."""

import os
import pwd
import re
import shutil
import socket
import stat
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy.exc import DBAPIError

from safe_migrations.dev.cluster import Cluster, throw_away_cluster
from safe_migrations.errors import EmbeddedPostgresError, NotInstalledError
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import create_database
from safe_migrations.postgres.programs import find_programs
from support import at, fetch

PROGRAMS = find_programs(18)
# The first time, a process that outlives it listens on the port.
PG_CTL = """#!{python}
import os, socket, sys, time
if "start" in sys.argv and not os.path.exists("{taken}"):
    port = sys.argv[-1].removeprefix("-p ")
    server = socket.create_server(("127.0.0.1", int(port)))
    open("{taken}", "w").write(port)
    if os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(30)
        sys.exit()
os.execv("{real}/pg_ctl", ["{real}/pg_ctl", *sys.argv[1:]])
"""


def test_keeps_its_data_over_a_restart_in_a_folder_with_a_space(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "a folder's name", PROGRAMS)
    cluster.start()
    try:
        run_async(create_database(at(cluster.url()), "kept"))
        cluster.stop()
        assert not cluster.is_running()
        cluster.start()
        assert fetch(cluster.url("kept"), "SHOW fsync") == [("on",)]
    finally:
        cluster.stop()


def test_password_is_private_and_needed(tmp_path: Path) -> None:
    with throw_away_cluster(PROGRAMS) as cluster:
        password_file = cluster.folder / "password"
        assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(cluster.folder.stat().st_mode) == 0o700
        with pytest.raises(DBAPIError, match="password authentication failed"):
            fetch(cluster.url().set(password="guessed"), "SELECT 1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops its rights")
def test_root_runs_it_as_nobody_and_opens_no_folder(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    cluster = Cluster(private / "cluster", PROGRAMS)
    cluster.start()
    try:
        pid = int((cluster.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        assert Path(f"/proc/{pid}").stat().st_uid == (cluster.folder / "data").stat().st_uid != 0
        groups = re.findall(r"^(?:Gid|Groups):(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert "0" not in " ".join(groups).split(), "no group of root's"
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    finally:
        cluster.stop()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedPostgresError, match=f"Port {port} .*_DB_PORT"):
            Cluster(tmp_path / "cluster", PROGRAMS).start(port)


def test_a_port_that_is_taken_before_the_server_starts_is_replaced(tmp_path: Path) -> None:
    """The first pg_ctl finds its port taken by another program."""
    programs = tmp_path / "programs"
    programs.mkdir(mode=0o755)
    for program in ("initdb", "postgres"):
        (programs / program).symlink_to(PROGRAMS / program)
    (programs / "pg_ctl").write_text(PG_CTL.format(python=sys.executable, taken=tmp_path / "taken", real=PROGRAMS))
    (programs / "pg_ctl").chmod(0o755)
    cluster = Cluster(tmp_path / "cluster", programs)
    try:
        cluster.start()
        taken = (tmp_path / "taken").read_text()
        assert cluster.url().port != int(taken)
        assert fetch(cluster.url(), "SELECT 1") == [(1,)]
        cluster.stop()
        with pytest.raises(EmbeddedPostgresError, match=f"Port {taken} "):
            cluster.start(int(taken))
    finally:
        cluster.stop()


def test_new_data_keeps_the_password(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster", PROGRAMS)
    cluster.start()
    before = cluster.url().password
    assert cluster.stop()
    assert not cluster.stop(), "it did not run any more"
    shutil.rmtree(cluster.folder / "data")
    cluster.start()
    try:
        assert cluster.url().password == before
        assert fetch(cluster.url(), "SELECT 1") == [(1,)]
    finally:
        cluster.stop()


def test_a_cluster_whose_creation_was_killed_is_created_again(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir(mode=0o755)
    for program in ("pg_ctl", "postgres"):
        (programs / program).symlink_to(PROGRAMS / program)
    (programs / "initdb").write_text('#!/bin/sh\nmkdir -p "$2" && echo 18 > "$2/PG_VERSION" && kill -KILL $$\n')
    (programs / "initdb").chmod(0o755)
    with pytest.raises(EmbeddedPostgresError, match="initdb"):
        Cluster(tmp_path / "cluster", programs).start()
    cluster = Cluster(tmp_path / "cluster", PROGRAMS)
    cluster.start()
    try:
        assert fetch(cluster.url(), "SELECT 1") == [(1,)]
    finally:
        cluster.stop()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster", PROGRAMS)
    cluster.start()
    cluster.stop()
    (cluster.folder / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedPostgresError, match=r"pg_ctl failed .* FATAL: .* incompatible") as refusal:
        cluster.start()
    assert str(cluster.folder) in str(refusal.value)


def test_versions_are_told_apart() -> None:
    assert Cluster(Path("unused"), PROGRAMS).version().startswith("18.")
    with pytest.raises(NotInstalledError, match=r"PostgreSQL 9 is not installed"):
        find_programs(9, exactly=True)
    assert find_programs(9) == find_programs(18), "another version falls back to the embedded wheel"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_another_users_cluster_is_named(tmp_path: Path) -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        cluster = Cluster(Path(folder) / "cluster", PROGRAMS)
        cluster.start()
        cluster.stop()
        os.seteuid(pwd.getpwnam("daemon").pw_uid)
        try:
            with pytest.raises(EmbeddedPostgresError, match=r"\(nobody\)"):
                cluster.is_running()
        finally:
            os.seteuid(0)

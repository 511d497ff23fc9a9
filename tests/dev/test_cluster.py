"""Clusters of our own, with the real programs."""

import os
import pwd
import re
import shutil
import stat
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy.exc import DBAPIError

from safe_migrations.dev.cluster import Cluster
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


def test_keeps_its_data_over_a_restart_in_a_private_folder_with_a_space() -> None:
    """As root, it runs as nobody, opens no folder, and tells another user whose it is."""
    is_root = os.geteuid() == 0
    with TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "a folder's name", PROGRAMS)
        cluster.start()
        try:
            assert stat.S_IMODE((cluster.folder / "password").stat().st_mode) == 0o600
            assert stat.S_IMODE(cluster.folder.stat().st_mode) == 0o700
            with pytest.raises(DBAPIError, match="password authentication failed"):
                fetch(cluster.url().set(password="guessed"), "SELECT 1")
            if is_root:
                run_by_nobody(cluster)
                assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
            run_async(create_database(at(cluster.url()), "kept"))
            cluster.stop()
            assert not cluster.is_running()
            cluster.start()
            assert fetch(cluster.url("kept"), "SHOW fsync") == [("on",)]
        finally:
            cluster.stop()
        (cluster.folder / "data" / "PG_VERSION").write_text("9.6\n")
        with pytest.raises(EmbeddedPostgresError, match=r"pg_ctl failed .* FATAL: .* incompatible") as refusal:
            cluster.start()
        assert str(cluster.folder) in str(refusal.value)
        if is_root:
            Path(folder).chmod(0o755)
            os.seteuid(pwd.getpwnam("daemon").pw_uid)
            try:
                with pytest.raises(EmbeddedPostgresError, match=r"\(nobody\)"):
                    cluster.is_running()
            finally:
                os.seteuid(0)


def run_by_nobody(cluster: Cluster) -> None:
    """The server of a cluster is a process of the owner of its data, who is not root."""
    pid = int((cluster.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    assert Path(f"/proc/{pid}").stat().st_uid == (cluster.folder / "data").stat().st_uid != 0
    groups = re.findall(r"^(?:Gid|Groups):(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert groups
    assert "0" not in " ".join(groups).split(), "no group of root's"


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
        with pytest.raises(EmbeddedPostgresError, match=f"Port {taken} .*_DB_PORT"):
            cluster.start(int(taken))
    finally:
        cluster.stop()


def test_new_data_keeps_the_password(tmp_path: Path) -> None:
    """Data whose creation was killed is created again; so is data that somebody has removed."""
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


def test_versions_are_told_apart() -> None:
    assert Cluster(Path("unused"), PROGRAMS).version().startswith("18.")
    with pytest.raises(NotInstalledError, match=r"PostgreSQL 9 is not installed"):
        find_programs(9, exactly=True)
    assert find_programs(9) == find_programs(18), "another version falls back to the embedded wheel"

"""A disk that is full while a revision runs."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from support import Service, fetch, tables

FILL = (
    "op.execute(\"CREATE TABLE big TABLESPACE small AS SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n\")"
)


@pytest.fixture
def tablespace(server: URL, database: URL, tmp_path: Path) -> Iterator[str]:
    """A tablespace of one megabyte, on a file system of its own."""
    ((data,),) = fetch(server, "SHOW data_directory")
    folder = tmp_path / "small"
    folder.mkdir()
    if not Path(data).is_dir() or os.geteuid() != 0:
        pytest.skip("needs root, and a server on this machine")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"needs a file system that can be filled: {mounted.stderr.strip()}")
    owner = Path(data).stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    fetch(server, f"CREATE TABLESPACE small LOCATION '{folder}'")
    try:
        yield "small"
        fetch(database, "DROP TABLE IF EXISTS big")
        fetch(server, "DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_sentence_and_leaves_no_trace(service: Service, database: URL, tablespace: str) -> None:
    service.add_revision("column", 'op.add_column("item", sa.Column("note", sa.Text()))')
    service.add_revision("fill", f'op.add_column("item", sa.Column("more", sa.Text()))\n{FILL}')
    sentence = service.fail("alembic", "upgrade", "head")
    assert "20300101_0003_fill.py:14 failed and was rolled back: could not extend file" in sentence
    assert "No space left on device" in sentence and "the revision needs no change" in sentence
    assert tables(database) == {"alembic_version", "item"}
    assert fetch(database, "SELECT version_num FROM alembic_version") == [("0002_column",)]
    assert fetch(database, "SELECT 1 FROM pg_attribute WHERE attname = 'more'") == []
    service.versions.joinpath("20300101_0003_fill.py").write_text(
        service.versions.joinpath("20300101_0003_fill.py").read_text().replace("20000", "20")
    )
    service.succeed("alembic", "upgrade", "head")
    assert "big" in tables(database)

"""Branches that a history declares run as stock Alembic runs them; two heads of one branch are refused."""

from pathlib import Path

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import URL

from plain_project import Name, PlainProject
from safe_migrations.errors import RefusedError
from safe_migrations.history.frozen import head_file_problem
from safe_migrations.history.numbering import HEAD, keep_head
from safe_migrations.history.rebase import carry_out, plan, set_head
from safe_migrations.operate.deploy import deploy
from safe_migrations.operate.status import read_report
from safe_migrations.postgres.connection import run_async
from safe_migrations.revisions import AT_HEAD, BEHIND, FRESH, SEVERAL_HEADS, compare, read_revisions
from safe_migrations.trace.phase_check import check_phases
from safe_migrations.upgrade.states import known_revisions
from support import at, fetch, tables

File = tuple[str, Name, Name, Name]  # id, down_revision, branch_labels, depends_on
TRUNK: list[File] = [("t0", None, None, None), ("t1", "t0", None, None)]
TWO_BASES: list[File] = [
    ("a0", None, ("alpha",), None),
    ("a1", "a0", None, None),
    ("b0", None, ("beta",), None),
    ("b1", "b0", None, None),
]


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    return PlainProject(tmp_path / "project", database)


def write(project: PlainProject, files: list[File]) -> None:
    for revision, after, labels, needs in files:
        project.add(revision, after=after, labels=labels, needs=needs)


def state(project: PlainProject) -> str:
    """The state, which the probe, that runs no Alembic, has to see in the same way."""
    report = read_report(project.project)
    quick = compare(report.current, read_revisions(project.service.version_folders()))
    assert quick.state == report.state
    return report.state


@pytest.mark.parametrize(
    ("files", "heads", "unmerged"),
    [
        (TRUNK, "t1", ""),
        ([*TRUNK, ("t2", "t0", None, None)], "t1 t2", "t1 t2"),
        ([*TRUNK, ("t2", "t0", ("side",), None)], "t1 t2", ""),
        ([*TRUNK, ("t2", "t0", ["side"], None), ("t3", "t0", None, None)], "t1 t2 t3", "t1 t3"),
        (
            [*TRUNK, ("t2", "t0", ("side",), None), ("t3", "t2", None, None), ("t4", "t2", None, None)],
            "t1 t3 t4",
            "t3 t4",
        ),
        ([("t0", None, "core", None), ("t1", "t0", None, None), ("t2", "t0", None, None)], "t1 t2", "t1 t2"),
        ([*TRUNK, ("t2", "t0", None, "t1")], "t2", ""),
        (TWO_BASES, "a1 b1", ""),
        ([*TWO_BASES, ("b2", "b1", None, "a1")], "b2", ""),
        ([*TWO_BASES, ("b2", "b1", None, ("alpha",))], "a1 b2", ""),
        ([*TWO_BASES, ("b2", "b0", None, None)], "a1 b1 b2", "b1 b2"),
        ([*TWO_BASES, ("m", ("a1", "b1"), None, None)], "m", ""),
        ([*TRUNK, ("t2", "t0", None, None), ("m", ("t1", "t2"), None, None), ("x", None, None, None)], "m x", ""),
    ],
)
def test_which_heads_are_of_one_branch(tmp_path: Path, files: list[File], heads: str, unmerged: str) -> None:
    """Read by Alembic and without it."""
    project = PlainProject(tmp_path / "project", URL.create("postgresql"))
    write(project, files)
    for known in (known_revisions(project.script), read_revisions([project.versions])):
        assert (sorted(known.heads), sorted(known.unmerged)) == (heads.split(), unmerged.split())


def test_upgrade_and_downgrade_of_branches(project: PlainProject) -> None:
    write(project, TWO_BASES)
    assert state(project) == FRESH
    with pytest.raises(CommandError, match="heads"):  # as in stock Alembic
        project.alembic(command.upgrade, "head")
    for function, target, expected in (
        (command.upgrade, "beta@head", "b1"),
        (command.upgrade, "heads", "a1 b1"),
        (command.downgrade, "alpha@-1", "a0 b1"),
        (command.upgrade, "heads", "a1 b1"),
        (command.downgrade, "beta@base", "a1"),
        (command.downgrade, "a0", "a0"),
        (command.upgrade, "alpha@+1", "a1"),
        (command.upgrade, "heads", "a1 b1"),
        (command.downgrade, "base", ""),
        (command.stamp, "heads", "a1 b1"),
    ):
        project.alembic(function, target, x="yes")
        recorded = fetch(project.url, "SELECT version_num FROM alembic_version ORDER BY 1")
        assert [row.version_num for row in recorded] == expected.split(), target
        assert state(project) == {"a1 b1": AT_HEAD, "": FRESH}.get(expected, BEHIND)


def test_a_revision_that_depends_on_another_branch(project: PlainProject) -> None:
    write(project, [*TWO_BASES, ("b2", "b1", None, "a1")])
    project.alembic(command.upgrade, "beta@head")
    assert tables(project.url) == {"alembic_version", "a0", "a1", "b0", "b1", "b2"}
    assert state(project) == AT_HEAD
    project.alembic(command.upgrade, "heads")
    project.alembic(command.downgrade, "beta@base", x="yes")
    assert (state(project), tables(project.url)) == (BEHIND, {"alembic_version", "a0", "a1"})


def test_two_heads_of_one_branch_are_refused(project: PlainProject) -> None:
    """Beside another branch that is declared."""
    write(project, [*TWO_BASES, ("b2", "b0", None, None)])
    for target in ("heads", "alpha@head", "b1"):
        with pytest.raises(RefusedError, match=r"b1 create the table b1 \(b1.py\), b2 .* \(b2.py\)") as refused:
            project.alembic(command.upgrade, target)
        assert refused.value.exit_status == 7
        assert "a1" not in str(refused.value)
    assert state(project) == SEVERAL_HEADS
    assert tables(project.url) == set()


def test_deploy(project: PlainProject) -> None:
    """It names the base of a branch that the database did not have as the way back."""
    write(project, TWO_BASES)
    project.alembic(command.upgrade, "alpha@head")
    project.add("b2", "op.execute('SELECT 1 / 0')", after="b1")
    with pytest.raises(Exception, match=r"(?s)b2\.py.*division by zero.*downgrade a1\n.*downgrade b0@base"):
        deploy(project.project, None, print)
    project.alembic(command.downgrade, "b0@base", x="yes")
    project.add("b2", after="b1")
    assert deploy(project.project, None, print).state == AT_HEAD


def test_lock_trace(project: PlainProject) -> None:
    write(project, [*TWO_BASES, ("b2", "b1", None, "a1")])
    assert run_async(check_phases(project.project, at(project.url))) == []
    assert state(project) == AT_HEAD


def test_head_file(project: PlainProject) -> None:
    """It has a line for each branch; a rebase moves within a branch, and keeps the other lines."""
    head = project.versions / HEAD
    for file in TWO_BASES:
        write(project, [file])
        keep_head(str(project.versions / f"{file[0]}.py"))
        assert head_file_problem(project.script) is None
    assert head.read_text() == "a1\nb1\n"
    assert plan(project.script, None) is None
    write(project, [("b2", "b0", None, None)])
    keep_head(str(project.versions / "b2.py"))
    assert head.read_text() == "a1\nb2\n"
    problem = head_file_problem(project.script)
    assert problem is not None
    assert "(b1.py)" in problem[1] and "(b2.py)" in problem[1]
    move = plan(project.script, "b2")
    assert move is not None
    carry_out(project.script, move)
    assert (head.read_text(), head_file_problem(project.script)) == ("a1\nb2\n", None)
    head.write_text("b2\n")
    assert head_file_problem(project.script) is not None
    assert set_head(project.script) == ["a1", "b2"]
    assert head_file_problem(project.script) is None

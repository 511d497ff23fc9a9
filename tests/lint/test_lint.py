"""What lint reads, what it prints, and what silences it. The rules themselves: test_rules.py."""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from alembic.util import CommandError

from revision_files import POSTGRES_VERSION, Versions, found_in, names_in, written
from safe_migrations.errors import MigrationError, NotInstalledError, RevisionError
from safe_migrations.lint import check as lint
from safe_migrations.lint.findings import Finding, as_github, as_json, as_text
from safe_migrations.lint.registry import Rule
from safe_migrations.lint.rules import RULES
from safe_migrations.postgres.statements import split
from safe_migrations.upgrade.loading import load_revisions
from support import Render

JSON = "op.add_column('item', sa.Column('data', sa.JSON()))"
SAFE = "# safe: json-type because nobody compares it"


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    """A history of one revision."""
    return Versions(tmp_path)


# Acknowledgements


def test_comment_acknowledges_a_finding(tmp_path: Path) -> None:
    bodies = (
        f"{JSON}  {SAFE}",
        f"{SAFE}\n{JSON}",
        f"# what it is for\n{SAFE}\n# and more\n{JSON}",
        f"{SAFE}\nop.create_table('new', sa.Column('a', sa.JSON()), sa.Column('b', sa.JSON()))",
        f"{SAFE}\n# safe: changing-column-type because the table is small\n"
        "op.alter_column('item', 'data', type_=sa.JSON())",
    )
    assert found_in(tmp_path, {body: written(body) for body in bodies}) == {body: [] for body in bodies}


NOTHING = {
    f"{SAFE}\n\n{JSON}": [(27, "unused-acknowledgement"), (29, "json-type")],
    f"{SAFE}\nop.drop_constraint('c', 'item')\n{JSON}": [(27, "unused-acknowledgement"), (29, "json-type")],
    f"# safe: json-type\n{JSON}": [(27, "unused-acknowledgement"), (28, "json-type")],
    f"# safe: json-type because\n{JSON}": [(27, "unused-acknowledgement"), (28, "json-type")],
    f"# safe: json because of that\n{JSON}": [(27, "unused-acknowledgement"), (28, "json-type")],
    f"{JSON}  {SAFE}\n{JSON}": [(28, "json-type")],
    f"op.drop_constraint('c', 'item')  {SAFE}": [(27, "unused-acknowledgement")],
}


def test_comment_that_acknowledges_nothing(tmp_path: Path) -> None:
    assert found_in(tmp_path, {body: written(body) for body in NOTHING}) == NOTHING


def test_attribute_agrees_to_what_the_table_says(versions: Versions) -> None:
    body = f"op.alter_column('item', 'sku', type_=sa.Integer())\nop.drop_column('item', 'id')\n{JSON}"
    versions.add("0002", written(body, acknowledged=""))
    assert versions.found("0002") == [(29, "json-type")]
    agreed = {"ban-truncate-cascade", "changing-column-type", "renaming-column", "renaming-table"}
    agreed |= {"rewriting-column", "table-rewrite"}
    assert {rule.name for rule in RULES.values() if rule.by_acknowledged} == agreed


def test_squawks_own_comments_silence_nothing(versions: Versions) -> None:
    comments = "-- squawk-ignore-file\n-- squawk-ignore require-concurrent-index-creation"
    sql = f'"""\n{comments}\nCREATE INDEX ix ON item (sku)"""'
    versions.add("0002", written(f"# why\nop.execute({sql})"))
    assert versions.found("0002") == [(28, "require-concurrent-index-creation")]


def test_squawks_settings_change_nothing(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    versions.folder.joinpath(".squawk.toml").write_text('excluded_rules = ["require-concurrent-index-creation"]\n')
    monkeypatch.chdir(versions.folder)
    versions.add("0002", written("op.create_index('ix', 'item', ['sku'])"))
    assert versions.found("0002") == [(27, "require-concurrent-index-creation")]


# Ranges


def test_ranges(versions: Versions) -> None:
    for revision in ("0002", "0003", "0004"):
        versions.add(revision, written(""))
    scripts = versions.script_directory

    def revisions(range_: str | None) -> list[str]:
        return [script.revision for script in lint.find_scripts(scripts, range_)]

    assert revisions("0002:0003") == ["0003"]
    assert revisions("0002:") == revisions("0002:head") == ["0003", "0004"]
    assert revisions(":0002") == revisions("base:0002") == ["0001", "0002"]
    assert revisions("0003") == ["0003"]
    assert revisions("head") == ["0004"]
    assert revisions(None) == revisions("base:head") == ["0001", "0002", "0003", "0004"]  # without git, all are new
    for unknown in ("nothing", "0002:nothing", "nothing:"):
        with pytest.raises(CommandError):
            revisions(unknown)


# What it reads


def test_baseline_may_create_a_whole_schema(versions: Versions) -> None:
    assert versions.found("0001") == []


@pytest.mark.parametrize(
    ("body", "line", "reason"),
    [
        ("op.get_bind().execute(sa.select(1)).scalar_one()", 27, "scalar_one"),
        ("for row in op.get_bind().execute(sa.select(1)):\n    pass", 27, "query"),
        ("op.get_bind().begin_nested()", 27, "begin_nested"),
        ("x = 1\n\nraise ValueError('no\\nthing')", 29, "ValueError: no"),
        ("def inner():\n    return {}['a']\n\n\ninner()", 28, "KeyError: 'a'"),
    ],
)
def test_revision_that_needs_a_database(versions: Versions, body: str, line: int, reason: str) -> None:
    versions.add("0002", written(f"{body}\n"))
    (finding,) = versions.lint("0002")
    assert (finding.line, finding.rule.name) == (line, "needs-database")
    assert reason in finding.what
    assert "\n" not in finding.what


def test_what_comes_before_the_failure_is_read(versions: Versions) -> None:
    versions.add("0002", written(f"{JSON}\nraise ValueError"))
    assert versions.found("0002") == [(27, "json-type"), (28, "needs-database")]


@pytest.mark.parametrize("text", ["def", "import nothing_of_this_name\nrevision = '0002'"])
def test_file_that_can_not_be_imported(versions: Versions, text: str) -> None:
    path = versions.add("0002", text)
    with pytest.raises(MigrationError, match=f"^{os.path.relpath(path)}:1 "):
        load_revisions(versions.script_directory)


def test_what_a_revision_prints_does_not_mix_with_the_findings(
    versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    versions.add("0002", written("print('hello')"))
    assert versions.found("0002") == []
    assert capsys.readouterr() == ("", "hello\n")


def test_deleted_revision_that_another_one_follows(versions: Versions) -> None:
    versions.add("0002", written("")).unlink()
    versions.add("0003", written(""))
    names = re.compile(r"0003\.py .*0002.*\bgit log --all --oneline -S 0002 -- ", re.DOTALL)
    with warnings.catch_warnings(), pytest.raises(MigrationError, match=names):
        warnings.simplefilter("error")
        load_revisions(versions.script_directory)


@pytest.mark.parametrize("head", ["0002", "0003", "0001"])
def test_files_that_are_no_history(versions: Versions, head: str) -> None:
    """In each command that loads them, as `load_revisions` is the first that it does."""
    second, third = versions.add("0002", written("")), versions.add("0003", written(""))
    text = third.read_text()
    if head == "0001":  # two files of one id
        third.write_text(text.replace('revision = "0003"', 'revision = "0002"'))
    else:  # a circle of two, or of one
        second.write_text(second.read_text().replace("down_revision = '0001'", f"down_revision = '{head}'"))
    with pytest.raises(RevisionError, match="0002"):
        load_revisions(versions.script_directory)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("op.add_colum('item')", "AttributeError: "),
        ("op.drop_index_concurrently()", "TypeError: "),
        ("op.add_column('item', colum)", "NameError: "),
    ],
)
def test_mistake_in_python(versions: Versions, body: str, reason: str) -> None:
    versions.add("0002", written(body))
    (finding,) = versions.lint("0002")
    assert (finding.line, finding.rule.name) == (27, "python-error")
    assert finding.what.startswith(reason)


def test_statement_whose_values_can_not_be_written(versions: Versions) -> None:
    untyped = "item = sa.table('item', sa.column('qty'))\n# safe: needs-database because of types\nop.execute({})"
    versions.add("0002", written(untyped.format("sa.update(item).values(qty=0)")))
    assert versions.found("0002") == [(29, "update-without-where")]
    versions.add("0002", written(untyped.format("sa.update(item).where(item.c.qty == 1).values(qty=0)")))
    assert versions.found("0002") == []


def test_what_is_wrong_is_quoted(versions: Versions) -> None:
    versions.add("0002", written("# why\nop.execute('SELEC 1')", phase="later"))
    what = {finding.rule.name: finding.what for finding in versions.lint("0002")}
    assert what.keys() == {"missing-phase", "syntax-error", "unknown-command"}
    assert "'later'" in what["missing-phase"] and "'SELEC 1'" in what["syntax-error"]


def test_statements_of_one_text() -> None:
    text = """UPDATE item SET sku = 'a;b', "x;y" = E'\\';' -- one; two
    WHERE id = 1; /* ; */ SELECT $f$ ; $f$;"""
    assert [plain for _, plain in split(text)] == [
        """UPDATE item SET sku = '...', "x;y" = E....' WHERE id = 1""",
        "SELECT $.......$",
    ]


def test_downgrade_may_drop_and_need_not_be_online(versions: Versions) -> None:
    back = "op.drop_index('ix', 'item')\nop.alter_column('item', 'sku', nullable=False)\nop.drop_table('box')"
    versions.add("0002", written("", back))
    assert versions.found("0002") == []


DOWNGRADES = {
    "op.execute(sa.delete(ITEM))": "update-without-where",
    "op.execute('SELECT 1')": "raw-sql-without-reason",
    "for each in range(3):\n    op.execute(sa.select(each))": "row-by-row",
    "# why\nop.execute(\"DO 'BEGIN END'\")": "do-block",
    "# why\nop.execute('SET lock_timeout = 0')": "changed-timeout",
    "op.get_bind().scalar(sa.select(1))": "needs-database",
}


def test_downgrade_is_read(tmp_path: Path) -> None:
    rules = {back: [rule] for back, rule in DOWNGRADES.items()}
    assert names_in(tmp_path, {back: written("", back) for back in DOWNGRADES}) == rules


def test_types_of_earlier_revisions(versions: Versions) -> None:
    versions.add("0002", written("op.drop_enum('used')"))
    versions.add("0003", written("op.create_enum('used', ['bad'])", "op.drop_enum('used')"))
    versions.add("0004", written("op.create_enum('used', ['bad'])", "op.drop_enum('used')"))
    assert [(finding.path.stem, finding.rule.name) for finding in versions.lint()] == [("0004", "duplicate-type")]


@pytest.mark.parametrize(
    ("earlier", "column", "rules"),
    [
        ("op.create_enum('kind', ['a'])", "sa.Column('a', sa.Enum('a', name='kind'))", []),
        ("op.create_table('t', sa.Column('a', sa.Enum('a', name='kind')))", "sa.Column('a', sa.Enum(name='kind'))", []),
        ("op.create_enum('kind', ['a'])", "sa.Column('a', sa.Enum('a', name='Kind'))", ["missing-type"]),
        ("op.drop_enum('used')", "sa.Column('a', sa.ARRAY(sa.Enum('a', name='used')))", ["missing-type"]),
        ("sa.Enum(name='kind').create(op.get_bind())", "sa.Column('a', sa.Enum('a', name='kind'))", []),
        ("op.get_bind().scalar(sa.select(1))", "sa.Column('a', sa.Enum('a', name='kind'))", []),
        ("op.execute(\"DO 'BEGIN END'\")", "sa.Column('a', sa.Enum('a', name='kind'))", []),
        ("op.create_enum('kind', ['a'])", "sa.Column('a', sa.Enum('a', name='x', native_enum=False))", []),
        (
            "op.execute('CREATE DOMAIN d AS int CHECK (value > 0)')",
            "sa.Column('a', postgresql.DOMAIN('d', sa.Integer()))",
            ["rewriting-column"],
        ),
        (
            "op.execute('CREATE DOMAIN d AS int CHECK (value > 0)')\nop.execute('ALTER DOMAIN d RENAME TO e')",
            "sa.Column('a', postgresql.DOMAIN('e', sa.Integer()))",
            ["rewriting-column"],
        ),
        ("op.execute('CREATE DOMAIN d AS int')", "sa.Column('a', postgresql.DOMAIN('d', sa.Integer()))", []),
    ],
)
def test_columns_of_types_of_earlier_revisions(versions: Versions, earlier: str, column: str, rules: list[str]) -> None:
    versions.add("0002", written(earlier))
    versions.add("0003", written(f"op.add_column('item', {column})"))
    assert [name for _, name in versions.found("0003")] == rules


LEFT = {
    "op.drop_table('t')": ["duplicate-type"],
    "op.drop_table('t')\nop.drop_enum('kind{}')": [],
    "op.drop_table('t')\n# why\nop.execute('DROP TYPE IF EXISTS other, Kind{}')": [],
    "op.drop_table('t')\nsa.Enum(name='kind{}').drop(op.get_bind())": [],
    "op.get_bind().scalar(sa.select(1))": ["needs-database"],
    "# why\nop.execute(\"DO 'BEGIN END'\")": ["do-block"],
    "raise NotImplementedError": ["empty-downgrade"],
}


def test_type_that_a_downgrade_leaves(tmp_path: Path) -> None:
    create = "op.create_table('t', sa.Column('a', sa.Enum('b', name='kind{}')))"
    texts = {back: written(create.format(number), back.format(number)) for number, back in enumerate(LEFT)}
    assert names_in(tmp_path, texts) == LEFT


def test_twenty_revisions_are_read_by_one_squawk(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2, 22):
        versions.add(f"{number:04d}", written("op.create_index('ix', 'item', ['sku'])"))
    processes: list[object] = []
    run = subprocess.run

    def counted(*arguments: Any, **options: Any) -> Any:
        processes.append(arguments)
        return run(*arguments, **options)

    monkeypatch.setattr("subprocess.run", counted)
    findings = versions.lint("0001:")
    assert [(finding.path.stem, finding.line) for finding in findings] == [(f"{n:04d}", 27) for n in range(2, 22)]
    assert sum("squawk" in str(args) for args in processes) == 1


def test_nothing_to_read(versions: Versions) -> None:
    assert lint.lint(versions.script_directory, [], POSTGRES_VERSION) == []


def test_squawk_is_not_installed(versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalledError, match=r"(?s)squawk.*alembic-safe-migrations\[lint\]"):
        versions.lint("0001")


# The history as a whole


def test_long_revision_id(versions: Versions) -> None:
    head, ids = versions.folder / "versions" / "HEAD", ["0002" + "é" * 28, "0002" + "é" * 29]
    for revision, expected in zip(ids, ([], ["long-revision-id"]), strict=True):
        versions.add("0002", written("").replace('"{revision}"', repr(revision)))
        head.write_text(f"{revision}\n")
        line = versions.line("0002", "revision = ")
        assert versions.found("0001:0002") == [(line, rule) for rule in expected]


def test_head_file(versions: Versions) -> None:
    versions.folder.joinpath("versions", "HEAD").write_text("0000\n")
    (finding,) = versions.lint()
    assert (finding.path.name, finding.line, finding.rule.name) == ("HEAD", 1, "head-file")
    text = as_text([finding], [versions.path("0001")])
    assert text.endswith("\n\n1 finding in HEAD")
    (command,) = (line for line in text.splitlines() if line.startswith("    printf"))
    assert command.endswith("HEAD"), "nothing follows the command, which is to be copied"


def test_edited_revision(versions: Versions) -> None:
    def git(*arguments: str) -> None:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(versions.folder), *arguments]
        subprocess.run(command, check=True, capture_output=True)

    git("init", "--initial-branch=main")
    versions.add("0002", written(""))
    git("add", "--all")
    git("commit", "--message=all")
    git("switch", "--create=work")
    versions.add("0003", written(""))
    versions.add("0002", written("op.drop_constraint('c', 'item')"))
    versions.folder.joinpath("versions", "HEAD").write_text("0003\n")
    (finding,) = versions.lint()
    assert (finding.path.name, finding.line, finding.rule.name) == ("0002.py", 27, "edited-revision")
    assert "main" in finding.what
    assert "\n    -    pass\n    +    op.drop_constraint('c', 'item')\n    instead:\n" in as_text([finding], [])


# What it prints

RULE = Rule("a-rule", "EXCLUSIVE stops writers", "first: 100%\nsecond, x")


def findings_in(folder: Path) -> list[Finding]:
    """Two findings, one with something to name."""
    return [Finding(folder / "a,b.py", 3, RULE), Finding(folder / "c.py", 4, RULE, "item")]


def test_output_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [tmp_path / "alembic" / name for name in ("a,b.py", "c.py", "d.py")]
    assert (
        as_text(findings_in(tmp_path / "alembic"), files)
        == """\
alembic/a,b.py:3: a-rule: EXCLUSIVE stops writers
    instead:
        first: 100%
        second, x

alembic/c.py:4: a-rule: item: EXCLUSIVE stops writers
    instead:
        first: 100%
        second, x

2 findings in 2 of 3 revisions"""
    )
    assert as_text([], files) == "3 revisions, no findings"
    assert as_text([], files[:1]) == "1 revision, no findings"


def test_output_for_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(as_json(findings_in(tmp_path / "alembic")[1:])) == [
        {
            "file": "alembic/c.py",
            "line": 4,
            "rule": "a-rule",
            "why": "item: EXCLUSIVE stops writers",
            "instead": "first: 100%\nsecond, x",
        }
    ]
    assert as_json([]) == "[]"


def test_output_for_github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = tmp_path / "services" / "orders"
    service.mkdir(parents=True)
    monkeypatch.chdir(service)
    message = "EXCLUSIVE stops writers%0Ainstead:%0A    first: 100%25%0A    second, x"
    expected = f"::error file=PATH/a%2Cb.py,line=3,title=a-rule::{message}"
    assert list(as_github(findings_in(service)[:1])) == [expected.replace("PATH/", "")]
    tmp_path.joinpath(".git").touch()  # of a worktree it is a file
    assert list(as_github(findings_in(service)[:1])) == [expected.replace("PATH", "services/orders")]


def test_command(render: Render) -> None:
    service = render(layout="monorepo", outbox=True)
    lint = (sys.executable, "-m", "safe_migrations", "lint")
    assert service.succeed(*lint) == "1 revision, no findings\n"
    service.add_revision("bad", "op.execute('SELECT 1')", "op.execute('SELECT 2')")
    completed = service.run(*lint, "head", "--json")
    assert (completed.returncode, completed.stderr) == (1, "")
    last = json.loads(completed.stdout)[-1]
    assert (last["file"], last["rule"]) == (f"alembic/versions/{service.revisions()[-1]}", "raw-sql-without-reason")
    service.add_revision("gone", "op.drop_table('item')", "pass")
    assert "still-in-models: item" in service.run(*lint, "head").stdout
    explained = service.succeed(*lint, "--explain", "still-in-models")
    assert RULES["still-in-models"].instead in explained.replace("\n    ", "\n")
    unknown = service.run(*lint, "--explain", "still-in-model")
    assert unknown.returncode == 2
    assert unknown.stderr.endswith("\nsafe-migrations lint --explain still-in-models\n")
    for wrong in (["nothing"], ["--json", "--github"]):
        process = service.run(*lint, *wrong)
        assert (process.returncode, process.stdout) == (2, "")
        assert process.stderr.startswith("lint: ")
        assert len(process.stderr.splitlines()) == 1

"""Questions in the place of guesses: renames, and what existing rows get; answered by options or on a terminal."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from alembic import command
from alembic.script import Script
from sqlalchemy import URL

from alembic_in_process import Inside
from safe_migrations.autogenerate.preview import read_preview
from safe_migrations.errors import ConfigurationError, MigrationError, NotConfirmedError, RevisionError
from safe_migrations.upgrade.phases import phase_of
from safe_migrations.upgrade.project import load_project
from support import Render, fetch

ID = 'sa.Column("id", sa.BigInteger, primary_key=True)'


def table(name: str, *columns: str) -> str:
    return f'sa.Table("{name}", Base.metadata, {", ".join([ID, *columns])})\n'


def column(name: str, more: str = "") -> str:
    return f'sa.Column("{name}", sa.String(30){more})'


def enum(*values: str) -> str:
    return f'sa.Column("state", sa.Enum({", ".join(map(repr, values))}, name="state"))'


def at_head(render: Render, database: URL, models: str) -> Inside:
    """A service whose database has these models."""
    inside = Inside(render(), database)
    inside.begin(models)
    return inside


def text_of(scripts: Sequence[Script]) -> str:
    return "".join(Path(script.path).read_text() for script in scripts)


def refused(inside: Inside, *x: str, kind: type[MigrationError] = NotConfirmedError) -> str:
    """The message; no file is written."""
    files = sorted(inside.service.folder.rglob("*.py"))
    with pytest.raises(kind) as error:
        inside.autogenerate("the second change", x)
    assert sorted(inside.service.folder.rglob("*.py")) == files
    return str(error.value)


def test_nothing_is_guessed_without_a_terminal(render: Render, database: URL) -> None:
    inside = at_head(render, database, table("customer", column("fax"), column("old name")))
    inside.write_models(table("customer", column("tier"), column("new name")))
    message = refused(inside)
    for answer in ("--rename=customer.fax=tier", "'--rename=customer.old name=tier'", "--no-rename"):
        assert any(
            line.startswith("safe-migrations revision 'the second change' ") and answer in line
            for line in message.splitlines()
        ), answer
    assert "customer.fax=tier" in refused(inside, "rename=customer.fax=elsewhere", "no-rename")
    refused(inside, "rename=customer.fax=tier", "rename=customer.fax=new name", "no-rename")
    assert "fax" not in refused(inside, "rename=customer.fax=tier").partition("old name")[0], "it is answered"
    refused(inside, "rename=customer", kind=ConfigurationError)
    inside.alembic(read_preview_of)
    with pytest.raises(Exception, match="New upgrade operations detected"):
        inside.alembic(command.check)
    scripts = inside.autogenerate("the second change", ["no-rename", "its-own=1"])
    assert "fax" not in "".join(path.read_text() for path in inside.service.folder.rglob("backfills/*.py"))
    assert 'op.drop_column("customer", "fax")' in text_of(scripts)
    assert not inside.service.folder.joinpath("alembic", "backfills").exists()


def read_preview_of(config: object) -> None:
    """The preview shows the difference, and asks nothing."""
    plan = read_preview(load_project(config))  # type: ignore[arg-type]
    assert "ADD COLUMN tier" in "".join(revision.as_text() for revision in plan.revisions)


def test_a_column_is_renamed_over_three_releases(render: Render, database: URL) -> None:
    """The first release has nothing of the old column's end; afterwards the models have both, and nothing differs."""
    old = 'sa.UniqueConstraint("title"), sa.CheckConstraint("title <> \'\'", name="filled")'
    inside = at_head(render, database, table("item", column("title", ", nullable=False, index=True"), old))
    fetch(database, "INSERT INTO item (id, title) SELECT n, 'title ' || n FROM generate_series(1, 10) n")
    new = column("name", ", nullable=False, index=True")
    inside.write_models(table("item", new))
    scripts = inside.autogenerate("call titles names", ["rename=item.title=name"])
    assert inside.lint(scripts) == []
    written = text_of(scripts)
    assert "drop_index" not in written.partition("def downgrade")[0]
    for of_the_last_release in (
        'drop_column("item", "title"',
        "uq_item_title",
        "filled",
        "acknowledged",
        '"title", nul',
    ):
        assert of_the_last_release not in written
    inside.upgrade("head", str)
    rows = fetch(database, "SELECT count(*) AS copied FROM item WHERE name = title")
    assert rows[0].copied == 10
    inside.write_models(table("item", column("title", ", nullable=False, index=True"), new, old))
    assert inside.autogenerate("nothing differs") == []
    inside.write_models(table("item", new))
    last = inside.autogenerate("drop the titles")
    assert 'op.drop_column("item", "title")' in text_of(last)


def test_a_table_is_renamed_beside_a_view(render: Render, database: URL, capsys: pytest.CaptureFixture[str]) -> None:
    inside = at_head(render, database, table("item", column("name")) + table("other", column("a")))
    fetch(database, "INSERT INTO item VALUES (1, 'chair')")
    inside.write_models(table("product", column("name")) + table("other", column("b"), column("c")))
    assert "--rename=item=product" in refused(inside)
    capsys.readouterr()
    answers = ["rename=item=product", "rename=other.a=b"]
    expand, contract = inside.autogenerate("call items products", answers)
    later = "safe-migrations revision 'call items products' --rename=other.a=b"
    assert later in capsys.readouterr().out.splitlines()
    assert [phase_of(script) for script in (expand, contract)] == ["expand", "contract"]
    assert {finding.rule.name for finding in inside.lint([expand, contract])} == {"unacknowledged"}
    inside.upgrade(expand.revision, str)
    fetch(database, "INSERT INTO item VALUES (2, 'table')")
    assert [row.name for row in fetch(database, "SELECT name FROM product ORDER BY id")] == ["chair", "table"]
    inside.upgrade("head", str)
    inside.alembic(command.downgrade, "start", x=["yes"])
    assert len(fetch(database, "SELECT * FROM item")) == 2
    inside.upgrade("head", str)
    inside.autogenerate("more of other tables", answers[1:])
    inside.upgrade("head", str)
    inside.write_models(table("product", column("name")) + table("other", *map(column, "abc")))
    inside.alembic(command.check)


def test_a_value_of_an_enum_is_renamed_in_place(render: Render, database: URL) -> None:
    inside = at_head(render, database, table("item", enum("new", "it's", "gone")))
    fetch(database, "INSERT INTO item VALUES (1, 'it''s')")
    inside.write_models(table("item", enum("new", "it is", "gone")))
    (line,) = (line for line in refused(inside).splitlines() if "--rename" in line)
    assert shlex.split(line)[-1] == "--rename=state.it's=it is"
    scripts = inside.autogenerate("how a state is written", ["rename=state.it's=it is"])
    assert {finding.rule.name for finding in inside.lint(scripts)} == {"unacknowledged"}
    inside.upgrade("head", str)
    assert fetch(database, "SELECT state::text FROM item")[0].state == "it is"
    inside.alembic(command.check)
    inside.alembic(command.downgrade, "-1", x=["yes"])
    assert fetch(database, "SELECT state::text FROM item")[0].state == "it's"


def test_what_existing_rows_get(render: Render, database: URL) -> None:
    inside = at_head(render, database, table("item", column("name")))
    fetch(database, "INSERT INTO item VALUES (1, 'Chair')")
    sizes = 'sa.Column("size", sa.Numeric(4, 1), nullable=False)'
    state = 'sa.Column("state", sa.Enum("new", "old", name="state"), nullable=False)'
    more = [column(name, ", nullable=False") for name in ("sku", "code", "left")]
    inside.write_models(table("item", column("name"), *more, sizes, state))
    assert "numeric" in refused(inside, "value=item.size=large", kind=RevisionError)
    assert "character varying(30)" in refused(inside, f"value=item.sku={31 * 'x'}", kind=RevisionError)
    assert "new, old" in refused(inside, "value=item.state=other", kind=RevisionError)
    assert "nmae" in refused(inside, "expression=item.code=lower(nmae)", kind=RevisionError)
    assert "item.elsewhere" in refused(inside, "value=item.elsewhere=1")
    unique = table("item", column("name"), column("sku", ", unique=True, default='x', nullable=False"))
    inside.write_models(unique)
    assert "unique" in refused(inside, "value=item.sku=x", kind=RevisionError)
    inside.write_models(table("item", column("name"), *more, sizes, state))
    quoted = 'it\'s 100% "a" :b \\ {c}'
    answers = [f"value=item.sku={quoted}", "value=item.size=2.5", "value=item.state=old"]
    scripts = inside.autogenerate("more of an item", [*answers, "expression=item.code=lower(name) || '%:b'"])
    assert {finding.rule.name for finding in inside.lint(scripts)} == {"unwritten-backfill"}, "of item.left"
    inside.upgrade("head", lambda _: '{"left": "x"}')
    (row,) = fetch(database, 'SELECT sku, code, "left", size::text, state::text FROM item')
    assert tuple(row) == (quoted, "chair%:b", "x", "2.5", "old")
    inside.alembic(command.check)


def test_the_first_revision_and_the_second_one(
    render: Render, database: URL, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first may have a message of one word. A hook of the project's own gets a file that is complete."""
    monkeypatch.setenv("PDM_RUN_CWD", ".")
    inside = Inside(render(), database)
    ini = inside.service.folder / "alembic.ini"
    name = "REVISION_SCRIPT_FILENAME"
    own = f"hooks = head_and_ruff, own\nown.type = exec\nown.executable = cp\nown.options = {name} {name}.copy"
    ini.write_text(ini.read_text().replace("hooks = head_and_ruff", own))
    inside.write_models(table("item"))
    (script,) = inside.autogenerate("baseline")
    printed = capsys.readouterr()
    assert printed.out.endswith("\npdm run safe-migrations lint\n"), "a command that runs under PDM"
    assert "meaningless-message" not in printed.err
    assert Path(f"{script.path}.copy").read_text() == text_of([script])
    inside.alembic(command.upgrade, "head")
    inside.write_models(table("item", column("sku")))
    inside.autogenerate("shipments")
    assert "meaningless-message" in capsys.readouterr().err, "at once what lint would say later"

"""The statements of a revision with their locks."""

from pathlib import Path

from alembic.script import ScriptDirectory

from revision_files import Versions, written
from safe_migrations.lint.locked_statements import LockedStatement, locked_statements
from safe_migrations.lint.revision import Revision

CHECK, VALIDATE = "ADD CONSTRAINT c CHECK ({} IS NOT NULL) NOT VALID", "VALIDATE CONSTRAINT c"


def statements(folder: Path, body: str) -> list[LockedStatement]:
    Versions(folder).add("0002", written(body))
    return [*locked_statements(Revision(ScriptDirectory(str(folder)).get_revision("0002")))]


def altered(folder: Path, *actions: str) -> list[str]:
    body = "\n".join(f'op.execute("ALTER TABLE item {action}")' for action in actions)
    return [str(statement.lock) for statement in statements(folder, body)]


def test_steps_and_statements(tmp_path: Path) -> None:
    body = "if op.step('first'):\n    op.add_column('item', sa.Column('a', sa.Text()))\nif op.step('second'):\n"
    first, second = statements(tmp_path, f"{body}    op.execute('SELECT 1 -- why')")
    assert (first.step, first.sql) == ("first", "ALTER TABLE item ADD COLUMN a TEXT;")
    assert second.step == "second"
    assert second.sql.endswith("\n;")  # which the comment would hide
    assert (first.lock.mode, first.lock.table) == ("ACCESS EXCLUSIVE", "item")


def test_a_table_of_the_revision_is_not_in_use(tmp_path: Path) -> None:
    body = "op.create_table('new')\nop.create_index('ix', 'new', ['a'])\nop.create_index('ix_item', 'item', ['a'])"
    assert [statement.lock.mode for statement in statements(tmp_path, body)] == ["none", "none", "SHARE"]


def test_a_validated_check_spares_the_scan(tmp_path: Path) -> None:
    *_, lock = altered(tmp_path, CHECK.format("a"), VALIDATE, "ALTER COLUMN a SET NOT NULL")
    assert lock == "ACCESS EXCLUSIVE on item"


def test_another_check_does_not(tmp_path: Path) -> None:
    for before in (
        [CHECK.format("b"), VALIDATE],
        [CHECK.format("a")],
        [VALIDATE],
        [f"{CHECK.format('a OR b')}", VALIDATE],
    ):
        *_, lock = altered(tmp_path, *before, "ALTER COLUMN a SET NOT NULL")
        assert lock == "ACCESS EXCLUSIVE on item, reads all rows"
        tmp_path.joinpath("versions").rename(tmp_path / f"of {before[0]}")

"""Which changes share a file, and in which order the files of several tables run."""

import ast
import re
from collections.abc import Iterable

import pytest
from alembic import command
from alembic.autogenerate import render_python_code
from alembic.operations import MigrateOperation, ops
from sqlalchemy import URL, Column, Text

from alembic_in_process import Inside, schema
from safe_migrations.autogenerate.plan import Change, PlannedRevision, PlannedStep, Stage
from safe_migrations.autogenerate.rendering import Comment, Step
from safe_migrations.upgrade.phases import phase_of
from support import Render


def table(name: str, *columns: str) -> str:
    """A table of the models; `$` stands for the case's number."""
    lines = ['sa.Column("id", sa.BigInteger, primary_key=True)', *columns]
    return f'sa.Table("{name}$", Base.metadata, {", ".join(lines)})\n'


def refers(column: str, to: str) -> str:
    return f'sa.Column("{column}", sa.ForeignKey("{to.replace(".", "$.")}"))'


CODE = 'sa.Column("code", sa.Text, unique=True)'
KIND = 'sa.Column("kind", sa.Enum("a", "b", name="kind$"))'
MORE_KINDS = KIND.replace('"b"', '"b", "c"')
TWO = table("a") + table("b")
# Models before and after, and the files that come.
CASES: dict[str, tuple[str, str, list[str]]] = {
    "a unique constraint before the foreign key to it": (
        TWO,
        table("a", refers("b_code", "b.code")) + table("b", CODE),
        ["expand b", "expand a"],
    ),
    "a new table between two in use": (
        TWO,
        table("a", refers("n_id", "n.id")) + table("b", CODE) + table("n", refers("b_code", "b.code")),
        ["expand b", "expand n", "expand a"],
    ),
    "tables that need each other": (
        TWO,
        table("a", CODE, refers("b_code", "b.code")) + table("b", CODE, refers("a_code", "a.code")),
        ["expand a", "expand b", "expand a, 2"],
    ),
    "foreign keys in both directions that need nothing new": (
        TWO,
        table("a", refers("b_id", "b.id")) + table("b", refers("a_id", "a.id")),
        ["expand a", "expand b"],
    ),
    "an enum of two tables": (TWO, table("a", KIND) + table("b", KIND), ["expand a", "expand b"]),
    "new values of an enum, beside a table that uses them": (
        table("a", KIND) + table("b"),
        table("a", MORE_KINDS, CODE) + table("b", MORE_KINDS.replace("),", '), server_default="c",')),
        ["expand a", "expand b"],
    ),
    "a table that is dropped after what refers to it": (
        table("a") + table("b", refers("a_id", "a.id")),
        table("b"),
        ["contract b", "contract a"],
    ),
    "an enum that is dropped after the columns of two tables": (
        table("a", KIND) + table("b", KIND),
        TWO,
        ["contract a", "contract b"],
    ),
}


def test_the_order_of_files(render: Render, database: URL) -> None:
    inside = Inside(render(), database)
    inside.write_models(numbered(before for before, _, _ in CASES.values()))
    (first,) = inside.autogenerate("start")
    inside.alembic(command.upgrade, "head")
    at_start = schema(database)
    inside.write_models(numbered(after for _, after, _ in CASES.values()))
    scripts = inside.autogenerate("next")
    files = [f"{phase_of(script)} {place(str(script.doc))}" for script in scripts]
    for number, (name, (_, _, expected)) in enumerate(CASES.items()):
        own = [file for file in files if f"_{number}" in file]
        assert own == [re.sub(r"\b(a|b|n)\b", rf"\1_{number}", file) for file in expected], name
    inside.upgrade("head", str)
    inside.alembic(command.check)
    assert inside.lint(scripts) == []
    inside.alembic(command.downgrade, first.revision, x=["yes"])
    assert {kind for _, _, kind in schema(database) ^ at_start} <= {"value"}
    inside.alembic(command.upgrade, "head")


def numbered(models: Iterable[str]) -> str:
    return "".join(text.replace("$", f"_{number}") for number, text in enumerate(models))


def place(message: str) -> str:
    """The table, and the number of its file, as a message has them."""
    match = re.fullmatch(r"next \((.*?)(?:, contract)?\)", message)
    assert match
    return match[1]


def test_each_step_of_a_revision_has_a_name_of_its_own() -> None:
    operations = (ops.DropTableOp("b"),)
    steps = [PlannedStep([Change(Stage.ENUMS, "a", "values of kind", operations, operations)]) for _ in range(3)]
    revision = PlannedRevision(steps)
    names = [step.name for step in revision.upgrade if isinstance(step, Step)]
    assert len(set(names)) == 3
    assert [step.name for step in revision.downgrade if isinstance(step, Step)] == names[::-1]


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        (["a.x not null, for new rows", "a.y not null, for new rows"], "a.x, a.y not null, for new rows"),
        (["ck_a_x, for new rows", "ck_a_y, for new rows"], "ck_a_x, ck_a_y, for new rows"),
        (["drop a.x", "drop a.y", "drop a.z"], "drop a.x, a.y, a.z"),
        (["add a.x", "comment on a.x"], "add, comment on a.x"),
        (["fk_x", "fk_y"], "fk_x; fk_y"),
        (["add a.x", "drop fk"], "add a.x; drop fk"),
        (["drop", "drop a.x"], "drop; drop a.x"),
        ([f"add {'x' * 40}", f"add {'y' * 40}", "add z"], f"add {'x' * 40} and 2 more"),
        ([f"add {'x' * 80}"], f"add {'x' * 80}"),
    ],
)
def test_the_title_of_a_step_names_all_that_fit(titles: list[str], expected: str) -> None:
    assert PlannedStep([Change(Stage.COLUMNS, "a", title, (), ()) for title in titles]).title == expected


def test_a_step_has_each_comment_once() -> None:
    drop, execute = ops.DropTableOp("b"), ops.ExecuteSQLOp("SELECT 1")

    def comments(*contents: tuple[MigrateOperation, ...]) -> list[str]:
        step = PlannedStep([Change(Stage.COLUMNS, "a", "x", content, content) for content in contents])
        assert len(step.upgrade) == len(step.downgrade)
        assert sum(not isinstance(item, Comment) for item in step.upgrade) == sum(len(part) - 1 for part in contents)
        return [item.text for item in step.upgrade if isinstance(item, Comment)]

    why, other, safe = Comment("why"), Comment("other"), Comment("safe: rule because")
    assert comments((why, drop), (why, drop), (why, drop)) == ["why"]
    assert comments((why, drop), (other, drop), (why, drop)) == ["why", "other", "why"]
    assert comments((safe, drop), (safe, drop)) == [safe.text] * 2
    assert comments((why, execute), (why, execute)) == ["why"] * 2
    assert comments((why,), (why,)) == ["why"] * 2


def test_steps_are_blocks_without_a_formatter() -> None:
    table = ops.CreateTableOp("a", [Column("if", Text), Column("b", Text, comment="else:\nx")])
    first = Step('a "b": #', [Comment("of what follows:"), table, ops.DropTableOp("b")])
    code = render_python_code(ops.UpgradeOps([first, Step("ö", [ops.DropTableOp("c")])]))
    (function,) = ast.parse(f"def upgrade():\n    {code}").body
    assert isinstance(function, ast.FunctionDef)
    steps = [(ast.unparse(node.test), len(node.body)) for node in function.body if isinstance(node, ast.If)]
    assert steps == [("op.step('a \"b\": #')", 2), ("op.step('ö')", 1)]
    assert len(function.body) == 2

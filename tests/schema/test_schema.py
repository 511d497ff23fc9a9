"""The structure of models, and its diagram."""

import re
import shlex
from argparse import Namespace
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from safe_migrations.errors import MigrationError, ModelError
from safe_migrations.schema import commands
from safe_migrations.schema.mermaid import mermaid
from safe_migrations.schema.structure import Column, ForeignKey, Table, read_tables
from support import Render

# What the lexer of Mermaid (10 and 11) takes in a diagram of this kind: any text but for these characters between
# quotes, or a word that is no key. The diagrams of these tests were read by its parser, version 11.17.
QUOTED = r'"[^"%\\\n#;~]*(?:#\d+;[^"%\\\n#;~]*)*"'
WORD = r"(?!(?i:PK|FK|UK)\b)[A-Za-z_\u00c0-\U0010ffff][\w()\[\]\u00c0-\U0010ffff-]*"
LINE = re.compile(
    rf"    (?:(?P<table>{QUOTED})(?: \{{)?|    {WORD} {WORD}(?: [PFU]K(?:, [PFU]K)*)?(?: {QUOTED})?|\}}"
    rf"|{QUOTED} (?:\|o|\|\|)--(?:o\||o\{{) {QUOTED} : {QUOTED})"
)
NAMES = [
    *(
        "order",
        "order lines",
        "a.b",
        'say "no"',
        "100%",
        "back\\slash",
        "new\nline",
        "<b>",
        "#quot;",
        "größe",
        "表",
        "🐘",
    ),
    *(
        "pk",
        "FK-x",
        "u",
        "to",
        "end",
        "style",
        "accTitle: x",
        "my direction TB",
        "erDiagram",
        "__proto__",
        "%%{init}%%",
    ),
    *(
        "2fa",
        "- x",
        "1. x",
        "0+",
        "{",
        "}",
        "--",
        "[x]",
        "`",
        "```",
        "a~b~",
        "style a:b#1;",
        "\u2028",
        "\xa0",
        "µ²",
        " x ",
        "it's",
    ),
]

ENVIRONMENT = """
import sqlalchemy as sa
from safe_migrations import run_env

models = sa.MetaData(), sa.MetaData()
for name, metadata in zip(("one", "two"), models, strict=True):
    sa.Table(name, metadata, sa.Column("{column}", sa.Integer, primary_key=True))
run_env(target_metadata=models, database_url="postgresql://nobody@nowhere.invalid/none")
"""


def column(table: Table, name: str) -> Column:
    return next(column for column in table.columns if column.name == name)


def decoded(quoted: str) -> str:
    return re.sub(r"#(\d+);", lambda code: chr(int(code[1])), quoted[1:-1])


def test_structure() -> None:
    metadata = sa.MetaData()
    state = sa.Enum("new", "paid", name="State", schema="app")
    parent = sa.Table(
        "parent",
        metadata,
        sa.Column("tenant", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("price", sa.Numeric(10, 2), server_default=sa.text("0.00"), nullable=False),
        sa.Column("label", sa.Text, server_default="it's"),
        sa.Column("gross", sa.Numeric, sa.Computed("price * 2")),
        sa.Column("states", postgresql.ARRAY(state)),
        sa.Column("seen", sa.DateTime(timezone=True), server_default=sa.func.now(), comment="last\nvisit"),
        sa.Index("whole", "price", unique=True),
        sa.Index("some", "label", unique=True, postgresql_where=sa.text("label <> ''")),
        sa.Index("lower", sa.func.lower(sa.column("gross")), unique=True),
        schema="app",
        comment="what is sold",
    )
    other = sa.MetaData()
    sa.Table(
        "child",
        other,
        sa.Column("id", sa.Integer, sa.ForeignKey(parent.c.id), primary_key=True),
        sa.Column("tenant", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Integer),
        sa.Column("missing", sa.ForeignKey("elsewhere.gone.id"), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "number"], [parent.c.tenant, parent.c.id]),
    )
    parent_table, child = read_tables([other, metadata])
    assert (parent_table.name, parent_table.comment, child.name) == ("app.parent", "what is sold", "child")
    assert column(parent_table, "tenant") == Column("tenant", "bigint", False, True, False, "identity", (), "")
    assert column(parent_table, "price") == Column(
        "price", "numeric(10, 2)", False, False, True, "default 0.00", (), ""
    )
    assert column(parent_table, "label") == Column("label", "text", True, False, False, "default 'it''s'", (), "")
    assert column(parent_table, "gross").default == "generated as price * 2"
    assert not column(parent_table, "gross").is_unique, "the index is of an expression"
    assert column(parent_table, "states").type == 'app."State"[]'
    assert column(parent_table, "states").values == ("new", "paid")
    assert column(parent_table, "seen").type == "timestamp with time zone"
    assert column(parent_table, "seen").default == "default now()"
    assert column(child, "missing").type == "", "the models do not say it"
    assert child.foreign_keys == (
        ForeignKey(("id",), "app.parent", ("id",), False, True),
        ForeignKey(("tenant", "number"), "app.parent", ("tenant", "id"), True, False),
        ForeignKey(("missing",), "elsewhere.gone", ("id",), False, False),
    )
    assert read_tables(None) == []


def test_tables_of_two_schemas_keep_apart() -> None:
    metadata = sa.MetaData()
    for schema in (None, "app"):
        sa.Table("user", metadata, sa.Column("id", sa.Integer, primary_key=True), schema=schema)
    text = mermaid(read_tables(metadata))
    assert '"user" {' in text
    assert '"app.user" {' in text


def test_any_name_is_valid_and_is_kept(random: Random) -> None:
    characters = [chr(number) for number in range(1, 0x250)] + list("表🐘\u2028\ufeff")
    names = NAMES + ["".join(random.choices(characters, k=random.randint(1, 12))) for _ in range(200)]
    names = list(dict.fromkeys(names))
    metadata = sa.MetaData()
    for number, name in enumerate(names):
        table = sa.Table(f"{name}", metadata, sa.Column("id", sa.Integer, primary_key=True, comment=name))
        table.append_column(sa.Column(f"{name}{name}", sa.Enum(name, name=name), comment=f"it is\n{name}"))
        if number:
            table.append_column(sa.Column(f"{name}_id", sa.ForeignKey(next(iter(metadata.tables.values())).c.id)))
    first, *lines = mermaid(read_tables(metadata)).splitlines()
    assert first == "erDiagram"
    matches = [(line, LINE.fullmatch(line)) for line in lines]
    assert [line for line, match in matches if not match] == []
    assert not [line for line in lines if re.search(r"direction\s+(TB|BT|LR|RL)", line, re.IGNORECASE)]
    shown = [decoded(match["table"]) for _, match in matches if match and match["table"]]
    assert shown == [
        "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in name)
        for name in sorted(names)
    ]


def test_diagram_of_a_service_is_current_as_rendered(render: Render) -> None:
    for outbox in (True, False):
        service = render(outbox=outbox)
        assert "is current" in service.succeed("safe-migrations", "schema", "--check")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with models in two MetaData and no database that answers, as the working directory."""
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
    tmp_path.joinpath("env.py").write_text(ENVIRONMENT.format(column="id"))
    return tmp_path


def schema(file: str | None = None, *, check: bool = False) -> int:
    return commands.schema(Namespace(config=[], file=Path(file) if file else None, check=check))


@pytest.mark.parametrize("file", [None, "an other.md"])
def test_file_is_written_and_checked(project: Path, file: str | None) -> None:
    path = project / (file or "docs/schema.md")
    assert schema(file) == 0
    assert schema(file, check=True) == 0
    text = path.read_text()
    assert text.count("```") == 2
    assert '"one" {' in text
    assert '"two" {' in text
    project.joinpath("env.py").write_text(ENVIRONMENT.format(column="number"))
    with pytest.raises(ModelError, match="safe-migrations schema") as refusal:
        schema(file, check=True)
    assert shlex.split(str(refusal.value).splitlines()[-1]) == ["safe-migrations", "schema", *([file] if file else [])]
    assert path.read_text() == text, "a check writes nothing"
    schema(file)
    assert "integer number" in path.read_text()
    assert schema(file, check=True) == 0


def test_a_project_need_not_have_the_file(project: Path) -> None:
    assert schema(check=True) == 0
    with pytest.raises(ModelError):
        schema("named.md", check=True)
    assert not list(project.rglob("*.md"))


def test_file_of_somebody_else_is_kept(project: Path) -> None:
    project.joinpath("docs").mkdir()
    path = project / "docs" / "schema.md"
    path.write_bytes(b"# Mine: \xff")
    with pytest.raises(MigrationError, match=r"docs/schema\.md"):
        schema()
    assert schema(check=True) == 0, "CI of a service that has its own file"
    with pytest.raises(ModelError):
        schema("docs/schema.md", check=True)
    assert path.read_bytes() == b"# Mine: \xff"


@pytest.mark.parametrize("file", ["folder", "env.py/schema.md", "/proc/schema.md"])
def test_file_that_cannot_be_written(project: Path, file: str) -> None:
    project.joinpath("folder").mkdir()
    with pytest.raises(MigrationError, match=Path(file).name):
        schema(file)

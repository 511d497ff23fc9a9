"""The previous release goes on, on the connections that it has, while the expand revisions of the next one run."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import command
from sqlalchemy import URL, MetaData

from alembic_in_process import Inside
from safe_migrations.upgrade.phases import EXPAND, phase_of
from support import Render, fetch
from traffic import LONGEST_STALL, SESSIONS, Traffic, traffic

NOTE = """

class Note(Base):
    __tablename__ = "note"
    __table_args__ = ({checks})
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    code: Mapped[str] = mapped_column(sa.String({length}), {code})
    kind: Mapped[str] = mapped_column(sa.Enum({kinds}, name="kind"))
    text: Mapped[str{null}]
    at: Mapped[datetime] = mapped_column(server_default=func.now()){more}
"""
BEFORE = NOTE.format(
    checks="CheckConstraint(\"text <> ''\", name='full'),",
    length=10,
    code="default='a'",
    kinds="'a', 'b'",
    null="",
    more="",
)
AFTER = NOTE.format(
    checks="",
    length=10,
    code="server_default='a', index=True",
    kinds="'a', 'x', 'b', 'c'",
    null=" | None",
    more="""
    title: Mapped[str | None]
    rank: Mapped[int] = mapped_column(server_default="1")
    token = mapped_column(sa.Uuid, server_default=func.gen_random_uuid(), unique=True)
    colour = mapped_column(sa.Enum("red", "blue", name="colour"))
    folder_id: Mapped[int | None] = mapped_column(BigInteger, sa.ForeignKey("folder.id"))


class Folder(Base):
    __tablename__ = "folder"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
""",
)
WIDENED = BEFORE.replace("String(10)", "String(20)")


def code(metadata: MetaData) -> Sequence[sa.Executable]:
    """What the release does; as its models do it, it names columns and fetches what PostgreSQL computes."""
    note = metadata.tables["note"]
    return [
        sa.insert(note).values(code="a", kind="a", text="b").returning(note.c.id, note.c.at),
        sa.update(note).where(note.c.id == 1).values(text="c", code="b").returning(note.c.kind, note.c.text),
        sa.select(note).where(note.c.id == 1),
        sa.select(note.c.kind, sa.func.count()).group_by(note.c.kind),
    ]


def run(render: Render, url: URL, after: str) -> tuple[list[str], Traffic]:
    """Run the expand revisions of a change while the previous release goes on.

    Returns:
        The messages of the revisions, and what the previous release has met.
    """
    inside = Inside(render(), url)
    metadata = inside.write_models(BEFORE)
    inside.autogenerate("start")
    inside.alembic(command.upgrade, "head")
    fetch(url, "INSERT INTO note (code, kind, text) SELECT 'a', 'a', 'b' FROM generate_series(1, 100)")
    inside.write_models(after)
    scripts = [script for script in inside.autogenerate("next") if phase_of(script) == EXPAND]
    with traffic(url, code(metadata)) as running:
        for script in scripts:
            inside.alembic(command.upgrade, script.revision)
            running.let_pass()
        met = len(running.errors)
        running.let_pass()
        assert len(running.errors) == met, "no connection fails for good"
    return [script.doc or "" for script in scripts], running


def test_expand_revisions_disturb_nobody(render: Render, database: URL) -> None:
    messages, running = run(render, database, AFTER)
    assert messages == ["next (folder)", "next (note)"]
    assert running.errors == []
    assert max(running.longest.values()) < LONGEST_STALL


def test_another_type_fails_once(render: Render, database: URL) -> None:
    """PostgreSQL keeps the rows, and refuses a prepared statement whose result has another type than before.

    SQLAlchemy then drops the prepared statements of all connections of the process: the next try succeeds.
    """
    messages, running = run(render, database, WIDENED)
    assert len(messages) == 1, messages
    assert {error for error, _ in running.errors} == {"InvalidCachedStatementError"}
    assert len(running.errors) <= SESSIONS, "what the connections were doing at that moment"

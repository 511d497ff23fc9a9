"""The revisions of one change: which pieces stand together, in which order, before or after the new code.

Each revision alters one table that exists already, so that no transaction holds the locks of two.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from alembic.operations import MigrateOperation

from safe_migrations.autogenerate.rendering import Comment, Nothing
from safe_migrations.upgrade.phases import CONTRACT, EXPAND


class Stage(IntEnum):
    """The order in which the pieces of a phase run: what others build on comes first."""

    RENAMES = 0
    ENUMS = 1
    COLUMNS = 2
    TYPES = 3
    UNIQUE = 4
    TABLES = 5
    INDEXES = 6
    NOT_VALID = 7
    VALIDATE = 8
    ENFORCE = 9
    DROP_CONSTRAINTS = 10
    DROP_COLUMNS = 11
    DROP_TABLES = 12
    REPLACE_ENUMS = 13


@dataclass(frozen=True)
class Piece:
    """Operations that belong together, and why they are as they are.

    Attributes:
        stage: its place in the order.
        table: what it locks; pieces of one stage and one table are one revision.
        title: what it does, in a few words, for the revision's message.
        comment: what it does and why, in one line, for the file.
        upgrade: its operations.
        downgrade: those that take it back, in their order.
        downgrade_comment: what there is to know about them, in lines.
        phase: `expand` or `contract`.
        alone: whether it needs a revision of its own.
        danger: what is lost or locked, if somebody has to acknowledge it.
        question: what to decide before, in lines.
        backfill: the one that has to be complete before it.
    """

    stage: Stage
    table: str
    title: str
    comment: str
    upgrade: tuple[MigrateOperation, ...]
    downgrade: tuple[MigrateOperation, ...]
    downgrade_comment: str = ""
    phase: str = EXPAND
    alone: bool = False
    danger: str | None = None
    question: tuple[str, ...] = ()
    backfill: str | None = None


Pieces = Iterator[Piece]


@dataclass(frozen=True)
class Step:
    """One revision of a series.

    Attributes:
        pieces: what it does, in order.
    """

    pieces: list[Piece] = field(default_factory=list)

    @property
    def phase(self) -> str:
        """`expand` or `contract`."""
        return self.pieces[0].phase

    @property
    def title(self) -> str:
        """What it does, in a few words."""
        others = len(self.pieces) - 1
        return self.pieces[0].title + (f" and {others} more" if others else "")

    def upgrade(self) -> list[MigrateOperation]:
        """Its operations, each piece after its comment."""
        return [
            each
            for piece in self.pieces
            for each in (*(Comment(line) for line in (*piece.question, piece.comment)), *piece.upgrade)
        ]

    def downgrade(self) -> list[MigrateOperation]:
        """Those that take it back."""
        operations = [
            each
            for piece in reversed(self.pieces)
            for each in (*map(Comment, piece.downgrade_comment.splitlines()), *piece.downgrade)
        ]
        return operations if any(not isinstance(each, Comment) for each in operations) else [*operations, Nothing()]

    @property
    def danger(self) -> str:
        """What somebody has to acknowledge; nothing in most."""
        return "; ".join(piece.danger for piece in self.pieces if piece.danger)

    def declarations(self) -> str:
        """The lines of the file that tell its phase, what it needs, and its danger."""
        lines = [f'phase = "{self.phase}"  # {_PHASES[self.phase]}']
        backfills = sorted({piece.backfill for piece in self.pieces if piece.backfill})
        if backfills:
            needed = backfills[0] if len(backfills) == 1 else tuple(backfills)
            lines.append(f"requires_backfill = {needed!r}")
        if self.danger:
            lines += ["# It does not run until somebody takes the next line out of its comment, and so agrees:"]
            lines += [f"# acknowledged = {json.dumps(self.danger, ensure_ascii=False)}"]
        return "\n".join(lines)


_PHASES = {EXPAND: "runs before the new code is deployed", CONTRACT: "runs when the new code runs everywhere"}


def in_order(pieces: Iterable[Piece]) -> list[Piece]:
    """In the order in which they run; those of one phase and stage stay as they are.

    Args:
        pieces: in any order.
    """
    return sorted(pieces, key=lambda piece: (piece.phase == CONTRACT, piece.stage))


def in_steps(pieces: Iterable[Piece]) -> list[Step]:
    """As few revisions as safety allows.

    Args:
        pieces: in order.
    """
    steps: dict[tuple[object, ...], Step] = {}
    for number, piece in enumerate(pieces):
        key = (piece.phase, piece.stage, number if piece.alone else piece.table)
        steps.setdefault(key, Step()).pieces.append(piece)
    return list(steps.values())

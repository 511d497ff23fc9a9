"""Each change of models: what autogenerate writes for it runs while the code of both releases reads and writes."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import Script
from sqlalchemy import URL, Column, ColumnElement, MetaData, Table

from alembic_in_process import Inside, schema
from safe_migrations.errors import MigrationError
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.upgrade.phases import EXPAND, phase_of, unacknowledged
from support import Render, at, fetch
from traffic import LONGEST_STALL, Traffic, traffic

ROWS = 300  # in each table
_OPERATION = re.compile(r"\bop\.(?!f\b)(\w+)\(")
ID = "id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)"


@dataclass(frozen=True)
class Case:
    """A change of one table, which has the case's name after `t_`.

    Attributes:
        name: what changes.
        before: the lines of its model besides `id`; or models, as a whole.
        after: the same, of the next release.
        revisions: what autogenerate writes: phase, and operations by steps; `!` marks a danger to acknowledge, `<` a
            required backfill.
        values: what its backfill fills in, in Python.
        refill: SQL that makes rows fit for a downgrade.
        in_use: whether code reads and writes it during the upgrade.
        error: asyncpg's class of the one that a warm connection meets once.
    """

    name: str
    before: str
    after: str
    revisions: Sequence[str] = ()
    values: str = ""
    refill: str = ""
    in_use: bool = True
    error: str = ""

    def models(self) -> tuple[str, str]:
        """The text of each release's models."""
        before, after = (
            text if "class " in text or not text else model(f"t_{self.name}", text)
            for text in (self.before, self.after)
        )
        return before, after


def model(table: str, lines: str) -> str:
    """The text of a model."""
    name = table.title().replace("_", "")
    return f"\n\nclass {name}(Base):\n" + indent(f'__tablename__ = "{table}"\n{ID}\n{lines.strip()}\n', "    ")


CASES: dict[str, list[Case]] = {}
CASES["indexes, constraints"] = [
    Case(
        "index",
        "code: Mapped[str]",
        "code: Mapped[str] = mapped_column(index=True)",
        ["expand: create_index_concurrently"],
    ),
    Case(
        "unique_index",
        "code: Mapped[str]",
        "code: Mapped[str] = mapped_column(index=True, unique=True)",
        ["expand: create_index_concurrently"],
    ),
    Case(
        "index_changed",
        'code: Mapped[str]\nsize: Mapped[int]\n__table_args__ = (sa.Index("ix_t_index_changed", "code"),)',
        'code: Mapped[str]\nsize: Mapped[int]\n__table_args__ = (sa.Index("ix_t_index_changed", "size", "code"),)',
        ["expand: create_index_concurrently", "contract: drop_index_concurrently execute"],
    ),
    Case(
        "unique_index_changed",
        "code: Mapped[str]\nsize: Mapped[int]\n"
        '__table_args__ = (sa.Index("ix_t_unique_index_changed", "code", unique=True),)',
        "code: Mapped[str]\nsize: Mapped[int]\n"
        '__table_args__ = (sa.Index("ix_t_unique_index_changed", "size", "code", unique=True),)',
        ["expand!: create_index_concurrently | drop_index_concurrently execute"],
    ),
    Case(
        "index_partial",
        "code: Mapped[str]",
        "code: Mapped[str]\n"
        "__table_args__ = (sa.Index('ix_t_index_partial', sa.text('lower(code) DESC'), postgresql_include=['id'], "
        "postgresql_where=sa.text(\"code LIKE 'a%'\"), postgresql_with={'fillfactor': 50}),)",
        ["expand: create_index_concurrently"],
    ),
    Case(
        "index_dropped",
        "code: Mapped[str] = mapped_column(index=True)",
        "code: Mapped[str]",
        ["contract: drop_index_concurrently"],
    ),
    Case(
        "unique_index_dropped",
        "code: Mapped[str] = mapped_column(index=True, unique=True)",
        "code: Mapped[str]",
        ["expand!: drop_index_concurrently"],
    ),
    Case(
        "unique",
        "code: Mapped[str]",
        "code: Mapped[str] = mapped_column(unique=True)",
        ["expand: create_index_concurrently create_unique_constraint_using_index"],
    ),
    Case(
        "unique_changed",
        "code: Mapped[str]\nsize: Mapped[int]\n"
        "__table_args__ = (sa.UniqueConstraint('code', name='uq_t_unique_changed'),)",
        "code: Mapped[str]\nsize: Mapped[int]\n"
        "__table_args__ = (sa.UniqueConstraint('code', 'size', name='uq_t_unique_changed'),)",
        ["expand!: create_index_concurrently drop_constraint create_unique_constraint_using_index"],
    ),
    Case(
        "unique_to_index",  # no successor: an index that is not unique forbids nothing
        "code: Mapped[str] = mapped_column(unique=True)",
        "code: Mapped[str] = mapped_column(index=True)",
        ["expand!: drop_constraint | create_index_concurrently"],
    ),
    Case(
        "unique_moved",  # no successor: it is another column's
        "code: Mapped[str] = mapped_column(unique=True)\nother: Mapped[str]",
        "code: Mapped[str]\nother: Mapped[str] = mapped_column(unique=True)",
        ["expand!: drop_constraint | create_index_concurrently create_unique_constraint_using_index"],
    ),
    Case(
        "unique_by_constraint",
        "code: Mapped[str] = mapped_column(index=True, unique=True)",
        "code: Mapped[str] = mapped_column(unique=True)",
        ["expand: create_index_concurrently create_unique_constraint_using_index", "contract: drop_index_concurrently"],
    ),
    Case(
        "unique_dropped",
        "code: Mapped[str] = mapped_column(unique=True)",
        "code: Mapped[str]",
        ["expand!: drop_constraint"],
    ),
]


def with_box(name: str, lines: str) -> str:
    return model(f"t_{name}_box", "label: Mapped[str]") + model(f"t_{name}", lines)


CASES["indexes, constraints"] += [
    Case(
        "check",
        "code: Mapped[str]",
        "code: Mapped[str]\n__table_args__ = (CheckConstraint(\"code <> ''\", name='full'),)",
        ["contract: create_check_constraint | validate_constraint"],
    ),
    Case(
        "check_changed",
        "code: Mapped[str]\n__table_args__ = (CheckConstraint(\"code <> ''\", name='full'),)",
        "code: Mapped[str]\n__table_args__ = (CheckConstraint(\"code <> '-'\", name='not_dash'),)",
        ["expand: drop_constraint", "contract: create_check_constraint | validate_constraint"],
    ),
    Case(
        "check_dropped",
        "code: Mapped[str]\n__table_args__ = (CheckConstraint(\"code <> ''\", name='full'),)",
        "code: Mapped[str]",
        ["expand: drop_constraint"],
    ),
    Case(
        "fk",
        with_box("fk", "box_id: Mapped[int] = mapped_column(BigInteger)"),
        with_box("fk", "box_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey('t_fk_box.id'))"),
        ["contract: create_foreign_key | validate_constraint"],
    ),
    Case(
        "fk_column",
        with_box("fk_column", "code: Mapped[str]"),
        with_box(
            "fk_column",
            "code: Mapped[str]\n"
            "box_id: Mapped[int | None] = mapped_column(BigInteger, sa.ForeignKey('t_fk_column_box.id'))",
        ),
        ["expand: add_column | create_foreign_key | validate_constraint"],
    ),
    Case(
        "fk_table",
        model("t_fk_table", "code: Mapped[str]"),
        with_box(
            "fk_table",
            "code: Mapped[str]\n"
            "box_id: Mapped[int | None] = mapped_column("
            "BigInteger, sa.ForeignKey('t_fk_table_box.id', ondelete='CASCADE'), index=True)",
        ),
        [
            "expand: create_table",
            "expand: add_column | create_index_concurrently | create_foreign_key | validate_constraint",
        ],
    ),
    Case(
        "fk_changed",
        with_box("fk_changed", "box_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey('t_fk_changed_box.id'))"),
        with_box(
            "fk_changed",
            "box_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey('t_fk_changed_box.id', ondelete='CASCADE'))",
        ),
        ["contract: drop_constraint create_foreign_key | validate_constraint"],
    ),
    Case(
        "fk_renamed",
        with_box(
            "fk_renamed",
            "code: Mapped[str]\n"
            "box_id = mapped_column(sa.ForeignKey('t_fk_renamed_box.id', name='fk_t_fk_renamed_one'))",
        ),
        with_box(
            "fk_renamed",
            "box_id = mapped_column(sa.ForeignKey('t_fk_renamed_box.id', name='fk_t_fk_renamed_two',"
            "ondelete='CASCADE'))\n"
            "code: Mapped[str]",
        ),
        ["contract: create_foreign_key | validate_constraint | drop_constraint"],
    ),
    Case(
        "fk_moved",  # no successor: it is another column's
        with_box(
            "fk_moved",
            "one_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey('t_fk_moved_box.id'))\n"
            "two_id: Mapped[int] = mapped_column(BigInteger)",
        ),
        with_box(
            "fk_moved",
            "one_id: Mapped[int] = mapped_column(BigInteger)\n"
            "two_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey('t_fk_moved_box.id'))",
        ),
        ["expand: drop_constraint", "contract: create_foreign_key | validate_constraint"],
    ),
    Case(
        "fk_dropped",
        with_box("fk_dropped", "box_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey('t_fk_dropped_box.id'))"),
        with_box("fk_dropped", "box_id: Mapped[int] = mapped_column(BigInteger)"),
        ["expand: drop_constraint"],
    ),
]
CASES["columns, enums"] = [
    Case(
        "not_null",
        "code: Mapped[str | None]",
        "code: Mapped[str]",
        ["contract <t_not_null_code: create_check_constraint | validate_constraint | alter_column drop_constraint"],
        values='{"code": sa.literal("-")}',
    ),
    Case(
        "null",
        "code: Mapped[str]",
        "code: Mapped[str | None]",
        ["expand: alter_column"],
        refill="UPDATE t_null SET code = '' WHERE code IS NULL",
    ),
    Case(
        "new_not_null",
        "code: Mapped[str]",
        "code: Mapped[str]\nsku: Mapped[str]",
        [
            "expand: add_column",
            "contract <t_new_not_null_sku: create_check_constraint | validate_constraint | "
            "alter_column drop_constraint",
        ],
        values='{"sku": rows.c.id.cast(sa.Text)}',
    ),
    Case(
        "new_not_null_python",
        "code: Mapped[str]",
        "code: Mapped[str]\nsku: Mapped[str] = mapped_column(default='plain')",
        [
            "expand: add_column",
            "contract <t_new_not_null_python_sku: create_check_constraint | validate_constraint | "
            "alter_column drop_constraint",
        ],
    ),
    Case(
        "new_constant",
        "code: Mapped[str]",
        "code: Mapped[str]\nkind: Mapped[str] = mapped_column(server_default='plain')\n"
        "at: Mapped[datetime] = mapped_column(server_default=func.now())",
        ["expand: add_column add_column"],
    ),
    Case(
        "new_volatile",
        "code: Mapped[str]",
        "code: Mapped[str]\ntoken = mapped_column(sa.Uuid, server_default=func.gen_random_uuid(), nullable=False)",
        [
            "expand: add_column alter_column",
            "contract <t_new_volatile_token: create_check_constraint | validate_constraint | "
            "alter_column drop_constraint",
        ],
    ),
    Case(
        "new_volatile_null",
        "code: Mapped[str]",
        "code: Mapped[str]\ntoken = mapped_column(sa.Uuid, server_default=func.gen_random_uuid())",
        ["expand: add_column alter_column"],
    ),
    Case(
        "new_computed",
        "code: Mapped[str]",
        "code: Mapped[str]\nlength = mapped_column(sa.Integer, sa.Computed('length(code)', persisted=True))",
        ["expand!: add_column"],
    ),
    Case(
        "new_identity",
        "code: Mapped[str]",
        "code: Mapped[str]\nnumber = mapped_column(BigInteger, Identity())",
        ["expand!: add_column"],
    ),
    Case(
        "widened",
        "code = mapped_column(sa.String(10))\nprice = mapped_column(sa.Numeric(10, 2))",
        "code = mapped_column(sa.String(20))\nprice = mapped_column(sa.Numeric(12, 2))",
        ["expand: alter_column alter_column"],
        refill="UPDATE t_widened SET code = left(code, 10)",
        error="InvalidCachedStatementError",
    ),
    Case(
        "rewritten",
        "size: Mapped[int]",
        "size: Mapped[int] = mapped_column(BigInteger)",
        ["contract!: alter_column"],
        in_use=False,
    ),
    Case(
        "default_set",
        "code: Mapped[str]",
        "code: Mapped[str] = mapped_column(server_default='plain')",
        ["expand: alter_column"],
    ),
    Case(
        "default_changed",
        "code: Mapped[str] = mapped_column(server_default='plain')",
        "code: Mapped[str] = mapped_column(server_default='other')",
        ["expand: alter_column"],
    ),
    Case(
        "default_removed",
        "code: Mapped[str] = mapped_column(server_default='plain')",
        "code: Mapped[str]",
        ["contract: alter_column"],
    ),
    Case(
        "comment",
        "code: Mapped[str]",
        'code: Mapped[str] = mapped_column(comment="what it\'s called, 100%")',
        ["expand: alter_column"],
    ),
    Case(
        "cast",
        "code: Mapped[str] = mapped_column(server_default='1')",
        "code: Mapped[int] = mapped_column(BigInteger, server_default='1')",
        ["contract!: alter_column alter_column alter_column"],
        in_use=False,
    ),
]
CASES["descriptions"] = [  # what Alembic does not compare
    Case(
        "predicate",
        "code: Mapped[str]\n__table_args__ = (sa.Index('ix_t_predicate', 'code', unique=True, "
        "postgresql_where=sa.text(\"code <> ''\")),)",
        "code: Mapped[str]\n__table_args__ = (sa.Index('ix_t_predicate', 'code', unique=True),)",
        ["expand: create_index_concurrently | drop_index_concurrently execute"],
    ),
    Case(
        "new_predicate",  # a weaker form of the same name
        "code: Mapped[str]\n__table_args__ = (sa.Index('ix_t_new_predicate', 'code', unique=True),)",
        "code: Mapped[str]\n__table_args__ = (sa.Index('ix_t_new_predicate', 'code', unique=True, "
        "postgresql_where=sa.text(\"code <> ''\")),)",
        ["expand!: create_index_concurrently | drop_index_concurrently execute"],
    ),
    Case(
        "same_predicate",
        "code: Mapped[str]\n__table_args__ = (sa.Index('ix_t_same_predicate', 'code', unique=True, "
        "postgresql_where=sa.text(\"code <> ''\")),)",
        "code: Mapped[str]\n__table_args__ = (sa.Index('ix_t_same_predicate', 'code', unique=True, "
        "postgresql_include=['id'], postgresql_where=sa.text(\"code <> ''\")),)",
        ["expand: create_index_concurrently | drop_index_concurrently execute"],
    ),
    Case(
        "other_expression",
        "code: Mapped[str]\nname: Mapped[str]\n"
        "__table_args__ = (sa.Index('ix_t_other_expression', sa.func.lower(sa.text('code')), unique=True),)",
        "code: Mapped[str]\nname: Mapped[str]\n"
        "__table_args__ = (sa.Index('ix_t_other_expression', sa.func.lower(sa.text('name')), unique=True),)",
        ["expand!: create_index_concurrently | drop_index_concurrently execute"],
    ),
    Case(
        "partial_successor",  # a weaker form of another name
        "code: Mapped[str]\n__table_args__ = (sa.UniqueConstraint('code', name='uq_t_partial_successor'),)",
        "code: Mapped[str]\n__table_args__ = (sa.Index('ix_t_partial_successor', 'code', unique=True, "
        "postgresql_where=sa.text(\"code <> ''\")),)",
        ["expand!: drop_constraint | create_index_concurrently"],
    ),
    Case(
        "include",
        "code: Mapped[str]\n__table_args__ = (sa.Index('ix_t_include', 'code'),)",
        "code: Mapped[str]\n__table_args__ = (sa.Index('ix_t_include', 'code', postgresql_include=['id']),)",
        ["expand: create_index_concurrently", "contract: drop_index_concurrently execute"],
    ),
    Case(
        "deferrable",
        "code: Mapped[str]\n__table_args__ = (sa.UniqueConstraint('code', name='uq_t_deferrable'),)",
        "code: Mapped[str]\n__table_args__ = (sa.UniqueConstraint('code', name='uq_t_deferrable', deferrable=True),)",
        ["expand!: create_index_concurrently drop_constraint create_unique_constraint_using_index"],
    ),
    Case(
        "index_to_unique",
        "code: Mapped[str]\n__table_args__ = (sa.Index('uq_t_index_to_unique', 'code', unique=True),)",
        "code: Mapped[str]\n__table_args__ = (sa.UniqueConstraint('code', name='uq_t_index_to_unique'),)",
        ["expand: create_index_concurrently drop_index_concurrently create_unique_constraint_using_index"],
    ),
    Case(
        "unique_to_index_of_its_name",
        "code: Mapped[str]\n__table_args__ = (sa.UniqueConstraint('code', name='uq_t_unique_to_index_of_its_name'),)",
        "code: Mapped[str]\n__table_args__ = (sa.Index('uq_t_unique_to_index_of_its_name', 'code', unique=True),)",
        ["expand: create_index_concurrently | drop_constraint execute"],
    ),
    Case(
        "match",
        with_box("match", "box_id = mapped_column(BigInteger, sa.ForeignKey('t_match_box.id', name='fk_t_match'))"),
        with_box(
            "match",
            "box_id = mapped_column(BigInteger, sa.ForeignKey('t_match_box.id', name='fk_t_match', match='FULL'))",
        ),
        ["contract: drop_constraint create_foreign_key | validate_constraint"],
    ),
    Case(
        "check_text",
        "size: Mapped[int]\n__table_args__ = (sa.CheckConstraint('size > -1', name='size'),)",
        "size: Mapped[int]\n__table_args__ = (sa.CheckConstraint('size >= 0', name='size'),)",
        ["contract: drop_constraint create_check_constraint | validate_constraint"],
    ),
    Case(
        "expression",
        "size: Mapped[int]\ntwice = mapped_column(sa.Integer, sa.Computed('size + 2', persisted=True))",
        "size: Mapped[int]\ntwice = mapped_column(sa.Integer, sa.Computed('size * 2', persisted=True))",
        ["contract!: execute"],
        in_use=False,
    ),
    Case(
        "computed",
        "size: Mapped[int]\ntwice = mapped_column(sa.Integer, index=True)\n"
        "__table_args__ = (sa.Index('ix_t_computed_two', 'twice', 'id', unique=True),)",
        "size: Mapped[int]\ntwice = mapped_column(sa.Integer, sa.Computed('size * 2', persisted=True))\n"
        "__table_args__ = (sa.Index('ix_t_computed_two', 'twice', 'id', unique=True),)",
        ["contract!: drop_column add_column create_index | drop_index_concurrently"],
        in_use=False,
    ),
    Case(
        "not_computed",
        "size: Mapped[int]\ntwice = mapped_column(sa.Integer, sa.Computed('size * 2', persisted=True))",
        "size: Mapped[int]\ntwice = mapped_column(sa.Integer, server_default='2')",
        ["expand!: execute alter_column"],
        in_use=False,
    ),
    Case(
        "sequence",
        "number = mapped_column(BigInteger)",
        "number = mapped_column(BigInteger, sa.Sequence('t_sequence_number', start=7, metadata=Base.metadata))",
        ["expand: execute"],
    ),
    Case(
        "exclusion",
        "code: Mapped[str]\n"
        "__table_args__ = (postgresql.ExcludeConstraint(('code', '='), name='ex_t_exclusion', using='btree'),)",
        "code: Mapped[str]\n"
        "__table_args__ = (postgresql.ExcludeConstraint(('id', '='), name='ex_t_exclusion', using='btree'),)",
        ["contract!: execute"],
        in_use=False,
    ),
]
CASES["drops, types"] = [
    Case(
        "unique_index_converted",  # replaced after the type, not before
        "code = mapped_column(sa.Integer)\nsize: Mapped[int]\n"
        "__table_args__ = (sa.Index('ix_t_unique_index_converted', 'code', unique=True),)",
        "code = mapped_column(sa.Numeric)\nsize: Mapped[int]\n"
        "__table_args__ = (sa.Index('ix_t_unique_index_converted', 'code', 'size', unique=True),)",
        ["contract!: alter_column | create_index_concurrently | drop_index_concurrently execute"],
        in_use=False,
    ),
    Case(
        "to_text",
        "code = mapped_column(sa.String(50))",
        "code = mapped_column(sa.Text)",
        ["expand: alter_column"],
        error="InvalidCachedStatementError",
    ),
    Case(
        "shortened",  # fails on a value that is too long, and cuts none off
        "code = mapped_column(sa.String(50))",
        "code = mapped_column(sa.String(40))",
        ["contract!: alter_column"],
        in_use=False,
    ),
    Case(
        "jsonb",
        "data: Mapped[str] = mapped_column(server_default='{}')",
        "data = mapped_column(sa.dialects.postgresql.JSONB, server_default='{}', nullable=False)\n"
        "__table_args__ = (sa.Index('ix_t_jsonb_data', 'data', postgresql_using='gin'),)",
        ["contract!: alter_column alter_column alter_column | create_index_concurrently"],
        in_use=False,
    ),
    Case(
        "truth",
        "flag: Mapped[bool]",
        "flag: Mapped[int]",
        ["contract!: alter_column"],
        in_use=False,
    ),
    Case(
        "serial_to_identity",
        """
class Serial(Base):
    __tablename__ = "t_serial_to_identity"
    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    code: Mapped[str]
""",
        """
class Serial(Base):
    __tablename__ = "t_serial_to_identity"
    id: Mapped[int] = mapped_column(sa.Integer, Identity(), primary_key=True)
    code: Mapped[str]
""",
        ["contract: alter_column execute alter_column execute"],
        in_use=False,
    ),
    Case(
        "identity_to_serial",
        """
class Identified(Base):
    __tablename__ = "t_identity_to_serial"
    id: Mapped[int] = mapped_column(sa.Integer, Identity(), primary_key=True)
    code: Mapped[str]
""",
        """
class Identified(Base):
    __tablename__ = "t_identity_to_serial"
    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    code: Mapped[str]
""",
        ["contract: execute execute alter_column execute"],
        in_use=False,
    ),
    Case(
        "larger_serial",
        """
class Larger(Base):
    __tablename__ = "t_larger_serial"
    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    code: Mapped[str]
""",
        """
class Larger(Base):
    __tablename__ = "t_larger_serial"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    code: Mapped[str]
""",
        ["expand: execute", "contract!: alter_column"],
        in_use=False,
    ),
]
CASES["drops, types"] += [
    Case(
        "drop_null",
        "code: Mapped[str]\ngone: Mapped[str | None]",
        "code: Mapped[str]",
        ["contract!: drop_column"],
    ),
    Case(
        "drop_not_null",
        "code: Mapped[str]\ngone: Mapped[str]",
        "code: Mapped[str]",
        ["expand: alter_column", "contract!: drop_column"],
        refill="UPDATE t_drop_not_null SET gone = '' WHERE gone IS NULL",
    ),
    Case(
        "drop_index",
        "code: Mapped[str]\ngone: Mapped[str | None] = mapped_column(index=True)",
        "code: Mapped[str]",
        ["contract!: drop_index_concurrently | drop_column"],
    ),
    Case(
        "drop_unique",
        "code: Mapped[str]\ngone: Mapped[str | None] = mapped_column(unique=True)",
        "code: Mapped[str]",
        ["contract!: drop_constraint | drop_column"],
    ),
    Case(
        "drop_fk",
        with_box(
            "drop_fk",
            "code: Mapped[str]\n"
            "box_id: Mapped[int | None] = mapped_column(BigInteger, sa.ForeignKey('t_drop_fk_box.id'))",
        ),
        with_box("drop_fk", "code: Mapped[str]"),
        ["contract!: drop_constraint | drop_column"],
    ),
    Case(
        "drop_table",
        model("t_drop_table", "code: Mapped[str] = mapped_column(index=True)\nsize: Mapped[int]\nextra: Mapped[int]"),
        "",
        ["contract!: drop_table"],
    ),
    Case(
        "drop_referred",
        model("t_drop_referred_box", "label: Mapped[str]\nweight: Mapped[int]")
        + model(
            "t_drop_referred",
            "code: Mapped[str]\n"
            "box_id: Mapped[int | None] = mapped_column(BigInteger, sa.ForeignKey('t_drop_referred_box.id'))",
        ),
        model("t_drop_referred", "code: Mapped[str]"),
        ["contract!: drop_constraint | drop_column", "contract!: drop_table"],
    ),
    Case(
        "rename_column",
        "title: Mapped[str]",
        "headline: Mapped[str]",
        [
            "expand: add_column alter_column",
            "contract! <t_rename_column_headline: create_check_constraint | validate_constraint | "
            "alter_column drop_constraint | drop_column",
        ],
        values='{"headline": rows.c["id"].cast(sa.Text)}',
        refill="UPDATE t_rename_column SET title = '' WHERE title IS NULL",
    ),
    Case(
        "rename_nullable",
        "title: Mapped[str | None]",
        "headline: Mapped[str | None]",
        ["expand: add_column", "contract!: drop_column"],
    ),
    Case(
        "rename_default",
        "title: Mapped[str]",
        "headline: Mapped[str] = mapped_column(server_default='none')",
        ["expand: add_column alter_column", "contract!: drop_column"],
        refill="UPDATE t_rename_default SET title = '' WHERE title IS NULL",
    ),
    Case(
        "rename_table",
        model("t_rename_table_old", "a: Mapped[str]\nb: Mapped[str]\nc: Mapped[str]"),
        model("t_rename_table_new", "a: Mapped[str]\nb: Mapped[str]\nc: Mapped[str]"),
        ["expand: create_table", "contract!: drop_table"],
    ),
    Case(
        "quoted",
        """
class Quoted(Base):
    __tablename__ = "t_quoted Order%"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user: Mapped[str] = mapped_column("user")
    gone: Mapped[str] = mapped_column("Gone %", unique=True)
""",
        """
class Quoted(Base):
    __tablename__ = "t_quoted Order%"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user: Mapped[str | None] = mapped_column("user", index=True)
    new: Mapped[str] = mapped_column("New %d \\"x\\"", unique=True)
    box: Mapped[int | None] = mapped_column("Box:1", BigInteger, sa.ForeignKey('t_quoted Order%.id'))
    __table_args__ = (CheckConstraint("\\"user\\" <> '100%'", name="Full %"),)
""",
        [
            "expand: add_column add_column alter_column alter_column | "
            "create_index_concurrently create_unique_constraint_using_index | create_index_concurrently | "
            "create_foreign_key | validate_constraint",
            "contract! <t_quoted_Order__New_d_x_: create_check_constraint create_check_constraint | "
            "validate_constraint validate_constraint | alter_column drop_constraint | drop_constraint | "
            "drop_column",
        ],
        values='{\'New %d "x"\': rows.c["id"].cast(sa.Text)}',
        refill='UPDATE "t_quoted Order%" SET "Gone %" = id::text, "user" = coalesce("user", \'\')',
    ),
]


def enum(name: str, values: str, lines: str = "") -> str:
    return f"code: Mapped[str]\nkind = mapped_column(sa.Enum({values}, name='t_{name}_kind'){lines})"


CASES["columns, enums"] += [
    Case(
        "enum_table",
        "",
        model("t_enum_table", enum("enum_table", "'a', 'b'")),
        ["expand: create_enum create_table"],
    ),
    Case(
        "enum_column",
        "code: Mapped[str]",
        enum("enum_column", "'a', 'b'"),
        ["expand: create_enum add_column"],
    ),
    Case(
        "enum_column_not_null",
        "code: Mapped[str]",
        enum("enum_column_not_null", "'a', 'b'", ", server_default='a', nullable=False"),
        ["expand: create_enum add_column"],
    ),
    Case(
        "enum_appended",
        enum("enum_appended", "'a', 'b'"),
        enum("enum_appended", "'a', 'b', 'c', 'd'"),
        ["expand: add_enum_value add_enum_value"],
    ),
    Case(
        "enum_default",
        enum("enum_default", "'a', 'b'", ", server_default='a'"),
        enum("enum_default", "'a', 'b', 'c'", ", server_default='c'"),
        ["expand: add_enum_value", "contract: alter_column"],
    ),
    Case(
        "enum_other_default",  # no new value, though other enums get some
        enum("enum_other_default", "'a', 'b'", ", server_default='a'"),
        enum("enum_other_default", "'a', 'b'", ", server_default='b'"),
        ["expand: alter_column"],
    ),
    Case(
        "enum_middle",
        enum("enum_middle", "'a', 'b'"),
        enum("enum_middle", "'a', 'x', 'b'"),
        ["expand: add_enum_value"],
    ),
    Case(
        "enum_removed",
        enum("enum_removed", "'a', 'b', 'c'"),
        enum("enum_removed", "'a', 'b'"),
        ["contract!: replace_enum"],
        in_use=False,
    ),
    Case(
        "enum_dropped",
        enum("enum_dropped", "'a', 'b'"),
        "code: Mapped[str]",
        ["contract!: drop_column drop_enum"],
    ),
    Case(
        "enum_to_text",
        enum("enum_to_text", "'a', 'b'"),
        "code: Mapped[str]\nkind: Mapped[str | None]",
        ["contract!: alter_column | drop_enum"],
        in_use=False,
    ),
]


def value(column: Column[Any], number: ColumnElement[int], known: frozenset[str]) -> ColumnElement[Any]:
    """What code writes into a column; it leaves every second one empty, where it may."""
    match column.type:
        case sa.Enum():
            expression: ColumnElement[Any] = sa.literal(column.type.enums[0], column.type)
        case sa.String():
            text = sa.cast(number, sa.Text)
            expression = text if column.type.length is None else sa.func.left(sa.func.md5(text), column.type.length)
        case sa.Integer() | sa.Numeric():
            expression = sa.cast(number % ROWS + 1, column.type)
        case sa.Boolean():
            expression = number % 3 == 0
        case sa.Uuid():
            expression = sa.func.gen_random_uuid()
        case sa.DateTime():
            expression = sa.func.clock_timestamp()
        case _:
            raise AssertionError(column.type)
    if any(key.target_fullname.rpartition(".")[0] not in known for key in column.foreign_keys):
        return sa.null()  # the table is new and empty
    return sa.case((number % 2 == 0, expression)) if column.nullable else expression


def row(table: Table, number: ColumnElement[int], known: frozenset[str]) -> dict[str, ColumnElement[Any]]:
    """What code writes into a table: all but what PostgreSQL computes."""
    own = (column for column in table.columns if column.identity is None and column.computed is None)
    return {column.name: value(column, number, known) for column in own}


def works(metadata: MetaData, known: frozenset[str], idle: set[str]) -> list[sa.Executable]:
    """What code with these models does: it writes and reads all that it knows."""
    number = sa.cast(sa.func.random() * 1e15, sa.BigInteger)

    def of_table(table: Table) -> Iterator[sa.Executable]:
        values = row(table, number, known)
        yield sa.insert(table).values(values)
        yield sa.update(table).where(table.c.id == 7).values({name: table.c[name] for name in values})
        yield sa.select(table).where(table.c.id == 8)

    return [work for table in metadata.sorted_tables if table.name not in idle for work in of_table(table)]


def execute(url: URL, *statements: sa.Executable) -> None:
    """Run statements, in one transaction."""

    async def run() -> None:
        async with connected(at(url)) as connection:
            for statement in statements:
                await connection.execute(statement)
            await connection.commit()

    run_async(run())


def seed(metadata: MetaData) -> list[sa.Executable]:
    """Statements that fill the tables."""
    numbers = sa.select(sa.func.generate_series(1, ROWS).label("number")).subquery()
    known = frozenset(metadata.tables)

    def fill(table: Table) -> sa.Executable:
        values = row(table, numbers.c.number, known)
        return sa.insert(table).from_select(list(values), sa.select(*values.values()))

    return [fill(table) for table in metadata.sorted_tables]


@pytest.mark.parametrize("group", list(CASES))
def test_a_change(group: str, render: Render, url_of_each_version: URL) -> None:
    """Written, linted, up while both releases work, down, and up again."""
    cases, url = CASES[group], url_of_each_version
    before, after = ("".join(texts) for texts in zip(*(case.models() for case in cases), strict=True))
    inside = Inside(render(), url)
    old = inside.write_models(before)
    first = inside.autogenerate("start")
    assert inside.lint(first) == []
    inside.alembic(command.upgrade, "head")
    execute(url, *seed(old))
    at_start = schema(url)
    new = inside.write_models(after)
    scripts = inside.autogenerate("change", ["no-rename"])
    assert written(scripts, cases) == {case.name: list(case.revisions) for case in cases}

    asked = [Path(script.path).name for script in scripts if unacknowledged(script)]
    findings = [finding for finding in inside.lint(scripts) if finding.rule.name != "unwritten-backfill"]
    assert [finding.path.name for finding in findings if finding.rule.name == "unacknowledged"] == asked
    assert {finding.path.name for finding in findings} == set(asked)
    refusals, running = upgrade(inside, cases, old, new, scripts)
    assert [name for name in refusals if name.endswith(".py")] == asked
    assert max(running.longest.values()) < LONGEST_STALL
    assert {(error, of_case(statement, cases)) for error, statement in running.errors} == {
        (case.error, case.name) for case in cases if case.error
    }
    inside.alembic(command.check)
    assert inside.lint(scripts) == []

    at_head = schema(url)
    downgrade(inside, first[-1].revision, cases)
    left = schema(url) ^ at_start
    assert {kind for _, _, kind in left} <= {"value"}, "only values of enums remain, because PostgreSQL can't drop them"
    inside.upgrade("head", lambda name: value_of(name, cases))
    assert schema(url) == at_head


def written(scripts: Sequence[Script], cases: Sequence[Case]) -> dict[str, list[str]]:
    """What the revisions of each case declare, and the operations of each of their steps."""
    by_case: dict[str, list[str]] = {case.name: [] for case in cases}
    for script in scripts:
        danger = "!" if unacknowledged(script) else ""
        needs = getattr(script.module, "requires_backfill", None)
        text = f"{phase_of(script)}{danger}{f' <{needs}' if needs else ''}: {' | '.join(steps_of(script))}"
        by_case[of_case(Path(script.path).stem, cases)].append(text)
    return by_case


def steps_of(script: Script) -> list[str]:
    """The names of the operations of each step of an upgrade."""
    code = re.sub(r"^ *#.*", "", Path(script.path).read_text(), flags=re.MULTILINE)
    body = code.partition("def upgrade")[2].partition("def downgrade")[0]
    return [" ".join(names) for step in body.split("if op.step(") if (names := _OPERATION.findall(step))]


def of_case(text: str, cases: Sequence[Case]) -> str:
    """The name of the case that a revision's file, a backfill or a statement is about."""
    return max((case.name for case in cases if re.search(rf"(\b|_)t_{case.name}", text)), key=len)


def value_of(backfill: str, cases: Sequence[Case]) -> str:
    """What a backfill fills in."""
    name = of_case(backfill, cases)
    return next(case.values for case in cases if case.name == name)


def upgrade(
    inside: Inside, cases: Sequence[Case], old: MetaData, new: MetaData, scripts: Sequence[Script]
) -> tuple[list[str], Traffic]:
    """As a release is rolled out: the old code, then the old and the new code beside each other, then the new code.

    Returns:
        What the runner has asked for, and the traffic.
    """
    idle = {f"t_{case.name}" for case in cases if not case.in_use}
    known = frozenset(old.tables)
    old_code, new_code = (works(metadata, known, idle) for metadata in (old, new))
    expand = [script.revision for script in scripts if phase_of(script) == EXPAND]
    refusals = []
    warm = {"prepared_statement_cache_size": 10 * len(new_code)}  # none is prepared again, without error
    with traffic(inside.url, old_code, **warm) as running:
        if expand:
            refusals += inside.upgrade(expand[-1], lambda name: value_of(name, cases))
            running.let_pass()
        running.works = [*old_code, *new_code]
        running.let_pass()
        running.works = new_code
        running.let_pass()
        refusals += inside.upgrade("head", lambda name: value_of(name, cases))
        running.let_pass()
    return refusals, running


def downgrade(inside: Inside, revision: str, cases: Sequence[Case]) -> None:
    """Downgrade; where rows violate a constraint, change them."""
    refills = {case.name: case.refill for case in cases if case.refill}
    while True:
        try:
            inside.alembic(command.downgrade, revision, x=["yes"])
            break
        except MigrationError as error:
            name = of_case(Path(str(error).partition(":")[0]).stem, cases)
            if name not in refills:
                raise
            fetch(inside.url, refills.pop(name))
    assert not refills, "a refill was not needed"


def test_no_change_writes_no_file(render: Render, database: URL, capsys: pytest.CaptureFixture[str]) -> None:
    inside = Inside(render(), database)
    inside.begin(model("t_same", "code: Mapped[str] = mapped_column(index=True)"))
    files = inside.service.revisions()
    capsys.readouterr()
    assert inside.autogenerate("nothing") == []
    assert "no file was written" in capsys.readouterr().out
    assert inside.service.revisions() == files


def test_a_table_that_no_backfill_can_fill_has_a_danger(render: Render, database: URL) -> None:
    table = 'sa.Table("t_bare", Base.metadata, sa.Column("who", sa.Text, nullable=%s))\n'
    inside = Inside(render(), database)
    inside.begin(table % True)
    inside.write_models(table % False)
    (asked,) = (unacknowledged(script) for script in inside.autogenerate("change"))
    assert asked is not None and {"t_bare", "who"} <= set(re.findall(r"\w+", asked[1]))


def test_tables_that_refer_to_each_other(render: Render, database: URL) -> None:
    one = model("t_one", "two_id = mapped_column(sa.ForeignKey('t_two.id', use_alter=True, name='fk_one'))")
    two = model("t_two", "one_id = mapped_column(sa.ForeignKey('t_one.id'))\nwait = mapped_column(sa.Interval)")
    inside = Inside(render(), database)
    inside.write_models(one + two)
    scripts = inside.autogenerate("start")
    assert inside.lint(scripts) == []
    assert not [script for script in scripts if "use_alter" in Path(script.path).read_text()], "it is done once"
    inside.alembic(command.upgrade, "head")
    inside.alembic(command.check)
    inside.alembic(command.downgrade, "base")
    inside.alembic(command.upgrade, "head")


def test_uniqueness_is_never_given_up_while_another_form_of_it_comes(render: Render, database: URL) -> None:
    inside = Inside(render(), database)
    inside.begin(model("t_form", "code: Mapped[str] = mapped_column(unique=True)"))
    inside.write_models(model("t_form", "code: Mapped[str] = mapped_column(unique=True, index=True)"))
    assert [(phase_of(script), steps_of(script)) for script in inside.autogenerate("change")] == [
        ("expand", ["create_index_concurrently"]),
        ("contract", ["drop_constraint"]),
    ]


OWN_TYPES = """

class Email(sa.TypeDecorator):
    impl = sa.String
    cache_ok = True


class Address(sa.TypeDecorator):
    impl = Email
    cache_ok = True


class Document(sa.TypeDecorator):
    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect):
        return postgresql.JSONB()


class Described(sa.TypeDecorator):
    impl = sa.Text
    cache_ok = True

    def __init__(self, type_):
        super().__init__()
        self.type_ = type_

    def load_dialect_impl(self, dialect):
        return dialect.type_descriptor(self.type_)
"""
# dialect.type_descriptor() gives classes of the driver; what a revision names instead.
DESCRIBED = {
    "postgresql.JSONB()": "postgresql.JSONB(astext_type=sa.Text())",
    "sa.Uuid()": "sa.UUID()",
    "sa.String(9)": "sa.String(length=9)",
    "sa.DateTime(timezone=True)": "sa.DateTime(timezone=True)",
    "sa.Numeric(8, 2)": "sa.Numeric(precision=8, scale=2)",
    "postgresql.ARRAY(sa.Integer())": "postgresql.ARRAY(sa.Integer())",
}


def test_a_revision_names_the_type_of_the_database_not_a_models_own(render: Render, database: URL) -> None:
    """In two decorators as well, or as a variant for PostgreSQL; SQLAlchemy's own types are kept."""
    inside = Inside(render(), database)
    inside.begin(OWN_TYPES + model("t_own", "mail = mapped_column(Email(20))"))
    lines = "data = mapped_column(Document)\nwait = mapped_column(sa.Interval)\n" + "\n".join(
        f"c{number} = mapped_column(Described({type_}))" for number, type_ in enumerate(DESCRIBED)
    )
    wider = f"mail = mapped_column(Address(30), server_default='a@b')\n{lines}"
    inside.write_models(OWN_TYPES + model("t_own", wider))
    scripts = inside.autogenerate("change")
    text = "".join(Path(script.path).read_text() for script in scripts)
    for named in ("type_=sa.String(length=30)", "postgresql.JSONB(", "sa.Interval()", *DESCRIBED.values()):
        assert named in text
    assert {phase_of(script) for script in scripts} == {EXPAND}
    inside.alembic(command.upgrade, "head")
    inside.alembic(command.check)


def test_a_rename_keeps_the_values(render: Render, database: URL) -> None:
    """A copy takes what is there, and leaves the default elsewhere."""
    before = ("Mapped[str]", "Mapped[str | None]", "Mapped[str]", "Mapped[str | None]")
    with_default = "= mapped_column(server_default='x')"
    after = ("Mapped[str]", "Mapped[str | None]", f"Mapped[str] {with_default}", f"Mapped[str | None] {with_default}")
    inside = Inside(render(), database)
    inside.begin("".join(model(f"t_kept_{n}", f"title: {type_}") for n, type_ in enumerate(before)))
    for n in range(3):
        fetch(database, f"INSERT INTO t_kept_{n} (title) SELECT 'title ' || n FROM generate_series(1, 2500) n")  # noqa: S608
    fetch(database, "INSERT INTO t_kept_3 (title) VALUES ('old'), (NULL), ('emptied')")
    inside.write_models("".join(model(f"t_kept_{n}", f"headline: {type_}") for n, type_ in enumerate(after)))
    inside.autogenerate("change", [f"rename=t_kept_{n}.title=headline" for n in range(4)])
    inside.upgrade("head", lambda name: name)
    fetch(database, "UPDATE t_kept_3 SET headline = NULL WHERE title = 'emptied'")
    for n in range(4):
        inside.backfill(f"t_kept_{n}_headline", lambda name: name)
    for n in range(3):
        kept = fetch(database, f"SELECT count(*) FROM t_kept_{n} WHERE headline = 'title ' || id")  # noqa: S608
        assert [tuple(row) for row in kept] == [(2500,)]
    assert [row.headline for row in fetch(database, "SELECT headline FROM t_kept_3 ORDER BY id")] == [
        "old",
        "x",
        "emptied",
    ]


def test_a_shorter_type_fails_on_what_is_too_long_and_cuts_nothing_off(render: Render, database: URL) -> None:
    types = {"sa.String(5)": "long", "sa.Boolean": "true", "sa.Enum('long', name='kind')": "long"}
    inside = Inside(render(), database)
    inside.begin("".join(model(f"t_long_{n}", f"code = mapped_column({type_})") for n, type_ in enumerate(types)))
    for n, value in enumerate(types.values()):
        fetch(database, f"INSERT INTO t_long_{n} (code) VALUES ('{value}')")  # noqa: S608
    inside.write_models("".join(model(f"t_long_{n}", "code = mapped_column(sa.String(2))") for n in range(len(types))))
    inside.autogenerate("change")
    for n, value in enumerate(types.values()):
        # Nothing that the runner would know what to do about.
        with pytest.raises(AssertionError, match=f"(?s)t_long_{n}.*value too long"):
            inside.upgrade("head", lambda name: name)
        kept = fetch(database, f"DELETE FROM t_long_{n} RETURNING code::text")  # noqa: S608
        assert [tuple(row) for row in kept] == [(value,)]
    inside.upgrade("head", lambda name: name)


def test_a_time_without_a_zone_is_utc_and_not_the_session_s(render: Render, database: URL) -> None:
    fetch(database, f"ALTER DATABASE {database.database} SET timezone = 'Asia/Tokyo'")
    inside = Inside(render(), database)
    with_zone, without = "mapped_column(sa.DateTime(timezone=True))", "mapped_column(sa.DateTime)"
    inside.begin(model("t_moment", f"at = {without}\nday = {with_zone}"))
    fetch(database, "INSERT INTO t_moment (at, day) VALUES ('2026-01-01 12:00', '2026-01-01 23:30+00')")
    inside.write_models(model("t_moment", f"at = {with_zone}\nday = mapped_column(sa.Date)"))
    inside.autogenerate("change")
    inside.upgrade("head", lambda name: name)
    (row,) = fetch(database, "SELECT at, day FROM t_moment")
    assert (row.at, row.day) == (datetime(2026, 1, 1, 12, tzinfo=UTC), date(2026, 1, 1))
    inside.alembic(command.downgrade, "-1", x=["yes"])
    (row,) = fetch(database, "SELECT at, day FROM t_moment")
    assert (row.at, row.day) == (datetime(2026, 1, 1, 12), datetime(2026, 1, 1, tzinfo=UTC))


def test_an_identity_goes_on_where_a_serial_ended_and_back(render: Render, database: URL) -> None:
    text = model("t_serial", "").replace(ID, "id = mapped_column(sa.Integer, %sprimary_key=True)")
    insert = "INSERT INTO t_serial DEFAULT VALUES RETURNING id"
    inside = Inside(render(), database)
    inside.begin(text % "")
    ids = [fetch(database, insert)[0].id for _ in range(3)]
    inside.write_models(text % "Identity(), ")
    inside.autogenerate("change")
    for where in ("head", "-1"):
        inside.alembic(command.upgrade if where == "head" else command.downgrade, where, x=["yes"])
        ids += [fetch(database, insert)[0].id for _ in range(3)]
    assert ids == list(range(1, 10))

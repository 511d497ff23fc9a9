"""squawk's rules that apply here, in Alembic's terms, and the rules that do not apply.

See https://squawkhq.com/docs/rules.
"""

from safe_migrations.lint.registry import rule

SYNTAX = "syntax-error"

rule(
    "adding-foreign-key-constraint",
    why="checks every row while holding SHARE ROW EXCLUSIVE, blocking writes to both tables",
    instead="""\
op.create_foreign_key("fk_item_box", "item", "box", ["box_id"], ["id"], postgresql_not_valid=True)
# in a second step or revision
op.validate_constraint("fk_item_box", "item")""",
)
rule(
    "adding-not-nullable-field",
    why="scans the table for NULL while holding ACCESS EXCLUSIVE, blocking reads and writes, and fails on one NULL",
    instead="""\
# when a backfill has left no NULL; a validated check spares SET NOT NULL its scan
op.create_check_constraint(op.f("ck_item_sku_not_null"), "item", "sku IS NOT NULL", postgresql_not_valid=True)
# in a second step or revision
op.validate_constraint("ck_item_sku_not_null", "item")
# in a third step or revision, where this is a no-op, except after a downgrade
op.validate_constraint("ck_item_sku_not_null", "item")
op.alter_column("item", "sku", nullable=False)
op.drop_constraint(op.f("ck_item_sku_not_null"), "item", type_="check")""",
)
rule(
    "adding-required-field",
    why="fails if the table has rows; and the running code, which does not know the column, can't insert rows",
    instead="""\
op.add_column("item", sa.Column("sku", sa.Text(), server_default="", nullable=False))
# or nullable; then a backfill, then NOT NULL as in adding-not-nullable-field""",
)
rule(
    "adding-serial-primary-key-field",
    why="builds the index of the primary key while holding ACCESS EXCLUSIVE, blocking reads and writes",
    instead="""\
op.create_index_concurrently("pk_item", "item", ["id"], unique=True)
# Raw SQL: op.create_primary_key can't use an existing index.
op.execute("ALTER TABLE item ADD CONSTRAINT pk_item PRIMARY KEY USING INDEX pk_item")""",
)
rule(
    "ban-alter-domain-with-add-constraint",
    why="checks every row of every table that uses the domain while holding SHARE on them, blocking writes",
    instead='op.create_check_constraint(op.f("ck_item_sku"), "item", "sku <> \'\'", postgresql_not_valid=True)',
)
rule(
    "ban-char-field",
    why="char(n) pads values with spaces, which count in some comparisons and are ignored in others",
    instead='sa.Column("sku", sa.Text(), nullable=False)',
    is_style=True,
)
rule(
    "ban-create-domain-with-constraint",
    why="adding a column of this domain rewrites every row, and changing the check scans every row",
    instead='op.create_check_constraint(op.f("ck_item_sku"), "item", "sku <> \'\'", postgresql_not_valid=True)',
)
rule(
    "ban-drop-database",
    why="destroys all data, and PostgreSQL refuses DROP DATABASE in a transaction",
    instead="drop databases by hand, not in a revision",
)
rule(
    "ban-duplicate-column-assignments",
    why="PostgreSQL refuses two values for one column: the upgrade fails",
    instead='op.execute(sa.update(item).where(item.c.sku.is_(None)).values(sku=""))  # one value for each column',
)
rule(
    "ban-truncate-cascade",
    why="deletes all rows of every table that references this one, directly or not, under ACCESS EXCLUSIVE on each",
    instead='acknowledged = "all rows of item and item_price are lost"\nop.execute("TRUNCATE item, item_price")',
    by_acknowledged=True,
)
rule(
    "changing-column-type",
    why="rewrites every row and index while holding ACCESS EXCLUSIVE, blocking reads and writes, and the running code "
    "still sends values of the old type",
    instead="""\
# in steps: op.add_column, write both columns, backfill, read the new one, drop the old one; or, for a small table:
acknowledged = "the rewrite of item blocks reads and writes"
# lint recognizes a change that rewrites nothing by its existing_type:
op.alter_column("item", "sku", existing_type=sa.String(20), type_=sa.Text())""",
    by_acknowledged=True,
)
rule(
    "disallowed-unique-constraint",
    why="builds the index of the constraint while holding ACCESS EXCLUSIVE, blocking reads and writes",
    instead="""\
op.create_index_concurrently("uq_item_sku", "item", ["sku"], unique=True)
op.create_unique_constraint_using_index("uq_item_sku", "item")""",
)
rule(
    "identifier-too-long",
    why="PostgreSQL truncates names to 63 bytes: two names can collide, and autogenerate finds a difference every time",
    instead='op.create_index_concurrently("ix_item_sku_supplier", "item", ["sku", "supplier_id"])  # at most 63 bytes',
)
rule(
    "prefer-timestamp-tz",
    why="timestamp drops the time zone: the same value is a different moment for a client in another zone",
    instead='sa.Column("sold_at", sa.DateTime(timezone=True))',
    is_style=True,
)
rule(
    "renaming-column",
    why="the running code still uses the old name: its queries fail until the new code runs everywhere",
    instead="""\
# in steps: op.add_column, write both columns, backfill, read the new one, drop the old one
# or rename it in the models only: sku: Mapped[str] = mapped_column("code")
# or, if no code uses it: acknowledged = "queries with item.sku fail\"""",
    by_acknowledged=True,
)
rule(
    "renaming-table",
    why="the running code still uses the old name: its queries fail until the new code runs everywhere",
    instead="""\
# rename the class and keep the table: __tablename__ = "item"
# or, if no code uses it: acknowledged = "queries of item fail\"""",
    by_acknowledged=True,
)
rule(
    "require-concurrent-index-creation",
    why="builds the index while holding SHARE, blocking writes",
    instead='op.create_index_concurrently("ix_item_sku", "item", ["sku"])  # in a step or a revision of its own',
)
rule(
    "require-concurrent-index-deletion",
    why="takes ACCESS EXCLUSIVE on the table: while it waits for a long query, reads and writes wait behind it",
    instead='op.drop_index_concurrently("ix_item_sku", "item")  # in a step or a revision of its own',
)
rule(
    "require-concurrent-partition-detach",
    why="takes ACCESS EXCLUSIVE on the table and the partition: while it waits, reads and writes wait behind it",
    instead="""\
with op.get_context().autocommit_block():
    # Raw SQL: Alembic has no operation for partitions.
    op.execute("ALTER TABLE item DETACH PARTITION item_2020 CONCURRENTLY")""",
)
rule(
    "require-concurrent-reindex",
    why="rebuilds the index while holding SHARE on the table, blocking writes, and ACCESS EXCLUSIVE on the index, "
    "blocking the queries that use it",
    instead='op.rebuild_index_concurrently("ix_item_sku")  # in a step or a revision of its own',
)
rule(
    SYNTAX,
    why="PostgreSQL, or the version of it that this service runs on, can't parse this: the upgrade fails",
    instead="correct the SQL at the place named above; Alembic's operations write the SQL themselves",
)

_BREAKS_CODE = "unacknowledged and contract-in-expand report what the running code may need, by its phase"
_LESS_STRICT = "it removes a restriction: what the running code writes remains valid"
_RARE = "only the author knows what the change is for and who needs it"
_TASTE = "a matter of the models, not of the change"
SWITCHED_OFF = {
    "ban-alter-identity": _BREAKS_CODE,
    "ban-drop-column": _BREAKS_CODE,
    "ban-drop-constraint": _LESS_STRICT,
    "ban-drop-default": _BREAKS_CODE,
    "ban-drop-domain": _BREAKS_CODE,
    "ban-drop-extension": _RARE,
    "ban-drop-function": _BREAKS_CODE,
    "ban-drop-generated-expression": _BREAKS_CODE,
    "ban-drop-not-null": _LESS_STRICT,
    "ban-drop-policy": _RARE,
    "ban-drop-schema": _BREAKS_CODE,
    "ban-drop-sequence": _BREAKS_CODE,
    "ban-drop-table": _BREAKS_CODE,
    "ban-drop-type": "PostgreSQL refuses it while a column uses the type; enum-replacement covers CASCADE",
    "ban-drop-view": _BREAKS_CODE,
    "ban-set-schema": _BREAKS_CODE,
    "ban-uncommitted-transaction": "Alembic ends the transaction; transaction-nesting covers the revision's own",
    "prefer-bigint-over-int": _TASTE,
    "prefer-bigint-over-smallint": _TASTE,
    "prefer-identity": _TASTE + "; rewriting-column covers added serial columns",
    "prefer-robust-stmts": "a failed revision is rolled back as a whole, and the operations outside a transaction can "
    "be repeated; IF NOT EXISTS would accept the remains of a failed run",
    "prefer-text-field": _TASTE,
    "renaming-object": _BREAKS_CODE,
    "require-enum-value-ordering": "without a place, a new value comes last, as intended",
    "require-lock-timeout": "the runner sets it for the session",
    "require-statement-timeout": "the runner sets it for the session",
    "require-timeout-settings": "the runner sets them for the session",
    "transaction-nesting": "the rule of this name above covers what the revision itself writes",
}

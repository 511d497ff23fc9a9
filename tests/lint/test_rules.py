"""Each rule of lint: the unsafe revision is caught, at its line and for nothing else, and the safe one passes."""

import ast
import re
import runpy
from typing import NamedTuple

import pytest

from revision_files import found_in, written
from safe_migrations.lint.rules import CHECKS, RULES
from safe_migrations.lint.rules.squawk import SWITCHED_OFF
from support import ROOT

# Found by other means than one revision's text: see test_lint.py and test_still_in_models.py.
ELSEWHERE = {
    "edited-revision",
    "head-file",
    "long-revision-id",
    "released-table",
    "still-in-models",
    "unused-acknowledgement",
}

OF_TYPES = re.compile(r"enum\(|create (?:type|domain)", re.IGNORECASE)


class Case(NamedTuple):
    """A rule, a revision that breaks it on the line that ends with `«`, and one that does not."""

    rule: str
    unsafe: str
    safe: str


def case(rule: str, unsafe: str, safe: str, **header: str) -> Case:
    """A case of two bodies of upgrade()."""
    return Case(rule, written(unsafe, **header), written(safe, **header))


CASES = [
    # squawk's
    case(
        "adding-foreign-key-constraint",
        "op.create_foreign_key('fk', 'item', 'box', ['box_id'], ['id'])  «",
        "op.create_foreign_key('fk', 'item', 'box', ['box_id'], ['id'], postgresql_not_valid=True)",
    ),
    case(
        "adding-foreign-key-constraint",
        "# why\nop.execute('ALTER TABLE item ADD COLUMN box_id bigint DEFAULT 1 REFERENCES box')  «",
        "# why\nop.execute('ALTER TABLE item ADD COLUMN box_id bigint REFERENCES box')",
    ),
    case(
        "constraint-missing-not-valid",
        "if op.step('a'):\n"
        "    op.create_check_constraint(op.f('ck'), 'item', 'price > 0', postgresql_not_valid=True)\n"
        "    op.validate_constraint('ck', 'item')  «",
        "if op.step('a'):\n"
        "    op.create_check_constraint(op.f('ck'), 'item', 'price > 0', postgresql_not_valid=True)\n"
        "if op.step('b'):\n    op.validate_constraint('ck', 'item')",
    ),
    case(
        "several-tables",
        "if op.step('a'):\n    op.add_column('item', sa.Column('a', sa.Text()))\n"
        "    op.add_column('box', sa.Column('a', sa.Text()))  « unrelated-changes",
        "if op.step('a'):\n    op.add_column('item', sa.Column('a', sa.Text()))\n"
        "if op.step('b'):\n    op.add_column('box', sa.Column('a', sa.Text()))",
    ),
    case(
        "ban-concurrent-index-creation-in-transaction",
        "if op.step('a'):\n    op.add_column('item', sa.Column('a', sa.Text()))\n"
        "    op.create_index_concurrently('ix', 'item', ['a'])  «",
        "if op.step('a'):\n    op.add_column('item', sa.Column('a', sa.Text()))\n"
        "if op.step('b'):\n    op.create_index_concurrently('ix', 'item', ['a'])",
    ),
    case(
        "adding-not-nullable-field",
        "op.alter_column('item', 'sku', nullable=False)  «",
        "op.validate_constraint('c', 'item')\nop.alter_column('item', 'sku', nullable=False)\n"
        "op.drop_constraint('c', 'item', type_='check')",
    ),
    case(
        "adding-required-field",
        "op.add_column('item', sa.Column('a', sa.Text(), nullable=False))  «",
        "op.add_column('item', sa.Column('a', sa.Text(), nullable=False, server_default=''))",
    ),
    case(
        "adding-serial-primary-key-field",
        "op.create_primary_key('pk_item', 'item', ['id'])  «",
        "# the index is there\nop.execute('ALTER TABLE item ADD CONSTRAINT pk_item PRIMARY KEY USING INDEX pk_item')",
    ),
    case(
        "ban-alter-domain-with-add-constraint",
        "# why\nop.execute(\"ALTER DOMAIN sku ADD CONSTRAINT c CHECK (value <> '')\")  «",
        "op.create_check_constraint('c', 'item', \"sku <> ''\", postgresql_not_valid=True)",
    ),
    case(
        "ban-char-field",
        "op.add_column('item', sa.Column('a', sa.CHAR(3)))  «",
        "op.add_column('item', sa.Column('a', sa.String(3)))",
    ),
    case(
        "ban-create-domain-with-constraint",
        "# why\nop.execute(\"CREATE DOMAIN sku AS text CHECK (value <> '')\")  «",
        "# why\nop.execute('CREATE DOMAIN sku AS text')",
        downgrade="# why\nop.execute('DROP DOMAIN sku')",
    ),
    case(
        "ban-duplicate-column-assignments",
        "# why\nop.execute('UPDATE item SET a = 1, a = 2 WHERE id = 3')  «",
        "# why\nop.execute('UPDATE item SET a = 1, b = 2 WHERE id = 3')",
    ),
    case(
        "ban-truncate-cascade",
        "# why\nop.execute('TRUNCATE box CASCADE')  « unacknowledged",
        "# why\nop.execute(\"SELECT 'TRUNCATE box CASCADE'\")",
    ),
    case(
        "changing-column-type",
        "op.alter_column('item', 'id', existing_type=sa.Integer(), type_=sa.BigInteger())  «",
        "op.alter_column('item', 'sku', existing_type=sa.String(3), type_=sa.Text())",
    ),
    case(
        "changing-column-type",
        "op.alter_column('item', 'sku', type_=sa.Text())  «",
        "op.alter_column('item', 'sku', existing_type=sa.Numeric(5, 2), type_=sa.Numeric(6, 2))",
    ),
    case(
        "changing-column-type",
        "op.alter_column('item', 'sku', existing_type=sa.String(3), type_=sa.Text(), postgresql_using='lower(sku)')  «",
        "op.alter_column('item', 'sku', existing_type=sa.String(3), type_=sa.String(4))",
    ),
    case(
        "constraint-missing-not-valid",
        "op.create_check_constraint('c', 'item', 'id > 0')  «",
        "op.create_check_constraint('c', 'item', 'id > 0', postgresql_not_valid=True)",
    ),
    case(
        "disallowed-unique-constraint",
        "op.create_unique_constraint('uq', 'item', ['sku'])  «",
        "op.create_index_concurrently('uq', 'item', ['sku'], unique=True)\n"
        "op.create_unique_constraint_using_index('uq', 'item')",
    ),
    case(
        "identifier-too-long",
        f"# why\nop.execute('ALTER TABLE item ADD COLUMN {'a' * 64} text')  «",
        f"op.create_index_concurrently('{'a' * 63}', 'item', ['sku'])",
    ),
    case(
        "prefer-timestamp-tz",
        "op.add_column('item', sa.Column('a', sa.DateTime()))  «",
        "op.add_column('item', sa.Column('a', sa.DateTime(timezone=True)))",
    ),
    case(
        "renaming-column",
        "op.alter_column('item', 'sku', new_column_name='code')  «",
        "op.add_column('item', sa.Column('code', sa.Text()))",
    ),
    case(
        "renaming-table",
        "op.rename_table('item', 'article')  «",
        "op.create_table('article', sa.Column('id', sa.Text()))",
    ),
    case(
        "require-concurrent-index-creation",
        "op.create_index('ix', 'item', ['sku'])  «",
        "op.create_index_concurrently('ix', 'item', ['sku'])",
    ),
    case(
        "require-concurrent-index-creation",
        "op.create_index(\n    'ix',\n    'item',\n    ['sku'],\n)  # ends here".replace("(\n", "(  «\n", 1),
        "op.create_table('new', sa.Column('a', sa.Text()))\nop.create_index('ix', 'new', ['a'])",
    ),
    case(
        "require-concurrent-index-deletion",
        "op.drop_index('ix', 'item')  «",
        "op.drop_index_concurrently('ix', 'item')",
    ),
    case(
        "require-concurrent-partition-detach",
        "# why\nop.execute('ALTER TABLE item DETACH PARTITION item_1')  «",
        "with op.get_context().autocommit_block():\n    # why\n"
        "    op.execute('ALTER TABLE item DETACH PARTITION item_1 CONCURRENTLY')",
    ),
    case(
        "require-concurrent-reindex",
        "# why\nop.execute('REINDEX INDEX ix')  «",
        "op.rebuild_index_concurrently('ix')",
    ),
    case(
        "syntax-error",
        "# why\nop.execute('ALTER TABLE item ADD COLUMN a text text')  «",
        "# why\nop.execute('ALTER TABLE item ADD COLUMN a text')",
    ),
    # what a change does to tables that are in use
    case(
        "rewriting-column",
        "# why\nop.execute('ALTER TABLE item ADD COLUMN a bigserial')  «",
        "op.create_table('new', sa.Column('a', sa.BigInteger(), sa.Identity()))",
    ),
    case(
        "rewriting-column",
        "op.add_column('item', sa.Column('a', sa.BigInteger(), sa.Identity()))  «",
        "op.add_column('item', sa.Column('a', sa.DateTime(timezone=True), server_default=sa.func.now()))",
    ),
    case(
        "rewriting-column",
        "op.add_column('item', sa.Column('a', sa.Text(), sa.Computed('upper(sku)', persisted=True)))  «",
        "op.add_column('item', sa.Column('a', sa.Text(), server_default='x', nullable=False))",
    ),
    case(
        "rewriting-column",
        "op.add_column('item', sa.Column('a', sa.Uuid(), server_default=sa.text('gen_random_uuid()')))  «",
        "op.add_column('item', sa.Column('a', sa.Uuid()))\n"
        "op.alter_column('item', 'a', server_default=sa.text('gen_random_uuid()'))",
    ),
    case(
        "rewriting-column",
        "op.add_column('item', sa.Column('a', sa.DateTime(True), server_default=sa.text('clock_timestamp()')))  «",
        "op.add_column('item', sa.Column('a', sa.DateTime(True), server_default=sa.text('CURRENT_TIMESTAMP')))",
    ),
    case(
        "rewriting-column",
        "# why\n# safe: ban-create-domain-with-constraint because it is shown\n"
        "op.execute('CREATE DOMAIN d AS int CHECK (value > 0)')\n"
        "# why\nop.execute('ALTER TABLE item ADD a d')  «",
        "# why\nop.execute('CREATE DOMAIN d AS int')\n# why\nop.execute('ALTER TABLE item ADD a d')",
        downgrade="# why\nop.execute('DROP DOMAIN d')",
    ),
    *(
        Case("table-rewrite", written(f"op.execute('{unsafe}')  # why  «"), written(f"op.execute('{safe}')  # why"))
        for unsafe, safe in [
            ("VACUUM FULL item", "VACUUM (FREEZE) item"),
            ("VACUUM (FREEZE, FULL) item", "VACUUM item"),
            ("CLUSTER item USING ix", "ALTER TABLE item CLUSTER ON ix"),
            ("ALTER TABLE item SET UNLOGGED", "CREATE UNLOGGED TABLE new (id int)"),
            ("ALTER TABLE item SET LOGGED", "ALTER TABLE item SET (fillfactor = 50)"),
            ("ALTER TABLE item SET TABLESPACE fast", "CREATE TABLE new (id int) TABLESPACE fast"),
            ("ALTER TABLE item SET ACCESS METHOD other", "CREATE TABLE new (id int) USING other"),
            ("REFRESH MATERIALIZED VIEW v", "REFRESH MATERIALIZED VIEW CONCURRENTLY v"),
        ]
    ),
    case(
        "table-rewrite",
        "# why\nop.execute('REFRESH MATERIALIZED VIEW v')  «",
        "# why\nop.execute('CREATE MATERIALIZED VIEW v AS SELECT id FROM item WITH NO DATA')\n"
        "# why\nop.execute('REFRESH MATERIALIZED VIEW v')",
    ),
    case(
        "attaching-partition",
        "# why\nop.execute('ALTER TABLE item ATTACH PARTITION box FOR VALUES FROM (0) TO (9)')  «",
        "op.validate_constraint('bound', 'box')\n"
        "# why\nop.execute('ALTER TABLE item ATTACH PARTITION box FOR VALUES FROM (0) TO (9)')",
    ),
    case(
        "attaching-partition",
        "# why\nop.execute('ALTER TABLE ONLY item ATTACH PARTITION box DEFAULT')  «",
        "op.create_table('new', sa.Column('id', sa.BigInteger()))\n"
        "# why\nop.execute('ALTER TABLE item ATTACH PARTITION new DEFAULT')",
    ),
    *(
        Case(
            "explicit-lock", written(f"op.execute('LOCK {unsafe}')  # why  «"), written(f"op.execute('{safe}')  # why")
        )
        for unsafe, safe in [
            ("TABLE item", "LOCK TABLE item IN ROW EXCLUSIVE MODE"),
            ("ONLY item IN SHARE MODE", "LOCK item IN ACCESS SHARE MODE"),
            ("item IN SHARE ROW EXCLUSIVE MODE NOWAIT", "LOCK TABLE item IN SHARE UPDATE EXCLUSIVE MODE"),
        ]
    ),
    case(
        "update-without-where",
        "op.execute(sa.update(ITEM).values(sku='WHERE'))  «",
        "op.execute(sa.update(ITEM).where(ITEM.c.id == 3).values(sku=''))",
    ),
    case(
        "update-without-where",
        "# why\nop.execute('WITH gone AS (DELETE FROM item RETURNING *) SELECT id FROM gone WHERE id > 3')  «",
        "# why\nop.execute('DELETE FROM item WHERE id IN (SELECT id FROM box LIMIT 9)')",
    ),
    case(
        "update-without-where",
        "# why\nop.execute('UPDATE item SET sku = (SELECT sku FROM box WHERE box.id = item.id)')  «",
        "# why\nop.execute('INSERT INTO item (id) VALUES (3) ON CONFLICT (id) DO UPDATE SET sku = excluded.sku')",
    ),
    case(
        "update-without-where",
        "# why\nop.execute('UPDATE item SET sku = 1 WHERE true')  «",
        "# why\nop.execute(\"COMMENT ON TABLE item IS 'UPDATE item SET sku = 1; DELETE FROM item'\")",
    ),
    *(
        case("update-without-where", f"op.execute({unsafe})  # why  «", f"op.execute({safe})  # why")
        for unsafe, safe in [
            ("'DELETE FROM item WHERE 1=1'", "'DELETE FROM item WHERE 1 = 1 AND id = 3'"),
            ("'DELETE FROM item WHERE (true)'", "'DELETE FROM item WHERE (true) AND id = 3'"),
            ("'DELETE FROM item WHERE id = id RETURNING id'", "'DELETE FROM item WHERE id = id_of_box AND id = 3'"),
            ("sa.delete(ITEM).where(sa.true())", "sa.delete(ITEM).where(ITEM.c.id == 3, sa.true())"),
            ("sa.delete(ITEM).where(sa.text('1 = 1'))", "sa.delete(ITEM).where(ITEM.c.sku == '')"),
        ]
    ),
    *(
        case("unbounded-change", f'op.execute("{unsafe}")  # why  «', f'op.execute("{safe}")  # why')
        for unsafe, safe in [
            ("UPDATE item SET sku = '' WHERE sku IS NULL", "UPDATE item SET sku = '' WHERE id = 3 AND sku IS NULL"),
            ("DELETE FROM item WHERE id > 5", "DELETE FROM item WHERE id > 5 AND id <= 9"),
            ("DELETE FROM item WHERE id NOT IN (1, 2)", "DELETE FROM item WHERE id IN (1, 2) AND sku <> ''"),
            ("DELETE FROM item WHERE id = 3 OR sku IS NULL", "DELETE FROM item WHERE (id = 3 OR id = 4) AND ok"),
            ("DELETE FROM item WHERE 1 = 1 AND sku IS NULL", "DELETE FROM item WHERE sku = CAST('b' AS text)"),
            (
                "UPDATE item SET sku = (SELECT sku FROM box WHERE id = 3) WHERE sku IS NULL",
                "UPDATE item SET sku = '' WHERE id IN (SELECT id FROM item WHERE sku IS NULL LIMIT 9)",
            ),
            (
                "UPDATE item SET sku = box.sku FROM box WHERE item.box_id = box.id",
                "UPDATE item SET sku = box.sku FROM box WHERE item.box_id = box.id AND box.id = ANY(ARRAY[1, 2])",
            ),
            (
                "WITH gone AS (DELETE FROM item WHERE sku IS NULL RETURNING id) SELECT id FROM gone LIMIT 3",
                "SELECT id FROM item WHERE sku IS NULL FOR UPDATE",
            ),
            (
                "INSERT INTO item (sku) SELECT sku FROM box",
                "INSERT INTO item (sku) SELECT 'a' WHERE NOT EXISTS (SELECT 1 FROM item WHERE sku = 'a')",
            ),
            (
                "MERGE INTO item USING box ON item.id = box.id WHEN MATCHED THEN UPDATE SET sku = 'x'",
                "MERGE INTO item USING (VALUES (1)) AS v (id) ON item.id = v.id WHEN MATCHED THEN UPDATE SET sku = 'x'",
            ),
        ]
    ),
    case(
        "row-by-row",
        "for row in range(3):  «\n    op.execute(sa.update(ITEM).where(ITEM.c.id == row).values(sku=''))",
        "for number in (1, 2):\n    op.execute(sa.update(ITEM).where(ITEM.c.id == number).values(sku=''))",
    ),
    case(
        "row-by-row",
        "while not op.execute(sa.delete(ITEM).where(ITEM.c.id == 3)) and change():  «\n    change()",
        "change()",
    ),
    case(
        "row-by-row",
        "ids = range(3)\n[op.execute(sa.delete(ITEM).where(ITEM.c.id == each)) for each in ids]  «",
        "op.bulk_insert(ITEM, [{'id': each} for each in range(3)])",
    ),
    case(
        "row-by-row",
        "ids = range(3)\nset(change() for each in ids)  «",
        "op.bulk_insert(ITEM, [dict(id=each) for each in range(3)])",
    ),
    case(
        "row-by-row",
        "ids = range(3)\n_ = {each: change() for each in ids}  «",
        "for table in TABLES:\n    op.execute(sa.delete(ITEM).where(ITEM.c.sku == table))",
    ),
    case(
        "do-block",
        "# why\nop.execute('DO $$ BEGIN DROP TABLE item; END $$')  «",
        "# why\nop.execute('CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$')",
    ),
    case(
        "do-block",
        "# why\nop.execute(\"do language plpgsql 'begin end'\")  «",
        "op.replace_enum('mood', ['good'], columns=[('item', 'mood')])",
        acknowledged="",
    ),
    Case(
        "several-tables",
        written(
            "op.create_foreign_key('fk', 'item', 'box', ['box_id'], ['id'], postgresql_not_valid=True)\n"
            "op.create_foreign_key('fk2', 'item', 'shop', ['shop_id'], ['id'], postgresql_not_valid=True)  «"
        ),
        written(
            "op.create_foreign_key('fk', 'item', 'box', ['box_id'], ['id'], postgresql_not_valid=True)\n"
            "op.add_column('item', sa.Column('a', sa.Text()))\nop.add_column('box', sa.Column('a', sa.Text()))"
        ),
    ),
    case(
        "several-tables",
        "# why\nop.execute('LOCK TABLE item, public.box')  « explicit-lock",
        "# why\n# safe: explicit-lock because it is shown\nop.execute('LOCK TABLE item, public.item')",
    ),
    case(
        "index-if-not-exists",
        "with op.get_context().autocommit_block():\n    # why\n"
        "    op.execute('CREATE INDEX CONCURRENTLY IF NOT EXISTS ix ON item (sku)')  «",
        "op.create_index_concurrently('ix', 'item', ['sku'])",
    ),
    case(
        "changed-timeout",
        "# why\nop.execute(\"SET LOCAL lock_timeout = '1h'\")  «",
        "op.create_index_concurrently('ix', 'item', ['sku'])",
    ),
    case(
        "changed-timeout",
        "# why\nop.execute(\"SELECT set_config('statement_timeout', '0', false)\")  «",
        "# why\nop.execute(\"SELECT set_config('search_path', 'public', false)\")",
    ),
    case(
        "transaction-nesting",
        "# why\nop.execute('COMMIT')  «",
        "with op.get_context().autocommit_block():\n    # why\n    op.execute('VACUUM item')",
    ),
    case(
        "ban-concurrent-index-creation-in-transaction",
        "op.create_index('ix', 'item', ['sku'], postgresql_concurrently=True)  «",
        "with op.get_context().autocommit_block():\n"
        "    op.create_index('ix', 'item', ['sku'], postgresql_concurrently=True)",
    ),
    case(
        "ban-concurrent-index-creation-in-transaction",
        "op.add_column('item', sa.Column('a', sa.Text()))\nop.create_index_concurrently('ix', 'item', ['sku'])  «",
        "op.create_index_concurrently('ix', 'item', ['sku'])\nop.create_index_concurrently('ix2', 'item', ['id'])",
    ),
    # what commands do beyond locks
    *(
        case("disabled-trigger", f"op.execute('{unsafe}')  # why  «", f"op.execute('{safe}')  # why")
        for unsafe, safe in [
            ("ALTER TABLE item DISABLE TRIGGER ALL", "ALTER TABLE item ENABLE TRIGGER ALL"),
            ("ALTER TABLE ONLY item DISABLE RULE r", "ALTER TABLE item ENABLE ALWAYS TRIGGER t"),
            ("ALTER TABLE item ENABLE REPLICA TRIGGER t", "ALTER TABLE item ALTER CONSTRAINT c DEFERRABLE"),
            ("SET LOCAL session_replication_role = replica", "SET CONSTRAINTS ALL DEFERRED"),
        ]
    ),
    *(
        case("restricted-access", f"op.execute('{unsafe}')  # why  «", f"op.execute('{safe}')  # why")
        for unsafe, safe in [
            ("ALTER TABLE item ENABLE ROW LEVEL SECURITY", "ALTER TABLE item DISABLE ROW LEVEL SECURITY"),
            ("ALTER TABLE item FORCE ROW LEVEL SECURITY", "ALTER TABLE item NO FORCE ROW LEVEL SECURITY"),
            ("DROP POLICY IF EXISTS p ON item", "CREATE POLICY p ON item USING (true)"),
            ("CREATE POLICY p ON item AS RESTRICTIVE USING (id > 3)", "GRANT SELECT ON item TO PUBLIC"),
            ("REVOKE ALL ON item FROM app", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
        ]
    ),
    case(
        "restricted-access",
        "# why\nop.execute('ALTER TABLE item OWNER TO app')  «",
        "op.create_table('new', sa.Column('id', sa.Text()))\n"
        "# why\nop.execute('ALTER TABLE new ENABLE ROW LEVEL SECURITY')",
    ),
    case(
        "uncommitted-enum-value",
        "op.add_enum_value('mood', 'best')\nop.alter_column('item', 'mood', server_default='best')  «",
        "op.add_enum_value('mood', 'best')\nop.alter_column('item', 'mood', server_default='good')",
    ),
    case(
        "uncommitted-enum-value",
        "# why\nop.execute(\"ALTER TYPE mood ADD VALUE IF NOT EXISTS 'best' AFTER 'good'\")\n"
        "# why\nop.execute(\"ALTER TABLE item ALTER mood SET DEFAULT 'best'::mood\")  «",
        "with op.get_context().autocommit_block():\n    # why\n"
        "    op.execute(\"ALTER TYPE mood ADD VALUE 'best'\")\n"
        "# why\nop.execute(\"ALTER TABLE item ALTER mood SET DEFAULT 'best'\")",
    ),
    case(
        "uncommitted-enum-value",
        "# why\nop.execute(\"ALTER TYPE mood ADD VALUE 'it''s'\")\n"
        'op.execute(sa.update(ITEM).where(ITEM.c.id == 3).values(sku="it\'s"))  « schema-and-data',
        "op.create_enum('state', ['a'])\n# why\nop.execute(\"ALTER TYPE state ADD VALUE 'b'\")\n"
        "op.add_column('item', sa.Column('s', sa.Enum('a', 'b', name='state'), server_default='b'))",
        downgrade="op.drop_column('item', 'b')\nop.drop_enum('state')",
    ),
    case(
        "domain-scan",
        "# why\nop.execute('ALTER DOMAIN sku SET NOT NULL')  «",
        "# why\nop.execute('ALTER DOMAIN sku DROP NOT NULL')",
    ),
    case(
        "constraint-missing-not-valid",
        "# why\nop.execute('ALTER TABLE item ADD COLUMN a int CHECK (a > 0)')  «",
        "# why\nop.execute('ALTER TABLE item ADD CONSTRAINT c CHECK (a > 0) NOT VALID')",
    ),
    *(
        case("unknown-command", f"op.execute('{unsafe}')  # why  «", f"op.execute('{safe}')  # why")
        for unsafe, safe in [
            ("CREATE EVENT TRIGGER x ON ddl_command_start EXECUTE FUNCTION f()", "CREATE SCHEMA x"),
            ("ALTER TABLE item ADD COLUMN a int, OF item_type", "ALTER TABLE item ADD a int, DROP CONSTRAINT c"),
            ("ALTER TABLE item DROP CONSTRAINT c CASCADE", "ALTER TABLE item REPLICA IDENTITY FULL"),
            ("CREATE CAST (text AS int) WITH INOUT AS IMPLICIT", "CREATE EXTENSION pg_trgm"),
            ("CREATE RULE r AS ON DELETE TO item DO INSTEAD NOTHING", "CREATE VIEW v AS SELECT id FROM item"),
            ("ALTER SYSTEM SET work_mem = 3", "COMMENT ON COLUMN item.id IS NULL"),
            ("CALL work()", "SELECT setval(3, 4)"),
            ("SELECT own(3)", "SELECT lower(sku) FROM item"),
            ("COPY item FROM STDIN", "ANALYZE item"),
        ]
    ),
    # what the running code needs, and what is lost
    Case(
        "unacknowledged",
        written("op.drop_table('item')  «"),
        written("op.drop_table('item')", acknowledged=""),
    ),
    Case(
        "unacknowledged",
        written("# why\nop.execute('ALTER TABLE item DROP sku, DROP CONSTRAINT c')  «"),
        written("op.create_table('new')\nop.drop_table('new')"),
    ),
    Case(
        "unacknowledged",
        written("op.drop_table('item')").replace("phase", '# acknowledged = "the table item"  «\nphase', 1),
        written("op.drop_table('item')", acknowledged="").replace(
            "phase", '# acknowledged = "the table item"\nphase', 1
        ),
    ),
    Case(
        "unacknowledged",  # one finding for all that the line asks about
        written("op.alter_column('item', 'sku', type_=sa.Integer())").replace(
            "phase", '# acknowledged = "item is locked"  «\nphase', 1
        ),
        written("op.alter_column('item', 'sku', type_=sa.Integer())", acknowledged=""),
    ),
    case("unacknowledged", "# why\nop.execute('TRUNCATE item')  «", "# why\nop.execute(\"SELECT 'TRUNCATE item'\")"),
    case(
        "unacknowledged",
        "# why\nop.execute('DROP SCHEMA audit CASCADE')  «",
        "# why\nop.execute('DROP SCHEMA audit')",
    ),
    *(
        Case("contract-in-expand", written(f"{code}  «", phase="expand", **more), written(code, **more))
        for code, more in [
            ("op.drop_column('item', 'sku')", {"acknowledged": ""}),
            ("op.drop_table('item')", {"acknowledged": ""}),
            ("op.rename_table('item', 'article')", {"acknowledged": ""}),
            ("op.alter_column('item', 'sku', server_default=None)", {}),
            ("op.create_check_constraint('c', 'item', 'sku IS NOT NULL', postgresql_not_valid=True)", {}),
            ("op.drop_enum('mood')", {}),
            ("op.execute('DROP VIEW v')  # why", {}),
            ("op.execute('DROP TRIGGER t ON item')  # why", {}),
            ("op.execute('ALTER FUNCTION f(int) RENAME TO g')  # why", {}),
            ("op.execute('ALTER TABLE item ALTER id SET GENERATED ALWAYS')  # why", {}),
            ("op.execute('ALTER TABLE item SET SCHEMA other')  # why", {}),
            ("op.execute(\"ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'\")  # why", {}),
        ]
    ),
    Case(
        "contract-in-expand",
        written(
            "op.validate_constraint('c', 'item')\nop.alter_column('item', 'sku', nullable=False)  «", phase="expand"
        ),
        written("op.alter_column('item', 'sku', nullable=True)", phase="expand"),
    ),
    Case(
        "missing-phase",
        written("")
        .replace('phase = "contract"', "")
        .replace('\nrevision = "{revision}"', '\nrevision = "{revision}"  «'),
        written("", phase="expand"),
    ),
    Case("missing-phase", written("", phase='later"  «').replace('«"', "«"), written("", phase="contract")),
    Case(
        "unwritten-backfill",
        written("op.alter_column('item', 'sku', nullable=True)").replace(
            'phase = "contract"', 'phase = "contract"\nrequires_backfill = ("gone",)  «'
        ),
        written("op.alter_column('item', 'sku', nullable=True)"),
    ),
    *(
        case(
            "rewriting-column",
            f"op.add_column('item', sa.Column('at', sa.Text(), server_default=sa.text({volatile!r})))  «",
            f"op.add_column('item', sa.Column('at', sa.Text(), server_default=sa.text({steady!r})))",
        )
        for volatile, steady in (
            ("random()::text", "CURRENT_USER"),
            ("own_function()", "upper('x')"),
            ("clock_timestamp()::text", "date_trunc('day', now() + interval '1 day')::text"),
        )
    ),
    # types
    case(
        "json-type",
        "op.add_column('item', sa.Column('data', sa.JSON()))  «",
        "op.add_column('item', sa.Column('json', postgresql.JSONB(), server_default=sa.text(\"'{}'::jsonb\")))",
    ),
    case(
        "json-type",
        "op.create_table('new', sa.Column('a', sa.Text()), sa.Column('data', sa.JSON(), nullable=False))  «",
        "op.create_table('new', sa.Column('a', sa.Text()), sa.Column('data', postgresql.JSONB()))",
    ),
    case(
        "json-type",
        "op.alter_column('item', 'data', type_=sa.JSON(), postgresql_using='data::json')  «",
        "# why\nop.execute('CREATE VIEW v AS SELECT CAST(sku AS json) FROM item')",
        acknowledged="",
    ),
    Case(
        "enum-replacement",
        written("op.replace_enum('mood', ['good'], columns=[('item', 'mood')])  «"),
        written("op.replace_enum('mood', ['good'], columns=[('item', 'mood')])", acknowledged=""),
    ),
    case(
        "enum-replacement",
        "# why\nop.execute('ALTER TYPE mood RENAME TO old')  «\nop.create_enum('mood', ['good'])\n"
        "# why\nop.execute('ALTER TABLE item ALTER mood TYPE mood USING mood::text::mood')",
        "op.add_enum_value('mood', 'best', before='good')",
        downgrade="op.drop_enum('mood')",
        acknowledged="",
    ),
    case(
        "enum-replacement",
        "op.create_enum('state', ['good'])\n"
        "# why\nop.execute('ALTER TABLE item ALTER COLUMN mood TYPE state USING mood::text::state')  «",
        "op.create_enum('state', ['good'])\n"
        "op.add_column('item', sa.Column('state', postgresql.ENUM(name='state', create_type=False)))",
        downgrade="op.drop_enum('state')",
        acknowledged="",
    ),
    case(
        "enum-replacement",
        "# why\nop.execute('DROP TYPE IF EXISTS mood CASCADE')  «",
        "op.drop_enum('mood')",
        acknowledged="",
    ),
    case(
        "duplicate-type",
        "op.create_enum('state', ['a'])\nop.create_table('new', sa.Column('s', sa.Enum('a', name='state')))  «",
        "op.create_table('new', sa.Column('s', sa.Enum('a', name='state')))",
        downgrade="op.drop_enum('state')",
    ),
    *(
        Case("duplicate-type", written(f"{code}  «", "op.drop_table('new')"), written(code, f"{back}\n{drop}"))
        for code, back, drop in [
            ("op.create_table('new', sa.Column('s', sa.Enum('a', name='state')))", "", "op.drop_enum('state')"),
            ("op.execute(\"CREATE TYPE State AS ENUM ('a')\")  # why", "# why", "op.execute('DROP TYPE state')"),
        ]
    ),
    case(
        "missing-type",
        "op.add_column('item', sa.Column('s', sa.Enum('a', name='state')))  «",
        "op.create_enum('state', ['a'])\nop.add_column('item', sa.Column('s', sa.Enum('a', name='state')))",
        downgrade="op.drop_enum('state')",
    ),
    case(
        "missing-type",
        "op.create_table('new', sa.Column('s', postgresql.ENUM(name='used', schema='box', create_type=False)))  «",
        "op.create_table('new', sa.Column('s', postgresql.ENUM(name='used', create_type=False)))",
    ),
    case(
        "missing-type",
        "op.alter_column('item', 's', type_=sa.Enum('a', name='state'), postgresql_using='s::state')  «",
        "op.alter_column('item', 's', type_=sa.Enum('a', name='used'), postgresql_using='s::used')",
        acknowledged="",
    ),
    case(
        "duplicate-type",
        "op.create_table('new', sa.Column('m', sa.Enum('good', name='used')))  «",
        "op.create_table('new', sa.Column('m', postgresql.ENUM('good', name='used', create_type=False)))",
    ),
    case(
        "duplicate-type",
        "# why\nop.execute(\"CREATE TYPE public.Used AS ENUM ('good')\")  «",
        "op.drop_enum('used')\nop.create_enum('used', ['good'])",
    ),
    # what makes a revision hard to read, to undo, or to run again
    case(
        "schema-and-data",
        "op.add_column('item', sa.Column('a', sa.Text()))\n"
        "op.execute(sa.update(ITEM).where(ITEM.c.id == 3).values(sku=''))  «",
        "op.create_table('new', sa.Column('a', sa.Text()))\n"
        "op.bulk_insert(sa.table('new', sa.column('a', sa.Text())), [{'a': 'b'}])",
    ),
    case(
        "schema-and-data",
        "op.create_table('new', sa.Column('a', sa.Text()))\n"
        "# why\nop.execute('INSERT INTO new SELECT sku FROM item')  «",
        "op.create_table('new', sa.Column('a', sa.Text()))\n"
        "# why\nop.execute('INSERT INTO new SELECT n FROM generate_series(1, 3) AS n')",
    ),
    case(
        "unrelated-changes",
        "op.create_table('new', sa.Column('a', sa.Text()))\nop.create_table('newer', sa.Column('a', sa.Text()))  «",
        "op.create_table('new', sa.Column('a', sa.Text()))\n"
        "op.create_table('newer', sa.Column('a', sa.Text(), sa.ForeignKey('new.a')))",
    ),
    case(
        "unrelated-changes",
        "op.create_index_concurrently('ix', 'item', ['sku'])\nop.create_index_concurrently('ix2', 'box', ['id'])  «",
        "op.create_index_concurrently('ix', 'item', ['sku'])\nop.create_index_concurrently('ix2', 'item', ['id'])",
    ),
    case(
        "unrelated-changes",
        "if op.step('a'):\n    op.create_index_concurrently('ix', 'item', ['sku'])\n"
        "    op.create_index_concurrently('ix2', 'box', ['id'])  «",
        "if op.step('a'):\n    op.create_index_concurrently('ix', 'item', ['sku'])\n"
        "if op.step('b'):\n    op.create_index_concurrently('ix2', 'box', ['id'])",
    ),
    *(
        case(
            "outside-step",
            unsafe,
            "item = sa.table('item', sa.column('id'))\n"
            "if op.step('a'):\n    op.add_column('item', sa.Column('a', sa.Text()))\n"
            "if op.step('b'):\n    op.create_index_concurrently('ix', 'item', ['sku'])",
        )
        for unsafe in (
            "bind = op.get_bind()  «\nstr(op)  «\nop.add_column('item', sa.Column('a', sa.Text()))  «\n"
            "if op.step('a'):\n    if op.step('b'):  «\n        pass\n"
            "op.add_column('item', sa.Column('b', sa.Text()))  «",
            "if op.step('a'):\n    pass\nif op.step('a'):  « unseen-statement\n    pass",
            "if op.step('a'):  «\n    pass\nelse:\n    op.add_column('item', sa.Column('a', sa.Text()))\n"
            "op.step('b')  «\nif op.step('c') and op.step('d'):  «\n    pass\nif op.step(name='e'):  «\n    pass",
            "for name in ('a', 'b'):  «\n    if op.step(name):  «\n        pass\n"
            "with op.get_context().autocommit_block():  «\n    if op.step('c'):  «\n        pass",
        )
    ),
    case(
        "raw-sql-without-reason",
        "op.execute('SELECT 1')  «",
        "# the reason: it warms the cache\nop.execute('SELECT 1')",
    ),
    case(
        "raw-sql-without-reason",
        "op.execute(  «\n    sa.text('SELECT :a').bindparams(a=1)\n)",
        "op.execute('SELECT 1')  # it warms the cache",
    ),
    case(
        "raw-sql-without-reason",
        "sql = f'SELECT {1}'\n# noqa\nop.execute(sql)  «",
        "op.execute(\n    # it warms the cache\n    'SELECT 1'\n)",
    ),
    case("raw-sql-without-reason", "op.execute(SQL + '')  «", "op.execute(sa.select(1))"),
    Case(
        "empty-downgrade",
        written("op.create_table('new')", "pass  «"),
        written("pass", "pass"),
    ),
    Case(
        "empty-downgrade",
        written("op.create_table('new')", '"""No."""\n...  «'),
        written("op.create_table('new')", "# safe: empty-downgrade because it is kept\npass"),
    ),
    Case(
        "empty-downgrade",
        written("op.create_table('new')", "raise NotImplementedError  «"),
        written("op.create_table('new')", "op.drop_table('new')"),
    ),
    Case(
        "empty-downgrade",
        written("op.create_table('new')")
        .partition("\n\ndef downgrade")[0]
        .replace("upgrade() -> None:", "upgrade() -> None:  «"),
        written("op.create_table('new')"),
    ),
    *(
        Case("meaningless-message", written("", message=f"{message}  «"), written("", message="add the price"))
        for message in ("empty message", "wip", "Fix", "update models", "some db changes")
    ),
    # what can't be read
    case(
        "needs-database",
        "op.get_bind().execute(sa.select(1)).scalar_one()  «",
        "op.execute(sa.delete(ITEM).where(ITEM.c.id == 3))",
    ),
    case(
        "unseen-statement",
        "# safe: needs-database because it is shown\n# safe: row-by-row because it is shown\n"
        "for row in op.get_bind().execute(sa.select(1)):\n"
        "    # why\n    op.execute(row.statement)  «",
        "",
    ),
    case("python-error", "op.add_colum('item', sa.Column('a', sa.Text()))  «", "op.get_context()"),
    case(
        "ban-drop-database",
        "with op.get_context().autocommit_block():\n    # why\n    op.execute('DROP DATABASE other')  «",
        "# why\nop.execute('CREATE EXTENSION IF NOT EXISTS pg_trgm')",
        acknowledged="",
    ),
]


def test_rules(tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests) -> None:
    """The cases are revisions of one history; those with a type, which would exist for later ones, of their own."""
    texts = {text: re.sub("  «.*", "", text) for case in CASES for text in (case.unsafe, case.safe)}
    together = {text: code for text, code in texts.items() if not OF_TYPES.search(code)}
    rules = found_in(tmp_path_factory.mktemp("together"), together)
    for text in texts.keys() - together.keys():
        rules |= found_in(tmp_path_factory.mktemp("alone"), {text: texts[text]})
    for number, (rule, unsafe, safe) in enumerate(CASES):
        with subtests.test(f"{number}-{rule}"):
            marks = [(line, text.partition("«")[2]) for line, text in enumerate(unsafe.splitlines(), 1) if "«" in text]
            expected = [(line, name) for line, others in marks for name in sorted([rule, *others.split()])]
            assert rules[unsafe] == expected != []
            assert rules[safe] == []


def test_every_rule_has_a_case() -> None:
    assert {case.rule for case in CASES} | ELSEWHERE == RULES.keys()


def test_the_table_says_what_to_write() -> None:
    for rule in RULES.values():
        assert rule.why and not rule.why.endswith("."), rule.name
        assert rule.instead, rule.name
        assert rule.name not in SWITCHED_OFF or rule.name in CHECKS
        if "op." in rule.instead and rule.name != "unused-acknowledgement":
            ast.parse(rule.instead)


def test_squawk_is_asked_for_what_is_in_the_table() -> None:
    assert not (RULES.keys() - CHECKS.keys()) & SWITCHED_OFF.keys()


def test_page_of_rules_is_written_from_the_table() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "write_rules.py"))["page"]
    assert ROOT.joinpath("docs", "rules.md").read_text() == page(), "pdm run docs"

"""Models in several schemas, without a setting."""

from alembic import command
from sqlalchemy import URL

from alembic_in_process import Inside
from support import Render, fetch

TABLES = """
    SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1
"""
SCHEMAS = "SELECT nspname AS name FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1"
TYPES = "SELECT oid::regtype::text AS name FROM pg_type WHERE typtype = 'e' ORDER BY 1"
MODELS = """
class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    last_invoice_id: Mapped[int | None] = mapped_column(sa.ForeignKey("billing.invoice.id"))


class Invoice(Base):
    __tablename__ = "invoice"
    __table_args__ = {"schema": "billing"}
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    account_id: Mapped[int] = mapped_column(sa.ForeignKey("account.id"))
    state = mapped_column(sa.Enum("open", "paid", name="invoice_state", schema="billing"), nullable=False)
    number: Mapped[str] = mapped_column(unique=True)


class Entry(Base):
    __tablename__ = "entry"
    __table_args__ = {"schema": "General Ledger"}
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    invoice_id: Mapped[int] = mapped_column(sa.ForeignKey("billing.invoice.id"), index=True)
    kind = mapped_column(sa.Enum("debit", "credit", name="invoice_state", schema="General Ledger"))
"""
MORE = """
    note: Mapped[str] = mapped_column(server_default="none", index=True)
    state_before = mapped_column(sa.Enum("open", "paid", name="invoice_state", schema="billing"), nullable=False)
    parent_id = mapped_column(sa.ForeignKey("General Ledger.entry.id"))
"""


def names(database: URL, query: str) -> list[str]:
    return [row.name for row in fetch(database, query)]


def test_several_schemas(render: Render, database: URL) -> None:
    inside = Inside(render(), database)
    inside.write_models(MODELS)
    scripts = inside.autogenerate("accounts and invoices")
    assert inside.lint(scripts) == []
    inside.alembic(command.upgrade, "head")
    fetch(database, "CREATE SCHEMA elsewhere CREATE TABLE customer (id int)")
    inside.write_models(MODELS.replace("    number:", f"{MORE}    number:"))
    scripts = inside.autogenerate("more of an invoice")
    assert {finding.rule.name for finding in inside.lint(scripts)} == {"unwritten-backfill"}
    inside.upgrade("head", lambda _: '{"state_before": "open"}')
    inside.alembic(command.check)
    assert "elsewhere.customer" in names(database, TABLES)
    fetch(database, "DROP SCHEMA elsewhere CASCADE")
    fetch(database, "CREATE FUNCTION billing.one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    for left in ({"billing"}, set()):  # a schema that is not empty stays
        inside.alembic(command.downgrade, "base")
        assert {"billing", "General Ledger"} & set(names(database, SCHEMAS)) == left
        assert names(database, TYPES) == []
        fetch(database, "DROP FUNCTION IF EXISTS billing.one()")
        inside.upgrade("head", str)


def test_models_and_version_table_each_in_a_schema(render: Render, database: URL) -> None:
    """The schema of all models is that of their metadata; what is in the default one is not theirs."""
    models = """
Base.metadata.schema = "billing"
sa.Table("invoice", Base.metadata, sa.Column("id", sa.BigInteger, primary_key=True))
sa.Table("line", Base.metadata, sa.Column("invoice_id", sa.ForeignKey("invoice.id"), index=True))
"""
    inside = Inside(render(), database)
    ini = inside.service.folder / "alembic.ini"
    ini.write_text(ini.read_text().replace("[safe_migrations]", "[safe_migrations]\nversion_table_schema = operations"))
    inside.write_models(models)
    inside.autogenerate("invoices")
    inside.alembic(command.upgrade, "head")
    inside.alembic(command.downgrade, "base")
    inside.alembic(command.upgrade, "head")
    inside.alembic(command.check)
    assert names(database, TABLES) == ["billing.invoice", "billing.line", "operations.alembic_version"]
    fetch(database, "CREATE TABLE customer (id int)")
    inside.write_models(models.replace("index=True", "index=False"))
    assert len(inside.autogenerate("no index")) == 1
    inside.upgrade("head", str)
    assert "customer" in names(database, TABLES)

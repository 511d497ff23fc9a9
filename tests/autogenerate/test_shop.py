"""A release of a shop that changes five tables in five ways: at most one file for each table in each phase."""

import re
from collections import Counter
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL

from alembic_in_process import Inside, schema
from safe_migrations.upgrade.phases import phase_of
from support import Render, fetch

BEFORE = """

class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(200), unique=True)
    fax: Mapped[str | None]


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    title: Mapped[str]
    price: Mapped[int]


class Order(Base):
    __tablename__ = "order"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    customer_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey("customer.id"), index=True)


class OrderLine(Base):
    __tablename__ = "order_line"
    order_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey("order.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey("product.id"))


class Payment(Base):
    __tablename__ = "payment"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    order_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey("order.id"))
    state = mapped_column(sa.Enum("open", "paid", name="payment_state"), nullable=False)
    amount: Mapped[int]


class AuditLog(Base):
    __tablename__ = "audit_log"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    event = mapped_column(postgresql.JSONB, nullable=False)
"""
ROWS = """
    INSERT INTO customer (email, fax) SELECT n || '@example.com', n FROM generate_series(1, 300) n;
    INSERT INTO product (title, price) SELECT 'product ' || n, n FROM generate_series(1, 300) n;
    INSERT INTO "order" (customer_id) SELECT id FROM customer;
    INSERT INTO order_line (order_id, number, product_id) SELECT n, 1, n FROM generate_series(1, 300) n;
    INSERT INTO payment (order_id, state, amount) SELECT id, 'paid', 1 FROM "order";
    INSERT INTO audit_log (event) SELECT '{"kind": "paid"}' FROM generate_series(1, 300)
"""
CHANGES = {
    "    fax: Mapped[str | None]\n": "",  # dropped
    "    title: Mapped[str]\n": "    name: Mapped[str]\n",  # renamed
    ", index=True)\n": ", index=True)\n    currency = mapped_column(sa.String(3), nullable=False)\n",
    'sa.ForeignKey("product.id")': 'sa.ForeignKey("product.id"), index=True',
    "    amount: Mapped[int]": "    amount: Mapped[int] = mapped_column(BigInteger)",
}


def test_a_release(render: Render, database: URL, capsys: pytest.CaptureFixture[str]) -> None:
    inside = Inside(render(), database)
    inside.begin(BEFORE)
    for statement in ROWS.split(";"):
        fetch(database, statement)
    at_start, after = schema(database), BEFORE
    for old, new in CHANGES.items():
        assert after.count(old) == 1
        after = after.replace(old, new)
    inside.write_models(after)
    capsys.readouterr()
    scripts = inside.autogenerate("sell abroad", x=["rename=product.title=name"])
    printed = capsys.readouterr().out
    names = [re.sub(r"^\d+_\d+_", "", Path(script.path).name) for script in scripts]
    assert [(phase_of(script), name) for script, name in zip(scripts, names, strict=True)] == [
        ("expand", "sell_abroad_order.py"),
        ("expand", "sell_abroad_product.py"),
        ("expand", "sell_abroad_order_line.py"),
        ("contract", "sell_abroad_payment_contract.py"),
        ("contract", "sell_abroad_order_contract.py"),
        ("contract", "sell_abroad_product_contract.py"),
        ("contract", "sell_abroad_customer_contract.py"),
    ]
    assert len(printed.splitlines()) <= 10 and names[0] in printed and "order_currency.py" in printed
    assert "Generating" not in printed and "hook" not in printed
    assert inside.service.versions.joinpath("HEAD").read_text() == f"{scripts[-1].revision}\n"
    for check in (("check",), ("format", "--check")):
        inside.service.succeed("ruff", *check, "alembic")  # all files, and the two backfills
    findings = [finding.rule.name for finding in inside.lint(scripts)]
    assert Counter(findings) == {"unacknowledged": 2, "unwritten-backfill": 1}

    asked = inside.upgrade("head", lambda name: '{"currency": sa.literal("EUR")}')
    assert len(asked) == 4, "two dangers and two backfills"
    inside.write_models(after.replace("    name: Mapped[str]\n", "    title: Mapped[str]\n    name: Mapped[str]\n"))
    inside.alembic(command.check)
    assert inside.lint(scripts) == []
    assert {row.currency for row in fetch(database, 'SELECT currency FROM "order"')} == {"EUR"}
    at_head = schema(database)
    inside.alembic(command.downgrade, scripts[2].revision, x=["yes"])
    inside.alembic(command.downgrade, "start", x=["yes"])
    assert schema(database) == at_start
    inside.upgrade("head", lambda name: "")
    assert schema(database) == at_head

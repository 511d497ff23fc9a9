"""Lint reads all of a revision, also what only a database would let it reach; what it can't read is a finding."""

import re
from pathlib import Path
from textwrap import dedent

import pytest

from revision_files import Versions, written

STYLE = {"raw-sql-without-reason", "unrelated-changes", "several-tables", "schema-and-data", "row-by-row"}
SHORT = {
    "ROW": "op.get_bind().execute(sa.select(1))",
    "INSPECTOR": "sa.inspect(op.get_bind())",
    "INDEX": "require-concurrent-index-creation",
    "DROPPED": "contract-in-expand unacknowledged",
}

# What must be found stands after «, without the rules of style.
CASES = {
    "code after an acknowledged query": """
        # safe: needs-database because the index may exist
        if ROW.scalar() is None:
            op.create_index("ix", "item", ["name"])  « INDEX
        op.drop_column("item", "created_at")  « DROPPED
    """,
    "the other branch": """
        if ROW.scalar():  « needs-database
            pass
        else:
            op.create_index("ix", "item", ["name"])  « INDEX
    """,
    "after an early return": """
        if "item" not in INSPECTOR.get_table_names():  « needs-database
            return
        op.create_index("ix", "item", ["name"])  « INDEX
    """,
    "names of columns": """
        columns = [column["name"] for column in INSPECTOR.get_columns("item")]  « needs-database
        if "a" in columns:
            op.drop_column("item", "a")  « DROPPED
        if not columns:
            op.drop_table("box")  « DROPPED
        if len(columns) == 0:
            op.drop_table("shop")  « DROPPED
    """,
    "a set of names, in a loop": """
        columns = {column["name"] for column in INSPECTOR.get_columns("item")}  « needs-database
        for name in ("a", "b"):
            if name not in columns:
                continue
            op.drop_column("item", name)  « DROPPED
    """,
    "any of a generator": """
        if not any(index["name"] == "ix" for index in INSPECTOR.get_indexes("item")):  « needs-database
            op.create_index("ix", "item", ["name"])  « INDEX
    """,
    "a helper that returns early": """
        def has(name):
            for row in ROW:  « needs-database
                if row[0] == name:
                    return True
            return False

        if not has("x"):
            op.create_index("ix", "item", ["name"])  « INDEX
        if has("x"):
            op.drop_table("box")  « DROPPED
    """,
    "offline mode": """
        from alembic import context

        if not context.is_offline_mode():
            op.drop_column("item", "a")  « DROPPED
        if not op.get_context().as_sql:
            op.drop_column("item", "b")  « DROPPED
        if context.config.get_main_option("x"):
            op.drop_column("item", "c")  « DROPPED
    """,
    "another database's branch is no way": """
        if op.get_bind().dialect.name == "sqlite":
            op.drop_column("item", "a")
        else:
            op.drop_table("box")  « DROPPED
    """,
    "a handler, and what follows": """
        try:
            op.get_bind().execute(sa.text("SELECT 1 FROM x")).one()  « needs-database
        except Exception as error:
            print(error)
            op.drop_column("item", "a")  « DROPPED
        else:
            op.drop_table("box")  « DROPPED
        finally:
            op.drop_table("shop")  « DROPPED
    """,
    "a batch": """
        if ROW.scalar():  « needs-database
            with op.batch_alter_table("item") as batch:
                batch.drop_column("a")  « DROPPED
    """,
    "aliases": """
        from alembic import op as o

        bind = o.get_bind()
        if bind.scalar(sa.select(1)):  « needs-database
            o.drop_column("item", "a")  « DROPPED
    """,
    "async code": """
        async def work(connection, number):
            result = await connection.execute(sa.text("SELECT 1"))
            if result.first() is None:  « needs-database
                await connection.execute(sa.text("ALTER TABLE item DROP COLUMN a"))  « DROPPED
            await connection.run_sync(lambda sync: sync.execute(sa.text("DROP TABLE box")))  « DROPPED

        op.run_async(work, 3)
    """,
    "a session": """
        from sqlalchemy.orm import Session, sessionmaker

        with Session(bind=op.get_bind()) as session:
            if session.execute(sa.text("SELECT 1")).scalar():  « needs-database
                session.execute(sa.text("DELETE FROM item"))  « update-without-where
            session.query(ITEM).update({"sku": ""})  « unseen-statement
        sessionmaker(op.get_bind())().execute(sa.text("DELETE FROM box"))  « update-without-where
    """,
    "an engine, a savepoint, a cursor": """
        with op.get_bind().engine.begin() as connection:  « needs-database
            connection.exec_driver_sql("DROP TABLE item")  « DROPPED
        with op.get_bind().begin_nested():
            op.drop_table("box")  « DROPPED
        op.get_bind().connection.cursor().execute("DROP TABLE shop")  « unseen-statement
    """,
    "rows": """
        for id_, sku in ROW.fetchall():  « needs-database
            op.execute(sa.update(ITEM).where(ITEM.c.id == id_).values(sku=sku.lower()))
            op.get_bind().execute(sa.text("UPDATE item SET sku = :s WHERE id = :i"), {"s": sku, "i": id_})
            op.get_bind().execute(sa.text("UPDATE item SET sku = :s"), {"s": sku})  « update-without-where
    """,
    "texts that are made of a row": """
        for row in ROW:  « needs-database
            op.execute(f"ALTER TABLE item RENAME CONSTRAINT a TO {row.name}")  « unseen-statement
            op.execute(row.statement)  « unseen-statement
            op.execute("DELETE FROM item WHERE id = %d" % row.id)  « unseen-statement
            op.execute("DELETE FROM " + row.name)  « unseen-statement update-without-where
    """,
    "parameters of the driver": """
        connection = op.get_bind()
        connection.execute("UPDATE item SET sku = %s WHERE id IN %s", ("a", (3,)))
        connection.exec_driver_sql("UPDATE item SET sku = '%%' || %(a)s", {"a": 1})  « update-without-where
        import time

        if connection.scalar(sa.select(1)):  « needs-database
            time.sleep(60)
    """,
    "expressions of what a query returns": """
        item = sa.Table("item", sa.MetaData(), autoload_with=op.get_bind())  « needs-database
        query = sa.select(item.c.id).where(item.c.id.in_(sa.select(item.c.id)))
        for row in op.get_bind().execute(query):  « unseen-statement
            op.get_bind().execute(sa.delete(ITEM).where(ITEM.c.id == row.id))
    """,
    "a name that a query returns": """
        for key in INSPECTOR.get_foreign_keys("item"):  « needs-database
            op.drop_constraint(key["name"], "item", type_="foreignkey")
            op.drop_column("item", key["name"])  « DROPPED
    """,
    "arguments that a query decides": """
        answer = ROW.scalar()  « needs-database
        op.alter_column("item", "x", nullable=answer)  « unseen-statement
        op.add_column("item", sa.Column("x", sa.Text(), nullable=answer))  « unseen-statement
        op.add_column("item", sa.Column("x", answer))  « unseen-statement
    """,
    "a name that two branches set": """
        name = "a"
        if ROW.scalar():  « needs-database
            name = "b"
        op.execute(f"ALTER TABLE item DROP COLUMN {name}")  « DROPPED unseen-statement
    """,
    "loops that only a query ends": """
        while True:
            rows = ROW.fetchall()  « needs-database
            if not rows:
                break
            op.execute(sa.delete(ITEM).where(ITEM.c.id == 3))
        number = 1
        while number > 0:
            number = ROW.rowcount
        while (ROW.rowcount) > 0:
            op.drop_table("item")  « DROPPED
        op.drop_table("box")  « DROPPED
    """,
    "a check that ends with an error": """
        number = int(ROW.scalar() or 0)  « needs-database
        assert number == 0
        if number > 3 or 0 > 1:
            raise RuntimeError("no")
        op.drop_table("box")  « DROPPED
    """,
    "match": """
        match ROW.scalar():  « needs-database
            case None:
                op.drop_table("box")  « DROPPED
            case [a, b]:
                op.drop_column("item", "a")  « DROPPED
    """,
    "expressions": """
        op.drop_column("item", "a") if ROW.scalar() else None  « needs-database DROPPED
        ROW.scalar() and op.drop_column("item", "b")  « DROPPED
        [op.drop_column("item", "c") for _ in ROW if _.a > 3]  « DROPPED
    """,
    "nested functions and generators": """
        def outer():
            def inner(name):
                op.drop_column("item", name)  « DROPPED

            if ROW.scalar():  « needs-database
                inner("a")

        def names():
            for row in ROW:
                yield row.name

        outer()
        for name in names():
            op.drop_table(name)  « DROPPED
    """,
    "a program of the system is not run": """
        import os
        import json

        data = json.loads(op.get_bind().scalar(sa.select(1)))  « needs-database
        if data["x"]:
            os.mkdir("made")  « unseen-statement
            open("made", "w")  « unseen-statement
    """,
    "a table that may have been there": """
        if not INSPECTOR.has_table("new"):  « needs-database
            op.create_table("new", sa.Column("id", sa.Integer()))
        op.create_index("ix", "new", ["id"])  « INDEX
    """,
    "a table and its index in one branch": """
        if not INSPECTOR.has_table("new"):  « needs-database
            op.create_table("new", sa.Column("id", sa.Integer()))
            op.create_index("ix", "new", ["id"])
        if not ROW.scalar():
            op.create_enum("used", ["good"])
    """,
    "reflected tables": """
        item = sa.Table("item", sa.MetaData(), autoload_with=op.get_bind())  « needs-database
        op.get_bind().execute(item.update().values(a=1))  « unseen-statement
        if op.get_bind().dialect.has_table(op.get_bind(), "box"):
            pass
        else:
            op.drop_table("shop")  « contract-in-expand unacknowledged
    """,
    "mistakes among them": """
        op.add_colum("item")  « python-error
        ROW.scalar()  « needs-database
        op.drop_colum("item")  « python-error
        op.create_index("ix", "item", ["name"])  « INDEX
    """,
    "nothing is found where nothing is": """
        for number in range(3):
            op.add_column("item", sa.Column(f"a{number}", sa.Text()))
        name = "x" if op.get_context().dialect.name == "postgresql" and not [] else "y"
        assert name == "x" and 1 < 2 < 3
        first, (second, *others) = 1, (2, 3)
        op.execute(sa.select(*(sa.literal(value) for value in (first, second, *others))))
    """,
}


def in_full(text: str) -> str:
    """A case, without what is short for something."""
    return re.sub(rf"\b(?:{'|'.join(SHORT)})\b", lambda match: SHORT[match[0]], dedent(text).strip())


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, str]]]:
    """What one run of lint finds in the revisions of all cases, by name."""
    versions, names = Versions(tmp_path_factory.mktemp("history")), {}
    for number, (name, body) in enumerate(CASES.items(), 2):
        code = re.sub("  «.*", "", in_full(body))
        path = versions.add(f"{number:04d}", written(code, phase="expand"))
        names[path] = name
    by_name: dict[str, list[tuple[int, str]]] = {name: [] for name in CASES}
    for finding in versions.lint("0001:"):
        if finding.rule.name not in STYLE:
            by_name[names[finding.path]].append((finding.line, finding.rule.name))
    return by_name


@pytest.mark.parametrize("name", CASES)
def test_all_of_a_revision_is_read(name: str, findings: dict[str, list[tuple[int, str]]]) -> None:
    lines = enumerate(in_full(CASES[name]).splitlines(), 27)
    expected = [(line, rule) for line, text in lines for rule in sorted(text.partition("«")[2].split())]
    assert findings[name] == expected


def test_nothing_of_a_branch_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    versions = Versions(tmp_path)
    body = "import os\nif op.get_bind().scalar(sa.select(1)):\n    os.mkdir('made')\nsa.create_engine('sqlite://')"
    versions.add("0002", written(body))
    assert versions.found("0002") == [(28, "needs-database"), (29, "unseen-statement"), (30, "unseen-statement")]
    assert not tmp_path.joinpath("made").exists()


def test_helper_of_another_module_that_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("helper_of_a_test.py").write_text(
        "from alembic import op\n\n\ndef drop(name):\n"
        "    if op.get_bind().exec_driver_sql('SELECT 1').scalar() is None:\n        op.drop_table(name)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    versions = Versions(tmp_path)
    body = "from helper_of_a_test import drop\n# safe: needs-database because of that\ndrop('item')\ndrop('box')"
    versions.add("0002", written(body))
    assert versions.found("0002") == [(29, "unseen-statement"), (30, "unseen-statement")]


def test_each_unseen_statement_is_acknowledged_by_itself(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    reason = "# safe: unseen-statement because it only reads"
    body = "for row in op.get_bind().execute(sa.select(1)):  # safe: needs-database because of that\n    # why\n"
    body += f"    {reason}\n    op.get_bind().execute(row.one)\n    op.get_bind().execute(row.two)\n"
    body += "op.drop_table('item')"
    versions.add("0002", written(body, phase="expand"))
    names = [(line, name) for line, name in versions.found("0002") if name != "row-by-row"]
    assert names == [(31, "unseen-statement"), (32, "contract-in-expand"), (32, "unacknowledged")]

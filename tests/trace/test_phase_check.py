"""What a revision does to tables with rows is compared with what its phase allows, on the oldest and newest PostgreSQL.

The cases are revisions of a few histories, each with tables of its own, so that one run judges a dozen of them.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent
from typing import Any
from uuid import uuid4

import pytest
from alembic.config import Config
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from adopt_comparison import load
from safe_migrations.dev.cluster import throw_away_cluster
from safe_migrations.errors import NotConfirmedError, NotInstalledError, RevisionError
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.creation import create_database, drop_database
from safe_migrations.postgres.programs import find_programs
from safe_migrations.trace.copies import upgrade
from safe_migrations.trace.phase_check import check_phases
from safe_migrations.trace.recorder import Trace, tracing
from safe_migrations.trace.seed import seed
from safe_migrations.upgrade.project import load_project
from support import REVISION, Once, at, fetch

ENV_PY = """
from sqlalchemy import MetaData
from safe_migrations import run_env

run_env(database_url="postgresql://", target_metadata=MetaData())
"""

# Of each case, with its name in the place of $.
TABLE = "CREATE TABLE $ (id int PRIMARY KEY, other_id int, sku text, code varchar(10), qty int NOT NULL DEFAULT 0)"
OTHER = "CREATE TABLE other_$ (id int PRIMARY KEY, name text)"


@dataclass(frozen=True)
class Case:
    """One or several revisions, and what is said of the last of them; nothing is said of those before it.

    Attributes:
        upgrade: the bodies of `upgrade()`, with $ in the place of the table.
        sentence: a regular expression; None where nothing may be said.
        declared: more lines of the file.
    """

    upgrade: tuple[str, ...]
    sentence: str | None = None
    declared: str = 'phase = "expand"'


def unsafe(upgrade: str, sentence: str, declared: str = 'phase = "expand"') -> Case:
    return Case((upgrade,), sentence, declared)


def safe(*upgrade: str, declared: str = 'phase = "expand"') -> Case:
    return Case(upgrade, None, declared)


CONTRACT, ACKNOWLEDGED = 'phase = "contract"', 'phase = "contract"\nacknowledged = "what is lost or locked"'
READS = r"scans table {} \(.*\) while holding {} on {}, blocking {} until"
WRITES = r"rewrites table $ while holding ACCESS EXCLUSIVE, blocking reads and writes"


def reads(mode: str, instead: str, stops: str = "reads and writes") -> str:
    return READS.format("$", mode, "$", stops) + f".*{instead}"


CASES = {
    "index": unsafe(
        "op.create_index('ix_$', '$', ['sku'])", reads("SHARE", "op.create_index_concurrently", stops="writes")
    ),
    "not_null": unsafe(
        "op.alter_column('$', 'sku', nullable=False)", reads("ACCESS EXCLUSIVE", "postgresql_not_valid"), CONTRACT
    ),
    "unique_constraint": unsafe(
        "op.create_unique_constraint('uq_$', '$', ['sku'])",
        reads("ACCESS EXCLUSIVE", "op.create_unique_constraint_using_index"),
    ),
    "check_constraint": unsafe(
        "op.create_check_constraint('ck_$', '$', 'qty >= 0')", reads("ACCESS EXCLUSIVE", "op.validate_constraint")
    ),
    "check_validated_at_once": unsafe(
        """
        op.create_check_constraint('ck_$', '$', 'qty >= 0', postgresql_not_valid=True)
        op.validate_constraint('ck_$', '$')
        """,
        reads("ACCESS EXCLUSIVE", "in the next step"),
    ),
    "reference": unsafe(
        "op.create_foreign_key('fk_$', '$', 'other_$', ['other_id'], ['id'])",
        reads("SHARE ROW EXCLUSIVE", "postgresql_not_valid", stops="writes"),
    ),
    "volatile": unsafe(
        "op.add_column('$', sa.Column('u', sa.Uuid(), server_default=sa.text('gen_random_uuid()')))", WRITES
    ),
    "identity": unsafe("op.add_column('$', sa.Column('n', sa.BigInteger(), sa.Identity()))", WRITES),
    "wider": unsafe("op.alter_column('$', 'qty', type_=sa.BigInteger())", WRITES, CONTRACT),
    "narrower": unsafe("op.alter_column('$', 'code', type_=sa.String(9))", WRITES, CONTRACT),
    "two_tables": unsafe(
        "op.add_column('$', sa.Column('a', sa.Text()))\nop.add_column('other_$', sa.Column('a', sa.Text()))",
        r"locks several tables .*, other_$ \(ACCESS EXCLUSIVE\), $ \(ACCESS EXCLUSIVE\)",
    ),
    "data_under_lock": unsafe(
        "op.add_column('$', sa.Column('a', sa.Text()))\nop.execute(\"UPDATE $ SET a = 'x'\")",
        reads("ACCESS EXCLUSIVE", "change data in a revision of its own"),
    ),
    "data_under_lock_of_another": unsafe(
        "op.add_column('$', sa.Column('a', sa.Text()))\nop.execute(\"UPDATE other_$ SET name = 'x'\")",
        r"scans table other_$ \(UPDATE .*\) while holding ACCESS EXCLUSIVE on $",
    ),
    "data_beside_an_index": unsafe(
        "op.create_index('ix_$', '$', ['sku'])\nop.execute(\"UPDATE $ SET sku = 'x'\")",
        r"scans table $ \(UPDATE .* SHARE on .* change data in a revision of its own",
    ),
    "index_beside_a_column": unsafe(
        "op.add_column('$', sa.Column('a', sa.Text()))\nop.create_index('ix_$', '$', ['sku'])",
        reads("ACCESS EXCLUSIVE", "op.create_index_concurrently"),
    ),
    "two_partitioned_tables": unsafe(
        "op.add_column('part_$', sa.Column('a', sa.Text()))\nop.add_column('$', sa.Column('a', sa.Text()))",
        r"locks several tables in one transaction, part_$ .*, part_$_1 .*, $ \(ACCESS EXCLUSIVE\)",
    ),
    "scan_in_autocommit": unsafe(
        """
        with op.get_context().autocommit_block():
            op.alter_column('$', 'sku', nullable=False)
        """,
        reads("ACCESS EXCLUSIVE", "postgresql_not_valid"),
        CONTRACT,
    ),
    "drop_column": unsafe("op.drop_column('$', 'sku')", r"drops the column $.sku, .*phase = \"contract\""),
    "drop_table": unsafe("op.drop_table('$')", r"drops the table $, "),
    "rename_column": unsafe("op.alter_column('$', 'sku', new_column_name='s')", r"renames the column $.sku to s, "),
    "rename_table": unsafe("op.rename_table('$', 'new_$')", r"renames the table $ to new_$, "),
    "drop_default": unsafe(
        "op.alter_column('$', 'qty', server_default=None)", r"drops the default of the column $.qty, "
    ),
    "primary_key": unsafe(
        "op.create_primary_key('pk_n$', 'without_$', ['n'])", r"makes the column without_$.n NOT NULL, "
    ),
    "required": unsafe(
        "op.add_column('hard_$', sa.Column('a', sa.Text(), nullable=False))",
        r"adds the column hard_$.a, NOT NULL without a default, ",
    ),
    "columns": safe(
        """
        op.add_column('$', sa.Column('a', sa.Text()))
        op.add_column('$', sa.Column('b', sa.Text(), server_default='x', nullable=False))
        op.add_column('$', sa.Column('c', sa.DateTime(timezone=True), server_default=sa.func.now()))
        op.alter_column('$', 'code', type_=sa.String(20))
        """
    ),
    "partitions": safe("op.add_column('part_$', sa.Column('a', sa.Text()))"),
    "children": safe("op.add_column('parent_$', sa.Column('a', sa.Text()))"),
    "index_concurrently": safe(
        "op.create_index_concurrently('ix_$', '$', ['sku'])", "op.drop_index_concurrently('ix_$', '$')"
    ),
    "unique_using_index": safe(
        """
        op.create_index_concurrently('uq_$', '$', ['sku'], unique=True)
        op.create_unique_constraint_using_index('uq_$', '$')
        """
    ),
    "foreign_key_validated_later": safe(
        "op.create_foreign_key('fk_$', '$', 'other_$', ['other_id'], ['id'], postgresql_not_valid=True)",
        "op.validate_constraint('fk_$', '$')",
    ),
    "check_validated_later": safe(
        "op.create_check_constraint('ck_$', '$', 'qty >= 0', postgresql_not_valid=True)",
        "op.validate_constraint('ck_$', '$')",
    ),
    "not_null_series": safe(
        "op.create_check_constraint('nn_$', '$', 'added IS NOT NULL', postgresql_not_valid=True)",
        "op.validate_constraint('nn_$', '$')",
        """
        op.validate_constraint('nn_$', '$')
        op.alter_column('$', 'added', nullable=False)
        op.drop_constraint('nn_$', '$', type_='check')
        """,
        declared=f'{CONTRACT}\nrequires_backfill = "$"',
    ),
    "not_null_after_downgrade": safe(
        # As the last one of a series whose second revision was reverted: the scan comes before the strong lock.
        "op.create_check_constraint('nn_$', '$', 'qty IS NOT NULL', postgresql_not_valid=True)",
        "op.validate_constraint('nn_$', '$')\nop.drop_constraint('nn_$', '$', type_='check')",
        declared=CONTRACT,
    ),
    "few_rows_after_analyze": safe(
        "op.execute('ANALYZE $')",
        "op.add_column('$', sa.Column('a', sa.Text()))\nop.execute(\"UPDATE $ SET a = 'x' WHERE id = 150\")",
    ),
    "two_tables_in_two_steps": safe(
        """
        if op.step("one"):
            op.add_column('$', sa.Column('a', sa.Text()))
        if op.step("other"):
            op.add_column('other_$', sa.Column('a', sa.Text()))
        """
    ),
    "two_tables_in_the_second_step": unsafe(
        """
        if op.step("one"):
            op.add_column('$', sa.Column('a', sa.Text()))
        if op.step("both"):
            op.add_column('$', sa.Column('b', sa.Text()))
            op.add_column('other_$', sa.Column('a', sa.Text()))
        """,
        r'locks several tables in one transaction in step "both", .*other_$ \(ACCESS EXCLUSIVE\)',
    ),
    "check_validated_in_a_step": safe(
        """
        if op.step("check"):
            op.create_check_constraint('ck_$', '$', 'qty >= 0', postgresql_not_valid=True)
        if op.step("validate"):
            op.validate_constraint('ck_$', '$')
        if op.step("index"):
            op.create_index_concurrently('ix_$', '$', ['sku'])
        """
    ),
    "index_in_a_step": unsafe(
        """
        if op.step("column"):
            op.add_column('$', sa.Column('a', sa.Text()))
        if op.step("index"):
            op.create_index('ix_$', '$', ['sku'])
        """,
        r'scans table $ \(.*\) in step "index" while holding SHARE on $',
    ),
    "rewrite_in_a_step": unsafe(
        """
        if op.step("check"):
            op.create_check_constraint('ck_$', '$', 'qty >= 0')
        if op.step("type"):
            op.alter_column('$', 'qty', type_=sa.BigInteger())
        """,
        r'rewrites table $ in step "type" while holding',
    ),
    "one_after_another": safe(
        """
        with op.get_context().autocommit_block():
            op.execute("ALTER TABLE $ ADD a text")
        op.add_column('other_$', sa.Column('a', sa.Text()))
        """
    ),
    "lock_without_waiting": safe("op.execute('LOCK TABLE $ IN ACCESS EXCLUSIVE MODE NOWAIT')"),
    "lock_in_a_moment": safe("op.execute(\"SET LOCAL lock_timeout = '1ms'\")\nop.execute('LOCK TABLE $')"),
    "lock_until_free": safe(
        """
        for _ in range(1000):
            try:
                with op.get_bind().begin_nested():
                    op.execute('LOCK TABLE $ NOWAIT')
                break
            except sa.exc.DBAPIError:
                continue
        else:
            raise TimeoutError
        """
    ),
    "data": safe("op.execute(\"UPDATE $ SET sku = 'x' WHERE id > 0\")"),
    "new_tables": safe(
        """
        op.create_table(
            'new_$',
            sa.Column('id', sa.Integer(), primary_key=True),
            sa.Column('a', sa.Integer(), sa.ForeignKey('$.id')),
            sa.Column('b', sa.Integer(), sa.ForeignKey('other_$.id')),
        )
        op.create_index('ix_new_$', 'new_$', ['a'])
        op.execute('INSERT INTO new_$ VALUES (1, 150, 150)')
        """
    ),
    "enum": safe("op.create_enum('kind_$', ['a', 'b'])", "op.add_enum_value('kind_$', 'c', after='a')"),
    "unreleased": safe(  # it gets no rows
        "op.create_index('ix_$', '$', ['sku'])",
        "op.add_column('$', sa.Column('name', sa.Text(), nullable=False))",
        declared='unreleased_tables = ("$",)',
    ),
    "drop_in_contract": safe("op.drop_column('$', 'sku')", declared=CONTRACT),
    "rewrite_acknowledged": safe("op.alter_column('$', 'qty', type_=sa.BigInteger())", declared=ACKNOWLEDGED),
}
PARTITIONED = (
    "CREATE TABLE part_$ (id int) PARTITION BY RANGE (id)",
    "CREATE TABLE part_$_1 PARTITION OF part_$ FOR VALUES FROM (0) TO (150)",
    "CREATE TABLE part_$_2 PARTITION OF part_$ DEFAULT",
)
SETUP = {
    "primary_key": ("CREATE TABLE without_$ (n int)",),
    "required": ("CREATE TABLE hard_$ (s text NOT NULL CHECK (md5(s) = 'x'))",),
    "partitions": PARTITIONED,
    "two_partitioned_tables": PARTITIONED,
    "children": ("CREATE TABLE parent_$ (id int)", "CREATE TABLE child_$ () INHERITS (parent_$)"),
}
# All tables of a history are filled for each of its revisions.
CASES_OF_A_HISTORY = 10
Judged = Callable[[str], dict[str, list[str]]]
BACKFILL = """
import sqlalchemy as sa
from safe_migrations.backfills import Backfill

item = sa.table("$", sa.column("id"), sa.column("added"))
backfill = Backfill(table=item, key=("id",), where=item.c.added.is_(None), values={"added": "x"})
"""


class History:
    """The files of an Alembic environment."""

    def __init__(self, folder: Path) -> None:
        """Begin one.

        Args:
            folder: an empty one.
        """
        self.config_file = folder / "alembic.ini"
        self.config_file.write_text("[alembic]\nscript_location = %(here)s/alembic\n")
        self.versions = folder / "alembic" / "versions"
        self.versions.mkdir(parents=True)
        (folder / "alembic" / "backfills").mkdir()
        (folder / "alembic" / "env.py").write_text(ENV_PY)
        self.last: str | None = None

    def add(self, name: str, upgrade: str, declared: str = 'phase = "expand"') -> None:
        body = indent(dedent(upgrade).strip(), "    ")
        content = REVISION.format(
            revision=name, down_revision=self.last, declarations=declared, upgrade=body, downgrade="    pass"
        )
        (self.versions / f"{name}.py").write_text(content.replace('"None"', "None"))
        self.last = name

    def add_backfill(self, name: str, content: str) -> None:
        (self.versions.parent / "backfills" / f"{name}.py").write_text(content)

    def judged(self, url: URL) -> list[str]:
        return run_async(check_phases(load_project(Config(self.config_file)), at(url)))


def tables(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        case = CASES[name]
        needed = [TABLE, *SETUP.get(name, ()), *([OTHER] if "other_$" in "".join(case.upgrade) else [])]
        yield from (statement.replace("$", name) for statement in needed)


@contextmanager
def scratch(version: int, server: URL) -> Iterator[URL]:
    """An empty database of that PostgreSQL; 18 stands for the one of the run."""
    with ExitStack() as stack:
        if version == 15:
            server = stack.enter_context(throw_away_cluster(find_programs(15, exactly=True))).url()
        name = f"database_{uuid4().hex}"
        run_async(create_database(at(server), name))
        stack.callback(lambda: run_async(drop_database(at(server), name)))
        yield server.set(database=name)


@pytest.fixture(scope="module", params=[18, 15])
def judged(
    request: pytest.FixtureRequest, server: URL, thorough: bool, tmp_path_factory: pytest.TempPathFactory, once: Once
) -> Judged:
    """What is said of each revision of a case and of those checked with it, by the revision's id."""
    version = request.param
    if version == 15 and not thorough:
        pytest.skip("PostgreSQL 18 covers it: pdm run test-all")

    def judge(names: Sequence[str]) -> dict[str, list[str]]:
        history = History(tmp_path_factory.mktemp("history"))
        history.add("first", "\n".join(f'op.execute("{statement}")' for statement in tables(names)))
        if "not_null_series" in names:
            history.add("later", "op.add_column('not_null_series', sa.Column('added', sa.Text()))")
            history.add_backfill("not_null_series", BACKFILL.replace("$", "not_null_series"))
        for name in names:
            for number, body in enumerate(CASES[name].upgrade, 1):
                history.add(f"{name}__{number}", body.replace("$", name), CASES[name].declared.replace("$", name))
        sentences: dict[str, list[str]] = {}
        with scratch(version, server) as url:
            for sentence in history.judged(url):
                file, rest = sentence.split(" ", 1)
                sentences.setdefault(Path(file).stem, []).append(rest)
        return sentences

    def judged(name: str) -> Any:
        history = [*CASES].index(name) // CASES_OF_A_HISTORY
        names = list(CASES)[history * CASES_OF_A_HISTORY :][:CASES_OF_A_HISTORY]
        try:
            return once(f"phase_check_{version}_{history}", lambda: judge(names))
        except NotInstalledError as error:
            pytest.skip(f"PostgreSQL {version} is not here: {error}")

    return judged


@pytest.mark.parametrize("name", CASES)
def test_what_is_said(judged: Judged, name: str) -> None:
    case = CASES[name]
    by_revision = {revision: lines for revision, lines in judged(name).items() if revision.rpartition("__")[0] == name}
    if case.sentence is None:
        assert by_revision == {}
        return
    (sentences,) = by_revision.values()
    expected = rf"\((expand|contract)\) {case.sentence.replace('$', name)}"
    assert any(re.match(expected, sentence) for sentence in sentences), sentences
    assert len(sentences) == 1 or case.sentence != WRITES, "a rewrite includes the scan"


def test_new_tables_are_not_checked(judged: Judged) -> None:
    assert "first" not in judged("not_null_series")


ADD, ENDED = "op.add_column('item', sa.Column('name', sa.Text()))", r"\.py failed .*ends its transaction itself"
FAILURES = {
    "rows": ("op.add_column('item', sa.Column('name', sa.Text(), nullable=False))", r"rows\.py failed .*null"),
    "acknowledgement": ("pass", "not acknowledged: all is lost"),
    "commit": (f"op.execute('COMMIT')\n{ADD}", ENDED),
    "chain": (f"{ADD}\nop.execute('COMMIT AND CHAIN')", ENDED),
    "rollback": (f"{ADD}\nop.execute('ROLLBACK')", ENDED),
    "own_transaction": (f"op.execute('/* over */ END')\nop.execute('BEGIN')\n{ADD}", ENDED),
    "call": (f"{ADD}\nop.get_bind().commit()", ENDED),
}


def test_a_revision_that_fails_ends_the_check(database: URL, tmp_path: Path) -> None:
    for name, (body, refusal) in FAILURES.items():
        tmp_path.joinpath(name).mkdir()
        history = History(tmp_path / name)
        history.add("first", "op.create_table('item', sa.Column('id', sa.Integer(), primary_key=True))")
        history.add(name, body, '# acknowledged = "all is lost"' if name == "acknowledgement" else "")
        with pytest.raises((NotConfirmedError, RevisionError), match=refusal):
            pytest.fail(f"{name}: {history.judged(database)}")
        fetch(database, "UPDATE alembic_version SET version_num = 'first'")
        fetch(database, "ALTER TABLE item DROP COLUMN IF EXISTS name")


@asynccontextmanager
async def both_connected(url: URL, **options: Any) -> AsyncIterator[tuple[AsyncConnection, AsyncConnection]]:
    """A connection to trace, with these options of `connected`, and the one that watches."""
    async with connected(at(url), **options) as one, connected(at(url), isolation_level="AUTOCOMMIT") as other:
        yield one, other


def test_locks_outside_a_transaction_are_seen(database: URL) -> None:
    modes = {
        "ALTER TABLE item ADD name text": "AccessExclusiveLock",
        "VACUUM FULL item": "AccessExclusiveLock",
        "CREATE INDEX CONCURRENTLY ix_item ON item (id)": "ShareUpdateExclusiveLock",
        "REINDEX INDEX CONCURRENTLY ix_item": "ShareUpdateExclusiveLock",
        "DROP INDEX CONCURRENTLY ix_item": "ShareUpdateExclusiveLock",
        "DO 'BEGIN LOCK item IN SHARE MODE; PERFORM pg_sleep(0.2); COMMIT; END'": "ShareLock",
    }
    fetch(database, "CREATE TABLE item (id int)")

    async def run() -> dict[str, str]:
        strongest = {}
        async with both_connected(database, isolation_level="AUTOCOMMIT") as connections:
            for statement in modes:
                async with tracing(*connections, "alembic_version") as trace:
                    await connections[0].execute(text(statement))
                strongest[statement] = trace.locks["item"][-1]
        return strongest

    assert run_async(run()) == modes


def test_each_step_has_its_locks_and_its_time(database: URL, tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add("first", "op.create_table('item', sa.Column('id', sa.Integer(), primary_key=True))")
    history.add(
        "second",
        """
        if op.step("column"):
            op.add_column("item", sa.Column("name", sa.Text()))
            op.execute("SELECT pg_sleep(0.1)")
        if op.step("index"):
            op.create_index_concurrently("ix_item_name", "item", ["name"])
        """,
    )
    project = load_project(Config(history.config_file))

    async def run(*revisions: str) -> list[Trace]:
        traces = []
        async with both_connected(database) as connections:
            for revision in revisions:
                async with tracing(*connections, "alembic_version") as trace:
                    await connections[0].run_sync(upgrade, project, revision)
                traces.append(trace)
        return traces

    first, trace = run_async(run("first", "second"))
    assert [(step.name, step.locks) for step in first.steps] == [(None, {})]
    strongest = [(step.name, step.locks["item"][-1]) for step in trace.steps]
    assert strongest == [("column", "AccessExclusiveLock"), ("index", "ShareUpdateExclusiveLock")]
    seconds = {step.name: step.seconds for step in trace.steps}
    assert seconds["column"] > 0.1
    assert seconds["index"] > 0
    assert [list(step.held) for step in trace.steps] == [["item"], ["item"]]


def test_what_needs_a_transaction_fails_outside_of_one(database: URL) -> None:
    fetch(database, "CREATE TABLE item (id int)")

    async def run() -> None:
        async with (
            both_connected(database, isolation_level="AUTOCOMMIT") as (connection, watcher),
            tracing(connection, watcher, "alembic_version"),
        ):
            for statement in ("LOCK TABLE item", "-- now\nSAVEPOINT a"):
                with pytest.raises(DBAPIError, match="can only be used in transaction blocks"):
                    await connection.execute(text(statement))
            await connection.execute(text("BEGIN"))
            await connection.execute(text("ALTER TABLE item ADD name text"))
            await connection.execute(text("ROLLBACK"))

    run_async(run())
    assert (
        fetch(database, "SELECT attname FROM pg_attribute WHERE attname = 'name' AND attrelid = 'item'::regclass") == []
    )


SCHEMA = """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE DOMAIN currency AS char(3) CHECK (VALUE ~ '^[A-Z]{3}$');
CREATE DOMAIN big AS int CHECK (VALUE > 500);
CREATE TABLE customer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, serial serial, name text NOT NULL CHECK (name <> ''),
    email varchar(200) NOT NULL UNIQUE CHECK (email ~ '^[^@]+@[^@]+$'),
    status text NOT NULL CHECK (status IN ('new', 'it''s')), share numeric(3, 2) NOT NULL CHECK (share BETWEEN 0 AND 1),
    doc jsonb NOT NULL CHECK (jsonb_typeof(doc) = 'object'), mood mood NOT NULL, moods mood[] NOT NULL,
    currency currency NOT NULL, big big NOT NULL, uuid uuid NOT NULL UNIQUE, flag boolean NOT NULL,
    letter char NOT NULL, bytes bytea NOT NULL, day date NOT NULL, span interval NOT NULL, clock time NOT NULL,
    at timestamptz NOT NULL, address inet NOT NULL, net cidr NOT NULL,
    period tstzrange NOT NULL, ratio float8 NOT NULL, place point NOT NULL,
    low int NOT NULL, high int NOT NULL, CHECK (low < high), began date NOT NULL, ended date NOT NULL,
    CHECK (began < ended), one text, other text, CHECK (num_nonnulls(one, other) = 1), "per cent" int DEFAULT 7,
    upper text GENERATED ALWAYS AS (upper(name)) STORED
);
CREATE TABLE "Order Line" (
    id int PRIMARY KEY, "customer id" bigint NOT NULL REFERENCES customer, parent int REFERENCES "Order Line",
    twin int NOT NULL REFERENCES "Order Line"
);
CREATE TABLE link (customer bigint REFERENCES customer, line int REFERENCES "Order Line", PRIMARY KEY (customer, line));
CREATE TABLE note (customer bigint, line int, FOREIGN KEY (customer, line) REFERENCES link);
CREATE TABLE hen (id int PRIMARY KEY, egg int);
CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL REFERENCES hen);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg;
CREATE TABLE flag (flag boolean UNIQUE NOT NULL);
CREATE TABLE part (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE part_default PARTITION OF part DEFAULT;
CREATE TABLE bare (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE below (id int PRIMARY KEY, bare int NOT NULL REFERENCES bare);
CREATE TABLE nothing ();
CREATE SCHEMA apart;
CREATE TABLE apart.thing (id uuid DEFAULT gen_random_uuid() PRIMARY KEY, customer bigint REFERENCES customer);
CREATE SCHEMA safe_migrations;
CREATE TABLE safe_migrations.backfill (name text);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
CREATE TABLE impossible (text text NOT NULL CHECK (md5(text) = 'x'));
CREATE TABLE never (id int NOT NULL CHECK (id < 0 AND id > 0))
"""


def test_rows_for_any_table(database: URL) -> None:
    load(database, SCHEMA)

    async def run() -> list[list[str]]:
        async with connected(at(database), isolation_level="AUTOCOMMIT") as connection:
            return [await connection.run_sync(seed, "alembic_version") for _ in range(2)]

    first, second = run_async(run())
    assert first == second, "existing rows are kept"
    assert first == [
        "The table impossible remains empty: no value is known for the column text (text).",
        "The table never remains empty: no value is known for the column id (integer).",
    ]
    full = ["customer", '"Order Line"', "link", "note", "hen", "egg", "part", "bare", "below", "nothing", "apart.thing"]
    expected = dict.fromkeys(full, 100) | {"flag": 1, "alembic_version": 0, "safe_migrations.backfill": 0}
    counts = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in expected)  # noqa: S608
    assert dict(map(tuple, fetch(database, counts))) == expected

"""One PostgreSQL for the whole run, and `render`: a service of given answers."""

import asyncio
import gc
import json
import logging
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]
import pytest
from copier import run_copy
from sqlalchemy import URL, make_url

from faster_copier import faster_copier
from faster_git import faster_git
from releases import Releases, environment_without_library, make_toy
from safe_migrations.dev.cluster import throw_away_cluster
from safe_migrations.errors import EmbeddedPostgresError
from safe_migrations.postgres.connection import share_compiled_statements
from safe_migrations.postgres.programs import find_programs
from support import (
    ROOT,
    Administrator,
    MypyCache,
    NewDatabase,
    NewRole,
    Once,
    Render,
    Service,
    ToHead,
    alone,
    as_text,
    fetch,
    tables,
)
from warm_client import ADDRESS
from warm_python import warm_parent, warm_program

# A server of any supported version, with a superuser who needs a password; by default an embedded PostgreSQL 18.
SERVER_URL = "TEST_SERVER_URL"
# Of what tests draw at random; a run with the same one draws the same.
SEED = "TEST_SEED"

# A file system in memory, and the bytes that a run needs there.
MEMORY, ROOM = Path("/dev/shm"), 4 * 1024**3  # noqa: S108

# A runner such as nohup may have told this process to ignore these, which is inherited by what the tests interrupt.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# In the place of pdm: nothing that a test starts can install into the environment that runs the tests.
GUARDED_PDM = """#!/bin/sh
case "$1" in
    run | use | info | config | --version) exec {pdm} "$@" ;;
esac
echo "pdm $*: a test must not change an environment" >&2
exit 99
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--thorough`: tests of chance, such as kills at random points, run all their rounds."""
    parser.addoption("--thorough", action="store_true", help="run all rounds of the tests that repeat themselves")


def pytest_configure(config: pytest.Config) -> None:
    """Start PostgreSQL in the process that starts the workers, which read its URL from the environment."""
    config.addinivalue_line("markers", "thorough(reason): runs with --thorough only; what covers it by default")
    os.environ.setdefault(SEED, secrets.token_hex(4))
    os.environ.pop("PDM_RUN_CWD", None)  # messages name commands as they are called: here, without PDM
    use_memory()
    if "PYTEST_XDIST_WORKER" not in os.environ and (pdm := shutil.which("pdm")):
        folder = Path(tempfile.mkdtemp(prefix="guarded_pdm"))
        config.add_cleanup(lambda: shutil.rmtree(folder))
        folder.joinpath("pdm").write_text(GUARDED_PDM.format(pdm=shlex.quote(pdm)))
        folder.joinpath("pdm").chmod(0o755)
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    if config.option.collectonly:
        return
    stack = ExitStack()
    config.add_cleanup(stack.close)
    if SERVER_URL not in os.environ:
        cluster = stack.enter_context(throw_away_cluster(find_programs(18, exactly=True)))
        asyncio.run(prepare(cluster.url()))
        os.environ[SERVER_URL] = cluster.url().render_as_string(hide_password=False)
        os.environ["PGSSLMODE"] = "disable"  # it speaks no TLS, for which a client would ask at each connection
    if ADDRESS not in os.environ:
        stack.enter_context(faster_git())
        stack.enter_context(warm_parent())
    faster_copier(Path(os.environ[ADDRESS]).with_name("jinja"))
    share_compiled_statements()


async def prepare(url: URL) -> None:
    """Let passwords be hashed once, not 4,096 times, which a client repeats for each connection; use template1."""
    connection = await asyncpg.connect(as_text(url))
    await connection.execute("ALTER SYSTEM SET scram_iterations = 1")
    await connection.execute("SET scram_iterations = 1")
    role = await connection.fetchval("SELECT format('ALTER ROLE CURRENT_USER PASSWORD %L', $1::text)", url.password)
    await connection.execute(role)
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
    # What its first connection prepares is copied into each new database.
    await (await asyncpg.connect(as_text(url.set(database="template1")))).close()


def use_memory() -> None:
    """Put temporary files into memory, where there is room for them: most of them exist for a second."""
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return
    memory = os.statvfs(MEMORY)
    if memory.f_bavail * memory.f_frsize >= ROOM and not memory.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def pytest_report_header() -> str:
    """How to repeat what is drawn at random."""
    return f"to repeat this run's random tests: {SEED}={os.environ[SEED]}"


def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    """The workers are forks, too, which have most libraries."""
    for spec in specs:
        spec.python = shlex.quote(os.fspath(warm_program("python")))


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores, because tests wait a good deal for servers and locks."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let each worker begin with other folders, so that a new clone's files are compiled once, not by each worker."""
    report = yield
    if collector.path == ROOT / "tests" and (worker := os.environ.get("PYTEST_XDIST_WORKER")):
        first = len(report.result) * int(worker[2:]) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        report.result = report.result[first:] + report.result[:first]
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest test comes first: the workers share out the rest beside it. What is thorough is left out, or not."""
    items.sort(key=lambda item: ("test_readme_with_its_update" not in item.nodeid, item.path))
    if not config.option.thorough:
        for item in items:
            for mark in item.iter_markers("thorough"):
                if reason := covered_by_default(mark):
                    item.add_marker(pytest.mark.skip(reason=f"{reason}: pdm run test-all"))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what is imported by now, and run it less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000_000, 50, 100)


def pytest_sessionfinish() -> None:
    """Spare it all the rest: the process ends."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A mark that does not say why its test may be left out is an error."""
    if not all(covered_by_default(mark) for mark in item.iter_markers("thorough")):
        pytest.fail('say what covers it by default: @pytest.mark.thorough("…")', pytrace=False)


def covered_by_default(mark: pytest.Mark) -> str | None:
    """Why a thorough test may be left out."""
    return mark.args[0] if len(mark.args) == 1 and isinstance(mark.args[0], str) and not mark.kwargs else None


@pytest.fixture(scope="session")
def server() -> URL:
    """The maintenance database of the run's PostgreSQL, as its superuser."""
    return make_url(os.environ[SERVER_URL]).set(drivername="postgresql+asyncpg")


@pytest.fixture(scope="session")
def administrator(server: URL) -> Iterator[Administrator]:
    """For a worker's databases."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(as_text(server)))
        yield Administrator(lambda statement: runner.run(connection.execute(statement)))
        runner.run(connection.close())


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether to run all rounds, rather than a few."""
    return bool(pytestconfig.getoption("thorough"))


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """The run's random numbers; a test that fails shows how to repeat them."""
    request.node.add_report_section("setup", "random", f"to repeat it: {SEED}={os.environ[SEED]}")
    return Random(os.environ[SEED])  # noqa: S311


@pytest.fixture(autouse=True)
def root_handlers() -> Iterator[None]:
    """The handlers that an env.py in the tests' process gives to the root logger end with the test."""
    handlers = logging.root.handlers
    logging.root.handlers = [*handlers]
    yield
    logging.root.handlers = handlers


@pytest.fixture
def new_database(server: URL, administrator: Administrator) -> Iterator[NewDatabase]:
    """Creates empty databases, which are dropped after the test."""
    names = []

    def create() -> URL:
        names.append(f"database_{uuid4().hex}")
        administrator.create(names[-1])
        return server.set(database=names[-1])

    yield create
    for name in names:
        administrator.drop(name)


@pytest.fixture
def database(new_database: NewDatabase) -> URL:
    """An empty database."""
    return new_database()


@pytest.fixture(params=[15, 16, 17, 18])
def url_of_each_version(request: pytest.FixtureRequest, thorough: bool, database: URL) -> Iterator[URL]:
    """An empty database of each version; of the newest alone by default."""
    if request.param == 18:
        yield database
        return
    if not thorough:
        pytest.skip("the newest is enough: pdm run test-all")
    try:
        programs = find_programs(request.param, exactly=True)
    except EmbeddedPostgresError as error:
        pytest.skip(f"PostgreSQL {request.param} is not here: {error}")
    with throw_away_cluster(programs) as cluster:
        yield cluster.url()


@pytest.fixture(scope="session")
def new_role(server: URL) -> Iterator[NewRole]:
    """Creates roles with a password, which are dropped at the end."""
    roles = []

    def quoted(statement: str, *names: str) -> str:
        query = "SELECT format(CAST(:statement AS text), VARIADIC CAST(:names AS text[]))"
        ((text,),) = fetch(server, query, statement=statement, names=list(names))
        return str(text).replace(":", r"\:")

    def create(options: str, password: str) -> str:
        roles.append(f"role_{uuid4().hex}")
        fetch(server, quoted(f"CREATE ROLE %I {options} PASSWORD %L", roles[-1], password))
        return roles[-1]

    yield create
    for role in roles:
        fetch(server, quoted("DROP ROLE %I", role))


@pytest.fixture(scope="session")
def template(folder_of_run: Path) -> Path:
    """The template's files, out of their repository: Copier takes them as they are, without cloning first."""
    copy = folder_of_run / "template"
    with alone(copy):
        if not copy.exists():
            ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
            shutil.copytree(ROOT / "template", copy / "template", ignore=ignored)
            shutil.copy(ROOT / "copier.yml", copy)
    return copy


@pytest.fixture(scope="session")
def rendered(template: Path, folder_of_run: Path) -> Callable[[str], Path]:
    """One rendering for each set of answers (in JSON), to be copied: that is faster than Copier."""

    def render(answers: str) -> Path:
        folder = folder_of_run / f"rendered_{sha256(answers.encode()).hexdigest()}"
        with alone(folder):
            if not folder.exists():
                run_copy(str(template), folder, data=json.loads(answers), defaults=True, unsafe=False, quiet=True)
        return folder

    return render


@pytest.fixture(scope="session")
def releases(folder_of_run: Path) -> Releases:
    """All released versions, and the working tree as the next one."""
    return Releases(folder_of_run / "releases")


@pytest.fixture(scope="session")
def toy(folder_of_run: Path) -> Releases:
    """A template of a dozen files with one release, NEXT: faster than ours, for what has nothing to do with ours."""
    return Releases(folder_of_run / "toy", make_toy)


@pytest.fixture(scope="session")
def without_library(folder_of_run: Path) -> Path:
    """The programs of an environment without our library, as services of 1.x have it."""
    folder = folder_of_run / "without_library"
    with alone(folder):
        return folder / "bin" if folder.exists() else environment_without_library(folder)


@pytest.fixture
def forked_copier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copier, and workers of the fleet, which the library runs by `sys.executable`, in forks."""
    monkeypatch.setattr(sys, "executable", os.fspath(warm_program("python")))


@pytest.fixture
def render(template: Path, rendered: Callable[[str], Path], tmp_path: Path) -> Render:
    """Render a service: `render(outbox=True)`. It asks for no trust, as `copier copy` without --trust."""

    def render(folder: Path | None = None, /, **answers: Any) -> Service:
        answers = {"service_name": "orders", **answers}
        destination = folder or tmp_path / answers["service_name"]
        if folder is None and not destination.exists():
            shutil.copytree(rendered(json.dumps(answers, sort_keys=True)), destination)
        else:
            run_copy(str(template), destination, data=answers, defaults=True, unsafe=False, quiet=True)
        return Service(destination, answers.get("env_prefix", answers["service_name"].upper()))

    return render


@pytest.fixture(scope="session")
def folder_of_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers share."""
    of_worker = tmp_path_factory.getbasetemp()
    return of_worker.parent if "PYTEST_XDIST_WORKER" in os.environ else of_worker


@pytest.fixture(scope="session")
def once(folder_of_run: Path) -> Once:
    """Computes a value for all workers, in the first one that needs it."""

    def once(name: str, compute: Callable[[], Any]) -> Any:
        file = folder_of_run / f"{name}.json"
        with alone(file):
            if not file.exists():
                file.write_text(json.dumps(compute()))
        return json.loads(file.read_text())

    return once


@pytest.fixture(scope="session")
def mypy_cache(folder_of_run: Path) -> MypyCache:
    """One cache for all renderings, one user at a time: what they have in common, the libraries, is checked once."""
    cache = folder_of_run / "mypy"

    @contextmanager
    def use() -> Iterator[str]:
        with alone(cache):
            yield os.fspath(cache)

    return use


@pytest.fixture
def service(render: Render, database: URL) -> Service:
    """A service with the default answers, configured for an empty database."""
    service = render()
    service.configure(database)
    return service


@pytest.fixture(scope="session")
def heads(administrator: Administrator) -> Iterator[dict[str, str]]:
    """The names of databases to be copied, by the revisions at whose head they are."""
    names: dict[str, str] = {}
    yield names
    for name in names.values():
        administrator.drop(name)


@pytest.fixture
def to_head(service: Service, administrator: Administrator, database: URL, heads: dict[str, str]) -> ToHead:
    """Brings an empty database to head: `alembic upgrade head` for a worker's first test, then a copy, which is faster.

    For tests that begin there. What an upgrade does, or says, is seen where the command itself is run.
    """
    name = str(database.database)

    def to_head() -> None:
        revisions = "".join(service.versions.joinpath(file).read_text() for file in service.revisions())
        assert tables(database) == set()
        if revisions in heads:
            administrator.drop(name)
            administrator.create(name, heads[revisions])
        else:
            service.succeed("alembic", "upgrade", "head")
            copy = f"head_{uuid4().hex}"
            administrator.create(copy, name)
            heads[revisions] = copy

    return to_head


@pytest.fixture
def at_head(service: Service, to_head: ToHead) -> Service:
    """A service with the default answers, whose database is at head."""
    to_head()
    return service

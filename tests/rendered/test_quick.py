"""`safe-migrations state --quick`: each answer, and that it takes no library to give it."""

import re
import shutil
import textwrap

from dotenv import set_key
from sqlalchemy import URL

from safe_migrations.errors import ConfigurationError, ConnectionFailedError
from support import NewRole, Service, ToHead, fetch

PASSWORDS = ["per%cent at@co:lon/slash#hash? a space + plus é[", "'single' \"double\"", "${HOME}"]

URLS = [
    "postgres://user:secret@host/name",
    "postgresql+asyncpg://user:per%25cent%40%2F%23%3F%5B@host:6543/na%20me",
    "postgresql://user:un/encoded#[+@host/name",
    "postgresql://user@host",
    "postgresql://user:@host/",
    "postgresql://user:secret@[::1]:6543/name",
    "postgresql://user:secret@host/name?sslmode=require&channel_binding=require&connect_timeout=5&gssencmode=disable",
    "postgresql://user:secret@host/name?ssl=verify-full&application_name=mine&prepared_statement_cache_size=0",
    "postgresql://user:secret@/name?host=/var/run/postgresql",
    "postgresql://user:secret@/name?host=/var/run/postgresql&port=6543",
    "postgresql://user:secret@/name?host=host:6543",
    "postgresql://user:secret@/name?host=one:5432&host=two:6543&target_session_attrs=read-write",
    "postgresql://user:secret@/name?host=one,two&port=5432,6543",
    "postgresql://user:secret@host/name?port=6543",
    "postgresql://user:secret@host/name?sslcert=file",
    "mysql://user:secret@host/name",
    "secret",
    "postgresql://user:se@cret@host/name",
    "postgresql://user:secret@host:port/name",
    "postgresql://user:secret@one:5432,two:6543/name",
    "postgresql://user:secret@/name?host=one&host=two",
    "postgresql://user:secret@/name?host=one,two&port=5432",
    "postgresql://user:secret@/name?host=one&port=number",
    "postgresql://user:secret@host/name?sslmode=maybe",
    "postgresql://user:secret@host/name?sslcertificate=file",
]

COMPARE = """
import os, sys
from config import SERVICE_FOLDER, load_settings
from safe_migrations import ConfigurationError, Service

def as_lists(arguments):
    return {name: value if isinstance(value, list) else [value] for name, value in arguments.items() if value}

for url in sys.argv[1:]:
    os.environ["ORDERS_DATABASE_URL"] = url
    expected = found = None
    try:
        settings = load_settings().database_url
        _, expected = settings.get_dialect()().create_connect_args(settings)
        expected.pop("prepared_statement_cache_size", None)
        given = [name for name in expected if "cert" in name]
        expected["dsn"] = "".join(f"postgresql://?{name}={expected.pop(name)}" for name in given)
    except ConfigurationError:
        pass
    try:
        found = Service.read(SERVICE_FOLDER / "alembic.ini").address().connect_arguments("ORDERS_DATABASE_URL")
    except ConfigurationError as error:
        assert "secret" not in str(error), error
    assert as_lists(expected or {}) == as_lists(found or {}), (url, expected, found)
    print("refused" if found is None else "connects")
"""

REVISIONS = """
from alembic.script import ScriptDirectory
from config import SERVICE_FOLDER
from safe_migrations.revisions import read_revisions

scripts = ScriptDirectory(SERVICE_FOLDER / "alembic")
heads = sorted(script.revision for script in scripts.get_revisions("heads"))
print(heads, sorted(script.revision for script in scripts.walk_revisions()))
ours = read_revisions([SERVICE_FOLDER / "alembic" / "versions"])
print(sorted(ours.heads), sorted(ours.files))
"""


def ask(service: Service) -> tuple[int, str]:
    """The exit status and the one line that the probe prints."""
    process = service.run("safe-migrations", "state", "--quick")
    failed = process.returncode > 10
    output, other = (process.stderr, process.stdout) if failed else (process.stdout, process.stderr)
    assert other == ""
    assert output.count("\n") == 1 or failed, output
    assert "Traceback" not in output
    return process.returncode, output


def add_revision(service: Service, revision: str, assignments: str) -> None:
    """Write a revision file."""
    text = f'"""text\n\nRevision ID: {revision}\n"""\n\n{textwrap.dedent(assignments)}\n\ndef upgrade():\n    pass\n'
    (service.folder / "alembic" / "versions" / f"20990101_0001_{revision}.py").write_text(text)


def test_each_answer(service: Service, database: URL, to_head: ToHead) -> None:
    status, output = ask(service)
    assert (status, "no revision" in output) == (3, True)

    to_head()
    status, output = ask(service)
    assert (status, "is at head" in output) == (0, True)

    ((baseline,),) = fetch(database, "SELECT version_num FROM alembic_version")
    add_revision(service, "next", f"revision = 'next'\ndown_revision = '{baseline}'")
    status, output = ask(service)
    assert status == 4
    assert all(
        part in output
        for part in ("revision 0001 baseline (", "expects 0001 text (20990101_0001_next.py)", "alembic upgrade head")
    )

    add_revision(service, "other", f"revision = 'other'\ndown_revision = '{baseline}'")
    status, output = ask(service)
    assert (status, "safe-migrations rebase" in output) == (7, True)

    fetch(database, "UPDATE alembic_version SET version_num = 'later'")
    add_revision(service, "merge", 'revision: str = "merge"\ndown_revision: str | None = ("next", "other")')
    status, output = ask(service)
    assert status == 6
    assert "later" in output

    fetch(database, "DELETE FROM alembic_version")
    assert ask(service)[0] == 3


def test_revisions_are_those_that_alembic_reads(service: Service) -> None:
    shutil.rmtree(service.folder / "alembic" / "versions")
    (service.folder / "alembic" / "versions").mkdir()
    add_revision(service, "a", "revision='a'\ndown_revision=None")
    add_revision(service, "b", 'down_revision: "str | None" = "a"  # not \'x\'\nrevision: str = "b"')
    add_revision(service, "c", "revision = (\n    'c'\n)\ndown_revision = ['a']\ndepends_on = 'e'")
    add_revision(service, "d", 'revision = "d"\ndown_revision: str | tuple[str, ...] = (\n  "b",  # b\n  \'c\',\n)')
    add_revision(service, "e", "revision = 'e'\ndown_revision: str | None = None\nbranch_labels = ('x', 'y')")
    add_revision(service, "f", "revision = 'f'\ndown_revision = ()\n\ntext = 'down_revision = \"d\"'")
    alembics, ours = service.succeed("python", "-c", REVISIONS).splitlines()
    assert ours == alembics == "['d', 'f'] ['a', 'b', 'c', 'd', 'e', 'f']"


def test_connects_where_the_settings_do(service: Service) -> None:
    answers = service.succeed("python", "-c", COMPARE, *URLS).split()
    assert answers == ["connects"] * 15 + ["refused"] * 10


def test_imports_no_library_but_asyncpg(service: Service) -> None:
    (service.folder / ".env").write_text(f"ORDERS_DATABASE_URL={service.environment.pop('ORDERS_DATABASE_URL')}\n")
    code = (
        "import runpy, sys\nsys.argv[1:] = ['state', '--quick']\n"
        "try:\n    runpy.run_module('safe_migrations', run_name='__main__')\n"
        "finally:\n    print({'alembic', 'asyncpg', 'config', 'pydantic', 'sqlalchemy'} & sys.modules.keys())"
    )
    process = service.run("python", "-c", code)
    assert process.returncode == 3, process.stderr
    assert process.stdout.splitlines()[1:] == ["{'asyncpg'}"]


def test_any_password(service: Service, database: URL, new_role: NewRole) -> None:
    env_file = service.folder / ".env"
    place = {"HOST": database.host, "PORT": database.port, "NAME": database.database}
    for password in PASSWORDS:
        role = new_role("LOGIN", password)
        service.configure(database.set(username=role, password=password))
        assert ask(service)[0] == 3

        service.environment = {f"ORDERS_DB_{name}": str(value) for name, value in place.items()}
        set_key(env_file, "ORDERS_DB_USER", role)
        set_key(env_file, "ORDERS_DB_PASSWORD", password)
        assert ask(service)[0] == 3


def test_could_not_tell(service: Service, database: URL, new_role: NewRole) -> None:
    owner = service.environment["ORDERS_DATABASE_URL"]
    fetch(database, "CREATE TABLE alembic_version (version_num text)")
    for url, reason in (
        (database.set(password="sec%ret"), 'password authentication failed for user "postgres"'),
        (database.set(database="missing"), 'database "missing" does not exist'),
        (database.set(port=1), "127.0.0.1:1 can't be read"),
        (database.set(port=99999), "99999 can't be read"),
        (database.set(host="unknown.invalid"), "unknown.invalid:"),
        (database.set(query={"sslmode": "require"}), "can't be read (PostgreSQL server at"),
        (database.set(username=new_role("LOGIN", "sec%ret"), password="sec%ret"), "permission denied for table"),
        (database.set(drivername="mysql", password="sec%ret"), "is not a URL of PostgreSQL"),
    ):
        service.environment["ORDERS_DATABASE_URL"] = url.render_as_string(hide_password=False)
        status, output = ask(service)
        assert status in (ConfigurationError.exit_status, ConnectionFailedError.exit_status)
        assert reason in output
        assert "ORDERS_DATABASE_URL" in output
        assert not re.search("sec(%|%25)ret", output)

    service.environment = {"ORDERS_DB_USER": "user", "ORDERS_DB_PASSWORD": "sec%ret", "ORDERS_DB_PORT": "many"}
    status, output = ask(service)
    assert (status, "ORDERS_DB_PORT" in output) == (ConfigurationError.exit_status, True)
    service.environment.clear()
    assert "ORDERS_DATABASE_URL" in ask(service)[1]
    (service.folder / ".env").write_bytes(b"\xff")
    assert "can't be read" in ask(service)[1]
    (service.folder / ".env").unlink()

    service.environment["ORDERS_DATABASE_URL"] = owner
    (revision,) = (service.folder / "alembic" / "versions").glob("*.py")
    revision.write_bytes(b"\xff")
    assert "can't be read" in ask(service)[1]
    revision.unlink()
    assert str(service.folder / "alembic" / "versions") in ask(service)[1]

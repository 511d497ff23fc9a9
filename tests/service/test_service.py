"""What alembic.ini says of a service, and where the service's variables come from."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from safe_migrations import ConfigurationError, Service, load_env_files, probe
from safe_migrations.revisions import read_revisions

INI = """
[alembic]
script_location = %(here)s/alembic

[safe_migrations]
service = orders
env_prefix = ORDERS
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a service, two below one that it shares with others."""
    folder = tmp_path / "repository" / "services" / "orders"
    folder.mkdir(parents=True)
    return folder


def read(folder: Path, content: str) -> Service:
    """The service of an alembic.ini with this content."""
    (folder / "alembic.ini").write_text(content)
    return Service.read(folder / "alembic.ini")


# ── The section ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "prefix"), [("shop-orders", "SHOP_ORDERS"), ("2 käse.", "SERVICE_2_K_SE"), ("…", "SERVICE")]
)
def test_the_proposed_prefix_is_the_name_of_the_service(folder: Path, name: str, prefix: str) -> None:
    service = read(folder, f"[alembic]\nscript_location = alembic\n[safe_migrations]\nservice = {name}\n")
    with pytest.raises(ConfigurationError, match=f"\nenv_prefix = {prefix}$"):
        probe.run(service)


def test_values(folder: Path) -> None:
    service = read(
        folder,
        """
        [safe_migrations]
        service = shop-orders
        env_prefix = ORDERS
        platform_prefix = PLATFORM
        database_name = orders_db
        database_port = 5544
        postgres_version = 16
        version_table = revision
        version_table_schema = admin
        """.replace(" " * 8, ""),
    )
    assert service == Service(
        folder / "alembic.ini", "shop-orders", "ORDERS", "PLATFORM", "orders_db", 5544, 16, "revision", "admin", True
    )
    assert service.folder == folder
    assert service.variable("DATABASE_URL") == "ORDERS_DATABASE_URL"


def test_what_is_not_said_has_its_default(folder: Path) -> None:
    service = read(folder, "[safe_migrations]\nenv_prefix = SHOP\nversion_table_schema =\ndatabase_port =\n")
    assert (service.name, service.database_name, service.is_declared) == ("orders", "orders", True)
    assert (service.env_prefix, service.platform_prefix) == ("SHOP", "SHOP")
    assert (service.database_port, service.postgres_version) == (5432, 18)
    assert (service.version_table, service.version_table_schema) == ("alembic_version", None)
    assert read(folder, "[safe_migrations]\nservice = shop\n").database_name == "shop"


@pytest.mark.parametrize("content", ["[alembic]\nscript_location = alembic\n", "", None])
def test_no_section(folder: Path, content: str | None) -> None:
    service = Service.read(folder / "alembic.ini") if content is None else read(folder, content)
    assert service == Service(folder / "alembic.ini", "orders", database_name="orders")
    assert not service.is_declared
    assert service.variable("DATABASE_URL") == "DATABASE_URL"


def test_path_of_the_file_may_be_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(folder, INI)
    monkeypatch.chdir(folder)
    service = Service.read(Path("alembic.ini"))
    monkeypatch.chdir(folder.parent)
    assert service.config_file == folder / "alembic.ini"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[safe_migrations]\nenv_prefx = ORDERS\n", ["env_prefx", "env_prefix"]),
        ("[safe_migrations]\ndatabase_port = many\n", ["database_port", "'many'"]),
        ("[safe_migrations]\npostgres_version = -1\n", ["postgres_version", "'-1'"]),
        ("[safe_migrations]\nservice = 100%\n", ["service", "%%"]),
        ("[safe_migrations]\nservice = %(nothing)s\n", ["service", "%%"]),
        ("[safe_migrations]\nservice = a\nservice = b\n", ["service"]),
        ("service = a\n", []),
        ("[safe_migrations]\nservice = \udcff\n", []),
    ],
)
def test_what_can_not_be_used_is_named(folder: Path, content: str, named: list[str]) -> None:
    (folder / "alembic.ini").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError) as refusal:
        Service.read(folder / "alembic.ini")
    for name in ["alembic.ini", *named]:
        assert name in str(refusal.value)


def test_package_of_template_1_is_named(folder: Path) -> None:
    (folder / "safe_migrations").mkdir()
    read(folder, INI)
    (folder / "safe_migrations" / "__init__.py").touch()
    with pytest.raises(ConfigurationError, match=r"git rm -r \S*safe_migrations$"):
        read(folder, INI)


# ── The folders of the revisions ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "content",
    [
        "script_location = %(here)s/alembic",
        "script_location = migrations",
        "script_location = m\nversion_locations = %(here)s/one\npath_separator = os",
        f"script_location = m\nversion_locations = %(here)s/one{os.pathsep}two\npath_separator = os",
        f"script_location = m\nversion_locations = one {os.pathsep}%(here)s/a b{os.pathsep}\npath_separator = os",
        "script_location = m\nversion_locations = %(here)s/one two\npath_separator = space",
        "script_location = m\nversion_locations = \n  %(here)s/a b\n  two,2\npath_separator = newline",
        "script_location = m\nversion_locations = one;two\npath_separator = ;",
        "script_location = m\nversion_locations = %(here)s/one:two\npath_separator = :",
        f"script_location = m\nversion_locations = one{os.pathsep}two\nversion_path_separator = os",
        "script_location = m\nversion_locations = one;two\nversion_path_separator = space\npath_separator = ;",
        "script_location = m\nversion_locations = %(here)s/one, two  three",
        "script_location = m\nversion_locations =\npath_separator = os",
    ],
)
@pytest.mark.filterwarnings("ignore:No path_separator", "ignore:The version_path_separator")
def test_folders_are_those_of_alembic(folder: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)  # which relative paths begin at
    Path("m").mkdir()
    Path("migrations").mkdir()
    (folder / "alembic").mkdir()
    folders = read(folder, f"[alembic]\n{content}\n").version_folders()
    alembics = ScriptDirectory.from_config(Config(folder / "alembic.ini"))._version_locations
    assert [path.absolute() for path in folders] == [Path(path).absolute() for path in alembics]


@pytest.mark.parametrize("recursive", ["true", "false"])
def test_folders_below(folder: Path, recursive: str) -> None:
    (folder / "m" / "versions" / "2029" / "01").mkdir(parents=True)
    (folder / "m" / "versions" / "2029" / "01" / "a.py").write_text("revision = 'a'\ndown_revision = None\n")
    (folder / "m" / "versions" / "b.py").write_text("revision = 'b'\ndown_revision = None\n")
    content = f"script_location = %(here)s/m\nrecursive_version_locations = {recursive}\npath_separator = os"
    revisions = read_revisions(read(folder, f"[alembic]\n{content}\n").version_folders())
    assert revisions.heads == set(ScriptDirectory.from_config(Config(folder / "alembic.ini")).get_heads())


def test_percent_sign_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "50%(off)s"
    folder.mkdir()
    assert read(folder, INI).version_folders() == [folder / "alembic" / "versions"]


def test_other_settings_of_alembic_are_not_read(folder: Path) -> None:
    """Such as a URL for env.py alone, which sets what stands in it, or reads it without Python's rules for a %."""
    ini = "[alembic]\nscript_location = %(here)s/alembic\nsqlalchemy.url = postgresql://%(USER)s:p%40ss@host/orders\n"
    assert read(folder, ini).version_folders() == [folder / "alembic" / "versions"]


@pytest.mark.parametrize(
    "content",
    [
        *("script_location = package:alembic", "script_location =", ""),
        "script_location = alembic\nversion_locations = package:versions\npath_separator = space",
        "script_location = 100%/alembic",
    ],
)
def test_folders_that_only_alembic_can_tell(folder: Path, content: str) -> None:
    service = read(folder, f"[alembic]\n{content}\n")
    with pytest.raises(ConfigurationError, match="script_location"):
        service.version_folders()


# ── Its variables ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """One that reads no variable of this process."""
    for name in [name for name in os.environ if name.upper().startswith(("ORDERS_", "SHARED_"))]:
        monkeypatch.delenv(name)
    return read(folder, INI)


def write_env(folder: Path, **variables: str) -> None:
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))


def test_nearest_file_wins(service: Service) -> None:
    above = service.folder.parents[1]
    write_env(above, ORDERS_DB_HOST="above", ORDERS_DB_NAME="above", SHARED_KEY="above")
    write_env(service.folder.parent, ORDERS_DB_HOST="between", ORDERS_DB_NAME="between")
    write_env(service.folder, ORDERS_DB_HOST="own", SHARED_KEY="own")
    values = service.variables
    assert (values["ORDERS_DB_HOST"], values["ORDERS_DB_NAME"], values["SHARED_KEY"]) == ("own", "between", "own")


def test_only_variables_of_the_service_come_from_above(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(service.folder.parent, LD_PRELOAD="above", ORDERS_KEY="above", MIGRATION_LOCK_WAIT="1s", ORDERSX="above")
    monkeypatch.setenv("ORDERS_KEY", "")
    monkeypatch.setenv("MIGRATION_LOCK_WAIT", "")
    load_env_files(service.folder)
    assert (os.environ["ORDERS_KEY"], os.environ["MIGRATION_LOCK_WAIT"]) == ("above", "1s")
    assert not {"LD_PRELOAD", "ORDERSX"} & os.environ.keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
@pytest.mark.parametrize("owner", ["nobody", "daemon"])
def test_a_file_of_another_user_is_not_read(service: Service, owner: str) -> None:
    write_env(service.folder.parent, ORDERS_DB_HOST="above")
    shutil.chown(service.folder.parent / ".env", owner)
    assert "ORDERS_DB_HOST" not in service.variables
    shutil.chown(service.folder, owner)
    assert replace(service).variables["ORDERS_DB_HOST"] == "above", "whose code runs anyway"


@pytest.mark.parametrize("name", ["ORDERS_DB_HOST", "orders_db_host"])
def test_environment_wins(service: Service, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(service.folder, ORDERS_DB_HOST="file", ORDERS_DB_NAME="file")
    monkeypatch.setenv(name, "environment")
    monkeypatch.setenv("ORDERS_DB_NAME", "")
    values = service.variables
    assert (values["ORDERS_DB_HOST"], values["ORDERS_DB_NAME"]) == ("environment", "file"), "an empty one is not set"


def test_files_are_loaded_into_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(service.folder.parent, ORDERS_DB_HOST="above", ORDERS_DB_NAME="above", ORDERS_DB_PORT="above")
    write_env(service.folder, ORDERS_DB_HOST="own", ORDERS_DB_USER="own")
    for name, value in {"ORDERS_DB_USER": "environment", "ORDERS_DB_NAME": "", "ORDERS_DB_HOST": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ORDERS_DB_PORT", "")  # so that what is loaded is taken away again
    load_env_files(service.folder)
    assert {name: os.environ[f"ORDERS_DB_{name}"] for name in ("HOST", "NAME", "PORT", "USER")} == {
        "HOST": "own",
        "NAME": "above",
        "PORT": "above",
        "USER": "environment",
    }


def test_project_without_a_prefix_has_no_files(folder: Path) -> None:
    """Its own env.py knows where its settings are."""
    write_env(folder, SHARED_KEY="file")
    assert "SHARED_KEY" not in read(folder, "").variables


def test_file_that_can_not_be_read_is_named(service: Service) -> None:
    (service.folder / ".env").write_bytes(b"ORDERS_DB_PASSWORD=s3cret\xff\n")
    with pytest.raises(ConfigurationError) as refusal:
        assert service.variables
    assert str(service.folder / ".env") in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


def test_address_is_made_of_the_variables(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="ORDERS_DATABASE_URL") as refusal:
        service.address()
    assert str(service.folder / ".env") in str(refusal.value)
    write_env(service.folder, ORDERS_DB_USER="user", ORDERS_DB_PASSWORD="'p#ss'", ORDERS_DB_PORT="5433")
    parts = Service.read(service.config_file).address()
    assert tuple(parts) == ("user", "p#ss", "localhost", 5433, "orders", {})
    monkeypatch.setenv("ORDERS_DATABASE_URL", "postgresql://other@host")
    url = Service.read(service.config_file).address()
    assert tuple(url) == ("other", None, "host", None, "orders", {}), "the service's own name, as URLs may lack it"
    monkeypatch.setenv("ORDERS_DATABASE_URL", "")
    monkeypatch.setenv("ORDERS_DB_PORT", "many")
    with pytest.raises(ConfigurationError, match="ORDERS_DB_PORT"):
        Service.read(service.config_file).address()

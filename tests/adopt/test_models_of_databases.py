"""The models of existing databases: `alembic check` finds no difference, and `create_all` makes the same schema."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Connection, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase

from adopt_comparison import check, imported, load, models_of, unexplained
from safe_migrations.adopt.left_out import not_in_models
from safe_migrations.adopt.names import Names
from support import TEMPLATE, MypyCache, NewDatabase, Service, fetch, on

SCHEMAS = Path(__file__).parent / "schemas"
# Of types and checks that SQLAlchemy can't reflect.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")

LEFT_OUT = {
    "shop": [
        "comment on enum public.order_status",
        "extension btree_gist",
        "extension citext",
        "function public.record_history()",
        "index public.best_seller_sku",
        "materialized view public.best_seller",
        "trigger product_history on public.product",
        "view public.open_order",
    ],
    "tenants": [
        "collation auth.exact",
        "extension ltree",
        "extension pg_trgm",
        "function auth.current_tenant()",
        'policy own_tenant on "Billing"."Invoice Lines"',
        'policy own_tenant on auth."user"',
        'row level security of table "Billing"."Invoice Lines"',
        'row level security of table auth."user"',
        "rule no_update on auth.audit",
        'schema "Billing"',
        "schema auth",
        'view "Billing".totals',
    ],
    "names": ['schema "Odd Schema"', "schema app"],
}
# Objects that belong to the database as a whole; a name for each kind in the next test.
OF_DATABASE = """
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE log (line text) SERVER files OPTIONS (filename '/dev/null');
CREATE TABLE item (id int PRIMARY KEY, code int);
CREATE PUBLICATION changes FOR TABLE item;
CREATE FUNCTION changed() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER changed ON ddl_command_end EXECUTE FUNCTION changed();
CREATE SCHEMA safe_migrations; CREATE TABLE safe_migrations.progress (id int);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO item VALUES (1, 1), (2, 1);
"""


def exact(url: URL, source: str) -> DeclarativeBase:
    """The base of models that agree with a database: by `alembic check`, by a query of each, by `create_all`."""
    base: Any = imported(source)
    assert check(url, base.metadata) == ([], ())
    on(url, read_all, base)
    assert unexplained(url, base.metadata, on(url, not_in_models)) == []
    return base  # type: ignore[no-any-return]


def read_all(connection: Connection, base: type[DeclarativeBase]) -> None:
    """Query each model."""
    for mapper in base.registry.mappers:
        connection.execute(select(mapper.class_))


# Those of one database have no object in common.
@pytest.mark.parametrize("names", [("shop", "tenants", "measurements"), ("names",), ("types", "parts")], ids="-".join)
def test_models_are_exact(names: tuple[str, ...], url_of_each_version: URL) -> None:
    available = {row.name for row in fetch(url_of_each_version, "SELECT name FROM pg_available_extensions")}
    texts = {name: SCHEMAS.joinpath(f"{name}.sql").read_text() for name in names}
    loaded = [name for name in names if available.issuperset(re.findall(r"CREATE EXTENSION (\w+)", texts[name]))]
    if not loaded:
        pytest.skip("the server lacks extensions")
    for name in loaded:
        load(url_of_each_version, texts[name])
    listed = on(url_of_each_version, not_in_models)
    if left_out := sorted(line for name in loaded for line in LEFT_OUT.get(name, ())):
        assert [line for line in listed if "metrics" not in line] == left_out
    exact(url_of_each_version, models_of(url_of_each_version))


def test_what_postgresql_18_brings(database: URL) -> None:
    load(database, SCHEMAS.joinpath("since_18.sql").read_text())
    exact(database, models_of(database))


def test_modules_pass_ruff_and_mypy(service: Service, new_database: NewDatabase, mypy_cache: MypyCache) -> None:
    """With the configuration of a service."""
    files = []
    for name in ("names", "types"):
        url = new_database()
        load(url, SCHEMAS.joinpath(f"{name}.sql").read_text())
        files.append(f"models_of_{name}.py")
        service.folder.joinpath(files[-1]).write_text(models_of(url))
    service.succeed("ruff", "check", *files)
    service.succeed("ruff", "format", "--check", *files)
    with mypy_cache() as cache:
        service.succeed("mypy", f"--cache-dir={cache}", *files)


def test_models_begin_as_those_of_the_template(database: URL) -> None:
    """Base, its naming convention and its types."""
    template = TEMPLATE.joinpath("models_db.py.jinja").read_text().replace("{datetime:", "{dt.datetime:")
    first, end = "# Every constraint", "\n\n\nclass Item("
    assert (
        models_of(database).partition(first)[2].strip() == template[: template.index(end)].partition(first)[2].strip()
    )


def test_what_else_a_database_has_is_listed(database: URL) -> None:
    load(database, OF_DATABASE)
    with pytest.raises(DBAPIError, match="item_code"):
        fetch(database, "CREATE UNIQUE INDEX CONCURRENTLY item_code ON item (code)")
    assert on(database, not_in_models) == [
        "event trigger changed",
        "extension file_fdw",
        "foreign table public.log",
        "function public.changed()",
        "invalid index public.item_code",
        "publication changes",
        "server files",
        "table public.alembic_version",
    ]
    assert {table.fullname for table in imported(models_of(database)).metadata.sorted_tables} == {"item"}


def test_schemas_are_those_of_the_search_path_or_named(database: URL) -> None:
    """A table is found in the default schema, which models don't name, though others are searched as well."""
    load(
        database,
        f"ALTER DATABASE {database.database} SET search_path = app, public; CREATE SCHEMA app; CREATE SCHEMA other; "
        "CREATE TYPE public.color AS ENUM ('red'); CREATE TYPE app.kind AS ENUM ('a');"
        "CREATE TABLE public.item (id int PRIMARY KEY, color public.color DEFAULT 'red', kind app.kind DEFAULT 'a');"
        "CREATE TABLE app.item (id serial PRIMARY KEY, item int REFERENCES public.item);"
        "CREATE TABLE app.box (id int PRIMARY KEY, item int REFERENCES app.item, color public.color);"
        "CREATE TABLE other.item (id int PRIMARY KEY)",
    )
    assert set(imported(models_of(database, ["app"])).metadata.tables) == {"item", "box"}
    base = exact(database, models_of(database))
    assert set(base.metadata.tables) == {"item", "box", "public.item", "other.item"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["createdAt", "HTTPStatus", "UPPER"], ["created_at", "http_status", "upper"]),
        (["with space", "a-b", "a b", "_x", "__x__"], ["with_space", "a_b", "a_b_2", "x", "x_2"]),
        (["class", "metadata", "int", "l", "match"], ["class_", "metadata_", "int_", "l_", "match"]),
        (["größe", "ﬁ", "中文", "🙂", "1st", ""], ["größe", "fi", "中文", "n", "n_1st", "n_2"]),
    ],
)
def test_names_of_python(names: list[str], expected: list[str]) -> None:
    new = Names(set())
    assert list(map(new.of_variable, names)) == expected


def test_names_of_classes() -> None:
    names = Names({"Index"})
    tables: list[tuple[str, ...]] = [
        ("order_lines",),
        ("Order Lines",),
        ("index",),
        ("app", "index"),
        ("HTTP_log",),
        ("none",),
    ]
    assert [names.of_class(*table) for table in tables] == [
        "OrderLines",
        "OrderLines2",
        "Index2",
        "AppIndex",
        "HttpLog",
        "None2",
    ]

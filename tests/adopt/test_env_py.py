"""What `safe-migrations init` reads in an `env.py`, and what of the file it keeps."""

import ast
from pathlib import Path
from textwrap import dedent

import pytest

from existing_projects import FULL_STACK
from safe_migrations.adopt.env_text import as_argument, with_run_env
from safe_migrations.adopt.environment import read_environment

# env.py without its first lines, what is passed to run_env, and the parts of the lines that are not read.
ENVIRONMENTS = {
    "an engine of the application": (
        """
        from shop.database import engine, metadata

        def go():
            with engine.begin() as connection:
                context.configure(connection=connection, target_metadata=[metadata])
                context.run_migrations()

        go()
        """,
        {"target_metadata": "[metadata]", "database_url": "lambda: engine.url"},
        [],
    ),
    "branches for async, sync and SQLite": (
        """
        def online():
            connectable = config.attributes.get("connection", None)
            url = os.environ["SHOP_URL"]
            if connectable is None:
                if url.startswith("sqlite"):
                    connectable = create_engine(url, connect_args={"check_same_thread": False})
                else:
                    if "+asyncpg" not in url:
                        url = url.replace("postgresql://", "postgresql+asyncpg://")
                    connectable = create_async_engine(url, poolclass=pool.NullPool, future=True)
            if isinstance(connectable, AsyncEngine):
                asyncio.run(in_async(connectable))
            else:
                with connectable.connect() as connection:
                    do(connection)

        async def in_async(engine):
            try:
                async with engine.begin() as connection:
                    await connection.run_sync(do)
            finally:
                await engine.dispose()

        def do(connection):
            context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
            with context.begin_transaction():
                context.run_migrations()

        if context.is_offline_mode():
            raise SystemExit("not here")
        online()
        """,
        {"target_metadata": "Base.metadata", "database_url": 'lambda: os.environ["SHOP_URL"]'},
        [],
    ),
    "functions in functions, and a section with another URL": (
        """
        def online() -> None:
            from shop.settings import settings
            from shop.types import render_item

            def include_object(object_, name, type_, reflected, compare_to):
                return type_ != "table" or name != "spatial_ref_sys"

            section: dict[str, str] = config.get_section(config.config_ini_section) or {}
            section["sqlalchemy.url"] = settings.url.get_secret_value().replace("%", "%%")
            connectable = async_engine_from_config(section, prefix="sqlalchemy.", poolclass=pool.NullPool)
            schema = "audit"

            async def run() -> None:
                async with connectable.connect() as connection:
                    await connection.run_sync(
                        lambda sync: context.configure(
                            connection=sync,
                            target_metadata=None,
                            include_object=include_object,
                            render_item=render_item,
                            version_table="revision",
                            version_table_schema=schema,
                            **OPTIONS,
                        )
                    )
                    await connection.run_sync(lambda _: context.run_migrations())

            asyncio.run(run())

        online()
        """,
        {
            "target_metadata": "None",
            "include_object": "include_object",
            "render_item": "render_item",
            "version_table": '"revision"',
            "version_table_schema": '"audit"',
            "**OPTIONS": "OPTIONS",
            "database_url": "lambda: settings.url.get_secret_value()",
        },
        [],
    ),
    "what the connection does before": (
        """
        def get_url():
            return "postgresql://localhost"

        reader = create_engine(get_url(), execution_options={"postgresql_readonly": True})

        def online():
            assert in_window()
            if settings.ENVIRONMENT == "production":
                raise RuntimeError("call the operators")
            engine = create_engine(get_url(), connect_args={"options": "-csearch_path=shop"}, pool_pre_ping=True)
            lock = acquire(engine)
            with engine.connect() as connection, connection.begin():
                connection.execute(text("SET search_path TO shop"))
                connection.dialect.default_schema_name = "shop"
                connection = connection.execution_options(schema_translate_map={None: "shop"})
                context.configure(connection=connection, include_schemas=is_large(connection), compare_type=False)
                for statement in STATEMENTS:
                    connection.execute(statement)
                context.run_migrations(engine_name="shop")
                logger.info("migrated")

        online()
        """,
        {"compare_type": "False", "database_url": "get_url"},
        [
            *(
                "execution_options=",
                "in_window",
                "production",
                "connect_args",
                "acquire",
                "SET search_path",
                "default_schema_name",
                "schema_translate_map",
            ),
            *("include_schemas", "for statement", "engine_name"),
        ],
    ),
    "two calls that differ": (
        """
        def offline():
            context.configure(url=URL, version_table_schema="shop", compare_type=False)
            with context.begin_transaction():
                context.run_migrations()

        def online():
            with create_engine(URL).connect() as connection:
                if FIRST:
                    context.configure(connection=connection, include_schemas=True, version_table='alembic_version')
                else:
                    context.configure(connection=connection)
                context.run_migrations()

        offline() if context.is_offline_mode() else online()
        """,
        {"include_schemas": "True", "version_table": "'alembic_version'", "database_url": "URL"},
        ["include_schemas=True", 'version_table_schema="shop"'],
    ),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_an_env_py_passes_on(name: str, tmp_path: Path) -> None:
    """What is not recognised is named, never dropped."""
    text, expected, unread = ENVIRONMENTS[name]
    path = tmp_path / "env.py"
    path.write_text("import asyncio\nimport os\n\nfrom alembic import context\n" + dedent(text))
    environment = read_environment(path)
    (url,) = environment.urls
    arguments = {**environment.options, "database_url": as_argument(url)}
    assert arguments == expected
    texts = [part.text for part in environment.unread]
    assert [part for part in unread if not any(part in text for text in texts)] == []
    assert len(texts) == len(unread), texts
    after = ast.parse(with_run_env(environment, arguments))
    names = {node.id for node in ast.walk(after) if isinstance(node, ast.Name)} | {"schema"}
    defined = {node.name for node in ast.walk(after) if isinstance(node, ast.FunctionDef | ast.alias)}
    assert names & {"settings", "include_object", "render_item", "run_env", "asyncio"} <= defined
    assert "run_migrations" not in ast.unparse(after)


def test_the_rest_of_env_py_stays(tmp_path: Path) -> None:
    """Comments, models that are imported for their effect, and functions; unused imports of libraries go."""
    text = FULL_STACK.replace(
        "config = context.config", "import app.more  # noqa: F401\n\nconfig = context.config  # ours"
    )
    (tmp_path / "env.py").write_text(text)
    environment = read_environment(tmp_path / "env.py")
    after = with_run_env(environment, {"target_metadata": "target_metadata", "database_url": "get_url"})
    kept, _, _ = text.partition("def run_migrations_offline")
    kept = kept.replace("from sqlalchemy import engine_from_config, pool\n", "from safe_migrations import run_env\n")
    kept = kept.replace("import context\nfrom safe", "import context\nfrom safe").replace(
        "file_name)", "file_name, disable_existing_loggers=False)"
    )
    assert after == kept + "run_env(target_metadata=target_metadata, database_url=get_url)\n"

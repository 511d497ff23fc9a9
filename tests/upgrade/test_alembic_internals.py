"""What this library relies on in Alembic and SQLAlchemy beyond their documentation."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import CommandLine, Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from safe_migrations.upgrade.project import command_line

ENV = """
from alembic import context
context.configure(url="postgresql://", as_sql=True, dialect_opts={"paramstyle": "named"})
context.config.attributes["options"].append(dict(context.get_context().opts))
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A project with one revision, whose env.py notes what it is run for."""
    config = Config(tmp_path / "alembic.ini", attributes={"options": []})
    command.init(config, str(tmp_path / "m"))
    (tmp_path / "m" / "env.py").write_text(ENV)
    command.revision(config, "one", rev_id="one")
    return config


@pytest.mark.parametrize(
    ("run", "name", "destination"),
    [
        (lambda config: command.upgrade(config, "head", sql=True), "upgrade", "head"),
        (lambda config: command.downgrade(config, "head:base", sql=True), "downgrade", "base"),
        (lambda config: command.stamp(config, "head", sql=True), "do_stamp", ("head",)),
    ],
    ids=["upgrade", "downgrade", "stamp"],
)
def test_the_function_of_a_command_has_its_name(config: Config, run: Any, name: str, destination: Any) -> None:
    """By which an upgrade, a downgrade and a stamp are recognised, and every other command only reads."""
    run(config)
    options = config.attributes["options"][-1]
    assert (options["fn"].__name__, options["fn"].__module__) == (name, command.__name__)
    assert options["destination_rev"] == destination


def test_the_command_line_has_the_function_of_its_command() -> None:
    arguments = CommandLine().parser.parse_args(["-x", "yes", "revision", "--autogenerate", "-m", "text"])
    assert (arguments.cmd[0], arguments.autogenerate) == (command.revision, True)
    arguments = CommandLine().parser.parse_args(["history", "--indicate-current", "--rev-range", "a:current"])
    assert (arguments.cmd[0], arguments.indicate_current, arguments.rev_range) == (command.history, True, "a:current")
    assert CommandLine().parser.parse_args(["merge", "heads"]).cmd[0] is command.merge
    assert command_line(Config(cmd_opts=arguments)) is arguments
    assert command_line(Config(cmd_opts=Namespace(x=["yes"]))) is None


def test_a_step_has_the_function_of_its_revision(config: Config) -> None:
    """Which data loss is found with, offline."""
    script = ScriptDirectory.from_config(config)
    (step,) = script._upgrade_revs("head", "base")
    assert (step.is_upgrade, step.migration_fn) == (True, step.revision.module.upgrade)


def test_leaving_a_transaction_is_an_event_of_the_connection() -> None:
    engine: Engine = create_engine("sqlite://", poolclass=StaticPool)
    levels: list[Any] = []

    def note(_connection: Connection, options: dict[str, Any]) -> None:
        levels.append(options.get("isolation_level"))

    with engine.connect() as connection:
        event.listen(connection, "set_connection_execution_options", note)
        connection.execution_options(isolation_level="AUTOCOMMIT")
    assert levels == ["AUTOCOMMIT"]

"""What this library relies on in Alembic and SQLAlchemy beyond their documentation."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import CommandLine, Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.pool import StaticPool

from safe_migrations.autogenerate.sqlalchemy_internals import is_created, sequences_of, variants_of
from safe_migrations.upgrade.running_command import autogenerates, command_line

ENV = """
from alembic import context
context.configure(url="postgresql://", as_sql=True, dialect_opts={"paramstyle": "named"})
context.config.attributes["options"].append(dict(context.get_context().opts))
"""

ENV_WITH_CONNECTION = """
from alembic import context
from sqlalchemy import MetaData, create_engine
with create_engine("sqlite://").connect() as connection:
    note = context.config.attributes["note"]
    context.configure(connection=connection, target_metadata=MetaData(), process_revision_directives=note)
    context.run_migrations()
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


@pytest.mark.parametrize("writes", [True, False])
def test_a_revision_and_a_check_differ(config: Config, writes: bool) -> None:
    seen: list[bool] = []

    def note(context: MigrationContext, *_: Any) -> None:
        seen.append(autogenerates(context.opts))

    config.attributes["note"] = note
    folder = Path(ScriptDirectory.from_config(config).dir)
    (folder / "env.py").write_text(ENV_WITH_CONNECTION)
    next(folder.glob("versions/*.py")).unlink()  # the empty database is at head
    command.revision(config, "two", autogenerate=True) if writes else command.check(config)
    assert seen == [writes]


def test_the_models_show_what_create_all_creates() -> None:
    metadata = MetaData()
    Sequence("counter", metadata=metadata)
    Sequence("of_oracle", metadata=metadata, optional=True)
    assert [sequence.name for sequence in sequences_of(metadata)] == ["counter"]
    type_ = String().with_variant(Text(), "mysql")
    assert list(map(type, variants_of(type_))) == [Text]
    as_text = Table("as_text", metadata, Column("a", Boolean(create_constraint=True)), Column("b", Integer))
    as_text.append_constraint(CheckConstraint("b > 0", name="positive"))
    created = {check for check in as_text.constraints if isinstance(check, CheckConstraint) and is_created(check)}
    assert {check.name for check in created} == {"positive"}


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

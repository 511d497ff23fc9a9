"""A service of a few lines, which `fleet` finds by its `alembic.ini`, with a revision that creates a table."""

from pathlib import Path

_INI = """
[alembic]
script_location = %(here)s/alembic
path_separator = os
[safe_migrations]
service = {name}
env_prefix = {prefix}
database_port = {port}
"""
_ENV = """
import os
from pathlib import Path

from safe_migrations import load_env_files, run_env

load_env_files(Path(__file__).parents[1])
run_env(target_metadata=None, database_url=lambda: os.environ["{prefix}_DATABASE_URL"])
"""
_REVISION = '''"""create the table {table}"""

from safe_migrations.operations import op

revision = "r{number}"
down_revision = {after!r}
{declarations}


def upgrade() -> None:
    op.execute("""{statement}""")


def downgrade() -> None:
    op.execute("DROP TABLE {table}")
'''


def make_service(folder: Path, port: int = 5432) -> Path:
    """Write a service with the name of its folder."""
    folder.joinpath("alembic", "versions").mkdir(parents=True)
    texts = {"name": folder.name, "prefix": folder.name.upper(), "port": port}
    folder.joinpath("alembic.ini").write_text(_INI.format(**texts))
    folder.joinpath("alembic", "env.py").write_text(_ENV.format(**texts))
    add_revision(folder, 1)
    return folder


def add_revision(folder: Path, number: int, declarations: str = "", statement: str = "") -> Path:
    """Write a revision, which creates the table `t{number}` unless a statement is given."""
    table = f"t{number}"
    file = folder / "alembic" / "versions" / f"20300101_{number:04d}_{table}.py"
    file.write_text(
        _REVISION.format(
            number=number,
            table=table,
            after=f"r{number - 1}" if number > 1 else None,
            declarations=declarations,
            statement=statement or f"CREATE TABLE {table} (id integer PRIMARY KEY)",
        )
    )
    return file

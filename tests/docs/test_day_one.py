"""The commands of the page "Replace the example model", in a rendered service."""

import re
from textwrap import dedent

from sqlalchemy import URL

from support import ROOT, Service, tables
from warm_python import warm_path

PAGE = ROOT / "docs" / "how-to" / "replace-the-example.md"
MODEL = '''class Customer(Base):
    """A customer."""

    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
'''


def test_the_example_model_and_its_baseline_are_replaced(at_head: Service, database: URL) -> None:
    blocks = re.findall(r"^( *)```sh\n(.*?)^\1```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    downgrade, delete, write, check = (dedent(commands) for _, commands in blocks)

    def run(commands: str) -> None:
        at_head.succeed("bash", "-euo", "pipefail", "-c", commands, path=warm_path())

    run(downgrade + delete)
    models = at_head.folder / "models_db.py"
    models.write_text(models.read_text().partition("class Item(")[0] + MODEL)
    (at_head.folder / "tests" / "test_item.py").unlink()
    run(write)
    run("\n".join(line for line in check.splitlines() if line.startswith("pdm run migrate-")))
    assert tables(database) == {"alembic_version", "customer"}
    assert [re.sub(r"^\d+_", "", name) for name in at_head.revisions()] == ["0001_baseline.py"]
    assert (
        "op.drop_table" not in at_head.versions.joinpath(*at_head.revisions()).read_text().partition("def downgrade")[0]
    )

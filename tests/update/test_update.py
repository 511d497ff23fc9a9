"""`copier update` without --trust, from each released version: what is new arrives, and a service's own stays."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from copier import run_update
from safe_migrations.template.releases import read_news
from safe_migrations.template.update import update as update_from_template
from sqlalchemy import URL

from releases import NEXT, VERSIONS, Releases, commit, git
from support import Service, tables

OWN = {".git", "README.md", "models_db.py", "tests/test_item.py"}  # the service's, from its first day


def update(service: Service, **options: Any) -> None:
    """As `copier update --defaults --skip-answered`, which is what bots call."""
    options = {"defaults": True, "skip_answered": True, "overwrite": True, "unsafe": False, "quiet": True} | options
    run_update(service.folder, **options)


def files(folder: Path) -> dict[str, bytes]:
    """What stands in the files of a service that are the template's, too."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if name not in OWN and not name.startswith((".git/", "alembic/versions/"))
    }


def unmerged(service: Service) -> set[str]:
    return set(git(service.folder, "diff", "--name-only", "--diff-filter=U").split())


@dataclass(frozen=True)
class Edit:
    """What a service has changed.

    Attributes:
        what: for a person.
        name: the file.
        make: from its text to the new one; None deletes it.
    """

    what: str
    name: str
    make: Callable[[str], str] | None


def instead(old: str, new: str) -> Callable[[str], str]:
    """Replace a text that must be there."""

    def make(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return make


def after(anchor: str, line: str) -> Callable[[str], str]:
    """Add a line below another one."""
    return instead(anchor, f"{anchor}{line}\n")


EDITS = [
    Edit("env.py", "alembic/env.py", lambda text: text + "\n\nprint('of our own')\n"),
    Edit("a setting", "config.py", after("class Settings(BaseSettings):\n", '    queue: str = "orders"')),
    Edit("dependencies", "pyproject.toml", after("dependencies = [\n", '    "httpx>=0.28",')),
    Edit("scripts", "pyproject.toml", after("[tool.pdm.scripts]\n", 'serve = "python -m orders"')),
    Edit("a tool", "pyproject.toml", lambda text: text + '\n[tool.coverage.run]\nsource = ["orders"]\n'),
    Edit("a model", "models_db.py", lambda text: text + "    note: Mapped[str | None]\n"),
    Edit("no example", "tests/test_item.py", None),
    Edit("an own README", "README.md", lambda _: "# Ours\n"),
    Edit("CI", ".github/workflows/ci.yml", after("      - run: pdm run lint\n", "      - run: pdm run of-our-own")),
    Edit("a hook", ".pre-commit-config.yaml", lambda text: text + "      - id: of-our-own\n"),
    Edit("an image", "Dockerfile", lambda text: text + "USER nobody\n"),
    Edit("no image", "Dockerfile", None),
    Edit("no compose.yaml", "compose.yaml", None),
    Edit("no CI", ".github/workflows/ci.yml", None),
    Edit("what git ignores", ".gitignore", lambda text: text + "*.parquet\n"),
    Edit("a limit", "alembic.ini", lambda text: text + "# of our own\n"),
]


def add_revision(service: Service) -> None:
    service.add_revision("own", "op.add_column('item', sa.Column('note', sa.Text(), nullable=True))")


def change_revisions(service: Service, deleting: bool) -> None:
    """Squash the history and go on, or delete it."""
    (baseline,) = service.revisions()
    if deleting:
        (service.versions / baseline).unlink()
    else:
        (service.versions / baseline).rename(service.versions / "20200101_0001_squashed.py")
        add_revision(service)


def template_update(service: Service) -> None:
    """As `pdm run template-update`, but for the checks."""
    assert update_from_template(service.folder, read_news(service.folder)).to_decide == ()


@pytest.mark.parametrize(
    ("deleting", "by"),
    [(False, update), (False, template_update), (True, template_update)],
    ids=["edited-copier", "edited", "deleted"],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_edits_survive_and_all_else_is_as_in_a_new_service(
    releases: Releases,
    tmp_path: Path,
    version: str,
    deleting: bool,
    by: Callable[[Service], None],
    subtests: pytest.Subtests,
) -> None:
    edits = [edit for edit in EDITS if (edit.make is None) is deleting]
    service, fresh = releases.service(tmp_path / "orders", version), releases.fresh(NEXT)
    expected = files(fresh)
    change_revisions(service, deleting)
    for edit in edits:
        file = service.folder / edit.name
        if edit.make is None:
            file.unlink()
            expected.pop(edit.name, None)
            continue
        file.write_text(edit.make(file.read_text()))
        if edit.name in expected:
            expected[edit.name] = edit.make(expected[edit.name].decode()).encode()
    commit(service.folder)
    paths = [*service.versions.iterdir(), *(service.folder / name for name in OWN)]
    own = {path: path.read_bytes() for path in paths if path.is_file()}
    by(service)

    found = files(service.folder)
    for edit in edits:
        with subtests.test(edit.what):
            assert found.get(edit.name) == expected.get(edit.name)
            assert (service.folder / edit.name).exists() is not deleting
    assert found == expected
    assert {path: path.read_bytes() for path in own} == own
    assert set(service.versions.iterdir()) <= own.keys(), "no revision comes back"
    assert not unmerged(service)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_filled_env_is_not_touched_and_twice_changes_nothing(
    releases: Releases, tmp_path: Path, version: str
) -> None:
    service = releases.service(tmp_path / "orders", version)
    service.folder.joinpath(".env").write_text("ORDERS_DATABASE_URL=postgresql://mine\n")
    update(service)
    assert service.folder.joinpath(".env").read_text() == "ORDERS_DATABASE_URL=postgresql://mine\n"
    service.succeed("copier", "check-update", "--quiet")

    commit(service.folder)
    update(service)
    assert git(service.folder, "status", "--porcelain") == ""


ANSWERS: dict[str, Any] = {
    "service_description": "Says: \"yes\" # and 'no'",
    "layout": "monorepo",
    "database_name": "sales",
    "database_port": "20001",
    "postgres_version": 16,
    "outbox": True,
    "env_prefix": "SALES",
    "platform_prefix": "COMPANY",
    "python_version": "3.12",
    "ci": "gitlab",
    "containers": False,
}


@pytest.mark.parametrize("version", VERSIONS)
def test_answers_are_kept(releases: Releases, tmp_path: Path, version: str) -> None:
    service = releases.service(tmp_path / "orders", version, **ANSWERS)
    update(service)
    assert files(service.folder) == files(releases.fresh(NEXT, **ANSWERS))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_database_of_the_old_version_goes_on(
    releases: Releases, tmp_path: Path, version: str, database: URL
) -> None:
    service = releases.service(tmp_path / "orders", version)
    service.configure(database)
    service.succeed("alembic", "upgrade", "head")
    models = service.folder / "models_db.py"
    models.write_text(models.read_text().replace("    name: ", "    note: Mapped[str | None]\n    name: ", 1))
    add_revision(service)
    commit(service.folder)
    update(service)
    service.succeed("alembic", "upgrade", "head")
    service.succeed("alembic", "check")
    service.succeed("alembic", "downgrade", "base")
    assert tables(database) == {"alembic_version"}


def test_to_other_answers(releases: Releases, tmp_path: Path) -> None:
    service = releases.service(tmp_path / "orders", VERSIONS[-1])
    update(service, data={"ci": "none", "postgres_version": 17})
    assert not (service.folder / ".github").exists()
    assert "POSTGRES_VERSION = 17" in service.folder.joinpath("answers.py").read_text()
    assert len(service.revisions()) == 1

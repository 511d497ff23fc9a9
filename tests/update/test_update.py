"""Updates without --trust, from released versions: what is new arrives, and a service's own stays."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from copier import VcsRef, run_update

from releases import (
    LAST_OF_1,
    NEXT,
    UPDATED_FROM,
    VERSIONS,
    Releases,
    commit,
    git,
    own_update,
    update_by_the_library,
)
from support import Service

# By default what hardly depends on the version is tested with the first one.
OLDEST = [
    pytest.param(version, marks=[pytest.mark.thorough(f"the update from {VERSIONS[0]}")] * (version != VERSIONS[0]))
    for version in UPDATED_FROM
]

OWN = {
    ".env",
    ".git",
    "README.md",
    "docs/schema.md",
    "models_db.py",
    "tests/test_item.py",
}  # the service's, from its first day


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


SCRIPTS = re.compile(r"^\[tool\.pdm\.scripts\]\n(.+\n)*", re.MULTILINE)
EDITS = [
    Edit("env.py", "alembic/env.py", lambda text: text + "\n\nprint('of our own')\n"),
    Edit("a setting", "config.py", after("class Settings(BaseSettings):\n", '    queue: str = "orders"')),
    Edit("dependencies", "pyproject.toml", after("dependencies = [\n", '    "httpx>=0.28",')),
    Edit("scripts", "pyproject.toml", lambda text: SCRIPTS.sub(r'\g<0>serve = "python -m orders"\n', text)),
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


# What 1.x carried, and 2.0.0 has dropped; and the files in which 2.0.0 has rewritten the very lines that EDITS change.
MACHINERY = Edit("the machinery", "safe_migrations/__init__.py", lambda text: text + "# of our own\n")
REWRITTEN = {"alembic/env.py", "config.py"}


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


def make_edits(service: Service, edits: list[Edit], expected: dict[str, bytes]) -> None:
    """Edit a service, and what its files are to be after the update."""
    for edit in edits:
        file = service.folder / edit.name
        if edit.make is None:
            file.unlink()
            expected.pop(edit.name, None)
        else:
            file.write_text(edit.make(file.read_text()))
            if edit.name in expected:
                expected[edit.name] = edit.make(expected[edit.name].decode()).encode()
    commit(service.folder)


@pytest.mark.parametrize(
    ("version", "how"),
    [
        pytest.param(
            version,
            how,
            marks=[]
            if version in by_default
            else pytest.mark.thorough(f"all edits at once, and {how} from {' and '.join(by_default)}"),
        )
        for version in UPDATED_FROM
        for how, by_default in (
            ("edited", (UPDATED_FROM[0], UPDATED_FROM[-1])),
            ("edited-copier", UPDATED_FROM[-1:]),
            ("deleted", (LAST_OF_1,)),
        )
    ],
)
def test_edits_survive_and_all_else_is_as_in_a_new_service(
    releases: Releases, tmp_path: Path, version: str, how: str, subtests: pytest.Subtests
) -> None:
    deleting, carries = how == "deleted", version.startswith("1.")
    edits = [edit for edit in EDITS if (edit.make is None) is deleting] + [MACHINERY] * (carries and not deleting)
    service = releases.service(tmp_path / "orders", version)
    fresh = releases.fresh(NEXT, updates="both" if (service.folder / "renovate.json").exists() else "weekly")
    expected = files(fresh)
    change_revisions(service, deleting)
    make_edits(service, edits, expected)
    service.folder.joinpath(".env").write_text("ORDERS_DATABASE_URL=postgresql://mine\n")
    paths = [*service.versions.iterdir(), *(service.folder / name for name in OWN)]
    own = {path: path.read_bytes() for path in paths if path.is_file()}

    conflicts, kept = (REWRITTEN if carries and not deleting else set()), set[str]()
    if how == "edited-copier":
        update(service)  # which says nothing of conflicts, and deletes what the template no longer has
    else:
        kept = {MACHINERY.name} if MACHINERY in edits else set()
        process = (update_by_the_library if deleting else own_update)(service, tmp_path / "programs")
        assert bool(process.returncode) is bool(conflicts or kept), process.stdout + process.stderr
        for name in conflicts | kept:
            assert f"\n  {name}: " in process.stderr

    actual = files(service.folder)
    assert unmerged(service) == conflicts
    for name in conflicts:
        before = git(service.folder, "show", f"HEAD:{name}")
        assert git(service.folder, "show", f":2:{name}") == before, "nothing of it is lost"
        assert git(service.folder, "show", f":3:{name}").encode() == files(fresh)[name]
        assert b"\n<<<<<<< " in actual.pop(name)
        expected.pop(name)
    for name in kept:
        assert actual.pop(name).decode() == git(service.folder, "show", f"HEAD:{name}")
    for edit in edits:
        with subtests.test(edit.what):
            assert actual.get(edit.name) == expected.get(edit.name)
            gone = deleting or (edit is MACHINERY and not kept)
            assert (service.folder / edit.name).exists() is not gone
    assert actual == expected
    assert {path: path.read_bytes() for path in own} == own
    assert set(service.versions.iterdir()) <= own.keys(), "no revision comes back"


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


@pytest.mark.parametrize("version", OLDEST)
def test_answers_are_kept(releases: Releases, tmp_path: Path, version: str) -> None:
    service = releases.service(tmp_path / "orders", version, **ANSWERS)
    update(service)
    assert files(service.folder) == files(releases.fresh(NEXT, **ANSWERS))


RENOVATE, WEEKLY = "renovate.json", ".github/workflows/template-update.yml"


def bots(service: Service) -> list[str]:
    """The files of a service that let a bot update it."""
    return [
        name
        for name, text in sorted(files(service.folder).items())
        if name == RENOVATE or b"branch=template-update" in text
    ]


IN_USE = pytest.mark.thorough("services with both, and with Renovate alone")


@pytest.mark.parametrize(
    ("deleted", "answers", "expected"),
    [
        pytest.param([], {}, "both", id="both"),
        pytest.param([WEEKLY], {}, "renovate", id="renovate"),
        pytest.param([RENOVATE], {}, "weekly", id="weekly", marks=IN_USE),
        pytest.param([], {"ci": "gitlab"}, "both", id="gitlab", marks=IN_USE),
        pytest.param([], {"layout": "monorepo"}, "weekly", id="monorepo", marks=IN_USE),
    ],
)
def test_no_update_takes_a_bot_away_until_an_answer_does(
    releases: Releases, tmp_path: Path, deleted: list[str], answers: dict[str, Any], expected: str
) -> None:
    """Until 2.0, a service had both, and deleted one."""
    service = releases.service(tmp_path / "orders", "2.0.0", **answers)
    for name in deleted:
        (service.folder / name).unlink()
    if (renovate := service.folder / RENOVATE).exists():
        renovate.write_text(renovate.read_text().replace("config:recommended", "config:of-our-own"))
    commit(service.folder)
    before = bots(service)
    for again in (False, True) if expected == "both" else (False,):  # the second update has the answer of the first
        update(service)
        assert not again or git(service.folder, "status", "--porcelain") == ""
        commit(service.folder)
        assert f"\nupdates: {expected}\n" in (service.folder / ".copier-answers.yml").read_text()
        assert bots(service) == before
        assert not renovate.exists() or "config:of-our-own" in renovate.read_text()

    if expected == "renovate":
        return
    update(service, data={"updates": "renovate", "containers": False, "postgres_version": 17}, vcs_ref=VcsRef.CURRENT)
    assert bots(service) == ([] if "layout" in answers else [RENOVATE])
    assert not (service.folder / "Dockerfile").exists()
    assert "\npostgres_version = 17\n" in service.folder.joinpath("alembic.ini").read_text()
    service.succeed("copier", "check-update", "--quiet")

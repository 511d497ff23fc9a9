"""`safe-migrations init`: an existing Alembic project uses the library, and its history goes on as it is."""

import os
import shutil
from pathlib import Path

import pytest
from copier import run_copy, run_update
from sqlalchemy import URL

from existing_projects import make
from releases import commit, git, release
from safe_migrations.adopt.existing import write
from safe_migrations.errors import ConfigurationError, MigrationError, NotConfirmedError
from support import fetch, tables
from warm_python import WarmProcess


@pytest.mark.parametrize("kind", ["async", "generic", "full-stack"])
def test_a_history_goes_on(kind: str, tmp_path: Path, database: URL, thorough: bool) -> None:
    """A database that stock Alembic has migrated half-way, which sixteen processes then upgrade."""
    driver = "postgresql+asyncpg" if kind == "async" else "postgresql+psycopg"
    project = make(tmp_path, kind, database.set(drivername=driver).render_as_string(hide_password=False))
    for statement in project.run("alembic", "upgrade", "1a", "--sql").rpartition("COMMIT;")[0].split(";"):
        fetch(database, statement)
    before = project.files()
    project.run("safe-migrations", "init", "--yes")
    after = project.files()
    scripts = os.path.relpath(project.scripts, tmp_path)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"alembic.ini", *(f"{scripts}/{name}" for name in ("env.py", "script.py.mako", "versions/HEAD"))}
    assert project.run("safe-migrations", "init") == project.run("safe-migrations", "init", "--yes")
    assert "behind" in project.run("safe-migrations", "state", status=4)
    commit(tmp_path)
    if kind == "async":
        assert "2b" in project.run("safe-migrations", "rehearse")
    assert tables(database) == {"author", "history" if kind == "full-stack" else "alembic_version"}
    starters = 16 if thorough else 3 if kind == "async" else 1
    upgrade = ("alembic", "upgrade", "head")
    processes = [WarmProcess(upgrade, tmp_path, project.environment) for _ in range(starters)]
    printed = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * starters, printed
    assert sum("Running upgrade 1a -> 2b" in output for output in printed) == 1
    assert "at head" in project.run("safe-migrations", "state")


def test_only_new_revisions_are_checked(tmp_path: Path) -> None:
    """The old ones declare no phase, and from now on are not to be edited; what was edited before does not count."""
    project = make(tmp_path, "generic")
    git(tmp_path, "tag", "1.0")
    project.edit("migrations/versions/1a_author.py", "sa.String()", "sa.Text()")
    commit(tmp_path)
    project.run("safe-migrations", "init", "--yes")
    commit(tmp_path)
    git(tmp_path, "switch", "--quiet", "--create", "feature")
    assert project.run("safe-migrations", "lint")
    project.run("alembic", "revision", "-m", "third", "--rev-id", "3c")
    (new,) = project.scripts.glob("versions/3c*.py")
    assert '\nphase = "expand"' in new.read_text()
    assert (project.scripts / "versions" / "HEAD").read_text() == "3c\n"
    new.write_text(new.read_text().replace("    pass\n", '    op.drop_table("author")\n', 1))
    findings = project.run("safe-migrations", "lint", status=1)
    assert new.name in findings
    assert "author.py" not in findings
    old = project.scripts / "versions" / "1a_author.py"
    old.write_text(old.read_text().replace("Integer", "BigInteger"))
    assert "edited-revision" in project.run("safe-migrations", "lint", status=1)


def test_it_asks(tmp_path: Path) -> None:
    project = make(tmp_path, "async")
    before = project.files()
    shown = project.run("safe-migrations", "init", status=NotConfirmedError.exit_status)
    assert {"+run_env(", "-    asyncio.run(run_async_migrations())", "+[safe_migrations]"} <= {
        line.partition("target")[0] for line in shown.splitlines()
    }
    assert project.files() == before


@pytest.mark.parametrize("kind", ["pyproject", "pyproject_async"])
def test_settings_in_pyproject(kind: str, tmp_path: Path) -> None:
    project = make(tmp_path, kind)
    write(project.plan())
    assert (project.scripts / "versions" / "HEAD").read_text() == "2b\n"
    project.run("alembic", "revision", "-m", "third", "--rev-id", "3c")
    assert (project.scripts / "versions" / "HEAD").read_text() == "3c\n"
    assert project.plan() == []


def test_hooks_of_the_project_remain(tmp_path: Path) -> None:
    project = make(tmp_path, "generic")
    own = "hooks = own\nown.type = exec\nown.executable = touch\nown.options = REVISION_SCRIPT_FILENAME.touched\n"
    project.edit("alembic.ini", "[post_write_hooks]\n", f"[post_write_hooks]\n{own}")
    project.edit("alembic.ini", "# revision_environment = false", "revision_environment = false  # as by default")
    write(project.plan())
    project.run("alembic", "revision", "-m", "third", "--rev-id", "3c")
    assert (project.scripts / "versions" / "HEAD").read_text() == "3c\n"
    assert list(project.scripts.glob("versions/3c*.touched"))


@pytest.mark.parametrize("kind", ["async", "full-stack"])
def test_the_template_over_an_existing_project(kind: str, template: Path, tmp_path: Path) -> None:
    """`copier copy` keeps every file, and brings no second `alembic` folder, no models and no config.py."""
    source, folder = tmp_path / "template", tmp_path / "shop"
    shutil.copytree(template, source)
    git(source, "init", "--quiet")
    release(source, "9.0.0")
    project = make(folder, kind)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "shop"\n\n[tool.pytest.ini_options]\ntestpaths = ["tests"]\npythonpath = ["."]\n'
    )
    before = project.files()
    data = {"service_name": "shop", "containers": False}
    run_copy(str(source), folder, data, defaults=True, unsafe=False, quiet=True)
    after = project.files()
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {
        *(".copier-answers.yml", ".pre-commit-config.yaml"),
        *(".github/workflows/ci.yml", ".github/workflows/template-update.yml"),
        *("tests/conftest.py", "tests/test_migrations.py"),
    }
    write(project.plan())
    commit(folder)
    if kind == "full-stack":
        assert "3 passed" in project.run("pytest", "-q", "tests", "-k", "order or one_head or nothing_is_left")
        return
    used = project.files()
    for name in ("alembic.ini", "config.py", "pyproject.toml"):
        path = source / "template" / f"{name}.jinja"
        text = path.read_text()
        added = 'testpaths = ["tests"]\nxfail_strict = true'
        path.write_text(text.replace('testpaths = ["tests"]', added) if name == "pyproject.toml" else f"{text}# new\n")
    release(source, "9.1.0")
    run_update(folder, defaults=True, skip_answered=True, overwrite=True, unsafe=False, quiet=True)
    again = project.files()
    assert {name for name in again if again[name] != used.get(name)} == {".copier-answers.yml", "pyproject.toml"}
    assert again["pyproject.toml"] == used["pyproject.toml"].replace("]\npython", "]\nxfail_strict = true\npython")


@pytest.mark.parametrize("name", ["multidb", "no context", "flask", "sqlite", "broken", "unreadable", "several URLs"])
def test_what_can_not_be_done_is_named_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    project = make(tmp_path, "multidb" if name == "multidb" else "generic")
    named = "several databases" if name == "multidb" else name
    if name == "no context":
        (project.scripts / "env.py").write_text("from shop.migrating import go\n\ngo()\n")
        named = "context.configure"
    elif name == "flask":
        project.edit("migrations/env.py", "import context\n", "import context\nfrom flask import current_app\n")
        project.edit("migrations/env.py", "Base.metadata", "current_app.extensions['migrate'].db.metadata")
        named = "current_app"
    elif name == "sqlite":
        project.edit("alembic.ini", "postgresql://localhost/shop", "sqlite:///secret.db")
    elif name == "broken":
        project.edit("migrations/env.py", "import context\n", "import context\n\nopen('/missing')\n")
        named = "env.py:6: FileNotFoundError"
    elif name == "unreadable":
        project.edit(
            "migrations/env.py", "        context.configure(", "        prepare(connection)\n        context.configure("
        )
        named = "prepare(connection)"
    elif name == "several URLs":
        project.edit(
            "migrations/env.py", "    connectable = ", "    connectable = create_engine(ONE)\n    connectable = "
        )
        named = "ONE, or config.get_main_option"
    before = project.files()
    printed = project.run("safe-migrations", "init", "--yes", status=ConfigurationError.exit_status)
    assert named in printed
    assert "secret" not in printed
    assert project.files() == before


def test_the_user_says_what_env_py_does_not_show(tmp_path: Path) -> None:
    project = make(tmp_path, "generic")
    project.edit(
        "migrations/env.py", "connection=connection, ", "connection=connection, include_schemas=flag(connection), "
    )
    project.edit(
        "migrations/env.py",
        "        context.configure(\n            conn",
        "        prepare(connection)\n        context.configure(\n            conn",
    )
    with pytest.raises(ConfigurationError, match="--drop 69 --pass include_schemas=EXPRESSION"):
        project.plan()
    (env, *_) = project.plan({"include_schemas": "True", "database_url": "str(config)"}, (69,))
    assert "database_url=lambda: str(config), include_schemas=True)" in env.after


def test_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full, or a folder is gone, when all but the last file are there."""
    project = make(tmp_path, "generic")
    (tmp_path / "alembic.ini").chmod(0o640)
    before, changes, replaced = project.files(), project.plan(), os.replace

    def replace(source: Path, target: Path) -> None:
        if target.name == changes[-1].path.name and target.parent == changes[-1].path.parent:
            raise OSError(28, "No space left on device", str(target))
        replaced(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(MigrationError, match="No space left"):
            write(changes)
    assert project.files() == before
    write(changes)
    assert {change.path.read_text() for change in changes} == {change.after for change in changes}
    assert (tmp_path / "alembic.ini").stat().st_mode & 0o777 == 0o640

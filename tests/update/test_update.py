"""`copier update` without --trust: what is new arrives, what a service has made its own stays."""

import shutil
import subprocess
from pathlib import Path

import pytest
from copier import run_copy, run_update

from support import ROOT, Service, bare_environment

IDENTITY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


def git(folder: Path, *arguments: str) -> None:
    environment = bare_environment(**IDENTITY)
    subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True)


def release(template: Path, version: str) -> None:
    """Commit the template's files, and tag them as a version."""
    git(template, "add", "--all")
    git(template, "commit", "--quiet", "--message", version)
    git(template, "tag", version)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A repository of the template, with its files as they are now released as 1.0.0."""
    repository = tmp_path / "template"
    repository.mkdir()
    shutil.copy(ROOT / "copier.yml", repository)
    shutil.copytree(
        ROOT / "template", repository / "template", ignore=shutil.ignore_patterns("__pycache__", ".*_cache")
    )
    git(repository, "init", "--quiet")
    release(repository, "1.0.0")
    return repository


@pytest.fixture
def service(released: Path, tmp_path: Path) -> Service:
    """A service made of release 1.0.0, committed."""
    folder = tmp_path / "orders"
    run_copy(str(released), folder, data={"service_name": "orders"}, defaults=True, unsafe=False, quiet=True)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "new service")
    return Service(folder, "ORDERS")


def test_update(released: Path, service: Service) -> None:
    (baseline,) = service.revisions()
    versions = service.folder / "alembic" / "versions"
    (versions / baseline).rename(versions / "20200101_0001_squashed.py")
    (service.folder / ".env").write_text("ORDERS_DATABASE_URL=postgresql://mine\n")
    models = service.folder / "models_db.py"
    models.write_text(models.read_text() + "    note: Mapped[str | None]\n")
    git(service.folder, "add", "--all")
    git(service.folder, "commit", "--quiet", "--message", "own work")

    runner = released / "template" / "safe_migrations" / "runner.py"
    runner.write_text(runner.read_text() + "\n# new in 1.1.0\n")
    (template_of_baseline,) = (released / "template" / "alembic" / "versions").glob("*.py.jinja")
    template_of_baseline.rename(template_of_baseline.with_name("20990101_0001_baseline.py.jinja"))  # a later day
    release(released, "1.1.0")
    run_update(service.folder, defaults=True, overwrite=True, unsafe=False, quiet=True)

    assert (service.folder / "safe_migrations" / "runner.py").read_text() == runner.read_text()
    assert service.revisions() == ["20200101_0001_squashed.py"], "no revision is changed, and none comes back"
    assert models.read_text().endswith("    note: Mapped[str | None]\n")
    assert (service.folder / ".env").read_text() == "ORDERS_DATABASE_URL=postgresql://mine\n"
    assert "_commit: 1.1.0" in (service.folder / ".copier-answers.yml").read_text()


def test_update_to_other_answers(released: Path, service: Service) -> None:
    runner = released / "template" / "safe_migrations" / "runner.py"
    runner.write_text(runner.read_text() + "\n# new in 1.1.0\n")
    release(released, "1.1.0")
    run_update(service.folder, data={"ci": "none"}, defaults=True, overwrite=True, unsafe=False, quiet=True)
    assert not list((service.folder / ".github").rglob("*.yml"))
    assert len(service.revisions()) == 1

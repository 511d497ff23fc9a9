"""A release that renames a file and a question: only an update past it asks for trust, and says why."""

from pathlib import Path

import pytest
import yaml

from releases import LATER, NEXT, RELEASES, Releases, commit, git, template_file
from safe_migrations.errors import TemplateError
from safe_migrations.template.releases import News
from safe_migrations.template.update import update
from support import ROOT, Service

UPDATE = ("python", "-m", "safe_migrations", "template-update")

ENTRY = f"""
[[release]]
version = "{LATER}"
commit = "{"0" * 40}"
summary = "database.py is engine.py, and containers is image"
operators = ""
trust = "database.py becomes engine.py, with your edits"
"""
MIGRATIONS = f"""
_migrations:
  - version: {LATER}
    command: ["{{{{ _copier_python }}}}", "{{{{ _copier_conf.src_path }}}}/hooks/rename.py", database.py, engine.py]
    when: true
"""
NEWS = News(NEXT, LATER, True, ())
OWN = "# of our own\n"
MOVED = "{% if containers is defined %}{{ containers }}{% else %}true{% endif %}"


def rename(template: Path) -> None:
    """What a breaking release does: CONTRIBUTING.md has these steps."""
    git(template, "mv", "template/database.py", "template/engine.py")
    questions = template / "copier.yml"
    text = questions.read_text()
    assert "containers:\n  type: yaml\n" in text
    text = text.replace("containers:\n  type", "image:\n  type").replace("if containers is not", "if image is not")
    head, _, tail = text.partition("\nimage:")
    tail = tail.replace("default: true", f'default: "{MOVED}"', 1)
    questions.write_text(f"{head}\nimage:{tail}{MIGRATIONS}")
    for path in [path for path in (template / "template").rglob("*") if "containers" in path.name]:
        path.rename(path.with_name(path.name.replace("containers", "image")))
    readme = template_file(template, "README.md")
    readme.write_text(readme.read_text().replace("if containers", "if image"))
    releases = template / "RELEASES.toml"
    releases.write_text(releases.read_text() + ENTRY)


@pytest.fixture(scope="module")
def later(toy: Releases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with that release."""
    return toy.with_later(tmp_path_factory.mktemp("later") / "template.git", rename)


def make(toy: Releases, folder: Path, later: Path) -> Service:
    return toy.service(folder, NEXT, template=later, containers=False)


def updated(service: Service) -> Service:
    commit(service.folder)
    service.succeed("copier", "update", "--defaults", "--skip-answered", "--trust", "--quiet")
    return service


def test_it_asks_for_trust_and_says_why(toy: Releases, later: Path, tmp_path: Path) -> None:
    service = make(toy, tmp_path / "orders", later)
    message = service.fail(*UPDATE)
    assert f"({LATER}: database.py becomes engine.py, with your edits)" in message
    assert message.endswith("\nsafe-migrations template-update --trust")
    assert git(service.folder, "status", "--porcelain") == ""


@pytest.mark.usefixtures("forked_copier")
def test_without_a_reason_copier_refuses(toy: Releases, later: Path, tmp_path: Path) -> None:
    service = make(toy, tmp_path / "orders", later)
    with pytest.raises(TemplateError, match="--trust"):
        update(service.folder, NEWS)
    assert git(service.folder, "status", "--porcelain") == ""


@pytest.mark.usefixtures("forked_copier")
def test_the_edits_go_along_and_so_do_answers(toy: Releases, later: Path, tmp_path: Path) -> None:
    service = make(toy, tmp_path / "orders", later)
    file = service.folder / "database.py"
    text = file.read_text()
    file.write_text(text + OWN)
    commit(service.folder)
    result = update(service.folder, NEWS, trust=True)
    (conflict,) = result.to_decide
    assert conflict.startswith("engine.py: a conflict")
    assert result.new_answers == ("image: False",)
    assert not file.exists()
    engine = file.with_name("engine.py").read_text()
    assert engine == text + f"<<<<<<< before updating\n{OWN}=======\n>>>>>>> after updating\n"
    answers = yaml.safe_load((service.folder / ".copier-answers.yml").read_text())
    assert answers["image"] is False, "as containers was, although answers are not asked again"
    assert "containers" not in answers
    assert not (service.folder / "Dockerfile").exists()


def test_what_was_not_edited_is_as_in_a_new_service(toy: Releases, later: Path, tmp_path: Path) -> None:
    service = updated(make(toy, tmp_path / "orders", later))
    assert (service.folder / "engine.py").read_bytes() == (later / "template" / "engine.py").read_bytes()
    assert not (service.folder / "database.py").exists()
    assert git(service.folder, "diff", "--name-only", "--diff-filter=U") == ""

    commit(service.folder)
    assert service.succeed(*UPDATE).startswith("Up to date"), "no trust is needed any more"


def test_what_was_deleted_stays_so(toy: Releases, later: Path, tmp_path: Path) -> None:
    service = make(toy, tmp_path / "orders", later)
    service.folder.joinpath("database.py").unlink()
    updated(service)
    assert not service.folder.joinpath("engine.py").exists()


def test_a_file_of_that_name_is_in_the_way(toy: Releases, later: Path, tmp_path: Path) -> None:
    service = make(toy, tmp_path / "orders", later)
    service.folder.joinpath("engine.py").write_text("# of our own\n")
    commit(service.folder)
    message = service.fail(*UPDATE, "--trust")
    assert "database.py is renamed to engine.py, which already exists" in message
    assert git(service.folder, "status", "--porcelain") == ""


def test_the_hook_twice_changes_nothing_more(toy: Releases, later: Path, tmp_path: Path) -> None:
    service = make(toy, tmp_path / "orders", later)
    statuses = []
    for stage in ("before", "before", "after", "after"):
        service.environment["STAGE"] = stage
        service.succeed("python", str(ROOT / "hooks" / "rename.py"), "database.py", "engine.py")
        statuses.append(git(service.folder, "status", "--porcelain"))
    assert statuses == ["R  database.py -> engine.py\n"] * 4


def test_releases_say_why_they_want_trust_exactly_where_they_do() -> None:
    migrations = yaml.safe_load((ROOT / "copier.yml").read_text()).get("_migrations", [])
    assert {migration["version"] for migration in migrations} == {
        release["version"] for release in RELEASES if release.get("trust")
    }

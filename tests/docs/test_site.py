"""The documentation: it builds strictly, every link leads somewhere, and no page fetches anything from elsewhere."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml

import safe_migrations
from safe_migrations.cli import main
from safe_migrations.errors import MigrationError
from safe_migrations.upgrade.states import EXIT_STATUS
from support import ROOT

ELSEWHERE = re.compile(r"(?:https?:)?//")
LOADED = {"audio", "embed", "iframe", "img", "link", "script", "source", "video"}
PAGES = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))


class Page(HTMLParser):
    """The ids, the links and the resources of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids, self.links, self.resources = set[str](), list[str](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            elif name in ("href", "src", "srcset"):
                (self.resources if tag in LOADED else self.links).append(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation")
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    files = {f"/{path.parent.relative_to(site).as_posix()}/": path for path in site.rglob("index.html")}
    return {url.replace("/./", "/"): Page(path.read_text()) for url, path in files.items()}


def test_every_page_is_in_the_navigation_and_in_the_site(pages: dict[str, Page]) -> None:
    def leaves(entries: list[object]) -> Iterator[str]:
        for entry in entries:
            if isinstance(entry, str):
                yield entry
            elif isinstance(entry, dict):
                for value in entry.values():
                    yield from leaves(value if isinstance(value, list) else [value])

    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(leaves(navigation)) == PAGES
    assert len(pages) == len(PAGES)


def test_every_link_of_the_site_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    broken = []
    for url, page in pages.items():
        for link in page.links:
            path, fragment = urlsplit(urljoin(url, link)).path, unquote(urlsplit(link).fragment)
            if urlsplit(link).scheme:
                continue
            if path not in pages:
                broken += [(url, link)] * (not (site / path.lstrip("/")).is_file())
            elif fragment and fragment not in pages[path].ids:
                broken.append((url, link))
    assert not broken


def test_no_page_fetches_anything_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    resources = {resource for page in pages.values() for resource in page.resources}
    assert any(resource.endswith(".css") for resource in resources)
    assert any(resource.endswith(".js") for resource in resources)
    assert not [resource for resource in resources if ELSEWHERE.match(resource)]
    for path in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']*", path.read_text()), path


def test_every_public_name_is_on_the_page_of_the_api(pages: dict[str, Page]) -> None:
    names = {f"safe_migrations.{name}" for name in safe_migrations.__all__}
    assert names <= pages["/api/"].ids


def test_every_exit_status_of_an_error_is_on_the_page_of_messages() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)`", (ROOT / "docs" / "messages.md").read_text(), re.MULTILINE)
    kinds = [kind for kind in MigrationError.__subclasses__() if "exit_status" in vars(kind)]
    assert {(str(kind.exit_status), kind.__name__) for kind in kinds} <= set(rows)
    assert {status for status, name in rows if name == "RefusedError"} == {
        str(status) for status in EXIT_STATUS.values() if status
    }


def test_every_command_and_option_is_in_the_reference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def names(*command: str) -> Iterator[str]:
        monkeypatch.setattr(sys, "argv", ["safe-migrations", *command, "--help"])
        with pytest.raises(SystemExit):
            main()
        text = capsys.readouterr().out
        if "COMMAND ..." in text:
            for name in re.findall(r"^    ([a-z-]+)(?:  |$)", text, re.MULTILINE):
                yield from names(*command, name)
            return
        yield " ".join(command)
        options = re.findall(r"^  (--[a-z-]+)(?!.* as for alembic revision$)", text, re.MULTILINE)
        yield from (f"{command[0]}: {option}" for option in options)

    text = (ROOT / "docs" / "reference.md").read_text().partition("\n## Commands\n")[2].partition("\n## Variables\n")[0]
    words = [name.rpartition(": ")[2] for name in names()]
    assert len(words) > 30
    assert not [word for word in words if not re.search(rf"`[^`\n]*(?<![\w-]){word}(?![\w-])", text)]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_link_from_the_repository_into_the_documentation(name: str, pages: dict[str, Page]) -> None:
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", (ROOT / name).read_text())
    for path, fragment in links:
        if ":" in path:
            continue
        assert (ROOT / path).is_file(), path
        if fragment and path.startswith("docs/"):
            page = path.removeprefix("docs/").removesuffix(".md").removesuffix("index").rstrip("/")
            assert fragment in pages[f"/{page}/"].ids, f"{path}#{fragment}"

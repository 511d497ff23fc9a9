"""The page of a fleet: what is on it, that it is safe to open, and how it behaves in a browser."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import URL

from plain_project import PlainProject
from safe_migrations.errors import ConfigurationError, ConnectionFailedError
from safe_migrations.fleet import commands
from safe_migrations.fleet.details import Details, RevisionDetails, StatementDetails, read_details
from safe_migrations.fleet.diagram import draw
from safe_migrations.fleet.page import as_html, refuse_other_file, timeline
from safe_migrations.fleet.services import Member
from safe_migrations.fleet.status import ServiceStatus
from safe_migrations.fleet.status_table import advice
from safe_migrations.schema.structure import read_tables
from support import bare_environment

TIME = datetime(2026, 11, 28, 23, 30, tzinfo=UTC)
NASTY = [
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "a & b",
    "</title>",
    "<!--",
    "{{ 7 }}",
]
ELEMENTS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "section",
        "h1",
        "h2",
        "h3",
        "h4",
        "p",
        "em",
        "small",
        "ul",
        "ol",
    ),
    *("li", "form", "div", "button", "span", "b", "i", "label", "input", "output", "table", "caption", "thead", "tr"),
    *("th", "tbody", "td", "details", "summary", "code", "pre", "time", "progress", "script", "figure", "figcaption"),
    *("svg", "g", "path", "rect", "text", "tspan"),
}
VOID = {"meta", "input", "rect"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def status(path: str, state: str = "at head", **values: Any) -> ServiceStatus:
    """A service, at its second revision of three."""
    known = {"service": path, "state": state, "exit_status": 0 if state == "at head" else 4, "current": ("r2",)}
    return replace(ServiceStatus(Member(path, Path(path, "alembic.ini"), None), path, path), **{**known, **values})


def details(name: str = "item", number: int = 3) -> dict[str, Any]:
    """Revisions and models with a name."""
    metadata = sa.MetaData()
    sa.Table(name, metadata, sa.Column(name, sa.Text(), primary_key=True, comment=name), comment=name)
    sa.Table("other", metadata, sa.Column("id", sa.Text(), sa.ForeignKey(sa.Table(name, metadata).c[name])))
    statement = StatementDetails(name, f"ALTER TABLE {name}", f"SHARE on {name}; writes wait until it ends", "long")
    revisions = [RevisionDetails(f"r{n}", f"000{n} {name}", f"{name}.py", "expand") for n in range(1, number)]
    revisions += [RevisionDetails(f"r{number}", f"last {name}", f"{name}.py", "contract", (name,), name, (statement,))]
    return asdict(Details(tuple(revisions), draw(read_tables(metadata))))


def pending(name: str = "item") -> Mapping[str, str | None]:
    return {"revision": "r3", "name": f"last {name}", "file": f"{name}.py", "phase": "contract"}


class Reader(HTMLParser):
    """Reads a page, and checks that each element is closed where it has to be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_names_are_text() -> None:
    services = [
        status(
            name,
            "behind",
            pending=(pending(name),),
            backfills=({"name": name, "percent": 40, "required_by": f"{name}.py", "problem": name},),
            drift=(f"add_table {name}",),
            database=name,
            next=f"alembic upgrade head\n{name}",
        )
        for name in NASTY
    ]
    page = as_html(services, [*map(details, NASTY)], TIME)
    reader = Reader(page)
    assert {tag for tag, _ in reader.elements} <= ELEMENTS
    assert not any(name.startswith("on") for _, attributes in reader.elements for name in attributes)
    for name in NASTY:
        assert sum(name in text for text in reader.texts) > 10
    assert "7 }}" in page


def test_the_page_loads_nothing_and_runs_its_own_script_alone() -> None:
    page = as_html([status("a")], [details()], TIME)
    reader = Reader(page)
    used = {name for _, attributes in reader.elements for name in attributes}
    assert not used & {"src", "href", "style", "srcset", "action", "xlink:href"}
    (policy,) = [str(values["content"]) for _, values in reader.elements if values.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert [tag for tag, _ in reader.elements].count("script") == 1
    css = next(text for text in reader.texts if ":root" in text)
    assert not re.search(r"url\(|@import|https?:", css)


def test_marks_of_direction_and_control_characters_are_visible() -> None:
    page = as_html([status("a\u202eb\x1b[31m")], [details("x\u2066y\x00")], TIME)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", page)
    assert r"a\u202eb\x1b[31m" in page


def test_the_page_is_deterministic() -> None:
    services = [status("a"), status("b", "behind", pending=(pending(),)), status("c", "drift", drift=("x",))]
    parts = [details("item"), details("box"), details("shop")]
    assert as_html(services, parts, TIME) == as_html(services[::-1], parts[::-1], TIME)


def test_what_needs_something_comes_first() -> None:
    page = as_html([status("a"), status("b", "behind", next="alembic upgrade head")], [details(), details()], TIME)
    assert page.index('<th scope="row">b') < page.index('<th scope="row">a')
    assert "<code>alembic upgrade head</code>" in page


def test_timeline() -> None:
    revisions = details(number=12)["revisions"]
    behind = status("a", "behind", current=("r11",), pending=({**pending(), "revision": "r12"},))
    shown = timeline(behind, revisions)
    assert [revision["revision"] for revision in (*shown.earlier, *shown.latest)] == [f"r{n}" for n in range(1, 12)]
    assert shown.earlier
    (stage,) = shown.stages
    assert (stage.phase, stage.backfills) == ("contract", ["item"])
    assert stage.revisions[0]["statements"]


@pytest.mark.parametrize("unreadable", [{"state": "could not tell"}, {"state": "unknown revision", "current": ("x",)}])
def test_timeline_of_an_unknown_state(unreadable: dict[str, Any]) -> None:
    shown = timeline(status("a", **unreadable), details()["revisions"])
    assert len(shown.unknown) == 3
    assert not shown.latest


def test_a_service_that_cannot_be_read_has_the_reason() -> None:
    problem = "PostgreSQL does not answer.\nsafe-migrations db-up"
    b = status("b", pending=(pending(),), not_compared=("env.py imports x",))
    services = [status("a", "could not tell", problem=problem), b, status("c", drift=())]
    page = as_html(services, [{}, {"not_compared": "env.py imports x"}, {"problem": "r2.py can't be imported"}], TIME)
    assert "PostgreSQL does not answer." in page
    assert "env.py imports x" in page
    assert page.count(">not compared<") == 1
    assert "r2.py can&#39;t be imported" in page
    assert page.count("last item") == 2  # the headline and the timeline: pending is known without env.py


def test_advice_names_its_folders_and_introduces_its_commands() -> None:
    problem = "Nothing is configured in a. b. For a database:\nsafe-migrations db-up"
    rows = [status(path, "could not tell", problem=problem, exit_status=11) for path in ("a", "b")]
    (advice_of_all,) = advice(rows)
    assert advice_of_all.reasons == [f"{path}: Nothing is configured in a. b." for path in ("a", "b")]
    folders, *lines = advice_of_all.following.splitlines()
    assert "folders" in folders
    assert lines == ["For a database:", "safe-migrations db-up"]
    assert "<p>services/c</p>" in as_html([status("services/c", "behind", exit_status=4)], [{}], TIME)


def test_a_hundred_services_are_less_than_two_megabytes() -> None:
    metadata = sa.MetaData()
    for table in range(12):
        key: list[sa.Column[Any]] = [sa.Column("parent", sa.ForeignKey(f"t{table - 1}.id"))] if table else []
        columns = (sa.Column(f"a_usual_name_{number}", sa.DateTime(timezone=True)) for number in range(8))
        sa.Table(f"t{table}", metadata, sa.Column("id", sa.Integer(), primary_key=True), *columns, *key)
    part = {**details(number=40), "diagram": asdict(draw(read_tables(metadata)))}
    services = [status(f"services/s{number}", "behind", pending=(pending(),)) for number in range(100)]
    assert len(as_html(services, [part] * 100, TIME)) < 2_000_000


def test_only_a_page_is_overwritten(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    refuse_other_file(page)
    page.touch()
    refuse_other_file(page)
    page.write_text(as_html([status("a")], [{}], TIME))
    refuse_other_file(page)
    page.write_text("<!doctype html><title>mine</title>")
    for file in (page, tmp_path, tmp_path / "missing" / "page.html"):
        with pytest.raises(ConfigurationError, match=re.escape(str(file if file.exists() else file.parent))):
            refuse_other_file(file)


def test_details(tmp_path: Path) -> None:
    project = PlainProject(tmp_path / "orders", URL.create("postgresql"))
    project.add("first")
    upgrade = "op.execute('ALTER TABLE first ADD COLUMN a text')\nop.execute('ALTER TABLE first ALTER a TYPE int')"
    path = project.add(
        "second", f"{upgrade}\nop.create_index('ix', 'first', ['a'], postgresql_concurrently=True)", after="first"
    )
    declarations = 'phase = "contract"\nrequires_backfill = "fill"\n# acknowledged = "rows are lost"\n\n\ndef upgrade'
    path.write_text(path.read_text().replace("def upgrade", declarations, 1))
    project.models = sa.MetaData()
    sa.Table("first", project.models, sa.Column("a", sa.Text(), nullable=False))
    read = read_details(project.project, ["second"])
    assert read.diagram is not None
    assert [box.table for box in read.diagram.boxes] == ["first"]
    first, second = read.revisions
    assert (first.revision, first.phase, first.statements) == ("first", None, ())
    assert (second.phase, second.backfills, second.danger) == ("contract", ("fill",), "rows are lost")
    assert [statement.weight for statement in second.statements] == ["moment", "long", "online"]


@pytest.mark.usefixtures("forked_copier")
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "a_secret_word"
    for name, text in (("broken", "colour = red"), ("orders", "env_prefix = ORDERS")):
        folder = tmp_path / name / "alembic" / "versions"
        folder.mkdir(parents=True)
        tmp_path.joinpath(name, "alembic.ini").write_text(
            f"[alembic]\nscript_location = %(here)s/alembic\n[safe_migrations]\n{text}\n"
        )
        folder.joinpath("first.py").write_text('"""first change"""\nrevision = "a"\ndown_revision = None\n')
        folder.with_name("env.py").write_text(
            "import sqlalchemy as sa\nfrom safe_migrations import run_env\nmetadata = sa.MetaData()\n"
            "sa.Table('parcel', metadata)\nrun_env(target_metadata=metadata, database_url='postgresql://')\n"
        )
    tmp_path.joinpath("orders", ".env").write_text(
        f"ORDERS_DATABASE_URL=postgresql://user:{secret}@127.0.0.1:1/orders\n"
    )
    monkeypatch.chdir(tmp_path)
    file = Path("page.html")
    assert commands.page(Namespace(file=file, only=[], exclude=[])) == ConnectionFailedError.exit_status
    assert str(file) in capsys.readouterr().out
    page = file.read_text()
    assert {"broken", "orders", "a first change", "parcel"} <= {text for text in Reader(page).texts}
    assert "colour" in page
    assert secret not in page


# Opens the page in a frame as wide as a phone, uses it, and leaves in its own title what it has seen.
USER = """<!doctype html><title></title><iframe width="390" height="800" src="page.html"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, seen = {};
  const paths = () => [...page.querySelectorAll("tbody:not([hidden]) th")].map((cell) => cell.textContent);
  const titles = [...page.querySelectorAll("thead th")];
  const find = (text) => {
    const input = page.querySelector("input");
    input.value = text;
    input.dispatchEvent(new Event("input"));
  };
  seen.first = paths();
  titles[0].querySelector("button").click();
  seen.sorted = [paths(), titles[0].ariaSort];
  titles[0].querySelector("button").click();
  seen.reversed = [paths(), titles[0].ariaSort];
  titles[2].querySelector("button").click();
  seen.pending = [paths(), titles[0].ariaSort, titles[2].ariaSort];
  find("S10 head");
  seen.found = [paths(), page.querySelector("output").textContent];
  find("nothing");
  seen.none = [paths(), page.querySelector("#no-match").hidden];
  find("");
  page.querySelector('[data-state="behind"]').click();
  seen.behind = [paths(), page.querySelector('[data-state="behind"]').ariaPressed];
  page.querySelector("tbody:not([hidden]) th").click();
  seen.open = page.querySelectorAll("tbody:not([hidden]) details[open]").length;
  seen.fits = page.documentElement.scrollWidth <= page.documentElement.clientWidth;
  const used = page.querySelectorAll("thead button, .states button, input, .more summary, .scroll");
  seen.keyboard = [...used].every((element) => element.tabIndex === 0);
  document.title = JSON.stringify(seen);
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH (Debian's package chromium)")
def test_in_a_browser(tmp_path: Path) -> None:
    services = [status("s2"), status("s10"), status("s9", "behind", pending=(pending(),) * 2), status(NASTY[0])]
    tmp_path.joinpath("page.html").write_text(
        as_html(services, [details(), details(), details(NASTY[1]), details()], TIME)
    )
    tmp_path.joinpath("user.html").write_text(USER)
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
    )
    process = subprocess.run(
        [str(CHROMIUM), *options, f"--user-data-dir={tmp_path}/profile", "--dump-dom", f"file://{tmp_path}/user.html"],
        env=bare_environment(HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    title = re.search("<title>(.*)</title>", process.stdout)
    assert title, process.stderr
    seen = json.loads(unescape(title[1]))
    by_name = [NASTY[0], "s2", "s9", "s10"]
    assert seen == {
        "first": ["s9", NASTY[0], "s10", "s2"],
        "sorted": [by_name, "ascending"],
        "reversed": [by_name[::-1], "descending"],
        "pending": [[*(name for name in by_name[::-1] if name != "s9"), "s9"], None, "ascending"],
        "found": [["s10"], "1 of 4 services"],
        "none": [[], False],
        "behind": [["s9"], "true"],
        "open": 1,
        "fits": True,
        "keyboard": True,
    }
    assert "Content Security Policy" not in process.stderr

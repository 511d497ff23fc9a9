"""`report`: what it says of which revisions, and that no name and no message acts on its readers."""

import json
from argparse import Namespace
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from alembic import command
from markdown_it import MarkdownIt
from sqlalchemy import URL

from plain_project import PlainProject
from releases import commit, git
from safe_migrations.errors import ConfigurationError, MigrationError, NotConfirmedError, RevisionError
from safe_migrations.report import commands
from safe_migrations.report.collect import MigrationReport, collect
from safe_migrations.report.gitlab import write_note
from safe_migrations.report.markdown import LIMIT, as_markdown
from support import as_text, fetch

DATABASES = "SELECT datname FROM pg_database WHERE starts_with(datname, :prefix)"
EXPAND, CONTRACT = 'phase = "expand"', 'phase = "contract"'


@pytest.fixture
def project(tmp_path: Path, database: URL, server: URL, monkeypatch: pytest.MonkeyPatch) -> PlainProject:
    """A project in a repository, whose main branch has one revision; the tests' server is that of reports."""
    project = PlainProject(tmp_path / "shop", database)
    project.add("item")
    git(project.folder, "init", "--quiet", "--initial-branch=main")
    commit(project.folder)
    git(project.folder, "switch", "--quiet", "--create", "feature")
    commit(project.folder)
    monkeypatch.setenv("TEST_DATABASE_URL", as_text(server))
    monkeypatch.chdir(project.folder)
    return project


def add(
    project: PlainProject, revision: str, upgrade: str, *declared: str, downgrade: str = "pass", after: str = "item"
) -> Path:
    """A revision with these declarations."""
    path = project.add(revision, upgrade, downgrade, after=after)
    path.write_text(path.read_text().replace("\n\n\ndef upgrade", "\n".join(["", *declared]) + "\n\n\ndef upgrade"))
    return path


def collected(project: PlainProject, *, on_copy: bool = False) -> MigrationReport:
    return collect(project.config(), on_copy=on_copy)


def as_html(text: str) -> str:
    html: str = MarkdownIt("commonmark").enable("table").render(text)
    return html


def test_each_new_revision_with_its_phase_its_locks_and_when_to_run_it(project: PlainProject, server: URL) -> None:
    steps = "if op.step('column'):\n    op.add_column('item', sa.Column('sku', sa.Text()))\n"
    steps += "if op.step('index'):\n    op.create_index_concurrently('ix_item_sku', 'item', ['sku'])"
    add(project, "sku", steps, EXPAND)
    add(project, "gone", "op.drop_column('item', 'id')", CONTRACT, 'acknowledged = "the ids are lost"', after="sku")
    report = collected(project)
    assert [script.revision for script in report.revisions] == ["sku", "gone"], "not what the main branch has"
    assert (report.not_allowed, report.failure) == ([], None)

    text = as_markdown(report)
    ordered = text.partition("\n### ")[0].splitlines()[2:]
    assert [line.partition(",")[0].partition(".")[2].strip() for line in ordered] == [
        "Expand",
        "Deploy the new code.",
        "Contract",
    ]
    assert "sku create the table sku" in ordered[0]
    assert "gone create the table gone" in ordered[2]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert [(row[0], row[2]) for row in rows] == [
        ("| `sku create the table sku`", "`ACCESS EXCLUSIVE item`"),
        ("| &emsp;`column`", "`ACCESS EXCLUSIVE item`"),
        ("| &emsp;`index`", "`SHARE UPDATE EXCLUSIVE item`"),
        ("| `gone create the table gone`", "`ACCESS EXCLUSIVE item`"),
    ]
    sql = text.partition("```sql\n")[2].partition("\n```")[0].splitlines()
    assert sql == [
        "-- step: column",
        "-- ACCESS EXCLUSIVE on item",
        "ALTER TABLE item ADD COLUMN sku TEXT;",
        "-- step: index",
        "-- SHARE UPDATE EXCLUSIVE on item, reads all rows",
        "CREATE INDEX CONCURRENTLY ix_item_sku ON item (sku);",
    ]
    assert "Acknowledged: `the ids are lost`" in text
    assert fetch(server, DATABASES, prefix="shop_scratch_") == []


def test_what_a_phase_does_not_allow_is_reported_with_the_finding_of_lint(project: PlainProject) -> None:
    drop = "op.drop_index_concurrently('ix_item_id', 'item')"
    add(project, "index", "op.create_index('ix_item_id', 'item', ['id'])", EXPAND, downgrade=drop)
    report = collected(project)
    assert [finding.rule.name for finding in report.findings] == ["require-concurrent-index-creation"]
    (sentence,) = report.not_allowed
    assert "scans table item" in sentence
    text = as_markdown(report)
    assert "require-concurrent-index-creation" in text
    assert "SHARE" in text.partition("### Not allowed")[2].partition("###")[0]


def test_a_revision_that_fails_or_waits_for_a_person_is_in_the_report(project: PlainProject) -> None:
    add(project, "first", "op.add_column('item', sa.Column('sku', sa.Text()))", EXPAND)
    last = add(project, "last", "op.drop_table('missing')", CONTRACT, '# acknowledged = "all is lost"', after="first")
    report = collected(project)
    assert isinstance(report.failure, NotConfirmedError)
    assert [result.revision for result in report.rehearsed] == ["first"]
    assert "**To acknowledge:** `all is lost`" in as_markdown(report)

    last.write_text(last.read_text().replace("# acknowledged", "acknowledged"))
    report = collected(project)
    assert isinstance(report.failure, RevisionError)
    assert 'table "missing" does not exist' in as_markdown(report)


def test_without_a_new_revision_one_sentence(project: PlainProject) -> None:
    text = as_markdown(collected(project))
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == ["No revision is new."]


def test_an_edited_revision_of_the_main_branch_is_reported_without_a_new_one(project: PlainProject) -> None:
    path = project.versions / "item.py"
    path.write_text(path.read_text().replace("sa.Integer()", "sa.BigInteger()"))
    assert "edited-revision" in as_markdown(collected(project))


def test_a_copy_has_the_rows_and_the_pending_revisions_of_the_database(project: PlainProject, database: URL) -> None:
    project.alembic(command.upgrade, "heads")
    fetch(database, "INSERT INTO item SELECT generate_series(1, 1000)")
    add(project, "wider", "op.alter_column('item', 'id', type_=sa.BigInteger())", CONTRACT, 'acknowledged = "waits"')
    commit(project.folder)
    git(project.folder, "branch", "--force", "main")
    report = collected(project, on_copy=True)
    (result,) = report.rehearsed
    assert (result.revision, result.rewritten, result.rows) == ("wider", ["item"], {"item": 1000})
    assert "on a copy of the database" in as_markdown(report)
    project.alembic(command.upgrade, "heads")
    assert "No revision is pending." in as_markdown(collected(project, on_copy=True))


HOSTILE = [
    "a|b",
    "`x`",
    "<script>alert(1)</script>",
    "@all",
    "[a](https://example.com)",
    "/close",
    "\\|",
    "**x**",
    "```",
]


def test_no_name_and_no_message_is_more_than_text(project: PlainProject) -> None:
    upgrade = [f"op.create_table({name!r}, sa.Column('id', sa.Integer()))" for name in HOSTILE]
    upgrade += ["op.execute({!r})".format(f"SELECT 1 /*\n{name}\n*/") for name in HOSTILE]
    add(project, "hostile", "\n".join(upgrade), EXPAND)
    indexes = [f"op.add_column({name!r}, sa.Column({name!r}, sa.Text()))" for name in HOSTILE]
    last = add(project, "last", "\n".join(indexes), CONTRACT, f"acknowledged = {' '.join(HOSTILE)!r}", after="hostile")
    last.write_text(last.read_text().replace("create the table last", " ".join(HOSTILE).replace("\\", "\\\\")))
    report = collected(project)
    assert report.failure is None
    html = as_html(as_markdown(report))
    outside = "".join(part.partition("</code>")[2] if n else part for n, part in enumerate(html.split("<code")))
    for name in ("<script", "@all", "href", "/close", "<strong>", "a|b"):
        assert name not in outside
    assert "<script" not in html
    rows = html.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr>")[1:]
    assert [row.count("<td>") for row in rows] == [6] * len(rows)
    assert html.count("<code>last " + " ".join(HOSTILE).replace("<", "&lt;").replace(">", "&gt;")) >= 3


def test_a_report_that_no_server_takes_is_without_sql(project: PlainProject) -> None:
    add(project, "big", f"op.execute('SELECT 1 {'x' * LIMIT}')", EXPAND)
    report = MigrationReport("shop", False, project.scripts("big"), [])
    assert len(as_markdown(report)) < LIMIT
    assert "big create the table big" in as_markdown(report)
    assert "left out" in as_markdown(report)


def test_exit_status_is_that_of_lint_or_of_the_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], project: PlainProject
) -> None:
    def run() -> int:
        monkeypatch.setattr(commands, "config_of", lambda _: project.config())
        return commands.report(Namespace(copy=False, gitlab=False))

    upgrade, downgrade = "op.add_column('item', sa.Column('sku', sa.Text()))", "op.drop_column('item', 'sku')"
    path = add(project, "sku", f"print('loud')\n{upgrade}", EXPAND, downgrade=downgrade)
    path.write_text(path.read_text().replace("create the table sku", "add the stock number"))
    assert (run(), "loud" in capsys.readouterr().out) == (0, False)
    index = "op.create_index('ix_item_id', 'item', ['id'])"
    path.write_text(path.read_text().replace(upgrade, f"{upgrade}\n    {index}"))
    assert (run(), index in capsys.readouterr().out) == (1, False)
    accepted = "# safe: require-concurrent-index-creation because the table is small"
    path.write_text(path.read_text().replace(index, f"{accepted}\n    {index}"))
    assert run() == 1, "lint has no finding, but the phase does not allow the scan"
    text = capsys.readouterr().out
    assert "no findings" in text
    assert "### Not allowed" in text
    path.write_text(path.read_text().replace(upgrade, "op.drop_table('missing')"))
    with pytest.raises(RevisionError):
        run()
    assert "The rehearsal failed" in capsys.readouterr().out


class GitLab(ThreadingHTTPServer):
    """The notes of one merge request; each is its author's."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Notes)
        self.notes: dict[int, list[str]] = {}
        self.called: list[tuple[str, str, str | None]] = []


class Notes(BaseHTTPRequestHandler):
    """GitLab's API of notes."""

    server: GitLab

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        self.server.called.append((self.command, path, self.headers["PRIVATE-TOKEN"]))
        notes = self.server.notes
        status = 200
        answer: Any = [{"id": id_, "body": text} for id_, (_, text) in notes.items()]
        if self.command != "GET":
            id_ = len(notes) + 1 if self.command == "POST" else int(path.rpartition("/")[2])
            status = 200 if notes.get(id_, ["us"])[0] == "us" else 403
            if status == 200:
                notes[id_] = ["us", json.loads(body)["body"]]
            answer = {"id": id_}
        if self.headers["PRIVATE-TOKEN"] != "secret":
            status = 401
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 — the names that BaseHTTPRequestHandler calls

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def gitlab(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitLab]:
    """A job of a branch with an open merge request."""
    with GitLab() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("CI_API_V4_URL", f"http://127.0.0.1:{server.server_port}/api/v4")
        monkeypatch.setenv("CI_PROJECT_ID", "42")
        monkeypatch.setenv("CI_OPEN_MERGE_REQUESTS", "group/project!7,other/project!3")
        monkeypatch.setenv("MIGRATION_REPORT_TOKEN", "secret")
        yield server
        server.shutdown()
        thread.join()


def test_a_note_for_each_service_which_later_pipelines_replace(gitlab: GitLab) -> None:
    write_note("first", "orders")
    ((_, text),) = gitlab.notes.values()
    gitlab.notes = {1: ["a stranger", text], 2: ["us", text]}
    write_note("other", "payments")
    write_note("second", "orders")
    assert [(who, body.splitlines()[-1]) for who, body in gitlab.notes.values()] == [
        ("a stranger", "first"),
        ("us", "second"),
        ("us", "other"),
    ]
    assert {path.partition("/notes")[0] for _, path, _ in gitlab.called} == {"/api/v4/projects/42/merge_requests/7"}


def test_without_a_token_or_a_merge_request_no_note(gitlab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI_OPEN_MERGE_REQUESTS")
    write_note("text", "orders")
    monkeypatch.setenv("CI_MERGE_REQUEST_IID", "9")
    monkeypatch.delenv("MIGRATION_REPORT_TOKEN")
    write_note("text", "orders")
    assert gitlab.called == []
    monkeypatch.delenv("CI_API_V4_URL")
    with pytest.raises(ConfigurationError):
        write_note("text", "orders")


def test_a_token_that_gitlab_refuses_is_not_shown(gitlab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATION_REPORT_TOKEN", "another secret")
    with pytest.raises(MigrationError, match=r"401.*MIGRATION_REPORT_TOKEN") as refused:
        write_note("text", "orders")
    assert "another secret" not in str(refused.value)


def test_a_token_with_a_line_break(gitlab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATION_REPORT_TOKEN", "secret\n")
    write_note("text", "orders")
    assert len(gitlab.notes) == 1
    for token in ("another\nsecret", "sécret\x7f"):
        monkeypatch.setenv("MIGRATION_REPORT_TOKEN", token)
        with pytest.raises(ConfigurationError, match="MIGRATION_REPORT_TOKEN") as refused:
            write_note("text", "orders")
        assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[", b"HTTP/1.1 200 OK\r\n\r\n<p>"]
)
def test_a_server_that_breaks_off(answer: bytes, gitlab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(handler: Notes) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    monkeypatch.setattr(Notes, "do_GET", break_off)
    with pytest.raises(MigrationError, match="MIGRATION_REPORT_TOKEN"):
        write_note("text", "orders")

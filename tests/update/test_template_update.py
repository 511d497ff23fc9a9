"""`pdm run template-update` and `template-check`: no edit is lost, not even one that git does not know of."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest

from releases import LATER, MAJOR, NEXT, Releases, change, commit, git, path_to_pdm, template_file
from safe_migrations.errors import MigrationError, TemplateError
from safe_migrations.history.git import without_login
from safe_migrations.template import commands as template_cli
from safe_migrations.template import update as template_update
from safe_migrations.template import workspace
from safe_migrations.template.releases import News, Release, copier, read_news
from safe_migrations.template.update import check, unsolved, update
from safe_migrations.template.workspace import copy_back, refuse_to_overwrite, temporary_repository
from support import Service, bare_environment, bare_python

UPDATE = ("python", "-m", "safe_migrations", "template-update")
CHECK = ("python", "-m", "safe_migrations", "template-check")

# What `template-check` reads of the later release.
NEWS = News(NEXT, LATER, True, (Release(LATER, "A later release", "ORDERS_LATER is new"),))
ENTRY = """
[[release]]
version = "{version}"
commit = "{commit}"
summary = "A later release"
operators = "ORDERS_LATER is new"
"""


def new_release(template: Path) -> None:
    """A later release changes a line, drops files, brings one, and does not take an answer any more."""
    line = template_file(template, "database.py")
    line.write_text(line.read_text() + "# later\n")
    template_file(template, ".dockerignore").unlink()
    shutil.rmtree(template_file(template, ".github"))
    (template / "template" / "later.txt").write_text("the template's\n")
    (template / "template" / "alembic" / "later").mkdir()
    (template / "template" / "alembic" / "later" / "new.txt").write_text("the template's\n")
    project = template_file(template, "pyproject.toml")
    project.write_text(project.read_text().replace('"pytest>=9.0"', '"pytest>=9.0.1"'))
    questions = template / "copier.yml"
    assert "choices: [15, 16, 17, 18]" in questions.read_text()
    questions.write_text(questions.read_text().replace("choices: [15, 16, 17, 18]", "choices: [16, 17, 18]"))
    releases = template / "RELEASES.toml"
    releases.write_text(releases.read_text() + ENTRY.format(version=LATER, commit="0" * 40))


@pytest.fixture(scope="module")
def later(toy: Releases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with that release."""
    template = toy.with_later(tmp_path_factory.mktemp("later") / "template.git", new_release)
    for tag in (f"{MAJOR + 2}.0.0rc1", "other"):  # which are no releases
        git(template, "tag", tag)
    return template


@pytest.fixture
def service(toy: Releases, later: Path, tmp_path: Path) -> Service:
    """A service that can take that release."""
    return toy.service(tmp_path / "orders", NEXT, template=later)


def state(service: Service) -> str:
    """What is not committed in the whole repository."""
    return git(service.folder, "status", "--porcelain", "--untracked-files=all")


def refusal(service: Service, *data: str) -> str:
    """What the update says, having changed nothing."""
    before = everything(service)
    with pytest.raises(TemplateError, match="Nothing was changed") as refused:
        update(service.folder, NEWS, data=data)
    assert everything(service) == before
    assert git(service.folder, "diff", "--cached") == ""
    return str(refused.value)


def everything(service: Service) -> dict[str, bytes]:
    """All files but git's and what Python has compiled."""
    paths = [path for path in service.folder.rglob("*") if not {".git", "__pycache__"} & set(path.parts)]
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def edit_dropped(service: Service) -> None:
    """Something to decide, so that an update stops before it runs the service's checks."""
    with service.folder.joinpath(".dockerignore").open("a") as file:
        file.write("of-our-own\n")
    commit(service.folder)


def test_what_is_new_is_announced_and_arrives_and_nothing_else_changes(service: Service) -> None:
    process = service.run(*CHECK)
    assert process.returncode == 10
    assert process.stdout.startswith(f"The template has released {LATER}; this service has {NEXT}. What is new:\n")
    assert process.stdout.endswith("\nsafe-migrations template-update\n")
    process = service.run(*CHECK, "--json")
    assert process.returncode == 10
    assert json.loads(process.stdout) == {
        "current": NEXT,
        "latest": LATER,
        "waits": True,
        "releases": [{"version": LATER, "summary": "A later release", "operators": "ORDERS_LATER is new", "trust": ""}],
    }

    edit_dropped(service)
    process = service.run(*UPDATE)
    assert process.returncode == MigrationError.exit_status
    assert f"  {LATER}  A later release\n  Before the next deployment: ORDERS_LATER is new\n" in process.stdout
    assert "\nChanged files:\n  .copier-answers.yml\n  .github/workflows/ci.yml\n" in process.stdout
    assert "  .dockerignore: the template no longer has" in process.stderr
    assert "Or revert the update:" in process.stderr
    expected = {" M .copier-answers.yml", " M database.py", " M pyproject.toml", "?? alembic/later/", "?? later.txt"}
    dropped = {" D .github/workflows/ci.yml"}
    assert set(git(service.folder, "status", "--porcelain").splitlines()) == expected | dropped
    assert service.folder.joinpath(".dockerignore").read_text().endswith("of-our-own\n")
    assert not service.folder.joinpath(".github").exists(), "no empty folder is left"

    commit(service.folder)
    assert service.succeed(*UPDATE) == f"Up to date: the newest release of the template is {LATER}.\n"
    message = service.fail(*UPDATE, "--data", "ci=none")
    assert message.endswith("\ncopier update --vcs-ref=:current: --skip-answered --data ci=none")
    assert json.loads(service.succeed(*CHECK, "--json"))["waits"] is False


def test_checks_after_new_dependencies(service: Service, tmp_path: Path) -> None:
    """In order, until one fails; what `pdm` would do is written down here, and done in the user's journey."""
    path = path_to_pdm(tmp_path / "programs", failing="run typecheck")
    process = service.run(*UPDATE, path=path)
    called = (tmp_path / "programs" / "called").read_text().splitlines()
    assert called == ["update alembic-safe-migrations", "run lint", "run typecheck"]
    assert process.returncode == MigrationError.exit_status
    assert "`pdm run typecheck` failed" in process.stderr


def test_without_pdm(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    commands = "pdm update alembic-safe-migrations && pdm run lint && pdm run typecheck && pdm run test"
    with pytest.raises(MigrationError, match=commands):
        check(service.folder, install=True)


def test_nothing_uncommitted_is_mixed_with_the_update(service: Service) -> None:
    service.folder.joinpath("own.txt").write_text("own\n")
    assert "(own.txt)" in service.fail(*UPDATE)
    assert state(service) == "?? own.txt\n"


@pytest.mark.usefixtures("forked_copier")
def test_an_edit_during_the_update_stays(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(folder: Path, *arguments: str) -> str:
        output = copier(folder, *arguments)
        folder.joinpath("database.py").write_text("# of our own\n")
        return output

    monkeypatch.setattr(template_update, "copier", meanwhile)
    with pytest.raises(TemplateError, match=r"uncommitted changes .*database\.py"):
        update(service.folder, NEWS)
    assert service.folder.joinpath("database.py").read_text() == "# of our own\n"
    assert git(service.folder, "status", "--porcelain") == " M database.py\n"


def test_it_sees_what_gits_settings_hide(service: Service) -> None:
    service.folder.joinpath("own.txt").write_text("own\n")
    git(service.folder, "config", "status.showUntrackedFiles", "no")
    service.environment |= {"GIT_DIR": str(service.folder / ".git"), "GIT_WORK_TREE": "/"}  # as in a hook of git's
    assert "(own.txt)" in service.fail(*UPDATE)


@pytest.mark.usefixtures("forked_copier")
def test_no_file_is_overwritten_that_git_ignores_or_is_told_to_overlook(service: Service, tmp_path: Path) -> None:
    for option, name in (("--skip-worktree", "config.py"), ("--assume-unchanged", "database.py")):
        git(service.folder, "update-index", option, name)
        service.folder.joinpath(name).write_text("# of our own\n")
    service.folder.joinpath(".git", "info", "exclude").write_text("later.txt\nalembic/later\n")
    service.folder.joinpath("later.txt").write_bytes(b"of our own\0\n")
    (tmp_path / "elsewhere").mkdir()
    (service.folder / "alembic" / "later").symlink_to(tmp_path / "elsewhere")
    for written in ("config.py", "database.py", "later.txt", "alembic/later/new.txt"):
        with pytest.raises(TemplateError, match=f"{written.removesuffix('/new.txt')} here is not committed"):
            refuse_to_overwrite(service.folder, ["alembic.ini", "new.txt", written])
    assert "here is not committed" in refusal(service)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.usefixtures("forked_copier")
def test_an_answer_that_is_no_longer_valid_is_asked_for(toy: Releases, later: Path, tmp_path: Path) -> None:
    service = toy.service(tmp_path / "orders", NEXT, template=later, postgres_version=15)
    edit_dropped(service)
    message = refusal(service)
    assert "postgres_version is 15, and would become 18" in message
    assert message.endswith("\nsafe-migrations template-update --data postgres_version=18")
    assert "postgres_version" in refusal(service, "postgres_version=14"), "neither is that"
    assert "postgres_versoin" in refusal(service, "postgres_version=17", "postgres_versoin=17")

    update(service.folder, NEWS, data=["postgres_version=17"])
    assert "of-our-own" in service.folder.joinpath(".dockerignore").read_text()
    assert "postgres_version: 17" in service.folder.joinpath(".copier-answers.yml").read_text()


@pytest.mark.usefixtures("forked_copier")
def test_what_is_no_text_stays(service: Service) -> None:
    latin, binary = service.folder / "database.py", service.folder / "later.txt"  # the template brings that as well
    own = {latin: latin.read_bytes() + b"# \xe4\n", binary: b"# \0\n"}
    for file, text in own.items():
        file.write_bytes(text)
    commit(service.folder)
    decide = update(service.folder, NEWS).to_decide
    assert [sentence.partition(":")[0] for sentence in decide] == ["database.py", "later.txt"]
    assert all("not UTF-8 text" in sentence for sentence in decide)
    assert {file: file.read_bytes() for file in own} == own


@pytest.fixture
def monorepo(toy: Releases, later: Path, tmp_path: Path, thorough: bool) -> list[Service]:
    """Ten services in a repository, or a few, each of which can take the release."""
    made = []
    for number in range(10 if thorough else 3):
        folder = tmp_path / "repository" / "services" / f"orders_{number}"
        made.append(toy.uncommitted(folder, NEXT, template=later, layout="monorepo"))
    root = tmp_path / "repository"
    root.joinpath(".gitignore").write_text(".env\n.venv/\n")
    for service in made:
        service.folder.joinpath("own.txt").write_text("own\n")
    git(root, "init", "--quiet")
    commit(root)
    return made


@pytest.mark.usefixtures("forked_copier")
def test_services_of_a_monorepo_each_at_its_own_time(monorepo: list[Service]) -> None:
    neighbour, *others = monorepo
    folder = neighbour.folder
    folder.joinpath("own.txt").unlink()
    folder.joinpath("database.py").write_text("half-written")
    folder.joinpath("database.py.rej").write_text("which Copier alone would take for its own")
    folder.joinpath("new.txt").write_text("new\n")
    before = git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".")

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda service: update(service.folder, NEWS), others))
    assert {result.files for result in results} == {
        (
            ".copier-answers.yml",
            ".dockerignore",
            ".github/workflows/ci.yml",
            "alembic/later/new.txt",
            "database.py",
            "later.txt",
            "pyproject.toml",
        ),
    }
    for service in others:
        assert service.folder.joinpath("database.py").read_text().endswith("# later\n")
        assert service.folder.joinpath("own.txt").exists()
    assert git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".") == before
    assert folder.joinpath("database.py").read_text() == "half-written"
    assert "database.py.rej: " in neighbour.run(*UPDATE).stderr, "its own turn comes"


@pytest.mark.parametrize(
    ("error", "at"), [(KeyboardInterrupt(), 1), (OSError(28, "No space left on device"), 3)], ids=["key", "disk"]
)
def test_it_comes_whole_or_not_at_all(
    service: Service, monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int
) -> None:
    before = everything(service)
    copied: list[Path] = []

    def copy(source: Path, target: Path) -> None:
        copied.append(source)
        target.write_text("half")
        if len(copied) == at:
            raise error

    changed = ["database.py", "alembic/later/new.txt", ".dockerignore", "later.txt", ".copier-answers.yml"]
    with temporary_repository(service.folder) as temporary:
        temporary.joinpath(".dockerignore").unlink()
        for name in ("alembic/later/new.txt", "later.txt"):
            temporary.joinpath(name).parent.mkdir(exist_ok=True)
            temporary.joinpath(name).touch()
        with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, TemplateError)):
            patch.setattr("safe_migrations.template.workspace.shutil.copy", copy)
            copy_back(temporary, service.folder, changed)
    assert len(copied) == at
    assert everything(service) == before
    assert git(service.folder, "status", "--porcelain") == ""


@pytest.mark.usefixtures("forked_copier")
def test_killed_half_way_it_is_not_taken_for_done(service: Service) -> None:
    before = everything(service)
    if (pid := os.fork()) == 0:
        workspace.shutil.copy = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[attr-defined]
        update(service.folder, NEWS)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert everything(service) != before
    assert "uncommitted changes" in service.fail(*UPDATE)
    git(service.folder, "checkout", "HEAD", ".")
    assert everything(service) == before
    assert json.loads(service.run(*CHECK, "--json").stdout)["waits"] is True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ended_while_it_merges(service: Service, how: signal.Signals) -> None:
    before = everything(service)
    process = service.start(*UPDATE)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("Updating to"):
        pass
    process.send_signal(how)
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr == f"{template_cli.INTERRUPTED}\n"
    assert everything(service) == before


def test_no_secret_of_the_templates_url_is_shown(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://robot:hidden-token@127.0.0.1:{server.getsockname()[1]}/template.git"
    address(service, url)
    message = service.fail(*CHECK)
    assert "hidden-token" not in message
    assert "127.0.0.1" in message
    assert "_src_path" in message
    assert without_login("https://robot:a/b@host/t.git") == "https://host/t.git"
    assert without_login("https://robot:a@b@host/t.git") == "https://host/t.git"
    assert (
        without_login("fatal: https://robot:hidden@host/t.git, ssh://git@host")
        == "fatal: https://host/t.git, ssh://host"
    )


class GitServer(BaseHTTPRequestHandler):
    """Git over HTTP for a user with a password, which looks at the command lines of all processes at each request."""

    folder: Path
    login: str
    secret: str
    seen: list[str]

    def do_GET(self) -> None:
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                self.seen += [command for command in [file.read_text()] if self.secret in command]
        expected = f"Basic {b64encode(self.login.encode()).decode()}"
        if self.headers["Authorization"] != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        variables = {
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers["Content-Type"] or "",
            "HTTP_CONTENT_ENCODING": self.headers["Content-Encoding"] or "",
            "GIT_PROTOCOL": self.headers["Git-Protocol"] or "",
        }
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        command = ["git", "http-backend"]
        answer = subprocess.run(command, input=body, env=bare_environment(**variables), capture_output=True, check=True)
        headers, _, content = answer.stdout.partition(b"\r\n\r\n")
        self.wfile.write(b"HTTP/1.0 200 OK\r\n" + headers + b"\r\n\r\n" + content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.mark.parametrize(
    ("login", "expected"),
    [("robot:{}%2F", "robot:{}/"), ("{}", "{}:"), ("robot", "robot:{}")],
    ids=["password", "token", "store"],
)
def test_the_login_of_the_templates_url_stands_in_no_command_line(
    service: Service, later: Path, tmp_path: Path, login: str, expected: str
) -> None:
    secret, seen = uuid4().hex, list[str]()
    variables = {"folder": later.parent, "login": expected.format(secret), "secret": secret, "seen": seen}
    handler, store = type("Handler", (GitServer,), variables), tmp_path / "store"
    service.environment |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper"}
    service.environment |= {"GIT_CONFIG_VALUE_0": f"store --file={store}"}
    service.environment |= {"GIT_TRACE": str(tmp_path / "trace"), "COPIER_CACHE_DIR": str(tmp_path / "cache")}
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{login.format(secret)}@127.0.0.1:{server.server_port}/{later.name}"
        store.write_text(f"http://robot:{secret}@127.0.0.1:{server.server_port}\n")  # the URL wins over it
        address(service, url)
        edit_dropped(service)
        output = service.run(*CHECK, "--json").stdout
        assert json.loads(output)["waits"] is True
        if "%" in login:
            process = service.run(*UPDATE)
            assert ".dockerignore: the template no longer has" in process.stderr
            output += process.stdout + process.stderr
            assert "# later" in service.folder.joinpath("database.py").read_text()
            assert f"_src_path: {url}\n" in service.folder.joinpath(".copier-answers.yml").read_text()
        server.shutdown()
    trace = (tmp_path / "trace").read_text()
    assert "ls-remote" in trace
    assert secret not in "".join([*seen, trace, output])
    assert not [file for file in (tmp_path / "cache").rglob("config") if secret in file.read_text()]


MOVE = "sed -i.before 's#^_src_path:.*#_src_path: ADDRESS#' .copier-answers.yml"


def address(service: Service, source: Path | str) -> None:
    """Write the new address of the template into the answers, by the command that the message names."""
    service.succeed("bash", "-euc", MOVE.replace("ADDRESS", str(source)))
    service.folder.joinpath(".copier-answers.yml.before").unlink()
    commit(service.folder)


@pytest.mark.parametrize("kind", ["", "file://"])
def test_a_template_that_has_moved(service: Service, later: Path, tmp_path: Path, kind: str) -> None:
    service.environment["COPIER_CACHE_DIR"] = str(tmp_path / "cache")
    gone = f"{kind}{tmp_path / 'gone.git'}"
    address(service, gone)
    message = service.fail(*(CHECK if kind else UPDATE))
    assert gone in message
    assert MOVE in message
    address(service, f"{kind}{later}")
    edit_dropped(service)
    if not kind:
        assert service.run(*CHECK).returncode == 10
        return
    service.run(*UPDATE)
    assert "# later" in service.folder.joinpath("database.py").read_text()
    assert f"_src_path: {kind}{later}\n" in service.folder.joinpath(".copier-answers.yml").read_text()


def test_a_template_without_a_release(toy: Releases, tmp_path: Path) -> None:
    """Not even one that has moved on."""
    template = tmp_path / "template.git"
    git(tmp_path, "clone", "--quiet", "--no-tags", str(toy.template), str(template))
    service = toy.service(tmp_path / "orders", NEXT)
    service.succeed(
        "copier", "copy", "--defaults", "--overwrite", "--quiet", "--data=service_name=orders", str(template), "."
    )
    commit(service.folder)
    for command in (CHECK, UPDATE):
        message = service.fail(*command, kind=TemplateError)
        assert f"{template} has no release" in message
        assert "pdm run tag-releases" in message
        commit(template, "later")


@pytest.mark.parametrize(
    ("described", "current", "waits"),
    [
        (NEXT, NEXT, True),
        (f"{NEXT}-3-gabcdef0", f"{NEXT}.post3", True),
        (LATER, LATER, False),
        (f"{LATER}-1-gabcdef0", f"{LATER}.post1", False),
        ("abcdef0", "0", True),
        ("1234567", "0", True),
    ],
)
def test_a_release_waits_for_older_commits(
    service: Service, later: Path, monkeypatch: pytest.MonkeyPatch, described: str, current: str, waits: bool
) -> None:
    """As Copier orders versions, and finds a template at home."""
    monkeypatch.setenv("HOME", str(later.parent))
    answers = service.folder / ".copier-answers.yml"
    change(answers, str(later.parent), "~")
    change(answers, f"_commit: {NEXT}", f"_commit: {described}")
    news = read_news(service.folder)
    assert (news.current, news.latest, news.waits) == (current, LATER, waits)
    assert bool(news.releases) is waits


def test_without_answers_or_a_repository(service: Service) -> None:
    answers = service.folder / ".copier-answers.yml"
    text = answers.read_text()
    answers.unlink()
    assert service.fail(*CHECK).endswith("git checkout HEAD -- .copier-answers.yml")
    answers.write_text(text)
    shutil.rmtree(service.folder / ".git")
    assert service.fail(*UPDATE).splitlines()[-1].startswith("git init && ")


def test_releases_that_can_not_be_read(toy: Releases, tmp_path: Path) -> None:
    template = toy.with_later(tmp_path / "template.git", lambda _: None)
    service = toy.service(tmp_path / "orders", NEXT, template=template)
    for broken in ("[[release", "[[release]]\n", '[[release]]\nversion = "next"\n', 'release = "x"\n'):
        (template / "RELEASES.toml").write_text(broken)
        commit(template)
        with pytest.raises(TemplateError, match=r"RELEASES\.toml of the template can't be read"):
            read_news(service.folder)


def test_without_git(service: Service) -> None:
    python = str(bare_python(service.folder.parent / "bare"))
    assert service.fail(python, *CHECK[1:], path="/nowhere").startswith("An update needs git")


def test_what_is_not_merged_is_reported(service: Service) -> None:
    """As after `copier update --conflict rej`; files that git ignores do not count."""
    service.folder.joinpath("config.py.rej").write_text("x")
    service.folder.joinpath(".gitignore").write_text("cache/\n")
    service.folder.joinpath("cache").mkdir()
    service.folder.joinpath("cache", "a.rej").write_text("x")
    service.folder.joinpath("data.rej").write_text("what radio stations refused")
    service.folder.joinpath("mail.txt").write_text(">>>>>>> quoted\n")
    (conflict,) = unsolved(service.folder)
    assert conflict.startswith("config.py.rej: ")
    assert conflict in service.run(*UPDATE).stderr


def test_a_service_may_have_any_module_at_its_root(service: Service) -> None:
    service.folder.joinpath("plumbum.py").write_text("raise RuntimeError")
    service.folder.joinpath("config.py").write_text("<<<<<<< before updating\n")
    assert service.run(*CHECK).returncode == 10, "Copier has its own, and settings are not needed"


def test_a_release_without_its_tag_is_the_maintainers_to_mend(toy: Releases, tmp_path: Path) -> None:
    """The meaning is found by a part of Copier's text."""
    template = toy.with_later(tmp_path / "template.git", lambda _: None)
    service = toy.service(tmp_path / "orders", NEXT, template=template)
    git(template, "tag", "--delete", NEXT)
    assert "pdm run tag-releases" in service.fail(*UPDATE, kind=TemplateError)
    assert state(service) == ""


def test_an_address_without_a_repository_is_named(service: Service, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    address(service, tmp_path / "folder")
    assert f"'{tmp_path / 'folder'}' does not appear to be a git repository" in service.fail(*CHECK, kind=TemplateError)

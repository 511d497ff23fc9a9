"""Questions on a terminal, and the arguments of scripts."""

import os
import pty
import re
import signal

import pytest
from sqlalchemy import URL

from safe_migrations.errors import NotConfirmedError
from support import Service, fetch
from warm_python import warm_path

REVISION = ("safe-migrations", "revision", "call names titles")
CURRENT = "SELECT version_num FROM alembic_version"
INTERRUPTED = 128 + signal.SIGINT


def typed(service: Service, *command: str, keys: str) -> tuple[int, str]:
    """Run a command on a terminal, on which these keys are typed; its exit status, and what it prints there."""
    terminal, service.stdin = pty.openpty()
    try:
        process = service.start(*command)
        os.write(terminal, keys.removesuffix("^C").encode())
        if keys.endswith("^C"):
            assert process.stderr is not None
            while process.stderr.read(1) != "?":  # it asks
                pass
            process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=60)
        return process.wait(), printed
    finally:
        os.close(terminal)
        os.close(service.stdin)


def change_models(service: Service, old: str, new: str) -> None:
    models = service.folder / "models_db.py"
    text = models.read_text()
    assert text.count(old) == 1
    models.write_text(text.replace(old, new))


@pytest.mark.parametrize(("keys", "status"), [("\x04", NotConfirmedError.exit_status), ("^C", INTERRUPTED)])
def test_no_answer_writes_nothing(at_head: Service, keys: str, status: int) -> None:
    change_models(at_head, "    name: Mapped[str]", "    title: Mapped[str]")
    files = sorted(at_head.folder.rglob("*.py"))
    ended, printed = typed(at_head, *REVISION, keys=keys)
    assert (ended, "Traceback" in printed) == (status, False), printed
    assert sorted(at_head.folder.rglob("*.py")) == files


def test_each_pair_is_asked_until_one_is_a_rename(at_head: Service, database: URL) -> None:
    change_models(
        at_head, "    name: Mapped[str]", "    title: Mapped[str]\n    size: Mapped[int]\n    label: Mapped[str]"
    )
    fetch(database, "INSERT INTO item (name) VALUES ('chair')")
    status, printed = typed(at_head, *REVISION, keys="n\ny\n3\n1\nlarge\n1\n7\n")
    assert status == 0, printed
    assert re.findall(r"Was (.*?)\? \[y/N\]", printed) == [
        "item.name renamed to item.title",
        "item.name renamed to item.label",
    ]
    folder = at_head.folder / "alembic" / "backfills"
    assert 'rows.c["name"]' in (folder / "item_label.py").read_text()
    assert "'7'" in (folder / "item_size.py").read_text()
    assert "values={}" in (folder / "item_title.py").read_text()


def test_scripts_take_arguments(at_head: Service, database: URL) -> None:
    def pdm_run(*command: str) -> str:
        return at_head.succeed("pdm", "run", *command, path=warm_path())

    for script in ("migrate-upgrade", "migrate-downgrade", "migrate-revision", "migrate-merge"):
        assert "usage:" in pdm_run(script, "--help")
    at_head.add_revision("second", "pass")
    first, second = at_head.add_revision("third", "pass"), at_head.add_revision("fourth", "pass")
    for arguments, revision in [
        (("migrate-upgrade", first), first),
        (("migrate-upgrade",), second),
        (("migrate-downgrade", "-2"), "0002_second"),
        (("migrate-upgrade", "+1"), first),
        (("migrate-downgrade",), "0002_second"),
    ]:
        pdm_run(*arguments)
        assert fetch(database, CURRENT) == [(revision,)]
    at_head.environment["PDM_RUN_CWD"] = str(at_head.folder)
    assert "\npdm run alembic upgrade head\n" in at_head.run("safe-migrations", "state").stdout
    assert at_head.run("safe-migrations", "preview").stderr.endswith("\npdm run alembic upgrade head\n")
    assert pdm_run("db-shell", "-At", "-c", CURRENT) == "0002_second\n"

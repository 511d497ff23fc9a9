"""`MIGRATION_LOG_FORMAT=json`: each line of a log is a JSON object, in each command and however it ends."""

import json
import logging
import sys
import warnings
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from alembic import command
from sqlalchemy import URL

from alembic_in_process import Inside
from lock_holder import holding
from safe_migrations import errors, logs
from safe_migrations.backfill.progress import Progress
from safe_migrations.postgres.catalog import Session
from safe_migrations.postgres.timeouts import ReportTimer
from support import Service

LOCKS_ITEM = "op.execute('LOCK TABLE item')"


def lines(text: str) -> list[Any]:
    """The objects of a log."""
    objects = [json.loads(line) for line in text.splitlines()]
    for line in objects:
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
        assert line.keys() >= {"level", "logger", "message"}
    return objects


def ended(service: Service, *command: str, status: int = 0) -> list[Any]:
    """The log of a command, after which nothing else is on standard error."""
    process = service.run(*command)
    assert process.returncode == status, process
    return lines(process.stderr)


@pytest.fixture
def service(service: Service) -> Service:
    service.environment["MIGRATION_LOG_FORMAT"] = "json"
    return service


def test_what_runs_waits_and_blocks(at_head: Service, database: URL) -> None:
    at_head.add_revision("add_a_size", LOCKS_ITEM, declarations='phase = "expand"')
    at_head.environment |= {"MIGRATION_LOCK_TIMEOUT": "100ms", "MIGRATION_RETRY_WINDOW": "2s"}
    with holding(database, "SELECT * FROM item") as pid:
        *waiting, error = ended(at_head, "alembic", "upgrade", "head", status=errors.LockedError.exit_status)
    assert (error["kind"], error["exit_status"], error["level"]) == ("LockedError", 13, "ERROR")
    tries = [line for line in waiting if line["level"] == "WARNING"]
    assert tries
    for line in tries:
        assert (line["revision"], line["phase"]) == ("0002_add_a_size", "expand")
        assert 0 < line["seconds"] < 60
        (blocker,) = line["blockers"]
        assert (blocker["pid"], blocker["application"]) == (pid, "report")
        assert blocker["seconds"] >= 0

    process = at_head.run("safe-migrations", "deploy", "--without-backup")
    assert process.returncode == 0, process
    assert any("Verified" in line["message"] for line in lines(process.stdout))
    running, applied = lines(process.stderr)
    assert running["logger"] == "alembic.runtime.migration"
    for line in (running, applied):
        assert (line["revision"], line["phase"]) == ("0002_add_a_size", "expand")
    assert applied["seconds"] >= 0


def test_steps_and_warnings(at_head: Service) -> None:
    body = """
        import logging, uuid, warnings
        logging.getLogger("own").warning("own", extra={"total": uuid.UUID(int=7)})
        if op.step("the column"):
            op.execute("SELECT 1")
        if op.step("the rest"):
            warnings.warn("two\\nlines")
            op.execute("SELECT 1 / 0")
    """
    at_head.add_revision("in_steps", body)
    log = ended(at_head, "alembic", "upgrade", "head", status=errors.RevisionError.exit_status)
    assert [line["kind"] for line in log if "two\nlines" in line["message"]] == ["UserWarning"]
    assert (log[-1]["kind"], log[-1]["exit_status"]) == ("RevisionError", 15)
    for words in (("safe-migrations", "lint"), ("safe-migrations", "report")):  # without and with env.py
        log += lines(at_head.run(*words).stderr)
    assert len([line for line in log if line["message"] == "own" and line["total"].endswith("7")]) >= 3


def test_each_end_of_a_command(service: Service, database: URL) -> None:
    words: tuple[str, ...]
    for words in (("alembic", "upgrade", "head"), ("safe-migrations", "wait", "--timeout", "0")):
        service.configure(database.set(port=1, password="sec%ret"))
        (error,) = ended(service, *words, status=errors.ConnectionFailedError.exit_status)
        assert error["kind"] == "ConnectionFailedError"
        assert "sec" not in error["message"]

    service.configure(database)
    (error,) = ended(service, "safe-migrations", "wait", "--timeout", "0", status=3)
    assert error["kind"] == "RefusedError"
    (error,) = ended(service, "safe-migrations", "backfill", "missing", status=errors.BackfillError.exit_status)
    assert error["kind"] == "BackfillError"

    models = service.folder / "models_db.py"
    text = models.read_text()
    models.write_text(f"{text}\nItem.missing.desc()\n")
    for words in (("alembic", "current"), ("safe-migrations", "state")):
        log = ended(service, *words, status=1)
        assert (log[-1]["kind"], log[-1]["level"]) == ("AttributeError", "CRITICAL"), "a crash"
        assert "Item.missing" in log[-1]["traceback"]
    models.write_text(text.replace("__tablename__", "tablename"))
    (error,) = ended(service, "alembic", "current", status=errors.ModelError.exit_status)
    assert error["kind"] == "ModelError"


def test_an_unknown_format_is_refused(service: Service) -> None:
    service.environment["MIGRATION_LOG_FORMAT"] = "xml"
    for words in (
        ("alembic", "upgrade", "head"),
        ("safe-migrations", "deploy"),
        ("safe-migrations", "wait"),
        ("safe-migrations", "state", "--quick"),
    ):
        assert "MIGRATION_LOG_FORMAT is 'xml'" in service.fail(*words, kind=errors.ConfigurationError)


def test_from_a_file_and_in_words(service: Service) -> None:
    del service.environment["MIGRATION_LOG_FORMAT"]
    (service.folder / ".env").write_text("MIGRATION_LOG_FORMAT=json\n")
    assert ended(service, "alembic", "upgrade", "head")
    service.environment["MIGRATION_LOG_FORMAT"] = "text"
    assert service.run("alembic", "upgrade", "head").stderr.startswith("INFO ")


def test_progress_of_a_backfill(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((logs, "_uses_json"), (sys, "excepthook"), (warnings, "showwarning")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(logging.lastResort, "formatter", None)
    logs.use_format({"MIGRATION_LOG_FORMAT": "json"})
    stream = StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    progress = Progress("item_sku", stream, 1000, 4000, _timer=ReportTimer(0))
    progress.show(3000)
    progress.wait("waiting for a lock", [Session(7, "app", "report", "active", 2.5, "SELECT ?", None, None)])
    progress.clear()
    shown, waiting = lines(stream.getvalue())
    assert (shown["backfill"], shown["rows"], shown["total"]) == ("item_sku", 3000, 4000)
    (blocker,) = waiting["blockers"]
    assert waiting["backfill"] == "item_sku"
    assert (blocker["pid"], blocker["application"], blocker["seconds"]) == (7, "report", 2.5)


def test_the_log_of_an_application_that_calls_alembic_stays_as_it_is(
    service: Service, database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRATION_LOG_FORMAT", "json")
    inside = Inside(service, database)
    handler = logging.StreamHandler()
    monkeypatch.setattr(logging.root, "handlers", [handler])
    inside.write_models("")
    inside.alembic(command.history)
    assert handler.formatter is None
    assert not logs.uses_json()

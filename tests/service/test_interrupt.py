"""SIGTERM ends a command that a shell script has started with `&`, and for which the shell ignores SIGINT."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import URL

from plain_project import PlainProject


def test_sigterm_where_ctrl_c_is_ignored(tmp_path: Path, database: URL) -> None:
    project = PlainProject(tmp_path, database)
    waiting = f"import time\nopen({str(tmp_path / 'runs')!r}, 'w').close()\ntime.sleep(30)\n"
    (tmp_path / "migrations" / "env.py").write_text(
        f"from safe_migrations import run_env\n\n\ndef url():\n    {waiting.replace(chr(10), chr(10) + '    ')}\n"
        "run_env(target_metadata=None, database_url=url)\n"
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process inherits it
    try:
        process = subprocess.Popen([sys.executable, "-m", "alembic", "upgrade", "head"], cwd=project.folder)
    finally:
        signal.signal(signal.SIGINT, before)
    while not (tmp_path / "runs").exists() and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=20) == 130

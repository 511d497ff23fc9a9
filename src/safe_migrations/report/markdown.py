"""A report as Markdown, for GitHub and GitLab.

Names and messages come from revision files, whose authors may be strangers: in code alone, no text is a link, HTML, a
mention of somebody, or a quick action of GitLab.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from textwrap import indent, wrap

from alembic.script import Script

from safe_migrations.backfill.definition import backfill_command, required_backfills
from safe_migrations.command_line import WIDTH
from safe_migrations.lint.findings import as_text
from safe_migrations.lint.locked_statements import locked_statements
from safe_migrations.lint.revision import Revision
from safe_migrations.operate.rehearsal_table import HEADER, rows
from safe_migrations.operate.rehearse import Rehearsed
from safe_migrations.postgres.statement_locks import NONE
from safe_migrations.printable import printable
from safe_migrations.report.collect import MigrationReport
from safe_migrations.upgrade.phases import CONTRACT, EXPAND, phase_of, unacknowledged
from safe_migrations.upgrade.revision_names import number_and_message

LIMIT = 500_000  # characters; GitHub takes a mebibyte, GitLab a million characters
_ON_COPY = "on a copy of the database, without other sessions"
_WITH_ROWS = "on an empty database with up to a hundred generated rows in each table: the seconds are no forecast"


def as_markdown(report: MigrationReport) -> str:
    """The report; a very long one without the SQL of the revisions."""
    text = "\n\n".join(_sections(report, with_sql=True))
    return text if len(text) <= LIMIT else "\n\n".join(_sections(report, with_sql=False))


def _sections(report: MigrationReport, *, with_sql: bool) -> Iterator[str]:
    yield f"## Migrations of {_code(report.service)}"
    if report.revisions:
        yield "\n".join(f"{number}. {line}" for number, line in enumerate(_order(report.revisions), 1))
    else:
        yield f"No revision is {'pending' if report.on_copy else 'new'}."
    if report.revisions or report.findings:
        lint = as_text(report.findings, [Path(script.path) for script in report.revisions])
        yield f"### Lint\n\n{_block(lint) if report.findings else lint}"
    if report.not_allowed:
        yield f"### Not allowed in this phase\n\n{_block(chr(10).join(report.not_allowed))}"
    if report.rehearsed:
        where = _ON_COPY if report.on_copy else _WITH_ROWS
        yield f"### Rehearsal\n\nThe revisions ran {where}.\n\n{_table(report.rehearsed)}"
    if report.failure is not None:
        yield f"### The rehearsal failed\n\n{_block(str(report.failure))}"
    if not with_sql:
        yield "The SQL of the revisions is left out, because the report would be too long."
    for script in report.revisions:
        yield from _revision(script, with_sql=with_sql)


def _order(revisions: Iterable[Script]) -> Iterator[str]:
    """What to deploy when."""
    phase = EXPAND
    for phase, scripts in groupby(revisions, lambda script: phase_of(script) or EXPAND):
        group = list(scripts)
        names = ", ".join(_code(number_and_message(script)) for script in group)
        if phase == CONTRACT:
            yield "Deploy the new code."
            if backfills := dict.fromkeys(name for script in group for name in required_backfills(script)):
                commands = ", ".join(_code(backfill_command(name)) for name in backfills)
                yield f"Backfill, while the new code runs: {commands}"
            yield f"Contract, when the new code runs everywhere (`safe-migrations deploy --contract`): {names}"
        else:
            yield f"Expand, before the new code is deployed (`safe-migrations deploy`): {names}"
    if phase != CONTRACT:
        yield "Deploy the new code."


def _table(rehearsed: Iterable[Rehearsed]) -> str:
    header = [title for title in HEADER if title]  # without the bar
    lines = [_row(header), _row("---" for _ in header)]
    for result in rehearsed:
        for before, _, after in rows(result):
            name, seconds, lock, held, *tables = *before, *after
            indentation = "&emsp;" if name.startswith(" ") else ""
            lines.append(_row([indentation + _code(name.strip()), seconds, _cell(lock), held, *map(_cell, tables)]))
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text if text == "-" else _code(text)


def _revision(script: Script, *, with_sql: bool) -> Iterator[str]:
    yield f"### {_code(number_and_message(script))}"
    facts = [f"File: {_code(os.path.relpath(script.path))}", f"Phase: {phase_of(script) or EXPAND}"]
    if acknowledged := getattr(script.module, "acknowledged", None):
        facts.append(f"Acknowledged: {_code(str(acknowledged))}")
    if request := unacknowledged(script):
        facts.append(f"**To acknowledge:** {_code(request[1])}")
    if backfills := required_backfills(script):
        facts.append(f"Needs the backfills: {', '.join(map(_code, backfills))}")
    yield "\n".join(f"- {fact}" for fact in facts)
    if with_sql and (sql := _sql(script)):
        yield f"<details><summary>SQL</summary>\n\n{_block(sql, 'sql')}\n\n</details>"


def _sql(script: Script) -> str:
    """The statements of a revision, with the lock of each on a table in use, and the names of the steps."""
    parts: list[str] = []
    for step, statements in groupby(locked_statements(Revision(script)), lambda statement: statement.step):
        parts += [f"-- step: {printable(step)}"] if step else []
        for statement in statements:
            parts.append(("" if statement.lock.mode == NONE else f"-- {statement.lock}\n") + statement.sql)
    return "\n".join(parts)


def _code(text: str) -> str:
    """A text as code on one line, also in a table."""
    text = printable(text)
    if not set("`|\\") & set(text):
        return f"`{text}`"
    escaped = (letter if letter.isalnum() or letter == " " else f"&#{ord(letter)};" for letter in text)
    return f"<code>{''.join(escaped)}</code>"


def _block(text: str, language: str = "text") -> str:
    """A text as a block of code, which no line of the text can end; prose is wrapped."""
    lines = [line for long in text.splitlines() for line in _wrapped(long)] if language == "text" else [text]
    fence = "`" * max(3, *(len(run) + 1 for run in ["", *re.findall("`+", text)]))
    return "\n".join([f"{fence}{language}", *lines, fence])


def _wrapped(line: str) -> Sequence[str]:
    before = " " * (len(line) - len(line.lstrip()))
    return [indent(part, before) for part in wrap(line.strip(), WIDTH, break_on_hyphens=False)] or [""]

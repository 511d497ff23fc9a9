"""`fleet update`: the newest release of the template in each service, without losing an edit."""

import asyncio
import os
import shlex
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safe_migrations.errors import MigrationError
from safe_migrations.fleet.processes import INTERRUPTED_STATUS, Jobs, Outcome
from safe_migrations.fleet.results import shown, summary
from safe_migrations.fleet.services import Member
from safe_migrations.history.git import git
from safe_migrations.template import update as template_update
from safe_migrations.template.commands import INTERRUPTED
from safe_migrations.template.releases import ANSWERS, News, read_answers, read_news

UP_TO_DATE = "up to date"


def run(members: Sequence[Member], jobs: Jobs, branch: str | None, *, checks: bool) -> int:
    """Update services, and print the results.

    Args:
        branch: where to commit the updates; None to commit nothing.

    Returns:
        The exit status.
    """
    template_update.refuse_without_git()
    work = Updates(jobs, branch, checks=checks)
    with shown("Updating", len(members)) as ended:
        outcomes = jobs.in_each(members, work.update, ended)
    others = [outcome for outcome in outcomes if not outcome.result.startswith(UP_TO_DATE)]
    if others:
        print(summary(others))
    print(f"{len(outcomes) - len(others)} of {len(outcomes)} services were up to date.")
    if branch is not None and work.repositories:
        names = shlex.join(sorted(work.repositories.values()))
        print(
            f'\nTo push the branch:\nfor folder in {names}; do git -C "$folder" push origin {shlex.quote(branch)}; done'
        )
    return jobs.exit_status(outcomes)


class Updates:
    """The updates of many services.

    Copier merges outside the services' folders, at the same time. Services of one repository write one after the other,
    because git has one index and one branch there.

    Attributes:
        repositories: where commits were made: the path of a service, by the repository's folder.
    """

    def __init__(self, jobs: Jobs, branch: str | None, *, checks: bool) -> None:
        self._jobs = jobs
        self._branch = branch
        self._checks = checks
        self.repositories: dict[str, str] = {}
        self._news: dict[tuple[str, str], asyncio.Task[News]] = {}
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    async def update(self, member: Member) -> Outcome:
        """Update one service, which is then complete or untouched, also after an interrupt."""
        begin = time.monotonic()
        if not os.path.exists(member.folder / ANSWERS):
            if member.problem:
                return Outcome(member, member.problem.exit_status, str(member.problem), result="can't be read")
            return Outcome(member, 0, result=f"not made from a template: there is no {ANSWERS}")
        try:
            outcome = await self._update(member)
        except MigrationError as error:
            reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".:")
            outcome = Outcome(member, error.exit_status, str(error), result=f"refused: {reason}")
            if self._jobs.interrupted:  # which has ended git or Copier
                outcome = Outcome(member, INTERRUPTED_STATUS, INTERRUPTED)
        return replace(outcome, seconds=time.monotonic() - begin)

    async def _update(self, member: Member) -> Outcome:
        await asyncio.to_thread(template_update.refuse_unfinished, member.folder)
        news = await self._read_news(member.folder)
        if not news.waits:
            return Outcome(member, 0, result=f"{UP_TO_DATE}: {news.latest}")
        work = await asyncio.to_thread(self._write, member.folder, news)
        arrived = f"{news.current} → {news.latest}"
        try:
            work.refuse_undecided()
        except MigrationError as error:
            files = ", ".join(dict.fromkeys(sentence.partition(": ")[0] for sentence in work.to_decide))
            return Outcome(member, error.exit_status, str(error), result=f"updated, {arrived}, to decide: {files}")
        for command in self._commands(member.folder, work):
            outcome = await self._run_after(member, command)
            if outcome.exit_status:
                ended = "check interrupted" if self._jobs.interrupted else "check failed"
                return replace(outcome, result=f"updated, {arrived}, {ended}: {' '.join(command)}")
        if self._branch is None:
            return Outcome(member, 0, result=f"updated, {arrived}")
        try:
            await asyncio.to_thread(self._commit, member, f"Update from the template to {news.latest}")
        except MigrationError as error:
            return Outcome(member, error.exit_status, str(error), result=f"updated, {arrived}, but not committed")
        return Outcome(member, 0, result=f"updated, {arrived}, committed to {self._branch}")

    async def _read_news(self, folder: Path) -> News:
        """The news, read once for all services that have the same release of the same template."""
        answers = read_answers(folder)
        key = str(answers["_src_path"]), str(answers["_commit"])
        if key not in self._news:
            self._news[key] = asyncio.create_task(asyncio.to_thread(read_news, folder))
        return await self._news[key]

    def _write(self, folder: Path, news: News) -> template_update.Update:
        if self._jobs.interrupted:
            raise MigrationError(INTERRUPTED)
        return template_update.update(folder, news, writing=self._writing(folder))

    @contextmanager
    def _writing(self, folder: Path) -> Iterator[None]:
        """Alone in the repository, and on the branch."""
        with self._alone(folder):
            if self._jobs.interrupted:
                raise MigrationError(INTERRUPTED)
            if self._branch is not None and _branch(folder) != self._branch:
                git(folder, "switch", "--quiet", "--create", self._branch)
            yield

    @contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        """Alone in the repository; programs that this thread starts get no Ctrl-C, or they would end half-way."""
        with self._lock(folder):
            if not hasattr(signal, "pthread_sigmask"):  # Windows
                yield
                return
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _commands(self, folder: Path, work: template_update.Update) -> Sequence[Sequence[str]]:
        """The service's checks; without them what the branch needs before its CI can install: the lock file."""
        install = "pyproject.toml" in work.files
        if self._checks:
            return template_update.check_commands(install=install)
        return [template_update.LOCK] if install and folder.joinpath("pdm.lock").exists() else []

    async def _run_after(self, member: Member, command: Sequence[str]) -> Outcome:
        """Run a check; one that installs into an environment that services may share, alone in the repository."""
        if command[1] == "run":
            return await self._jobs.run(member, *command)
        lock = await asyncio.to_thread(self._lock, member.folder)
        await asyncio.to_thread(lock.acquire)
        try:
            return await self._jobs.run(member, *command)
        finally:
            lock.release()

    def _commit(self, member: Member, message: str) -> None:
        with self._alone(member.folder):
            git(member.folder, "add", "--all", "--", ".")
            git(member.folder, "commit", "--quiet", "--message", message, "--", ".")
        self.repositories.setdefault(_repository(member.folder), member.path)

    def _lock(self, folder: Path) -> threading.Lock:
        return self._locks[_repository(folder)]


def _repository(folder: Path) -> str:
    return os.fsdecode(git(folder, "rev-parse", "--path-format=absolute", "--git-common-dir"))


def _branch(folder: Path) -> str:
    """The branch that is checked out; empty if it is none."""
    return os.fsdecode(git(folder, "symbolic-ref", "--quiet", "--short", "HEAD", may_fail=True)).strip()

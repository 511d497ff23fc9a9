"""What lint finds: for people, for machines, and as GitHub's annotations."""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        name: as it stands in output and in `# safe: NAME because …`.
        hurts: which lock, and what that or the change itself does to whom.
        instead: the safe code; prose only where there is no code.
        by_acknowledged: whether the revision's `acknowledged = "…"` agrees to it, too.
    """

    name: str
    hurts: str
    instead: str
    by_acknowledged: bool = False


@dataclass(frozen=True)
class Finding:
    """A place in a revision where a rule is broken.

    Attributes:
        path: the file.
        line: from 1.
        rule: the rule that is broken.
        what: what it is about, such as a table; empty where the line alone tells it.
        shown: lines that show it, such as a difference.
    """

    path: Path
    line: int
    rule: Rule
    what: str = ""
    shown: str = ""

    @property
    def why(self) -> str:
        """What it is about, and why it hurts; on the lines that follow, what shows it."""
        why = f"{self.what}: {self.rule.hurts}" if self.what else self.rule.hurts
        return f"{why}\n{self.shown}" if self.shown else why


def as_text(findings: Sequence[Finding], revisions: Collection[Path]) -> str:
    """For people: a place, why it hurts, what to write instead; at the end a summary.

    Args:
        findings: in the order in which they are to be shown.
        revisions: the files that were read.
    """
    parts = []
    for finding in findings:
        place = f"{os.path.relpath(finding.path)}:{finding.line}"
        why, code = finding.why.replace("\n", "\n    "), indent(finding.rule.instead, "        ")
        parts.append(f"{place}: {finding.rule.name}: {why}\n    instead:\n{code}\n")
    return "\n".join([*parts, _summary(findings, revisions)])


def as_json(findings: Iterable[Finding]) -> str:
    """For machines: a list of objects.

    Args:
        findings: in the order in which they are to be shown.
    """
    rows = [
        {
            "file": os.path.relpath(each.path),
            "line": each.line,
            "rule": each.rule.name,
            "why": each.why,
            "instead": each.rule.instead,
        }
        for each in findings
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_github(findings: Iterable[Finding]) -> Iterator[str]:
    """Annotations of GitHub Actions, which wants paths from the repository's root.

    See https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#setting-an-error-message

    Args:
        findings: in the order in which they are to be shown.
    """
    for finding in findings:
        path = finding.path.resolve()
        root = next((folder for folder in path.parents if (folder / ".git").exists()), Path.cwd())
        message = _escaped(f"{finding.why}\ninstead:\n{indent(finding.rule.instead, '    ')}")
        file = _escaped(Path(os.path.relpath(path, root)).as_posix(), ":,")
        yield f"::error file={file},line={finding.line},title={finding.rule.name}::{message}"


def _summary(findings: Sequence[Finding], revisions: Collection[Path]) -> str:
    files = {finding.path for finding in findings}
    others = sorted(path.name for path in files.difference(revisions))
    if not findings:
        return f"{_counted(len(revisions), 'revision')}, no findings"
    inside = len(files) - len(others)
    places = [*([f"{inside} of {_counted(len(revisions), 'revision')}"] if inside else []), *others]
    return f"{_counted(len(findings), 'finding')} in {', '.join(places)}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _escaped(text: str, more: str = "") -> str:
    """As GitHub wants it: percent signs first, then the ends of lines, then what separates properties."""
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text

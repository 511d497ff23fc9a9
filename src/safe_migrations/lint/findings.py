"""The findings of lint, and their output as text, as JSON, and as annotations of GitHub Actions."""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from safe_migrations.lint.registry import Rule
from safe_migrations.printable import counted


@dataclass(frozen=True)
class Finding:
    """A place in a revision where a rule is broken.

    Attributes:
        path: the file.
        line: from 1.
        rule: the rule that is broken.
        what: its subject, such as a table; empty where the line alone shows it.
        shown: lines that show it, such as a difference.
    """

    path: Path
    line: int
    rule: Rule
    what: str = ""
    shown: str = ""

    @property
    def why(self) -> str:
        """Its subject, and why the rule exists; on the following lines, what shows it."""
        why = f"{self.what}: {self.rule.why}" if self.what else self.rule.why
        return f"{why}\n{self.shown}" if self.shown else why


def as_text(findings: Sequence[Finding], revisions: Collection[Path]) -> str:
    """The place, the reason and the safe code of each finding, and a summary."""
    parts = []
    for finding in findings:
        place = f"{os.path.relpath(finding.path)}:{finding.line}"
        why, code = finding.why.replace("\n", "\n    "), indent(finding.rule.instead, "        ")
        parts.append(f"{place}: {finding.rule.name}: {why}\n    instead:\n{code}\n")
    return "\n".join([*parts, _summary(findings, revisions)])


def explanation(rule: Rule) -> str:
    """Why a rule exists, the safe code, and how to acknowledge a finding, as text."""
    by_attribute = '\nor for the whole revision:\n    acknowledged = "…"' if rule.by_acknowledged else ""
    style = " A rule of style, which begins with the first revision written with this library." if rule.is_style else ""
    return (
        f"{rule.name}\n\n{rule.why[0].upper()}{rule.why[1:]}.{style}\n\nInstead:\n{indent(rule.instead, '    ')}\n\n"
        f"To acknowledge a finding, on its line or above it:\n    # safe: {rule.name} because …{by_attribute}"
    )


def as_json(findings: Iterable[Finding]) -> str:
    """A JSON list of objects, in the order of the findings."""
    rows = [
        {
            "file": os.path.relpath(finding.path),
            "line": finding.line,
            "rule": finding.rule.name,
            "why": finding.why,
            "instead": finding.rule.instead,
        }
        for finding in findings
    ]
    return json.dumps(rows, indent=2)


def as_github(findings: Iterable[Finding]) -> Iterator[str]:
    """Annotations of GitHub Actions, with paths relative to the repository's root.

    See https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#setting-an-error-message
    """
    for finding in findings:
        path = finding.path.resolve()
        root = next((folder for folder in path.parents if (folder / ".git").exists()), Path.cwd())
        message = _escaped(f"{finding.why}\ninstead:\n{indent(finding.rule.instead, '    ')}")
        file = _escaped(Path(os.path.relpath(path, root)).as_posix(), ":,")
        yield f"::error file={file},line={finding.line},title={finding.rule.name}::{message}"


def _summary(findings: Sequence[Finding], revisions: Collection[Path]) -> str:
    files = {finding.path for finding in findings}
    outside = sorted(path.name for path in files.difference(revisions))
    if not findings:
        return f"{counted(len(revisions), 'revision')}, no findings"
    inside = len(files) - len(outside)
    places = [*([f"{inside} of {counted(len(revisions), 'revision')}"] if inside else []), *outside]
    return f"{counted(len(findings), 'finding')} in {', '.join(places)}"


def _escaped(text: str, more: str = "") -> str:
    """Escaped for GitHub: percent signs first, then line ends, then the separators of properties."""
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text

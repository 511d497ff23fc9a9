"""The command lines of the documentation."""

import re
import shlex

from safe_migrations.cli import _parser
from support import ROOT


def test_the_commands_of_the_documentation_exist() -> None:
    text = ROOT.joinpath("docs", "how-to", "fleet.md").read_text()
    commands = re.findall(r'(?:^|= ")safe-migrations (fleet [^"\n]+)', text, re.MULTILINE)
    assert {command.split()[1] for command in commands} >= {"backfill", "deploy", "reset", "status", "update"}
    for command in commands:
        assert callable(_parser().parse_args(shlex.split(command)).function)

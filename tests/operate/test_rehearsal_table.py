"""The table of a rehearsal fits 100 columns, and the output's encoding."""

from safe_migrations.operate.rehearsal_table import as_text
from safe_migrations.operate.rehearse import Rehearsed
from safe_migrations.trace.lock_times import TracedStep

ONLINE, EXCLUSIVE = "ShareUpdateExclusiveLock", "AccessExclusiveLock"
LONG = "a_table_whose_name_has_sixty_three_characters_as_postgresql_allow"


def rehearsed(name: str, *steps: TracedStep, rewritten: tuple[str, ...] = ()) -> Rehearsed:
    seconds = sum(step.seconds for step in steps)
    return Rehearsed("abc", name, "file.py", seconds, {}, list(rewritten), {}, list(steps))


RESULTS = [
    rehearsed("0002 nothing", TracedStep(None, 0.01)),
    rehearsed(
        "0003 two steps",
        TracedStep("columns", 0.5, {"item": [ONLINE, EXCLUSIVE], "entry": [EXCLUSIVE]}, {"item": 0.25, "entry": 0.5}),
        TracedStep("index", 2.0, {"item": [ONLINE]}, {"item": 2.0}, ["item"]),
    ),
    rehearsed("0004 " + "long " * 20, TracedStep(None, 1.0, {LONG: [ONLINE]}, {LONG: 1.0}, [LONG]), rewritten=(LONG,)),
]


def test_table_has_a_row_for_each_revision_and_step() -> None:
    assert all(len(line) <= 100 for line in as_text(RESULTS, "utf-8").splitlines())
    lines = as_text(RESULTS[:2], "utf-8").splitlines()
    (nothing,) = (line for line in lines if line.startswith("0002 nothing"))
    assert nothing.split()[2:] == ["0.010", "-", "-", "-", "-"]
    (whole,) = (line for line in lines if line.startswith("0003 two steps"))
    assert "ACCESS EXCLUSIVE entry" in whole, "of two equal locks, the longer one"
    assert "0.500 s" in whole
    (index,) = (line for line in lines if line.startswith("  index"))
    assert "████████" in index, "the longest bar"
    (columns,) = (line for line in lines if line.startswith("  columns"))
    assert "██ " in columns


def test_bars_of_an_encoding_without_blocks() -> None:
    for encoding in ("ascii", "latin-1", None):
        text = as_text(RESULTS, encoding)
        text.encode("ascii")
        assert "########" in text

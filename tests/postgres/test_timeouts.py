"""The bounds of a migration, from the environment."""

import pytest

from safe_migrations.errors import ConfigurationError
from safe_migrations.postgres.timeouts import DEFAULTS, LONGEST, load_timeouts


def test_defaults() -> None:
    timeouts = load_timeouts({})
    assert (timeouts.lock_wait, timeouts.lock_timeout) == (300, 1)
    assert (timeouts.statement_timeout, timeouts.retry_window) == (900, 300)
    assert load_timeouts(dict.fromkeys(DEFAULTS, "")) == timeouts


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("300s", 300), ("5min", 300), ("1h", 3600), ("1.5 s", 1.5), (" 24h ", LONGEST)],
)
def test_durations_have_a_unit(text: str, seconds: float) -> None:
    for variable in DEFAULTS:
        timeouts = load_timeouts({variable: text})
        assert getattr(timeouts, variable.removeprefix("MIGRATION_").lower()) == seconds


@pytest.mark.parametrize("text", ["5", "s", "-1s", "1 minute", "1e3s", "25h", "5 m", "1s;", "0x1s"])
def test_anything_else_is_refused_by_name(text: str) -> None:
    for variable in DEFAULTS:
        with pytest.raises(ConfigurationError, match=f"^{variable} is .*write a number with its unit, such as 500ms"):
            load_timeouts({variable: text})


def test_zero_is_no_wait_no_bound_one_try_but_never_an_endless_lock() -> None:
    zero = {variable: "0s" for variable in DEFAULTS if variable != "MIGRATION_LOCK_TIMEOUT"}
    timeouts = load_timeouts(zero)
    assert (timeouts.lock_wait, timeouts.statement_timeout, timeouts.retry_window) == (0, 0, 0)
    for text in ("0s", "0ms", "0.4ms"):
        with pytest.raises(ConfigurationError, match="from 1ms to 24h"):
            load_timeouts({"MIGRATION_LOCK_TIMEOUT": text})


def test_the_session_gets_them_in_milliseconds() -> None:
    timeouts = load_timeouts({"MIGRATION_LOCK_TIMEOUT": "1.5s", "MIGRATION_STATEMENT_TIMEOUT": "0s"})
    assert timeouts.session_settings() == {
        "lock_timeout": "1500ms",
        "statement_timeout": "0ms",
        "idle_in_transaction_session_timeout": "0ms",
        "idle_session_timeout": "0ms",
    }
    assert timeouts.offline_settings() == {"lock_timeout": "1500ms", "statement_timeout": "0ms"}

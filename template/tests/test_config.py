"""The database's URL, and its secret password."""

from pathlib import Path

import dotenv
import pytest
from safe_migrations import ConfigurationError

from config import ENV_PREFIX, load_settings

URL = f"{ENV_PREFIX}_DATABASE_URL"


def test_environment_wins_over_file(no_configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.set_key(no_configuration, URL, "postgresql://file:secret@host/name")
    assert load_settings().database_url.username == "file"
    monkeypatch.setenv(URL, "postgresql://environment:secret@host/name")
    assert load_settings().database_url.username == "environment"


def test_migrations_may_have_a_url_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "postgresql://application@pooler/name")
    assert load_settings().migration_database_url.username == "application"
    monkeypatch.setenv(f"{ENV_PREFIX}_MIGRATION_DATABASE_URL", "postgresql://owner@host/name")
    assert load_settings().migration_database_url.username == "owner"


def test_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "postgresql://user:secret@host/name")
    assert "secret" not in f"{load_settings().database_url} {load_settings()!r}"


def test_missing_credentials_name_the_variable_and_the_file(no_configuration: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        _ = load_settings().database_url
    assert URL in str(refusal.value)
    assert str(no_configuration) in str(refusal.value)

"""Where the database's URL comes from, and that its password stays secret."""

from pathlib import Path

import dotenv
import pytest
from sqlalchemy import make_url

from config import ENV_PREFIX, PLATFORM_PREFIX, load_settings, parse_database_url
from safe_migrations.errors import ConfigurationError

URL = f"{ENV_PREFIX}_DATABASE_URL"
USER, PASSWORD = f"{PLATFORM_PREFIX}_DB_USER", f"{PLATFORM_PREFIX}_DB_PASSWORD"


@pytest.mark.parametrize("password", ["per%cent", "at@co:lon/slash#hash", "a space", "'single' \"double\"", "${NAME}"])
def test_any_password(no_configuration: Path, password: str) -> None:
    for name, value in ((USER, "somebody"), (PASSWORD, password)):
        dotenv.set_key(no_configuration, name, value)
    url = load_settings().database_url
    assert url.password == password
    assert make_url(url.render_as_string(hide_password=False)).password == password
    assert password not in f"{url} {load_settings()!r}"


def test_environment_wins_over_file_and_url_over_parts(no_configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (USER, PASSWORD):
        dotenv.set_key(no_configuration, name, "from-file")
    monkeypatch.setenv(USER, "from-environment")
    assert load_settings().database_url.username == "from-environment"
    monkeypatch.setenv(URL, "postgresql://from-url:secret@host/name")
    assert load_settings().database_url.username == "from-url"


def test_migrations_may_have_a_url_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "postgresql://application@pooler/name")
    assert load_settings().migration_database_url.username == "application"
    monkeypatch.setenv(f"{ENV_PREFIX}_MIGRATION_DATABASE_URL", "postgresql://owner@host/name")
    assert load_settings().migration_database_url.username == "owner"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_urls_as_platforms_hand_them_out(scheme: str) -> None:
    url = parse_database_url(f"{scheme}://user:secret@host/name?sslmode=require&channel_binding=require", URL)
    assert (url.drivername, dict(url.query)) == ("postgresql+asyncpg", {"ssl": "require"})


@pytest.mark.parametrize("text", ["secret", "mysql://u:secret@h/d", "postgresql://u:secret@h:port/d"])
def test_other_urls_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=URL) as refusal:
        parse_database_url(text, URL)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("text", ["u:secret@more", "u:sec@ret/more", "u:sec@ret?more", "u:s?e@more"])
def test_password_that_is_not_encoded_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encoded") as refusal:
        parse_database_url(f"postgresql://{text}@host/name", URL)
    assert "more" not in str(refusal.value)


def test_missing_credentials_name_the_variables_and_the_file(no_configuration: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        _ = load_settings().database_url
    for name in (URL, USER, PASSWORD, str(no_configuration)):
        assert name in str(refusal.value)

"""URLs as platforms hand them out, and what is said to others, without their secrets."""

import pytest

from safe_migrations import ConfigurationError, parse_database_url

VARIABLE = "ORDERS_DATABASE_URL"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_urls_as_platforms_hand_them_out(scheme: str) -> None:
    url = parse_database_url(f"{scheme}://user:secret@host/name?sslmode=require&channel_binding=require", VARIABLE)
    assert (url.drivername, dict(url.query)) == ("postgresql+asyncpg", {"ssl": "require"})


@pytest.mark.parametrize(
    "text",
    [
        *["secret", "", "mysql://u:secret@h/d", "postgresql://u:secret@h:port/d", "postgresql://u:secret@h:99999/d"],
        *["postgresql://u:secret@h/d?sslmode=maybe", "postgresql://u:secret@h/d?secret=secret&sslcertificate=file"],
    ],
)
def test_other_urls_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match=VARIABLE) as refusal:
        parse_database_url(text, VARIABLE)
    assert "u:secret" not in str(refusal.value)


@pytest.mark.parametrize("text", ["u:secret@more", "u:sec@ret/more", "u:sec@ret?more", "u:s?e@more"])
def test_password_that_is_not_encoded_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encode") as refusal:
        parse_database_url(f"postgresql://{text}@host/name", VARIABLE)
    assert "more" not in str(refusal.value)

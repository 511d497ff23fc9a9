"""Names and texts from elsewhere in messages: they must not act on a terminal, or look like a line of a command."""


def printable(text: str) -> str:
    """A text on one line, with an escape for each character that is not printable."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def counted(number: int, noun: str) -> str:
    """A number of things, such as `1 row` or `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

"""Names of Python for names of the database."""

import re
import unicodedata
from keyword import iskeyword

# What the body of a model reads, or SQLAlchemy keeps for itself.
_RESERVED = frozenset(
    {"metadata", "registry", "type_annotation_map", "bool", "bytes", "conv", "dt", "float", "int", "list"}
    | {"mapped_column", "str", "text", "l"}  # ruff refuses l, because it looks like 1
)
_BEFORE_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Names:
    """Names that are taken in a module or a class; a new one gets a number if it is taken."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def of_class(self, *parts: str) -> str:
        """A name in CapWords.

        Args:
            parts: names of the database, the last of which suffices unless it is taken.
        """
        first, *others = (_capitalized("_".join(parts[start:])) for start in range(len(parts) - 1, -1, -1))
        return self._free(next((name for name in (first, *others) if name not in self._taken), first), "")

    def of_constant(self, name: str) -> str:
        """A name in capital letters."""
        return self._free(_identifier(name).upper())

    def of_variable(self, name: str) -> str:
        """A name in small letters, which is no keyword and hides nothing that a model needs."""
        plain = _identifier(name).lower()
        return self._free(f"{plain}_" if iskeyword(plain) or plain in _RESERVED else plain)

    def _free(self, name: str, separator: str = "_") -> str:
        number, free = 1, name
        while free in self._taken or iskeyword(free):
            number += 1
            free = f"{name.rstrip('_')}{separator}{number}"
        self._taken.add(free)
        return free


def _capitalized(name: str) -> str:
    words = _identifier(name).split("_")
    return "".join(word[0].upper() + (word[1:].lower() if word.isupper() else word[1:]) for word in words)


def _identifier(name: str) -> str:
    """Words of letters and digits, in the form in which Python reads them, between single underscores."""
    characters = unicodedata.normalize("NFKC", _BEFORE_CAPITAL.sub("_", name))
    kept = "".join(character if f"a{character}".isidentifier() else "_" for character in characters)
    words = "_".join(filter(None, kept.split("_")))
    return words if words.isidentifier() else f"n_{words}".rstrip("_")

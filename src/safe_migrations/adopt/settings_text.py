"""The texts of `alembic.ini`, `pyproject.toml` and `script.py.mako`, with what the library needs."""

import configparser
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from safe_migrations.errors import ConfigurationError
from safe_migrations.history.numbering import HOOK
from safe_migrations.service import SECTION

_HEADER = "<%!\nfrom safe_migrations.autogenerate import declarations\n%>\\\n"
_DEPENDS_ON = re.compile(r"^depends_on\b.*\$\{repr\(depends_on\)\}.*\n", re.MULTILINE)


def with_hook(path: Path, text: str, hooks: bool) -> str:
    """`alembic.ini`, with the post-write hook that writes HEAD.

    Args:
        hooks: whether the file has hooks already.
    """
    if hooks:
        changed = re.sub(r"(?m)^hooks\s*=\s*", f"hooks = {HOOK}, ", text, count=1)
    elif re.search(r"(?m)^\[post_write_hooks\]", text):
        changed = re.sub(r"(?m)^\[post_write_hooks\]\n", lambda header: f"{header[0]}hooks = {HOOK}\n", text, count=1)
    else:
        changed = _with_section(text, "post_write_hooks", {"hooks": HOOK})
    changed = re.sub(r"(?m)^hooks\s*=.*\n", lambda line: f"{line[0]}{HOOK}.type = {HOOK}\n", changed, count=1)
    changed = _with_option(changed, "revision_environment", "true")
    _check(
        path, text, changed, {"alembic.revision_environment", "post_write_hooks.hooks", f"post_write_hooks.{HOOK}.type"}
    )
    return changed


def with_service(path: Path, text: str, keys: Mapping[str, str]) -> str:
    """`alembic.ini`, with the section of this library at its end."""
    changed = _with_section(text, SECTION, {name: value.replace("%", "%%") for name, value in keys.items()})
    _check(path, text, changed, {f"{SECTION}.{name}" for name in keys})
    return changed


def with_hook_in_toml(path: Path, text: str) -> str:
    """`pyproject.toml`, with the post-write hook that writes HEAD."""
    hook = f'\n[[tool.alembic.post_write_hooks]]\nname = "{HOOK}"\ntype = "{HOOK}"\n'
    changed = re.sub(r"(?m)^revision_environment\s*=.*\n", "", text)
    changed = re.sub(
        r"(?m)^\[tool\.alembic\][^\n]*\n", lambda header: f"{header[0]}revision_environment = true\n", changed
    )
    changed = f"{changed.rstrip()}\n{hook}"
    try:
        before, after = tomllib.loads(text), tomllib.loads(changed)
        ours = after["tool"]["alembic"]
        written = ours["revision_environment"] is True and ours["post_write_hooks"][-1]["name"] == HOOK
        for tree in (before, after):
            tree["tool"]["alembic"].pop("revision_environment", None)
        del ours["post_write_hooks"][-1]
        if not written or {"post_write_hooks": [], **before["tool"]["alembic"]} != ours:
            raise KeyError
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        raise _unwritable(path, f"revision_environment = true in [tool.alembic], and:{hook}".rstrip()) from None
    return changed


def with_declarations(text: str) -> str | None:
    """`script.py.mako`, with the declarations of new revisions; None if the file is not as Alembic writes it."""
    if not _DEPENDS_ON.search(text):
        return None
    text = _DEPENDS_ON.sub(lambda line: f"{line[0]}\n${{declarations(config, up_revision)}}\n", text, count=1)
    text = re.sub(r"(?m)^from alembic import op$", "from safe_migrations.operations import op", text, count=1)
    return _HEADER + text


def _with_section(text: str, name: str, keys: Mapping[str, str]) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"{text.rstrip()}\n\n[{name}]\n{lines}"


def _with_option(text: str, name: str, value: str) -> str:
    """`alembic.ini` with an option of `[alembic]`: in its line, below its comment, or at the top of the section."""
    line = f"{name} = {value}\n"
    for pattern in (rf"^{name}\s*[=:].*\n", rf"^# *{name}\s*=.*\n", r"^\[alembic\].*\n"):
        if place := re.search(pattern, text, re.MULTILINE):
            kept = "" if pattern.startswith(f"^{name}") else place[0]
            return text[: place.start()] + kept + line + text[place.end() :]
    return text


def _check(path: Path, before: str, after: str, changed: set[str]) -> None:
    """Refuse a text whose settings differ in more than the changed ones, or lack them."""
    old, new = _settings(before), _settings(after)
    if {name for name in new.keys() | old.keys() if old.get(name) != new.get(name)} - changed or changed - new.keys():
        raise _unwritable(path, ", ".join(sorted(changed)))


def _settings(text: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    return {f"{section}.{name}": value for section in parser.sections() for name, value in parser[section].items()}


def _unwritable(path: Path, settings: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} has a form that this command can't change. Nothing was changed. Write these settings into the file, "
        f"then run the same command again: {settings}"
    )

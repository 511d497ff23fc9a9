"""The functions that `script.py.mako` of a project calls when Alembic writes a revision file."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config

DECLARATIONS = "safe_migrations.declarations"  # in the attributes of Alembic's configuration
BY_HAND = 'phase = "expand"  # or "contract", if it runs when the new code runs everywhere'


def declarations(config: "Config", revision: str) -> str:
    """The lines of a new revision file that declare its phase, its backfills and its danger; for script.py.mako."""
    text: str = config.attributes.get(DECLARATIONS, {}).get(revision, BY_HAND)
    return text


def without_banner(body: str | None) -> str:
    """The body of a function, without Alembic's comments around it; for script.py.mako.

    Args:
        body: as Alembic has rendered it; None for a revision by hand.
    """
    lines = [line.strip("\n") for line in (body or "").splitlines() if not line.strip().startswith("# ###")]
    return "\n".join(lines).strip() or "pass"


def calls_declarations(folder: Path) -> bool:
    """Whether the folder's `script.py.mako` calls `declarations`; with Alembic's own, they follow the imports."""
    return "declarations(" in folder.joinpath("script.py.mako").read_text(encoding="utf-8")

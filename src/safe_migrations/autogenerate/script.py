"""What `script.py.mako` of a project calls when a revision file is written."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config

DECLARATIONS = "safe_migrations.declarations"  # in the attributes of Alembic's configuration
BY_HAND = 'phase = "expand"  # or "contract", if it runs when the new code runs everywhere'


def declarations(config: "Config", revision: str) -> str:
    """The lines of a new revision file that tell its phase; for script.py.mako.

    Args:
        config: Alembic's.
        revision: the new one.
    """
    text: str = config.attributes.get(DECLARATIONS, {}).get(revision, BY_HAND)
    return text


def without_banner(body: str | None) -> str:
    """The body of a function, without Alembic's comments around it; for script.py.mako.

    Args:
        body: as Alembic has rendered it; nothing for a revision by hand.
    """
    lines = [line.strip("\n") for line in (body or "").splitlines() if not line.strip().startswith("# ###")]
    return "\n".join(lines).strip() or "pass"


def calls_declarations(folder: Path) -> bool:
    """Whether `script.py.mako` has a place for the declarations; in Alembic's own they go where the imports stand.

    Args:
        folder: of `env.py`.
    """
    return "declarations(" in folder.joinpath("script.py.mako").read_text(encoding="utf-8")

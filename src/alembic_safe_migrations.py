"""Alembic's entry point: imports the library, even if a folder of the same name comes first on Python's path.

Template 1.x put a package `safe_migrations` into each service, and `python -m alembic` looks into that folder first.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
try:
    from safe_migrations.autogenerate.plugin import setup as setup
except ModuleNotFoundError:
    kept = sys.modules["safe_migrations"].__file__
    raise ImportError(
        f"{kept} comes from template 1.x and hides the installed library of the same name. Move your own code out of "
        "that folder, then run:\ngit rm -r safe_migrations"
    ) from None
finally:
    sys.path.pop(0)

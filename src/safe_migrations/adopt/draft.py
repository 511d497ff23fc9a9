"""The files of an adoption, written beside the service's own, and moved into their places at the end."""

import glob
import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from alembic.util import to_list
from sqlalchemy import MetaData

from safe_migrations.errors import AdoptionError
from safe_migrations.history.numbering import HEAD
from safe_migrations.upgrade.project import Project, version_folders
from safe_migrations.upgrade.target_metadata import explained_models

MODELS = "models_db.py"
_PREFIX = ".adopt-"
_EXAMPLE_TABLES = {"item", "event_outbox"}
_USES_EXAMPLE = re.compile(r"^from models_db import .*\bItem\b", re.MULTILINE)


class Draft:
    """The new folder of the revisions, and the new models.

    Attributes:
        versions: the folder of the revisions, as it is to be.
        models: the file of the models, as it is to be; it exists only if the models are new.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self._project = project
        self._target = version_folders(project.script)[0]
        self.versions = folder / "versions"
        self.models = folder / MODELS
        example = {Path(script.path).name for script in project.script.walk_revisions()}
        ignored = shutil.ignore_patterns("__pycache__", HEAD, *map(glob.escape, example))
        if self._target.is_dir():
            shutil.copytree(self._target, self.versions, ignore=ignored)
        else:
            self.versions.mkdir()

    def publish(self) -> list[Path]:
        """Move everything into its place; killed in between, the next adoption finds what it can replace.

        Returns:
            The files that are new.
        """
        folder = self._project.service.folder
        files: list[Path] = []
        if self.models.exists():
            for test in (folder / "tests").glob("*.py"):
                if _USES_EXAMPLE.search(test.read_text(encoding="utf-8", errors="replace")):
                    test.unlink()
            os.replace(self.models, folder / MODELS)
            Path(importlib.util.cache_from_source(folder / MODELS)).unlink(missing_ok=True)
            files.append(folder / MODELS)
        old = self.versions.with_name("old")
        if self._target.exists():
            os.rename(self._target, old)
        os.rename(self.versions, self._target)
        return [*files, *sorted(path for path in self._target.iterdir() if path.is_file())]


@contextmanager
def new_draft(project: Project) -> Iterator[Draft]:
    """A draft in a temporary folder beside the revisions; what an adoption that was killed has left is removed.

    Raises:
        AdoptionError: the folder can't be written.
    """
    beside = version_folders(project.script)[0].parent
    for left in beside.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        folder = Path(mkdtemp(prefix=_PREFIX, dir=beside))
    except OSError as error:
        raise AdoptionError(f"{beside} can't be written ({error.strerror}). Nothing was changed.") from error
    try:
        yield Draft(project, folder)
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        raise AdoptionError(f"Writing to {beside} failed ({error.strerror}). The database was not changed.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def has_example_history(project: Project) -> bool:
    """Whether the project has no revision, or only the baseline with which the template has rendered it."""
    service = project.service
    digest = hashlib.sha256(f"{service.name}/{service.database_name}".encode()).hexdigest()
    return {script.revision for script in project.script.walk_revisions()} <= {digest[:12]}


def has_example_models(project: Project) -> bool:
    """Whether the project has no models, or only those with which the template has rendered it."""
    tables = {table for metadata in models_of(project) for table in metadata.tables}
    return not tables or (tables <= _EXAMPLE_TABLES and project.service.folder.joinpath(MODELS).is_file())


def models_of(project: Project) -> list[MetaData]:
    """What `env.py` gives as `target_metadata`."""
    return list(to_list(project.options.get("target_metadata"), []))


def load_models(file: Path) -> MetaData:
    """The metadata of a file of models, loaded beside the service's own."""
    specification = importlib.util.spec_from_file_location("safe_migrations_adopted_models", file)
    if specification is None or specification.loader is None:
        raise AdoptionError(f"{file} can't be loaded. Nothing was changed.")
    module = importlib.util.module_from_spec(specification)
    with explained_models():
        specification.loader.exec_module(module)
    metadata: MetaData = module.Base.metadata
    return metadata

"""The files of an adoption, written beside the service's own, and moved into their places at the end."""

import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from alembic.util import to_list
from sqlalchemy import MetaData

from safe_migrations.errors import AdoptionError
from safe_migrations.files import load_module
from safe_migrations.history.numbering import HEAD
from safe_migrations.upgrade.project import Project, version_folders
from safe_migrations.upgrade.target_metadata import explained_models

MODELS = "models_db.py"
_PREFIX = ".adopt-"
_OLD, _OBSOLETE = "old", "obsolete"  # the former folder of the revisions; the files elsewhere to delete
_EXAMPLE_TABLES = {"item", "event_outbox"}
_USES_EXAMPLE = re.compile(r"^from models_db import .*\bItem\b", re.MULTILINE)


class Draft:
    """The new folder of the revisions, and the new models.

    Attributes:
        folder: where both are until the end.
        versions: the folder of the revisions, as it is to be.
        models: the file of the models, as it is to be; it exists only if the models are new.
    """

    def __init__(self, project: Project, folder: Path, gone: Collection[Path]) -> None:
        self._project = project
        self._target = version_folders(project.script)[0]
        self.folder = folder
        self.versions = folder / "versions"
        self.models = folder / MODELS

        def ignored(inside: str, names: list[str]) -> set[str]:
            return {name for name in names if name == "__pycache__" or Path(inside, name) in gone}

        if self._target.is_dir():
            shutil.copytree(self._target, self.versions, ignore=ignored)
        else:
            self.versions.mkdir()

    def publish(self, obsolete: Iterable[Path] = ()) -> list[Path]:
        """Move everything into its place; after a kill, `recover` undoes or completes the move.

        Args:
            obsolete: files elsewhere to delete.

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
        (self.folder / _OBSOLETE).write_text("".join(f"{file}\n" for file in obsolete), encoding="utf-8")
        if self._target.exists():
            os.rename(self._target, self.folder / _OLD)
        os.rename(self.versions, self._target)
        return [*files, *sorted(path for path in self._target.iterdir() if path.is_file())]


@contextmanager
def new_draft(project: Project, gone: Collection[Path]) -> Iterator[Draft]:
    """A draft in a temporary folder beside the revisions.

    Args:
        gone: the files of revisions that are not copied.

    Raises:
        AdoptionError: the folder can't be written.
    """
    target = version_folders(project.script)[0]
    beside = target.parent
    try:
        folder = Path(mkdtemp(prefix=_PREFIX, dir=beside))
    except OSError as error:
        raise AdoptionError(f"{beside} can't be written ({error.strerror}). Nothing was changed.") from error
    try:
        yield Draft(project, folder, gone)
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        raise AdoptionError(f"Writing to {beside} failed ({error.strerror}). The database was not changed.") from error
    finally:
        _settle(folder, target)


def recover(project: Project) -> None:
    """Undo or complete what a killed command has left, before the revisions are read."""
    target = version_folders(project.script)[0]
    for folder in target.parent.glob(f"{_PREFIX}*"):
        _settle(folder, target)


def _settle(folder: Path, target: Path) -> None:
    """Undo the first half of a move, or complete a move, and delete the temporary folder."""
    old = folder / _OLD
    if old.exists() and not target.exists():
        os.rename(old, target)
    elif old.exists():
        for file in (folder / _OBSOLETE).read_text(encoding="utf-8").splitlines():
            Path(file).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def example_files(project: Project) -> set[Path] | None:
    """The files of the baseline with which the template has rendered the project; None if there are other revisions."""
    service = project.service
    digest = hashlib.sha256(f"{service.name}/{service.database_name}".encode()).hexdigest()
    scripts = list(project.script.walk_revisions())
    if not {script.revision for script in scripts} <= {digest[:12]}:
        return None
    return {version_folders(project.script)[0] / HEAD, *(Path(script.path).absolute() for script in scripts)}


def has_example_models(project: Project) -> bool:
    """Whether the project has no models, or only the example models of the template."""
    tables = {table for metadata in models_of(project) for table in metadata.tables}
    return not tables or (tables <= _EXAMPLE_TABLES and project.service.folder.joinpath(MODELS).is_file())


def models_of(project: Project) -> list[MetaData]:
    """What `env.py` gives as `target_metadata`."""
    return list(to_list(project.options.get("target_metadata"), []))


def load_models(file: Path) -> MetaData:
    """The metadata of a file of models, loaded beside the service's own."""
    with explained_models():
        module = load_module("safe_migrations_adopted_models", file)
    metadata: MetaData = module.Base.metadata
    return metadata

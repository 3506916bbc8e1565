"""The cache of converted models: quantised once, then loaded in a fraction of a second."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from qora_vision.files.atomic import replace_file
from qora_vision.loading.hub.reference import Reference

SUFFIX = ".qora-vision"


@dataclass(frozen=True)
class CachedModel:
    """A converted file of the cache; `size` in bytes."""

    repository: str
    revisions: tuple[str, ...]
    commit: str
    precision: str
    size: int
    path: Path


class ModelCache:
    """A directory of files `models/OWNER--NAME/COMMIT-PRECISION.qora-vision`, and the commits of revisions.

    For a model from an address, OWNER is the host, NAME the path, and COMMIT the `Url.key`.

    Parameters
    ----------
    directory
        None: `QORA_VISION_CACHE`, or the user's cache directory of this system.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory if directory is not None else _default_directory()
        self._models = self.directory / "models"

    def file_of(self, reference: Reference, commit: str, precision: str) -> Path:
        """Return the path for the file of a commit and precision, whether it exists or not."""
        return self._folder(reference.repository) / f"{commit}-{precision}{SUFFIX}"

    def downloads_of(self, reference: Reference, commit: str) -> Path:
        """Return the folder of downloads from an address; `clear` removes it with the model."""
        return self._folder(reference.repository) / "downloads" / commit

    def commit_of(self, reference: Reference) -> str | None:
        """Return the commit of a revision at its last use; None if it is unknown."""
        try:
            return self._revision_file(reference).read_text("ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def remember(self, reference: Reference, commit: str) -> None:
        """Store the commit of a revision."""
        if self.commit_of(reference) == commit:
            return
        path = self._revision_file(reference)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as file:
            file.write(commit.encode("ascii"))

    @contextlib.contextmanager
    def locked(self, path: Path) -> Iterator[None]:
        """Keep other processes from making the same file at the same time; they wait."""
        from filelock import FileLock

        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            yield

    def models(self) -> list[CachedModel]:
        """Return what is in the cache, by repository and commit."""
        found = []
        for path in sorted(self._models.glob(f"*/*{SUFFIX}")):
            commit, _, precision = path.name.removesuffix(SUFFIX).partition("-")
            owner, _, name = path.parent.name.partition("--")
            repository = f"{owner}/{unquote(name)}"
            revisions = tuple(
                unquote(file.name)
                for file in sorted((path.parent / "revisions").glob("*"))
                if file.read_text("ascii", "replace").strip() == commit
            )
            found.append(CachedModel(repository, revisions, commit, precision, path.stat().st_size, path))
        return found

    def clear(self, repository: str | None = None) -> list[CachedModel]:
        """Remove the files of one repository, or all, and return what was removed.

        Raises
        ------
        FileNotFoundError
            If `repository` is given and the cache has no converted or downloaded file of it.
        OSError
            If a file cannot be removed.
        """
        removed = [model for model in self.models() if repository in (None, model.repository)]
        if repository is not None and not removed and not self._has_downloads(repository):
            raise FileNotFoundError(
                f"the cache holds nothing of {repository!r}; `qora-vision cache list` shows it"
            )
        folders = self._models.glob("*") if repository is None else [self._folder(repository)]
        for folder in sorted(folders):
            shutil.rmtree(folder)
        return removed

    def _has_downloads(self, repository: str) -> bool:
        return any(path.is_file() for path in self._folder(repository).glob("downloads/*/*"))

    def _folder(self, repository: str) -> Path:
        owner, _, name = repository.partition("/")
        return self._models / f"{owner}--{quote(name, safe='')}"

    def _revision_file(self, reference: Reference) -> Path:
        return self._folder(reference.repository) / "revisions" / quote(reference.revision, safe="")


def _default_directory() -> Path:
    chosen = os.environ.get("QORA_VISION_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("qora-vision", appauthor=False)

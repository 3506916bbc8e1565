"""Download a checkpoint from the Hugging Face hub: only the necessary files, each of them checked.

Transfer, retries, authentication and the cache of downloads are huggingface_hub's own; its environment
variables apply (`HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qora_vision.errors import CheckpointError, DownloadError
from qora_vision.loading.hub.reference import Reference

Progress = Callable[[int, int, str], None]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its size in bytes and the hash of its content."""

    size: int | None
    sha256: str | None
    git_blob: str | None


@dataclass(frozen=True)
class Listing:
    """The commit of a revision, and its files (empty if the hub was unreachable and a local copy is used)."""

    reference: Reference
    commit: str
    licence: str | None
    files: Mapping[str, RemoteFile]


def find_listing(reference: Reference, known_commit: str | None = None) -> Listing:
    """Ask the hub for the commit and the files of a reference.

    If the hub cannot be reached (offline, or it fails), the newest local copy of the revision is used.

    Parameters
    ----------
    reference
        The model and revision.
    known_commit
        The commit of the revision at its last use, if known.

    Raises
    ------
    DownloadError
        If there is no such model or revision, access is denied, or the hub is out of reach and no copy here.
    """
    import huggingface_hub

    with _explain_errors(reference):
        try:
            info = huggingface_hub.HfApi().model_info(
                reference.repository, revision=reference.revision, files_metadata=True, timeout=15
            )
        except Exception as error:
            if not _is_out_of_reach(error):
                raise
            commit = _downloaded_commit(reference) or known_commit
            if commit is None:
                raise
            return Listing(reference, commit, None, {})
        licence = info.card_data.get("license") if info.card_data is not None else None
        files = {
            file.rfilename: RemoteFile(file.size, file.lfs.sha256 if file.lfs else None, file.blob_id)
            for file in info.siblings or ()
        }
        if info.sha is None:
            raise DownloadError(f"{reference}: the server names no commit; is HF_ENDPOINT a model hub?")
        return Listing(reference, info.sha, str(licence) if licence else None, files)


def download(
    listing: Listing, wanted: Collection[str], weights: Collection[str], progress: Progress | None = None
) -> Path:
    """Fetch a checkpoint and return the directory that holds it.

    Parameters
    ----------
    listing
        From `find_listing`.
    wanted
        Names of files to fetch where the repository has them.
    weights
        Names of weight files, best first: the first that the repository has is fetched, with its shards if it
        is an index.
    progress
        Called with (done, total, what), in MiB.

    Raises
    ------
    DownloadError
        If the repository has no such files, or they cannot be downloaded completely. Nothing damaged is kept.
    """
    reference = listing.reference
    if not listing.files:
        return _local_copy(listing, weights)
    chosen = next((name for name in weights if name in listing.files), None)
    if chosen is None or "config.json" not in listing.files:
        lacking = "config.json" if chosen is not None else " or ".join(weights)
        raise DownloadError(
            f"{reference} has no {lacking}: it is no checkpoint of transformers; download what it has by "
            "hand and give its path"
        )
    names = [name for name in wanted if name in listing.files] + [chosen]
    directory = _fetch(listing, names, progress)
    if chosen.endswith(".index.json"):
        shards = _shards_of(directory / chosen)
        absent = [name for name in shards if name not in listing.files]
        if absent:
            raise DownloadError(f"{reference}: {chosen} lists {absent[0]!r}, which the repository lacks")
        directory = _fetch(listing, shards, progress)
    return directory


def _fetch(listing: Listing, names: Collection[str], progress: Progress | None) -> Path:
    import huggingface_hub

    total = sum(listing.files[name].size or 0 for name in names)
    done = 0
    path = Path()
    with _explain_errors(listing.reference):
        for name in names:
            path = Path(
                huggingface_hub.hf_hub_download(
                    listing.reference.repository,
                    name,
                    revision=listing.commit,
                    library_name="qora-vision",
                    tqdm_class=_bar(progress, done, total),
                )
            )
            _check(path, listing.files[name], listing.reference)
            done += listing.files[name].size or 0
    return path.parent


def _shards_of(index: Path) -> list[str]:
    """Return the names of the shards that an index lists."""
    try:
        return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: expected an index of shards with a weight_map: {error}") from error


def _local_copy(listing: Listing, weights: Collection[str]) -> Path:
    """Return the directory of an earlier download, if it is a complete checkpoint."""
    import huggingface_hub

    repository = listing.reference.repository
    found = huggingface_hub.try_to_load_from_cache(repository, "config.json", revision=listing.commit)
    if isinstance(found, str):
        directory = Path(found).parent
        chosen = next((name for name in weights if (directory / name).exists()), None)
        needed = _shards_of(directory / chosen) if chosen and chosen.endswith(".index.json") else []
        if chosen and all((directory / name).exists() for name in needed):
            return directory
    raise DownloadError(
        f"{listing.reference}: the hub is unreachable and the local copy is incomplete; connect and try again"
    )


def _check(path: Path, expected: RemoteFile, reference: Reference) -> None:
    """Compare a file with the size and hash that the hub states; remove it if it differs."""
    size = path.stat().st_size
    if expected.sha256 is not None:
        digest, due = hashlib.sha256(), expected.sha256
    elif expected.git_blob is not None:
        digest, due = hashlib.sha1(f"blob {size}\0".encode()), expected.git_blob
    else:
        return
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if (expected.size is None or size == expected.size) and digest.hexdigest() == due:
        return
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    raise DownloadError(
        f"{reference}: {path.name} arrived damaged ({size} bytes, {digest.name} {digest.hexdigest()[:12]}... "
        f"instead of {due[:12]}...) and was removed; try again, and if it happens again look for a proxy "
        "that changes files"
    )


def _downloaded_commit(reference: Reference) -> str | None:
    """Return the commit of the local copy that huggingface_hub has of a revision."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(
        reference.repository, "config.json", revision=reference.revision
    )
    return Path(found).parent.name if isinstance(found, str) else None


def _is_out_of_reach(error: Exception) -> bool:
    """Whether the hub could not answer, as opposed to a refusal."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return _status(error) == 429 or _status(error) >= 500
    return isinstance(error, errors.OfflineModeIsEnabled | _transport_error() | OSError)


def _transport_error() -> type[Exception]:
    """Return the base class of connection errors, which depends on the version of huggingface_hub."""
    from huggingface_hub import errors

    base: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return base


def _status(error: Any) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


@contextlib.contextmanager
def _explain_errors(reference: Reference) -> Iterator[None]:
    """Turn errors of huggingface_hub into one `DownloadError` that says what to do, and silence its log."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    except DownloadError:
        raise
    except Exception as error:
        message = _explanation(error, reference)
        if message is None:
            raise
        raise DownloadError(message) from error
    finally:
        log.setLevel(level)


def _explanation(error: Exception, reference: Reference) -> str | None:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the hub had to be asked again, and failed
    name, revision = reference.repository, reference.revision
    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated: accept its terms on its page, then set HF_TOKEN to a token of that account"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"there is no file or directory {str(reference)!r}, and no model of that name on the hub that "
            "can be seen; check the name, or set HF_TOKEN to a token that may read it if it is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no branch, tag or commit {revision!r}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            f"there is no file or directory {str(reference)!r}, no such model is in the caches, and "
            "HF_HUB_OFFLINE forbids asking the hub: unset it once"
        )
    if isinstance(error, errors.HfHubHTTPError):
        advice = {
            401: "set HF_TOKEN to a valid token",
            403: "set HF_TOKEN to a token that may read it",
            404: "the file is gone from the repository",
            429: "too many requests: wait, or set HF_TOKEN to a token of yours",
        }
        status = _status(error)
        hint = advice.get(status, "the hub has a problem: try again later")
        return f"{reference}: the hub answered {status}: {hint}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{reference}: the disk is full; free some space, or point HF_HOME at another disk"
    if isinstance(error, _transport_error() | OSError):
        reason = " ".join(str(error).split()) or type(error).__name__
        return (
            f"there is no file or directory {str(reference)!r}, and as a model of the hub it could not be "
            f"fetched ({reason}); check the connection and try again: nothing half-downloaded is kept or used"
        )
    return None


def _bar(progress: Progress | None, before: int, total: int) -> type[Any]:
    """Return a progress bar class for huggingface_hub that calls `progress` and prints nothing."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # imported only for a download

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": progress is None})

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            if progress is not None:
                progress(min(before + int(self.n), total) >> 20, max(total >> 20, 1), "downloading (MiB)")
            return shown

    return Bar

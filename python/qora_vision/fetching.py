"""From a path or a name on the hub to a model: the latter is fetched and converted once, then cached."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path

from qora_vision.bundled import find_bundled, load_bundled
from qora_vision.errors import ModelFileError
from qora_vision.hub import Listing, ModelCache, Reference, download, find_listing, parse_reference
from qora_vision.loading import (
    PROCESSOR_FILES,
    LoadedModel,
    Progress,
    ValueRange,
    Weights,
    import_checkpoint,
    load_model,
    read_own_file,
)
from qora_vision.weights.checkpoints import FILE_NAMES
from qora_vision.weights.format import write_model


def load_source(
    src: str | PathLike[str],
    *,
    weights: Weights | None,
    value_range: ValueRange | None,
    threads: int,
    progress: Progress | None,
) -> LoadedModel:
    """Load a bundled model, a path, or where there is none, a model of the hub; see `qora_vision.load`."""
    bundled = find_bundled(src)
    if bundled is not None:
        return load_bundled(bundled, weights=weights, value_range=value_range, progress=progress)
    reference = parse_reference(src) if isinstance(src, str) and not Path(src).exists() else None
    if reference is None:
        return load_model(
            Path(src), weights=weights, value_range=value_range, threads=threads, progress=progress
        )
    return load_from_hub(
        reference,
        weights=weights or "q4",
        value_range=value_range or "original",
        threads=threads,
        progress=progress,
    )


def load_from_hub(
    reference: Reference,
    *,
    weights: Weights,
    value_range: ValueRange,
    threads: int,
    progress: Progress | None,
) -> LoadedModel:
    """Load a model of the hub.

    Quantised weights are converted once and kept in `ModelCache`, where every later call finds them, also
    offline. f16 and f32 weights are read from the download itself: a second copy would gain nothing.

    Raises
    ------
    DownloadError
        If the model cannot be fetched; the message says why and what to do.
    CheckpointError
        If it is damaged, incomplete or of an architecture that is not supported.
    OSError
        If the cache cannot be written.
    """
    cache = ModelCache()
    listing = find_listing(reference, cache.commit_of(reference))
    if weights not in ("q4", "q8"):
        return _convert(listing, weights, value_range, threads, progress)
    path = cache.file_of(reference, listing.commit, f"{weights}-hf" if value_range == "hf" else weights)
    model = _read_cached(path)
    if model is None:
        # Of two processes that start at once the second waits, and finds what the first has made.
        with cache.locked(path):
            model = _read_cached(path)
            if model is None:
                write_model(path, _convert(listing, weights, value_range, threads, progress).file)
                model = read_own_file(path)
    cache.remember(reference, listing.commit)
    return model


def _read_cached(path: Path) -> LoadedModel | None:
    """Read a converted file; one that is damaged, or that this version cannot read, is made anew."""
    try:
        return read_own_file(path)
    except FileNotFoundError:
        return None
    except ModelFileError:
        path.unlink(missing_ok=True)
        return None


def _convert(
    listing: Listing,
    weights: Weights,
    value_range: ValueRange,
    threads: int,
    progress: Progress | None,
) -> LoadedModel:
    directory = download(listing, ("config.json", *PROCESSOR_FILES), FILE_NAMES, progress)
    model = import_checkpoint(directory, weights, value_range, threads, progress)
    provenance = {
        **model.file.provenance,
        "source": listing.reference.repository,
        "revision": listing.commit,
        **({"licence": listing.licence} if listing.licence else {}),
    }
    return replace(model, file=replace(model.file, provenance=provenance))

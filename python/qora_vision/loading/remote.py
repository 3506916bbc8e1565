"""Models that are downloaded, from the hub or an address: converted once, then kept in a cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path

from qora_vision.errors import ModelFileError
from qora_vision.loading.checkpoint import PROCESSOR_FILES, import_checkpoint
from qora_vision.loading.class_names import WrongNamesError
from qora_vision.loading.hub import (
    ModelCache,
    download,
    download_url,
    find_listing,
    parse_reference,
    parse_url,
)
from qora_vision.loading.model import LoadedModel, read_own_file
from qora_vision.loading.options import LoadOptions
from qora_vision.weights.checkpoints import FILE_NAMES, is_checkpoint_name
from qora_vision.weights.format import write_model


def load_hub(src: str | PathLike[str], options: LoadOptions) -> LoadedModel | None:
    """Load a model of the hub, named "owner/name" or "owner/name@revision".

    Quantised weights are converted once and kept in `ModelCache`; later calls read them there, even offline.
    f16 and f32 weights are read from the download itself.

    Returns
    -------
    None if `src` is not such a name.

    Raises
    ------
    DownloadError
        If the model cannot be fetched; the message says why and what to do.
    CheckpointError
        If it is damaged, incomplete or of an architecture that is not supported.
    OSError
        If the cache cannot be written.
    """
    reference = parse_reference(src) if isinstance(src, str) else None
    if reference is None:
        return None
    cache = ModelCache()
    listing = find_listing(reference, cache.commit_of(reference))

    def convert(options: LoadOptions) -> LoadedModel:
        names = ("config.json", *PROCESSOR_FILES)
        model = import_checkpoint(download(listing, names, FILE_NAMES, options.progress), options)
        licence = {"licence": listing.licence} if listing.licence else {}
        return _with_provenance(model, source=reference.repository, revision=listing.commit, **licence)

    if not options.is_quantised:  # a copy of what is not quantised would gain nothing
        return convert(options)
    model = _cached(cache, partial(cache.file_of, reference, listing.commit), convert, options)
    cache.remember(reference, listing.commit)
    return model


def load_url(src: str | PathLike[str], options: LoadOptions) -> LoadedModel | None:
    """Load the checkpoint of an original implementation from its address.

    The content of an address is assumed not to change: when its quantised form is in the cache, the server is
    not asked again, and the download, which may be many times larger, is removed. f16 and f32 weights are
    read from the download, which stays.

    Returns
    -------
    None if `src` is not an address.

    Raises
    ------
    ValueError
        If the address names no such file.
    DownloadError, CheckpointError, OSError
        As `load_hub` does.
    """
    url = parse_url(src) if isinstance(src, str) else None
    if url is None:
        return None
    if not is_checkpoint_name(url.file_name):
        raise ValueError(
            f"{url.address}: expected the address of a checkpoint file (.pth, .pyth, .pt, .ckpt, .npz, "
            ".msgpack or scenic's file called checkpoint); download anything else by hand and give its path"
        )
    cache = ModelCache()
    folder = cache.downloads_of(url.reference, url.key)

    def convert(options: LoadOptions) -> LoadedModel:
        checkpoint = download_url(url, folder, options.progress)
        return _with_provenance(import_checkpoint(checkpoint, options), source=url.address)

    if not options.is_quantised:  # a copy of what is not quantised would gain nothing
        with cache.locked(folder):
            return convert(options)
    model = _cached(cache, partial(cache.file_of, url.reference, url.key), convert, options)
    shutil.rmtree(folder, ignore_errors=True)
    return model


def _precision(options: LoadOptions) -> str:
    """Return the name in the cache of the precision that a checkpoint is converted to."""
    weights = options.checkpoint_weights
    return f"{weights}-hf" if options.checkpoint_value_range == "hf" else weights


def _cached(
    cache: ModelCache,
    file_of: Callable[[str], Path],
    convert: Callable[[LoadOptions], LoadedModel],
    options: LoadOptions,
) -> LoadedModel:
    """Return a converted model of the cache; convert it first if it is missing.

    It has the model's own class names. Where these are wrong and the caller gives others, a file without
    names is kept beside it.
    """
    precision, own_names = _precision(options), replace(options, labels_given=False)
    try:
        return _read_or_convert(cache, file_of(precision), lambda: convert(own_names))
    except WrongNamesError:
        if not options.labels_given:
            raise
        return _read_or_convert(cache, file_of(f"{precision}-unnamed"), lambda: convert(options))


def _read_or_convert(cache: ModelCache, path: Path, convert: Callable[[], LoadedModel]) -> LoadedModel:
    """Read one file of the cache; convert and write it first if it is missing."""
    model = _read_cached(path)
    if model is None:
        # If two processes start at the same time, the second waits, and then reads the file of the first.
        with cache.locked(path):
            model = _read_cached(path)
            if model is None:
                write_model(path, convert().file)
                model = read_own_file(path)
    return model


def _read_cached(path: Path) -> LoadedModel | None:
    """Read a converted file; None if it is missing. A damaged or unreadable file is removed: None, too."""
    try:
        return read_own_file(path)
    except FileNotFoundError:
        return None
    except ModelFileError:
        path.unlink(missing_ok=True)
        return None


def _with_provenance(model: LoadedModel, **provenance: str) -> LoadedModel:
    """Return the model with its origin added to the provenance."""
    return replace(model, file=replace(model.file, provenance={**model.file.provenance, **provenance}))

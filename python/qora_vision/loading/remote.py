"""Models that are fetched: of the hub or from an address, converted once, then kept in a cache."""

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

    Quantised weights are converted once and kept in `ModelCache`, where every later call finds them, also
    offline. f16 and f32 weights are read from the download itself.

    Returns
    -------
    None if `src` is no such name.

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
        return _from(model, source=reference.repository, revision=listing.commit, **licence)

    if not options.is_quantised:  # a copy of what is not quantised would gain nothing
        return convert(options)
    model = _kept(cache, partial(cache.file_of, reference, listing.commit), convert, options)
    cache.remember(reference, listing.commit)
    return model


def load_url(src: str | PathLike[str], options: LoadOptions) -> LoadedModel | None:
    """Load the checkpoint of an original implementation from its address.

    What is at an address is taken not to change: once its quantised form is in the cache, nothing is asked of
    the server, and the download, which may be many times larger, is removed. f16 and f32 weights are read
    from the download, which stays.

    Returns
    -------
    None if `src` is no address.

    Raises
    ------
    ValueError
        If the address names no such file.
    DownloadError, CheckpointError, OSError
        As `load_from_hub` does.
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
        return _from(import_checkpoint(checkpoint, options), source=url.address)

    if not options.is_quantised:  # a copy of what is not quantised would gain nothing
        with cache.locked(folder):
            return convert(options)
    model = _kept(cache, partial(cache.file_of, url.reference, url.key), convert, options)
    shutil.rmtree(folder, ignore_errors=True)
    return model


def _precision(options: LoadOptions) -> str:
    """Return what the cache calls the precision that a checkpoint is converted to."""
    weights = options.checkpoint_weights
    return f"{weights}-hf" if options.checkpoint_value_range == "hf" else weights


def _kept(
    cache: ModelCache,
    file_of: Callable[[str], Path],
    convert: Callable[[LoadOptions], LoadedModel],
    options: LoadOptions,
) -> LoadedModel:
    """Read a converted file of the cache, which is made if it is not there.

    It has the model's own class names. Where these are wrong and the caller gives others, a file without
    names is kept beside it.
    """
    precision, own_names = _precision(options), replace(options, labels_given=False)
    try:
        return _kept_file(cache, file_of(precision), lambda: convert(own_names))
    except WrongNamesError:
        if not options.labels_given:
            raise
        return _kept_file(cache, file_of(f"{precision}-unnamed"), lambda: convert(options))


def _kept_file(cache: ModelCache, path: Path, convert: Callable[[], LoadedModel]) -> LoadedModel:
    """Read one file of the cache, which is made if it is not there."""
    model = _read_cached(path)
    if model is None:
        # Of two processes that start at once the second waits, and finds what the first has made.
        with cache.locked(path):
            model = _read_cached(path)
            if model is None:
                write_model(path, convert().file)
                model = read_own_file(path)
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


def _from(model: LoadedModel, **provenance: str) -> LoadedModel:
    """Note where a model comes from."""
    return replace(model, file=replace(model.file, provenance={**model.file.provenance, **provenance}))

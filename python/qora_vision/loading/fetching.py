"""From a path, a name on the hub or an address to a model: what is fetched is converted once, then cached."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from qora_vision.errors import ModelFileError
from qora_vision.loading.bundled import find_bundled, load_bundled
from qora_vision.loading.hub import (
    ModelCache,
    Reference,
    Url,
    download,
    download_url,
    find_listing,
    parse_reference,
    parse_url,
)
from qora_vision.loading.models import (
    PROCESSOR_FILES,
    LoadedModel,
    Progress,
    ValueRange,
    Weights,
    import_checkpoint,
    load_model,
    read_own_file,
)
from qora_vision.weights.checkpoints import FILE_NAMES, is_checkpoint_name
from qora_vision.weights.format import write_model


def load_source(
    src: str | PathLike[str],
    *,
    weights: Weights | None,
    value_range: ValueRange | None,
    threads: int,
    progress: Progress | None,
    named: bool = False,
) -> LoadedModel:
    """Load a bundled model, an address, a path, or where there is none, a model of the hub.

    See `qora_vision.load`; `named` as in `load_model`, for paths: what the cache keeps has its own names.
    """
    bundled = find_bundled(src)
    if bundled is not None:
        return load_bundled(bundled, weights=weights, value_range=value_range, progress=progress)
    conversion = Conversion(weights or "q4", value_range or "original", threads, progress)
    if isinstance(src, str):
        if (url := parse_url(src)) is not None:
            return load_from_url(url, conversion)
        if not Path(src).exists() and (reference := parse_reference(src)) is not None:
            return load_from_hub(reference, conversion)
    return load_model(
        Path(src),
        weights=weights,
        value_range=value_range,
        threads=threads,
        progress=progress,
        named=named,
    )


@dataclass(frozen=True)
class Conversion:
    """How a checkpoint becomes a model; see `qora_vision.load`."""

    weights: Weights = "q4"
    value_range: ValueRange = "original"
    threads: int = 0
    progress: Progress | None = None

    @property
    def precision(self) -> str:
        """What it is called in the cache."""
        return f"{self.weights}-hf" if self.value_range == "hf" else self.weights

    @property
    def is_kept(self) -> bool:
        """Whether the cache keeps the result: a copy of what is not quantised would gain nothing."""
        return self.weights in ("q4", "q8")

    def of(self, checkpoint: Path) -> LoadedModel:
        """Convert."""
        return import_checkpoint(checkpoint, self.weights, self.value_range, self.threads, self.progress)


def load_from_hub(reference: Reference, conversion: Conversion) -> LoadedModel:
    """Load a model of the hub.

    Quantised weights are converted once and kept in `ModelCache`, where every later call finds them, also
    offline. f16 and f32 weights are read from the download itself.

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

    def convert() -> LoadedModel:
        names = ("config.json", *PROCESSOR_FILES)
        model = conversion.of(download(listing, names, FILE_NAMES, conversion.progress))
        licence = {"licence": listing.licence} if listing.licence else {}
        return _from(model, source=reference.repository, revision=listing.commit, **licence)

    if not conversion.is_kept:
        return convert()
    model = _kept(cache, cache.file_of(reference, listing.commit, conversion.precision), convert)
    cache.remember(reference, listing.commit)
    return model


def load_from_url(url: Url, conversion: Conversion) -> LoadedModel:
    """Load the checkpoint of an original implementation from its address.

    What is at an address is taken not to change: once its quantised form is in the cache, nothing is asked of
    the server, and the download, which may be many times larger, is removed. f16 and f32 weights are read
    from the download, which stays.

    Raises
    ------
    ValueError
        If the address names no such file.
    DownloadError, CheckpointError, OSError
        As `load_from_hub` does.
    """
    if not is_checkpoint_name(url.file_name):
        raise ValueError(
            f"{url.address}: expected the address of a checkpoint file (.pth, .pyth, .pt, .ckpt, .npz, "
            ".msgpack or scenic's file called checkpoint); download anything else by hand and give its path"
        )
    cache = ModelCache()
    folder = cache.downloads_of(url.reference, url.key)

    def convert() -> LoadedModel:
        checkpoint = download_url(url, folder, conversion.progress)
        return _from(conversion.of(checkpoint), source=url.address)

    if not conversion.is_kept:
        with cache.locked(folder):
            return convert()
    model = _kept(cache, cache.file_of(url.reference, url.key, conversion.precision), convert)
    shutil.rmtree(folder, ignore_errors=True)
    return model


def _kept(cache: ModelCache, path: Path, convert: Callable[[], LoadedModel]) -> LoadedModel:
    """Read a converted file of the cache, which is made if it is not there."""
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

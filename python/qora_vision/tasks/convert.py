"""`convert()`: write a model as a `.qora-vision` file without holding all its weights in memory."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from qora_vision.loading.options import LoadOptions, Progress, ValueRange, Weights
from qora_vision.tasks.frames import Frames
from qora_vision.tasks.load import Labels, find_model
from qora_vision.weights.format import ModelHeader, read_header, write_model


def convert(
    src: str | PathLike[str],
    output: str | PathLike[str],
    *,
    weights: Weights | None = None,
    threads: int | None = None,
    value_range: ValueRange | None = None,
    labels: Labels = None,
    calibrate: Sequence[Frames] | None = None,
    progress: Progress | None = None,
) -> ModelHeader:
    """Write a model as a `.qora-vision` file. After a failure, an older file of that name is unchanged.

    The file is the one that `load(src, ...).save(output)` writes. But the weights of a checkpoint are read,
    quantised and written some rows at a time, so that memory does not grow with the model. `calibrate` alone
    needs all weights at once.

    Parameters
    ----------
    src, weights, threads, value_range, labels, calibrate, progress
        As of `load`.
    output
        The file to write.

    Returns
    -------
    ModelInfo
        What the file says of itself.

    Raises
    ------
    OSError
        If the file cannot be written, or a model cannot be read or fetched.
    ValueError
        As `load` does.
    """
    options = LoadOptions(weights, value_range, threads, progress, labels_given=labels is not None)
    path = Path(output)
    write_model(path, find_model(src, options, labels, calibrate).file)
    return read_header(path)

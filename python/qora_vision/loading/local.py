"""Models in the file system: `.qora-vision` files, and checkpoints, which are converted."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from qora_vision.loading.checkpoint import import_checkpoint
from qora_vision.loading.model import LoadedModel, read_own_file
from qora_vision.loading.options import LoadOptions
from qora_vision.weights.checkpoints import is_checkpoint_file


def load_path(src: str | PathLike[str], options: LoadOptions) -> LoadedModel | None:
    """Load a `.qora-vision` file, a checkpoint directory or a checkpoint file.

    Returns
    -------
    None if there is nothing at this path.

    Raises
    ------
    ModelFileError, CheckpointError
        If it is damaged, incomplete, or of an architecture that is not supported.
    ValueError
        If an option does not apply to it.
    OSError
        If it cannot be read.
    """
    path = Path(src)
    if path.is_dir() or is_checkpoint_file(path):
        return import_checkpoint(path, options)
    if not path.exists():
        return None
    model = read_own_file(path, options.threads)
    if options.weights not in (None, model.file.quantization):
        raise ValueError(
            f"{path} holds {model.file.quantization} weights, which cannot become {options.weights}: convert "
            "the original checkpoint again"
        )
    if options.value_range is not None:
        raise ValueError(f"{path} carries its own preprocessing: leave value_range out")
    return model

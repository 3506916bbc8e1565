"""A model in memory: a model file whose parts are understood and fit together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qora_vision.engine.ops import num_threads
from qora_vision.engine.tensors import QuantizedTensor
from qora_vision.errors import ModelFileError, shown
from qora_vision.loading.class_names import read_labels
from qora_vision.loading.conversion import name_faults, shape_faults
from qora_vision.models.base import ClipConfig, config_from_dict
from qora_vision.models.registry import ARCHITECTURES, Architecture, find_architecture
from qora_vision.video import Preprocessing
from qora_vision.weights.format import ModelFile, read_model

# The most values of a clip, or of its tokens: far more than the largest models have, and still within memory.
_MAX_VALUES = 1 << 31


@dataclass(frozen=True)
class LoadedModel:
    """A model file with its parts parsed: of a network that takes clips."""

    architecture: Architecture
    config: ClipConfig
    preprocessing: Preprocessing
    file: ModelFile


def read_own_file(path: Path, threads: int | None = None) -> LoadedModel:
    """Read a `.qora-vision` file; threads: None for the process default.

    Raises
    ------
    FileNotFoundError, OSError
        If it cannot be read.
    ModelFileError
        If it is damaged or not supported.
    """
    return interpret(read_model(path, threads=threads or num_threads()), path)


def interpret(file: ModelFile, source: Path) -> LoadedModel:
    """Parse a model file's parts, and check that they match each other and the architecture."""
    architecture = find_architecture(file.architecture)
    if architecture is None:
        known = ", ".join(entry.name for entry in ARCHITECTURES)
        raise ModelFileError(
            f"{source}: this version does not know the architecture {shown(file.architecture)} "
            f"(it knows {known})"
        )
    if file.preprocessing is None:
        raise ModelFileError(f"{source}: it has no preprocessing, which {file.architecture} needs")
    try:
        config: ClipConfig = config_from_dict(architecture.config, file.config)
        check_extent(config)
        preprocessing = Preprocessing.from_dict(file.preprocessing)
    except ValueError as error:
        raise ModelFileError(f"{source}: {error}") from error
    specs = config.tensor_specs()
    present = {name: file.tensors[name] for name in specs if name in file.tensors}
    faults = name_faults("missing", [name for name in specs if name not in present])
    faults += name_faults("unexpected", sorted(set(file.tensors) - set(present)))
    faults += shape_faults((name, tensor.shape, specs[name].shape) for name, tensor in present.items())
    quantized = [name for name, tensor in present.items() if isinstance(tensor, QuantizedTensor)]
    faults += name_faults("unduly quantised", [name for name in quantized if not specs[name].quantisable])
    task = "embed" if config.num_classes is None else "classify"
    if file.task != task:
        faults.append(f"its task is {file.task}, but its network can {task}")
    if file.labels is not None and len(file.labels) != (config.num_classes or 0):
        faults.append(f"{len(file.labels)} labels for {config.num_classes or 0} classes")
    faults += size_faults(preprocessing, config)
    if faults:
        raise ModelFileError(f"{source}: " + "; ".join(faults))
    # In the order of the specs, not of the file, so that saving a model again gives the same bytes.
    return LoadedModel(architecture, config, preprocessing, replace(file, tensors=present))


def with_labels(model: LoadedModel, labels: str | Path | Sequence[str] | None) -> LoadedModel:
    """Return the model with other class names, if some are given; raises like `read_labels`."""
    if labels is None:
        return model
    if model.config.num_classes is None:
        raise ValueError(
            "labels= names classes, and this model has none: it is an encoder; load it without labels="
        )
    return replace(model, file=replace(model.file, labels=read_labels(labels, model.config.num_classes)))


def check_extent(config: ClipConfig) -> None:
    """Refuse sizes for which the position tables alone would take all memory."""
    tokens, values = config.num_tubelets, math.prod(config.clip_shape)
    if tokens * config.embed_dim > _MAX_VALUES or values > _MAX_VALUES:
        raise ValueError(
            f"clips of {config.clip_shape} in {tokens} tubelets of {config.embed_dim} channels are "
            "larger than any model's: num_frames, image_size, patch_size or hidden_size is wrong"
        )


def size_faults(preprocessing: Preprocessing, config: ClipConfig) -> list[str]:
    """Return a message for each size of prepared clips that does not match the network."""
    frames, channels, *size = config.clip_shape
    given = preprocessing.crop or preprocessing.resize
    if channels == 3 and preprocessing.num_frames == frames and given == tuple(size):
        return []
    return [
        f"preprocessing gives clips of {preprocessing.num_frames} RGB frames of {given} pixels, but the "
        f"model takes {frames} frames of {channels} channels and {tuple(size)} pixels"
    ]

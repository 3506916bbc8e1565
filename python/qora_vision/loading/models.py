"""From a path to a model in memory: our own files as they are, other people's checkpoints converted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from qora_vision.engine.ops import num_threads
from qora_vision.engine.tensors import QuantizedTensor, Tensor
from qora_vision.errors import CheckpointError, ModelFileError, listed, shown
from qora_vision.loading.class_names import assumed_names, names_of, own_name
from qora_vision.loading.class_names import read_labels as read_labels
from qora_vision.loading.conversion import (
    CheckpointTensors,
    find_sources,
    is_there,
    name_faults,
    read_all,
    shape_faults,
    spellings_of,
)
from qora_vision.loading.conversion import Progress as Progress
from qora_vision.loading.conversion import Weights as Weights
from qora_vision.models.base import Config, config_from_dict, config_to_dict
from qora_vision.models.registry import ARCHITECTURES, Architecture, find_architecture
from qora_vision.video import Preprocessing
from qora_vision.weights.checkpoints import Checkpoint, is_checkpoint_file, open_checkpoint, read_json
from qora_vision.weights.format import ModelFile, read_model

ValueRange = Literal["original", "hf"]

# Of a clip, or of its tokens: far more than the largest models have, and still within memory.
_MAX_VALUES = 1 << 31
# In the order in which transformers 5 looks at them; the first counts if it holds a "video_processor".
NESTED_PROCESSOR_FILE = "processor_config.json"
PROCESSOR_FILES = (NESTED_PROCESSOR_FILE, "video_preprocessor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class LoadedModel:
    """A model file with its parts understood."""

    architecture: Architecture
    config: Config
    preprocessing: Preprocessing
    file: ModelFile


def load_model(
    source: Path,
    *,
    weights: Weights | None = None,
    value_range: ValueRange | None = None,
    threads: int = 0,
    progress: Progress | None = None,
    named: bool = False,
) -> LoadedModel:
    """Read a `.qora-vision` file or convert a checkpoint; see `qora_vision.load` for the arguments.

    `named`: names of the classes will be given with `with_labels`.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `source`.
    ModelFileError, CheckpointError
        If it is damaged, incomplete, or of an architecture that is not supported.
    ValueError
        If an argument does not apply to this source.
    """
    if source.is_dir() or is_checkpoint_file(source):
        return import_checkpoint(
            source, weights or "q4", value_range or "original", threads, progress, named=named
        )
    if not source.exists():
        raise FileNotFoundError(
            f"there is no file or directory {str(source)!r}; expected a .qora-vision file, a directory with "
            "config.json and weights, OWNER/NAME of a model on the Hugging Face hub, or a bundled model "
            "(`qora-vision info` lists them)"
        )
    model = read_own_file(source, threads)
    if weights not in (None, model.file.quantization):
        raise ValueError(
            f"{source} holds {model.file.quantization} weights, which cannot become {weights}: convert the "
            "original checkpoint again"
        )
    if value_range is not None:
        raise ValueError(f"{source} carries its own preprocessing: value_range is for checkpoint directories")
    return model


def check_choices(weights: str | None, value_range: str | None) -> None:
    """Raise `ValueError` unless both are what `qora_vision.load` knows, or None."""
    if weights is not None and weights not in get_args(Weights):
        raise ValueError(f"weights must be one of {', '.join(get_args(Weights))}, got {weights!r}")
    if value_range is not None and value_range not in get_args(ValueRange):
        raise ValueError(f"value_range must be one of {', '.join(get_args(ValueRange))}, got {value_range!r}")


def with_labels(model: LoadedModel, labels: str | Path | Sequence[str] | None) -> LoadedModel:
    """Return the model with other class names, where there are any; raises like `read_labels`."""
    if labels is None:
        return model
    return replace(model, file=replace(model.file, labels=read_labels(labels, model.config.num_classes)))


def read_own_file(path: Path, threads: int = 0) -> LoadedModel:
    """Read a `.qora-vision` file; threads: 0 for the process default.

    Raises
    ------
    FileNotFoundError, OSError
        If it cannot be read.
    ModelFileError
        If it is damaged or not supported.
    """
    return interpret(read_model(path, threads=threads or num_threads()), path)


def interpret(file: ModelFile, source: Path) -> LoadedModel:
    """Check that a model file's parts fit together and are what its architecture needs."""
    architecture = find_architecture(file.architecture)
    if architecture is None:
        known = ", ".join(entry.name for entry in ARCHITECTURES)
        raise ModelFileError(
            f"{source}: this version does not know the architecture {shown(file.architecture)} "
            f"(it knows {known})"
        )
    try:
        config: Config = config_from_dict(architecture.config, file.config)
        _check_extent(config)
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
    if file.labels is not None and len(file.labels) != config.num_classes:
        faults.append(f"{len(file.labels)} labels for {config.num_classes} classes")
    faults += _size_faults(preprocessing, config)
    if faults:
        raise ModelFileError(f"{source}: " + "; ".join(faults))
    # In the order of the specs whatever that of the file: saving a model again gives the same bytes.
    return LoadedModel(architecture, config, preprocessing, replace(file, tensors=present))


def import_checkpoint(
    source: Path,
    weights: Weights,
    value_range: ValueRange,
    threads: int = 0,
    progress: Progress | None = None,
    *,
    named: bool = False,
) -> LoadedModel:
    """Convert a checkpoint, quantising as it is read: a directory with config.json, or an original's file.

    Weights that are not quantised are read whenever they are asked for: beside the packed ones, which a model
    keeps, they would take as much memory again. `named`: the caller has names for the classes, so that those
    of config.json do not matter.
    """
    architecture, convert, fields, checkpoint = _open_source(source)
    config = _read_config(convert, fields, checkpoint, source)
    labels = None if named else names_of(fields, config.num_classes, source)
    from importlib.metadata import version  # slow to import, and needed by conversions alone

    provenance = {
        "created_by": f"qora-vision {version('qora-vision')}",
        "source": own_name(fields) or source.resolve().name,
    }
    if labels is None and not named:
        labels, origin = assumed_names(config.num_classes, source, fields)
        provenance |= origin
    preprocessing = _read_preprocessing(source, convert, config, value_range)
    if faults := _size_faults(preprocessing, config):
        raise CheckpointError(f"{source}: {faults[0]}")
    specs = config.tensor_specs()
    sources = find_sources(convert, specs, checkpoint, source)
    tensors: Mapping[str, Tensor] = CheckpointTensors(checkpoint, specs, sources, weights, threads)
    if weights in ("q4", "q8"):
        tensors = read_all(tensors, progress)
    file = ModelFile(
        architecture=architecture.name,
        config=config_to_dict(config),
        preprocessing=preprocessing.to_dict(),
        labels=labels,
        quantization=weights,
        provenance=provenance,
        tensors=tensors,
    )
    return LoadedModel(architecture, config, preprocessing, file)


def _open_source(source: Path) -> tuple[Architecture, ModuleType, Mapping[str, Any], Checkpoint]:
    """Return architecture, name map, config (in Hugging Face's words) and tensors of a checkpoint."""
    if source.is_dir():
        fields = read_json(source / "config.json")
        architecture = _architecture_of(fields, source)
        convert = _convert_module(architecture)
        return architecture, convert, fields, open_checkpoint(source).without_prefixes(convert.PREFIXES)
    opened = open_checkpoint(source)
    for architecture in ARCHITECTURES:
        convert = _convert_module(architecture)
        if not hasattr(convert, "original_fields"):
            continue
        checkpoint = opened.without_prefixes(convert.PREFIXES)
        try:
            original = convert.original_fields(checkpoint)
        except ValueError as error:
            raise CheckpointError(f"{source}: {error}") from error
        if original is not None:
            return architecture, convert, original, checkpoint
    names = listed(sorted(opened)[:6])
    raise CheckpointError(
        f"{source}: its tensors ({names}, ...) are those of no original implementation that is known; a "
        "checkpoint of Hugging Face is loaded as a directory with config.json"
    )


def _convert_module(architecture: Architecture) -> ModuleType:
    return import_module(f"qora_vision.models.{architecture.name}.checkpoint")


def _architecture_of(fields: Mapping[str, Any], directory: Path) -> Architecture:
    model_type = fields.get("model_type")
    for entry in ARCHITECTURES:
        if model_type in (entry.hf_model_type, *entry.hf_aliases):
            return entry
    known = ", ".join(entry.hf_model_type for entry in ARCHITECTURES)
    raise CheckpointError(
        f"{directory}: config.json has model_type {shown(model_type)}, which is not supported "
        f"(supported: {known})"
    )


def _read_config(
    convert: ModuleType, fields: Mapping[str, Any], checkpoint: Checkpoint, source: Path
) -> Config:
    heads = spellings_of(convert, "head.weight")
    head = next((item for item in heads if is_there(item, checkpoint)), None)
    if head is None:
        raise CheckpointError(
            f"{source}: missing tensors: {heads[0].names[0]}; this is no checkpoint of a classifier"
        )
    try:
        config: Config = convert.read_config(fields, head.shape(checkpoint)[0])
        _check_extent(config)
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        where = "" if "config.json" in str(error) or not source.is_dir() else "config.json: "
        raise CheckpointError(f"{source}: {where}{error}") from error
    return config


def _check_extent(config: Config) -> None:
    """Refuse sizes for which tables of positions alone would take all memory."""
    tokens, values = config.num_tubelets, math.prod(config.clip_shape)
    if tokens * config.embed_dim > _MAX_VALUES or values > _MAX_VALUES:
        raise ValueError(
            f"clips of {config.clip_shape} in {tokens} tubelets of {config.embed_dim} channels are "
            "larger than any model's: num_frames, image_size, patch_size or hidden_size is wrong"
        )


def _read_preprocessing(
    source: Path, convert: ModuleType, config: Config, value_range: ValueRange
) -> Preprocessing:
    """Read the checkpoint's own processor, else take the published protocol at the model's size."""
    protocol = convert.protocol(config)
    found = _read_processor(source)
    try:
        # Sizes that no preprocessing has are the config's mistake.
        Preprocessing(num_frames=config.num_frames, stride=protocol.stride)
    except ValueError as error:
        raise CheckpointError(f"{source}: config.json: {error}") from error
    preprocessing = Preprocessing.from_hf(
        protocol.processor if found is None else found,
        num_frames=config.num_frames,
        sampling=protocol.sampling,
        stride=protocol.stride,
        value_range=value_range,
        default_processor=protocol.processor["image_processor_type"],
    )
    if found is None and protocol.resize_rule is not None:
        preprocessing = replace(preprocessing, resize_rule=protocol.resize_rule)
    return preprocessing


def _read_processor(source: Path) -> Mapping[str, Any] | None:
    """Return the processor that `AutoVideoProcessor` of transformers 5 finds, None where there is none."""
    for name in PROCESSOR_FILES:
        path = source / name
        if not path.exists():
            continue
        fields = read_json(path)
        if name == NESTED_PROCESSOR_FILE:
            nested = fields.get("video_processor")
            if nested is None:
                continue
            if not isinstance(nested, dict):
                raise CheckpointError(f"{path}: video_processor must be an object, got {shown(nested)}")
            return nested
        return fields
    return None


def _size_faults(preprocessing: Preprocessing, config: Config) -> list[str]:
    frames, channels, *size = config.clip_shape
    given = preprocessing.crop or preprocessing.resize
    if channels == 3 and preprocessing.num_frames == frames and given == tuple(size):
        return []
    return [
        f"preprocessing gives clips of {preprocessing.num_frames} RGB frames of {given} pixels, but the "
        f"model takes {frames} frames of {channels} channels and {tuple(size)} pixels"
    ]

"""From a path to a model in memory: our own files as they are, other people's checkpoints converted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from qora_vision.engine.ops import num_threads
from qora_vision.engine.tensors import QuantizedTensor, Tensor
from qora_vision.errors import CheckpointError, ModelFileError
from qora_vision.loading.conversion import (
    CheckpointTensors,
    candidates_of,
    find_sources,
    is_there,
    name_faults,
    read_all,
    shape_faults,
)
from qora_vision.loading.conversion import Progress as Progress
from qora_vision.loading.conversion import Weights as Weights
from qora_vision.models.base import Config, config_from_dict, config_to_dict
from qora_vision.models.registry import ARCHITECTURES, Architecture, find_architecture
from qora_vision.video import Preprocessing
from qora_vision.weights.checkpoints import Checkpoint, is_checkpoint_file, open_checkpoint, read_json
from qora_vision.weights.config_fields import labels_of, names_in_order
from qora_vision.weights.format import ModelFile, read_model
from qora_vision.weights.maps import CheckpointMap

ValueRange = Literal["original", "hf"]

PROCESSOR_FILES = ("preprocessor_config.json", "video_preprocessor_config.json")
# Number of classes -> the data set it gives away, and the file of its class names in `assets`.
DATA_SETS = {
    400: ("Kinetics-400", "kinetics400.txt"),
    600: ("Kinetics-600", "kinetics600.txt"),
    174: ("Something-Something V2", "something_something_v2.txt"),
}


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
) -> LoadedModel:
    """Read a `.qora-vision` file or convert a checkpoint; see `qora_vision.load` for the arguments.

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
        return import_checkpoint(source, weights or "q4", value_range or "original", threads, progress)
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
            f"{source}: this version does not know the architecture {file.architecture!r} (it knows {known})"
        )
    try:
        config: Config = config_from_dict(architecture.config, file.config)
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
) -> LoadedModel:
    """Convert a checkpoint, quantising as it is read: a directory with config.json, or an original's file.

    Weights that are not quantised are read whenever they are asked for: beside the packed ones, which a model
    keeps, they would take as much memory again.
    """
    architecture, fields, checkpoint = _open_source(source)
    labels = labels_of(fields)
    config = _read_config(architecture.checkpoint, fields, checkpoint, source)
    if labels is not None and len(labels) != config.num_classes:
        raise CheckpointError(
            f"{source}: config.json names {len(labels)} classes, the classifier has {config.num_classes}"
        )
    from importlib.metadata import version  # slow to import, and needed by conversions alone

    provenance = {
        "created_by": f"qora-vision {version('qora-vision')}",
        "source": str(fields.get("_name_or_path") or source.resolve().name),
    }
    if labels is None and config.num_classes in DATA_SETS:
        name, file_name = DATA_SETS[config.num_classes]
        labels = asset_labels(file_name)
        provenance["labels"] = f"{name}, assumed of {len(labels)} classes without names"
    preprocessing = _read_preprocessing(source, architecture.checkpoint, config, value_range)
    if faults := _size_faults(preprocessing, config):
        raise CheckpointError(f"{source}: {faults[0]}")
    specs = config.tensor_specs()
    sources = find_sources(architecture.checkpoint, specs, checkpoint, source)
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


def read_labels(labels: str | Path | Sequence[str], count: int) -> list[str]:
    """Return class names: a sequence, a text file with one a line, or JSON (a list, or index -> name).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        Unless there are `count` of them, all texts.
    """
    if isinstance(labels, str | Path):
        origin, names = str(labels), _read_names(Path(labels))
    else:
        origin, names = "labels", list(labels)
    if len(names) != count or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{origin}: expected {count} class names (texts), got {len(names)} values")
    return names


def _read_names(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix != ".json":
            return [line.strip() for line in text.splitlines() if line.strip()]
        values = json.loads(text)
        return values if isinstance(values, list) else names_in_order(values)
    except ValueError as error:
        raise ValueError(f"{path}: expected class names, one a line or (.json) as JSON: {error}") from error


def asset_labels(file_name: str) -> list[str]:
    """Return the class names of a data set in the order of its published models."""
    text = resources.files("qora_vision").joinpath("assets", file_name).read_text(encoding="utf-8")
    return text.splitlines()


def _open_source(source: Path) -> tuple[Architecture, Mapping[str, Any], Checkpoint]:
    """Return architecture, fields of config.json and tensors of a checkpoint."""
    if source.is_dir():
        fields = read_json(source / "config.json")
        architecture = _architecture_of(fields, source)
        prefixes = architecture.checkpoint.prefixes
        return architecture, fields, open_checkpoint(source).without_prefixes(prefixes)
    opened = open_checkpoint(source)
    for architecture in ARCHITECTURES:
        read_fields = architecture.checkpoint.original_fields
        if read_fields is None:
            continue
        checkpoint = opened.without_prefixes(architecture.checkpoint.prefixes)
        try:
            original = read_fields(checkpoint)
        except ValueError as error:
            raise CheckpointError(f"{source}: {error}") from error
        if original is not None:
            return architecture, original, checkpoint
    names = ", ".join(sorted(opened)[:6])
    raise CheckpointError(
        f"{source}: its tensors ({names}, ...) are those of no original implementation that is known; a "
        "checkpoint of Hugging Face is loaded as a directory with config.json"
    )


def _architecture_of(fields: Mapping[str, Any], directory: Path) -> Architecture:
    model_type = fields.get("model_type")
    for entry in ARCHITECTURES:
        if model_type in (entry.hf_model_type, *entry.hf_aliases):
            return entry
    known = ", ".join(entry.hf_model_type for entry in ARCHITECTURES)
    raise CheckpointError(
        f"{directory}: config.json has model_type {model_type!r}, which is not supported (supported: {known})"
    )


def _read_config(
    checkpoint_map: CheckpointMap[Any], fields: Mapping[str, Any], checkpoint: Checkpoint, source: Path
) -> Config:
    heads = candidates_of(checkpoint_map, "head.weight")
    head = next((item for item in heads if is_there(item, checkpoint)), None)
    if head is None:
        raise CheckpointError(
            f"{source}: missing tensors: {heads[0].names[0]}; this is no checkpoint of a classifier"
        )
    try:
        config: Config = checkpoint_map.read_config(fields, head.shape(checkpoint)[0])
    except (IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: {error}") from error
    return config


def _read_preprocessing(
    source: Path, checkpoint_map: CheckpointMap[Any], config: Config, value_range: ValueRange
) -> Preprocessing:
    """Read the checkpoint's own processor, else take the published protocol at the model's size."""
    protocol = checkpoint_map.protocol(config)
    path = next((source / name for name in PROCESSOR_FILES if (source / name).exists()), None)
    preprocessing = Preprocessing.from_hf(
        protocol.processor if path is None else read_json(path),
        num_frames=config.num_frames,
        sampling=protocol.sampling,
        stride=protocol.stride,
        value_range=value_range,
        default_processor=protocol.processor["image_processor_type"],
    )
    if path is None and protocol.resize_rule is not None:
        preprocessing = replace(preprocessing, resize_rule=protocol.resize_rule)
    return preprocessing


def _size_faults(preprocessing: Preprocessing, config: Config) -> list[str]:
    frames, channels, *size = config.clip_shape
    given = preprocessing.crop or preprocessing.resize
    if channels == 3 and preprocessing.num_frames == frames and given == tuple(size):
        return []
    return [
        f"preprocessing gives clips of {preprocessing.num_frames} RGB frames of {given} pixels, but the "
        f"model takes {frames} frames of {channels} channels and {tuple(size)} pixels"
    ]

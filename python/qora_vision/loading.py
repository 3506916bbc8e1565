"""From a path to a model in memory: our own files as they are, other people's checkpoints converted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module, resources
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import CheckpointError, ModelFileError
from qora_vision.layers import TensorSpec
from qora_vision.models.base import Config, config_from_dict, config_to_dict
from qora_vision.models.registry import ARCHITECTURES, Architecture, find_architecture
from qora_vision.ops import quantize
from qora_vision.video import Preprocessing
from qora_vision.weights.checkpoints import Checkpoint, open_checkpoint, read_json
from qora_vision.weights.convert.hf import labels_of, names_in_order
from qora_vision.weights.format import ModelFile, read_model
from qora_vision.weights.tensors import QuantizedTensor, Tensor

Weights = Literal["q4", "q8", "f16", "f32"]
ValueRange = Literal["original", "hf"]
# Called with how much is done, of how much, and what is being done.
Progress = Callable[[int, int, str], None]

PROCESSOR_FILES = ("preprocessor_config.json", "video_preprocessor_config.json")
KINETICS_CLASSES = 400


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
    """Read a `.qora-vision` file or convert a checkpoint directory; see `qora_vision.load` for the arguments.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `source`.
    ModelFileError, CheckpointError
        If it is damaged, incomplete, or of an architecture that is not supported.
    ValueError
        If an argument does not apply to this source.
    """
    if source.is_dir():
        return import_checkpoint(source, weights or "q4", value_range or "original", threads, progress)
    if not source.exists():
        raise FileNotFoundError(
            f"there is no file or directory {str(source)!r}; expected a .qora-vision file, a directory with "
            "config.json and weights, or OWNER/NAME of a model on the Hugging Face hub"
        )
    model = read_own_file(source)
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


def read_own_file(path: Path) -> LoadedModel:
    """Read a `.qora-vision` file.

    Raises
    ------
    FileNotFoundError, OSError
        If it cannot be read.
    ModelFileError
        If it is damaged or not supported.
    """
    return interpret(read_model(path), path)


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
    faults = _faults("missing", [name for name in specs if name not in present])
    faults += _faults("unexpected", sorted(set(file.tensors) - set(present)))
    faults += _shape_faults((name, tensor.shape, specs[name].shape) for name, tensor in present.items())
    quantized = [name for name, tensor in present.items() if isinstance(tensor, QuantizedTensor)]
    faults += _faults("unduly quantised", [name for name in quantized if specs[name].storage != "weight"])
    if file.labels is not None and len(file.labels) != config.num_classes:
        faults.append(f"{len(file.labels)} labels for {config.num_classes} classes")
    faults += _size_faults(preprocessing, config)
    if faults:
        raise ModelFileError(f"{source}: " + "; ".join(faults))
    # In the order of the specs whatever that of the file: saving a model again gives the same bytes.
    return LoadedModel(architecture, config, preprocessing, replace(file, tensors=present))


def import_checkpoint(
    directory: Path,
    weights: Weights,
    value_range: ValueRange,
    threads: int = 0,
    progress: Progress | None = None,
) -> LoadedModel:
    """Convert a Hugging Face checkpoint directory, quantising as it is read.

    Weights that are not quantised are read whenever they are asked for: beside the packed ones, which a model
    keeps, they would take as much memory again.
    """
    fields = read_json(directory / "config.json")
    architecture = _architecture_of(fields, directory)
    convert = import_module(f"qora_vision.weights.convert.{architecture.name}")
    checkpoint = open_checkpoint(directory)
    labels = labels_of(fields)
    config = _read_config(convert, fields, checkpoint, directory)
    if labels is not None and len(labels) != config.num_classes:
        raise CheckpointError(
            f"{directory}: config.json names {len(labels)} classes, the classifier has {config.num_classes}"
        )
    provenance = {
        "created_by": f"qora-vision {version('qora-vision')}",
        "source": str(fields.get("_name_or_path") or directory.resolve().name),
    }
    if labels is None and config.num_classes == KINETICS_CLASSES:
        labels = kinetics400_labels()
        provenance["labels"] = "Kinetics-400, assumed of 400 classes without names"
    preprocessing = _read_preprocessing(directory, convert, config, value_range)
    if faults := _size_faults(preprocessing, config):
        raise CheckpointError(f"{directory}: {faults[0]}")
    names = find_tensors(convert, config.tensor_specs(), checkpoint, directory)
    tensors: Mapping[str, Tensor] = _CheckpointTensors(
        checkpoint, config.tensor_specs(), names, weights, threads
    )
    if weights in ("q4", "q8"):
        tensors = _read_all(tensors, progress)
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


def find_tensors(
    convert: ModuleType, specs: Mapping[str, TensorSpec], checkpoint: Checkpoint, source: Path
) -> dict[str, str]:
    """Return our name -> theirs for every tensor of a model.

    Raises
    ------
    CheckpointError
        That names every missing, unexpected and misshapen tensor at once.
    """
    found: dict[str, str] = {}
    missing = []
    for name in specs:
        spellings = _spellings(convert.NAMES, name)
        match = next((spelling for spelling in spellings if spelling in checkpoint), None)
        if match is None:
            missing.append(spellings[0])
        else:
            found[name] = match
    ignored = re.compile("|".join(convert.IGNORED))
    extra = sorted(set(checkpoint) - set(found.values()))
    extra = [name for name in extra if not ignored.fullmatch(name)]
    shapes = {theirs: (checkpoint.shape(theirs), specs[ours].shape) for ours, theirs in found.items()}
    faults = _faults("missing", missing) + _faults("unexpected", extra)
    # Tables are stored with a batch axis of length 1.
    faults += _shape_faults(
        (name, *pair) for name, pair in shapes.items() if _without_ones(pair[0]) != _without_ones(pair[1])
    )
    if faults:
        raise CheckpointError(f"{source}: the weights do not fit config.json: " + "; ".join(faults))
    return found


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


def kinetics400_labels() -> list[str]:
    """Return the class names of Kinetics-400 in the order of its published models."""
    text = resources.files("qora_vision").joinpath("assets/kinetics400.txt").read_text(encoding="utf-8")
    return text.splitlines()


def _architecture_of(fields: Mapping[str, Any], directory: Path) -> Architecture:
    model_type = fields.get("model_type")
    for entry in ARCHITECTURES:
        if entry.hf_model_type == model_type:
            return entry
    known = ", ".join(entry.hf_model_type for entry in ARCHITECTURES)
    raise CheckpointError(
        f"{directory}: config.json has model_type {model_type!r}, which is not supported (supported: {known})"
    )


def _read_config(
    convert: ModuleType, fields: Mapping[str, Any], checkpoint: Checkpoint, directory: Path
) -> Config:
    head = next((name for name in _spellings(convert.NAMES, "head.weight") if name in checkpoint), None)
    if head is None:
        wanted = _spellings(convert.NAMES, "head.weight")[0]
        raise CheckpointError(
            f"{directory}: missing tensors: {wanted}; this is no checkpoint of a classifier"
        )
    try:
        config: Config = convert.read_config(fields, checkpoint.shape(head)[0])
    except (IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"{directory}: {error}") from error
    return config


def _read_preprocessing(
    directory: Path, convert: ModuleType, config: Config, value_range: ValueRange
) -> Preprocessing:
    path = next((directory / name for name in PROCESSOR_FILES if (directory / name).exists()), None)
    if path is not None:
        fields = read_json(path)
    else:  # the published recipe, at the model's size
        height, width = config.clip_shape[2:]
        fields = {
            "size": {"shortest_edge": min(height, width) * 256 // 224},
            "crop_size": {"height": height, "width": width},
        }
    return Preprocessing.from_hf(
        fields, num_frames=config.num_frames, value_range=value_range, default_processor=convert.PROCESSOR
    )


def _size_faults(preprocessing: Preprocessing, config: Config) -> list[str]:
    frames, channels, *size = config.clip_shape
    given = preprocessing.crop or preprocessing.resize
    if channels == 3 and preprocessing.num_frames == frames and given == tuple(size):
        return []
    return [
        f"preprocessing gives clips of {preprocessing.num_frames} RGB frames of {given} pixels, but the "
        f"model takes {frames} frames of {channels} channels and {tuple(size)} pixels"
    ]


def _spellings(names: Mapping[str, tuple[str, ...]], ours: str) -> list[str]:
    """Return what a tensor of ours may be called: NAMES has it whole, or its layer with {i} for the block."""
    block = re.match(r"blocks\.(\d+)\.", ours)
    index = block.group(1) if block else ""
    pattern = ours.replace(f"blocks.{index}.", "blocks.{i}.", 1) if block else ours
    layer, _, part = pattern.rpartition(".")
    if pattern in names:
        return [name.format(i=index) for name in names[pattern]]
    return [f"{name.format(i=index)}.{part}" for name in names[layer]]


def _faults(what: str, names: Collection[str]) -> list[str]:
    return [f"{what} tensors: {', '.join(names)}"] if names else []


def _shape_faults(tensors: Iterable[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    """Compare shapes as they are with shapes as they should be."""
    return _faults(
        "misshapen", [f"{name} is {shape} instead of {due}" for name, shape, due in tensors if shape != due]
    )


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


class _CheckpointTensors(Mapping[str, Tensor]):
    """A checkpoint's tensors by our names, read and converted at every access."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        specs: Mapping[str, TensorSpec],
        names: Mapping[str, str],
        weights: Weights,
        threads: int,
    ) -> None:
        self._checkpoint = checkpoint
        self._specs = specs
        self._names = names
        self._weights = weights
        self._threads = threads

    def __getitem__(self, name: str) -> Tensor:
        spec, theirs = self._specs[name], self._names[name]
        values = self._checkpoint.read(theirs).reshape(spec.shape)
        try:
            tensor = _store(values, spec, self._weights, self._threads)
        except ValueError as error:
            raise CheckpointError(f"{self._checkpoint.path}: tensor {theirs!r}: {error}") from error
        self._checkpoint.release(theirs)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


def _read_all(tensors: Mapping[str, Tensor], progress: Progress | None) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for name in tensors:
        if progress is not None:
            progress(len(result), len(tensors), "converting weights")
        result[name] = tensors[name]
    if progress is not None:
        progress(len(tensors), len(tensors), "converting weights")
    return result


def _store(values: NDArray[Any], spec: TensorSpec, weights: Weights, threads: int) -> Tensor:
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"expected floating-point values, got {values.dtype}")
    if spec.storage == "weight" and weights in ("q4", "q8"):
        return quantize(values, weights, threads)
    half = spec.storage != "exact" and weights != "f32"
    with np.errstate(over="ignore"):
        stored = np.array(values, np.float16 if half else np.float32, order="C")
    if not np.isfinite(stored).all():
        raise ValueError(f"it holds NaN, infinity or a value too large for {stored.dtype}")
    return stored

"""Conversion of a published checkpoint's tensors: found by a name map, converted as they are read."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qora_vision.engine.ops import quantize
from qora_vision.engine.tensors import KINDS, Tensor
from qora_vision.errors import CheckpointError, listed, shown
from qora_vision.loading.options import LoadOptions, Weights
from qora_vision.nn.specs import TensorSpec
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.format import TensorInfo, TensorStream
from qora_vision.weights.maps import CheckpointMap
from qora_vision.weights.sources import Source, source_of

# Bytes of the float32 rows that are converted at a time: the memory of a conversion, apart from its result.
BLOCK_BYTES = 32_000_000


def find_sources(
    checkpoint_map: CheckpointMap[Any],
    specs: Mapping[str, TensorSpec],
    checkpoint: Checkpoint,
    source: Path,
) -> dict[str, Source]:
    """Return the source of every tensor of a model.

    Raises
    ------
    CheckpointError
        If tensors are missing, unexpected or of a wrong shape; one error names them all.
    """
    found: dict[str, Source] = {}
    absent: list[list[Source]] = []
    used: Counter[int] = Counter()
    for name in specs:
        candidates = candidates_of(checkpoint_map, name)
        number = next((i for i, item in enumerate(candidates) if is_there(item, checkpoint)), None)
        if number is None:
            absent.append(candidates)
        else:
            used[number] += 1
            found[name] = candidates[number]
    # Missing tensors are named in the style of this checkpoint's other tensors.
    usual = max(used, key=lambda number: (used[number], -number), default=0)
    missing = [
        name for items in absent for name in items[min(usual, len(items) - 1)].names if name not in checkpoint
    ]
    known = {name for item in found.values() for name in item.names}
    extra = [name for name in sorted(set(checkpoint) - known) if not _is_ignored(checkpoint_map, name)]
    try:
        shapes = {ours: (item.shape(checkpoint), specs[ours].shape) for ours, item in found.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    faults = name_faults("missing", dict.fromkeys(missing)) + name_faults("unexpected", extra)
    # Tables are stored with a batch axis of length 1.
    faults += shape_faults(
        (found[ours].names[0], *pair)
        for ours, pair in shapes.items()
        if _without_ones(pair[0]) != _without_ones(pair[1])
    )
    if faults:
        raise CheckpointError(f"{source}: the weights do not fit the config: " + "; ".join(faults))
    return found


def candidates_of(checkpoint_map: CheckpointMap[Any], ours: str) -> list[Source]:
    """Return the candidates for a tensor: the map has its name or its layer's, with {i} for the block."""
    block = re.search(r"(?:^|\.)blocks\.(\d+)\.", ours)
    index = block.group(1) if block else ""
    pattern = ours.replace(f"blocks.{index}.", "blocks.{i}.", 1) if block else ours
    layer, _, part = pattern.rpartition(".")
    names = checkpoint_map.names
    if pattern in names:
        return [source_of(candidate, index, "") for candidate in names[pattern]]
    return [source_of(candidate, index, part) for candidate in names[layer]]


def _is_ignored(checkpoint_map: CheckpointMap[Any], theirs: str) -> bool:
    return any(re.fullmatch(pattern, theirs) for pattern in checkpoint_map.ignored)


def is_there(source: Source, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint has all tensors of a source."""
    return all(name in checkpoint for name in source.names)


class CheckpointTensors(TensorStream):
    """A checkpoint's tensors by our names, read and converted at every access."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        specs: Mapping[str, TensorSpec],
        sources: Mapping[str, Source],
        options: LoadOptions,
    ) -> None:
        self._checkpoint = checkpoint
        self._specs = specs
        self._sources = sources
        self._options = options
        self._weights = options.checkpoint_weights

    def __getitem__(self, name: str) -> Tensor:
        (tensor,) = self._converted(name, None)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def info(self, name: str) -> TensorInfo:
        """See `TensorStream`."""
        spec = self._specs[name]
        return TensorInfo.of(kind_of(spec, self._weights), spec.shape)

    def row_blocks(self, name: str) -> Iterator[Tensor]:
        """See `TensorStream`: as many rows at a time as `BLOCK_BYTES` allow."""
        row_bytes = 4 * math.prod(self._specs[name].shape[1:])
        yield from self._converted(name, max(1, BLOCK_BYTES // row_bytes))

    def read_all(self) -> dict[str, Tensor]:
        """Read every tensor now, and report progress."""
        result: dict[str, Tensor] = {}
        for name in self:
            self.report(len(result))
            result[name] = self[name]
        self.report(len(self))
        return result

    def report(self, done: int) -> None:
        """See `TensorStream`."""
        self._options.report(done, len(self), "converting weights")

    def _converted(self, name: str, rows: int | None) -> Iterator[Tensor]:
        """Yield a tensor in blocks of rows, converted; None: all rows at once."""
        spec, source = self._specs[name], self._sources[name]
        values = source.read(self._checkpoint).reshape(spec.shape)
        for begin in range(0, len(values), rows or len(values)):
            block = values if rows is None else values[begin : begin + rows]
            try:
                yield store(block, spec, self._weights, self._options.threads or 0)
            except ValueError as error:
                theirs = ", ".join(map(shown, source.names))
                raise CheckpointError(f"{self._checkpoint.path}: tensor {theirs}: {error}") from error
        for theirs in source.names:
            self._checkpoint.release(theirs)


def name_faults(what: str, names: Collection[str]) -> list[str]:
    """Return a message that lists the tensors, or nothing if there are none."""
    return [f"{what} tensors: {listed(names)}"] if names else []


def shape_faults(tensors: Iterable[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    """Return a message for each tensor whose shape differs from the expected one."""
    return name_faults(
        "misshapen",
        [
            f"{listed([name])} is {shown(shape)} instead of {shown(due)}"
            for name, shape, due in tensors
            if shape != due
        ],
    )


def kind_of(spec: TensorSpec, weights: Weights) -> Weights:
    """Return the form in which a tensor is stored when the wanted precision is `weights`."""
    if spec.quantisable and weights in KINDS:
        return weights if spec.storage == "weight" else "q8"
    return "f32" if spec.storage == "exact" or weights == "f32" else "f16"


def store(values: NDArray[Any], spec: TensorSpec, weights: Weights, threads: int) -> Tensor:
    """Return a tensor in the form that its spec and the wanted precision determine.

    Raises
    ------
    ValueError
        If it does not hold floating-point numbers, or a number does not fit the form.
    """
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"expected floating-point values, got {values.dtype}")
    kind = kind_of(spec, weights)
    if kind in KINDS:
        return quantize(values, kind, threads)
    with np.errstate(over="ignore"):
        stored = np.array(values, np.float16 if kind == "f16" else np.float32, order="C")
    if not np.isfinite(stored).all():
        raise ValueError(f"it holds NaN, infinity or a value too large for {stored.dtype}")
    return stored


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)

"""Sources of a model's tensor in a checkpoint: a whole tensor, a part of one, or several combined.

In a name map a plain string stands for the tensor of that name or, without ".weight" and ".bias", for a
layer. The other patterns convert what a checkpoint stores in another form, so that models need not know it.
All are lazy: shapes come from headers, and values are read on request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import CheckpointError, shown
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.flax_layouts import FlaxLayer


class Source(Protocol):
    """The source of one tensor of the model."""

    @property
    def names(self) -> tuple[str, ...]:
        """Tensors of the checkpoint that it reads."""

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """Return its shape without reading values."""

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """Return its values."""


@dataclass(frozen=True)
class Whole:
    """A tensor as it is."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return (self.name,)

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """See `Source`."""
        return checkpoint.shape(self.name)

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """See `Source`."""
        return checkpoint.read(self.name)


@dataclass(frozen=True)
class Rows:
    """One of `count` equal parts of a tensor's first axis: in a fused QKV layer, Q is number 0 of 3."""

    layer: str
    index: int
    count: int = 3

    @property
    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return (self.layer,)

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """See `Source`; raises `CheckpointError` if the axis does not divide."""
        rows, *rest = checkpoint.shape(self.layer) or (0,)
        if not rows or rows % self.count:
            raise CheckpointError(
                f"tensor {shown(self.layer)} has {rows} rows, which do not divide into "
                f"{self.count} equal parts"
            )
        return rows // self.count, *rest

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """See `Source`."""
        rows = self.shape(checkpoint)[0]
        return checkpoint.read(self.layer)[self.index * rows : (self.index + 1) * rows]


@dataclass(frozen=True)
class Scaled:
    """A layer whose outputs are multiplied by `gamma`, a factor for each channel: diag(gamma) W, gamma b."""

    layer: str
    gamma: str

    @property
    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return self.layer, self.gamma

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """See `Source`; raises `CheckpointError` if the factors do not fit."""
        shape = checkpoint.shape(self.layer)
        if checkpoint.shape(self.gamma) != shape[:1]:
            raise CheckpointError(
                f"tensor {shown(self.gamma)} has shape {checkpoint.shape(self.gamma)}, which does not match "
                f"{shown(self.layer)} of shape {shape}"
            )
        return shape

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """See `Source`: the product in float64, rounded once."""
        values, gamma = checkpoint.read(self.layer), checkpoint.read(self.gamma).astype(np.float64)
        return np.asarray(values * gamma.reshape(-1, *(1,) * (values.ndim - 1)), np.float32)


@dataclass(frozen=True)
class Folded:
    """Two linear layers in a row as one: W2 W1, W2 b1 + b2. Both must have weight and bias."""

    first: str
    second: str
    part: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        own = (f"{self.second}.weight", f"{self.first}.{self.part}")
        return own if self.part == "weight" else (*own, f"{self.second}.bias")

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """See `Source`; raises `CheckpointError` if the layers do not fit together."""
        outer, inner = (checkpoint.shape(name) for name in self.names[:2])
        if len(outer) != 2 or outer[1:] != inner[:1]:
            raise CheckpointError(
                f"tensor {shown(self.names[0])} of shape {outer} cannot follow "
                f"{shown(self.names[1])} of shape {inner}"
            )
        return outer[:1] + inner[1:]

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """See `Source`: the product in float64, rounded once."""
        self.shape(checkpoint)
        outer, inner, *bias = (checkpoint.read(name).astype(np.float64) for name in self.names)
        product = outer @ inner
        return np.asarray(product + bias[0] if bias else product, np.float32)


@dataclass(frozen=True)
class Applied:
    """The output of a linear layer with a bias for a constant input, a tensor of one row: W x + b."""

    layer: str
    constant: str

    @property
    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return f"{self.layer}.weight", self.constant, f"{self.layer}.bias"

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """See `Source`; raises `CheckpointError` if the constant is no input of the layer."""
        weight, constant = (checkpoint.shape(name) for name in self.names[:2])
        if len(weight) != 2 or math.prod(constant) != weight[1]:
            raise CheckpointError(
                f"tensor {shown(self.names[0])} of shape {weight} cannot be applied to "
                f"{shown(self.constant)} of shape {constant}"
            )
        return weight[:1]

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """See `Source`: the product in float64, rounded once."""
        self.shape(checkpoint)
        weight, constant, bias = (checkpoint.read(name).astype(np.float64) for name in self.names)
        return np.asarray(weight @ constant.ravel() + bias, np.float32)


# What a name map may hold. The number of a block replaces {i}.
SourcePattern: TypeAlias = str | Rows | Scaled | Folded | Applied | FlaxLayer


def source_of(pattern: SourcePattern, index: str, part: str) -> Source:
    """Return the source that a pattern stands for.

    Parameters
    ----------
    pattern
        From a name map.
    index
        Number of the block, empty outside of blocks.
    part
        "weight" or "bias" if the pattern names a layer; empty if it names a tensor.
    """

    def name(layer: str) -> str:
        return layer.format(i=index) + (f".{part}" if part else "")

    if isinstance(pattern, str):
        return Whole(name(pattern))
    if isinstance(pattern, Rows):
        return Rows(name(pattern.layer), pattern.index, pattern.count)
    if isinstance(pattern, FlaxLayer):
        return replace(pattern, layer=pattern.layer.format(i=index), part=part)
    if isinstance(pattern, Scaled):
        return Scaled(name(pattern.layer), pattern.gamma.format(i=index))
    if isinstance(pattern, Applied):
        return Applied(pattern.layer.format(i=index), pattern.constant.format(i=index))
    return Folded(pattern.first.format(i=index), pattern.second.format(i=index), part)

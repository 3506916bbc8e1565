"""How flax lays out weights and biases: inputs first, channels last, a scale for a norm's weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import CheckpointError
from qora_vision.weights.checkpoints import Checkpoint


@dataclass(frozen=True)
class FlaxLinear:
    """A Dense or DenseGeneral layer: kernel (inputs..., outputs...), bias (outputs...).

    Attributes
    ----------
    layer
        Its path.
    inputs
        How many leading axes of the kernel are inputs: 2 for the projection after attention, (heads,
        head_dim, features).
    """

    layer: str
    inputs: int = 1
    part: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """See `sources.Source`."""
        return (f"{self.layer}/{'kernel' if self.part == 'weight' else 'bias'}",)

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """See `sources.Source`."""
        shape = checkpoint.shape(self.names[0])
        if self.part == "bias":
            return (math.prod(shape),)
        if len(shape) <= self.inputs:
            raise CheckpointError(f"tensor {self.names[0]!r} is {shape}, which is no kernel of a layer")
        return math.prod(shape[self.inputs :]), math.prod(shape[: self.inputs])

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """See `sources.Source`."""
        values = checkpoint.read(self.names[0])
        shape = self.shape(checkpoint)
        return values.reshape(shape) if self.part == "bias" else values.reshape(shape[::-1]).T


@dataclass(frozen=True)
class FlaxTubelets:
    """A convolution over tubelets, kernel (t, h, w, c, outputs), or over patches, (h, w, c, outputs)."""

    layer: str
    part: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """See `sources.Source`."""
        return (f"{self.layer}/{'kernel' if self.part == 'weight' else 'bias'}",)

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """See `sources.Source`."""
        shape = checkpoint.shape(self.names[0])
        if self.part == "bias":
            return shape
        if len(shape) not in (4, 5):
            raise CheckpointError(f"tensor {self.names[0]!r} is {shape}, which is no kernel of tubelets")
        t, h, w, c, outputs = shape if len(shape) == 5 else (1, *shape)
        return outputs, c, t, h, w

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """See `sources.Source`."""
        values = checkpoint.read(self.names[0])
        if self.part == "bias":
            return values
        outputs, c, t, h, w = self.shape(checkpoint)
        return values.reshape(t, h, w, c, outputs).transpose(4, 3, 0, 1, 2)


@dataclass(frozen=True)
class FlaxBlocks:
    """A block-diagonal layer: w (blocks, inputs, outputs), b (blocks, outputs); ours (outputs, inputs)."""

    layer: str
    part: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """See `sources.Source`."""
        return (f"{self.layer}/{'w' if self.part == 'weight' else 'b'}",)

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """See `sources.Source`."""
        shape = checkpoint.shape(self.names[0])
        if self.part == "bias":
            return (math.prod(shape),)
        if len(shape) != 3:
            raise CheckpointError(f"tensor {self.names[0]!r} is {shape}: expected (blocks, inputs, outputs)")
        return shape[0] * shape[2], shape[1]

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """See `sources.Source`."""
        values, shape = checkpoint.read(self.names[0]), self.shape(checkpoint)
        if self.part == "bias":
            return values.reshape(shape)
        return np.ascontiguousarray(values.transpose(0, 2, 1)).reshape(shape)


@dataclass(frozen=True)
class FlaxParts:
    """A layer whose parts have other names but the same layout, such as a norm's scale."""

    layer: str
    weight: str = "scale"
    bias: str = "bias"
    part: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """See `sources.Source`."""
        return (f"{self.layer}/{self.weight if self.part == 'weight' else self.bias}",)

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """See `sources.Source`."""
        return checkpoint.shape(self.names[0])

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """See `sources.Source`."""
        return checkpoint.read(self.names[0])


FlaxLayer = FlaxLinear | FlaxTubelets | FlaxBlocks | FlaxParts

"""Layouts of weights and biases in flax: inputs first, channels last; a norm's weight is called "scale"."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import CheckpointError, shown
from qora_vision.weights.checkpoints import Checkpoint


@dataclass(frozen=True)
class FlaxLayer:
    """The weight or the bias of a layer, unchanged; subclasses convert other layouts.

    Attributes
    ----------
    layer
        Its path.
    weight, bias
        The names of its parts.
    part
        The part to read: "weight" or "bias".
    """

    layer: str
    weight: str = field(default="kernel", kw_only=True)
    bias: str = field(default="bias", kw_only=True)
    part: str = field(default="", kw_only=True)

    @property
    def names(self) -> tuple[str, ...]:
        """See `sources.Source`."""
        return (f"{self.layer}/{self.weight if self.part == 'weight' else self.bias}",)

    def shape(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """See `sources.Source`; raises `CheckpointError` if it cannot be such a layer."""
        shape = checkpoint.shape(self.names[0])
        return self._weight_shape(shape) if self.part == "weight" else self._bias_shape(shape)

    def read(self, checkpoint: Checkpoint) -> NDArray[Any]:
        """See `sources.Source`."""
        values, shape = checkpoint.read(self.names[0]), self.shape(checkpoint)
        return self._lay_out(values, shape) if self.part == "weight" else values.reshape(shape)

    def _weight_shape(self, theirs: tuple[int, ...]) -> tuple[int, ...]:
        return theirs

    def _bias_shape(self, theirs: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(theirs),)

    def _lay_out(self, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        return values.reshape(shape)

    def _wrong_shape(self, theirs: tuple[int, ...], expected: str) -> CheckpointError:
        return CheckpointError(f"tensor {shown(self.names[0])} is {theirs}: expected {expected}")


@dataclass(frozen=True)
class FlaxLinear(FlaxLayer):
    """A Dense or DenseGeneral layer: kernel (inputs..., outputs...), bias (outputs...).

    Attributes
    ----------
    inputs
        Number of leading axes of the kernel that are inputs: 2 for the projection after attention, (heads,
        head_dim, features).
    """

    inputs: int = 1

    def _weight_shape(self, theirs: tuple[int, ...]) -> tuple[int, ...]:
        if len(theirs) <= self.inputs:
            raise self._wrong_shape(theirs, "a kernel of (inputs..., outputs...)")
        return math.prod(theirs[self.inputs :]), math.prod(theirs[: self.inputs])

    def _lay_out(self, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        return values.reshape(shape[::-1]).T


@dataclass(frozen=True)
class FlaxTubelets(FlaxLayer):
    """A convolution over tubelets, kernel (t, h, w, c, outputs), or over patches, (h, w, c, outputs)."""

    def _weight_shape(self, theirs: tuple[int, ...]) -> tuple[int, ...]:
        if len(theirs) not in (4, 5):
            raise self._wrong_shape(theirs, "a kernel of (t, h, w, channels, outputs)")
        t, h, w, c, outputs = theirs if len(theirs) == 5 else (1, *theirs)
        return outputs, c, t, h, w

    def _lay_out(self, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        outputs, c, t, h, w = shape
        return values.reshape(t, h, w, c, outputs).transpose(4, 3, 0, 1, 2)


@dataclass(frozen=True)
class FlaxBlocks(FlaxLayer):
    """A block-diagonal layer: (blocks, inputs, outputs) and (blocks, outputs); ours is (outputs, inputs)."""

    def _weight_shape(self, theirs: tuple[int, ...]) -> tuple[int, ...]:
        if len(theirs) != 3:
            raise self._wrong_shape(theirs, "(blocks, inputs, outputs)")
        return theirs[0] * theirs[2], theirs[1]

    def _lay_out(self, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        return np.ascontiguousarray(values.transpose(0, 2, 1)).reshape(shape)


def flax_norm(layer: str) -> FlaxLayer:
    """Return the layer norm at a path, which calls its weight scale."""
    return FlaxLayer(layer, weight="scale")

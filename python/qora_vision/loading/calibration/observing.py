"""An engine that records the inputs of each linear layer while a model runs."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qora_vision.engine.ops import Activation, ActivationArray, Engine, FloatArray, Norm, PackedLinear
from qora_vision.engine.tensors import Tensor


class NamedTensors(Mapping[str, Tensor]):
    """Tensors that remember their names: `name_of` finds the name of a tensor object.

    A model reads tensors by name, and passes them to its engine without names. The engine gets the same
    objects, so it can look up their names here.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._names: dict[int, tuple[weakref.ref[Tensor], str]] = {}

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        self._names[id(tensor)] = weakref.ref(tensor), name
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def name_of(self, tensor: Tensor) -> str | None:
        """Return the name of a tensor that was read from here; None for any other."""
        reference, name = self._names.get(id(tensor), (None, None))
        return name if reference is not None and reference() is tensor else None


class ObservingEngine(Engine):
    """A float32 engine that sums x xᵀ over all inputs x of each linear layer that it runs.

    Parameters
    ----------
    tensors
        The tensors of the model that runs on this engine.
    threads
        As in `Engine`.
    """

    def __init__(self, tensors: NamedTensors, *, threads: int | None = None) -> None:
        super().__init__("exact", threads=threads)
        self._tensors = tensors
        self._names: dict[PackedLinear, list[str]] = {}
        self._sums: dict[PackedLinear, FloatArray] = {}
        self._identities: dict[int, PackedLinear] = {}

    def pack(self, weights: Sequence[Tensor], biases: Sequence[FloatArray | None]) -> PackedLinear:
        """Pack weights, and remember their names."""
        packed = super().pack(weights, biases)
        names = (self._tensors.name_of(weight) for weight in weights)
        self._names[packed] = [name for name in names if name is not None]
        return packed

    def grams(self) -> dict[str, FloatArray]:
        """Return the sums so far: name of a weight -> (in, in) float32.

        Weights of one layer share an array. Those whose layer has not run are absent.
        """
        return {name: gram for layer, gram in self._sums.items() for name in self._names[layer]}

    def linear(
        self,
        x: ActivationArray,
        weight: PackedLinear,
        out: ActivationArray,
        *,
        norm: Norm | None = None,
        activation: Activation | None = None,
        residual: FloatArray | None = None,
    ) -> None:
        """Record x, and compute as `Engine` does."""
        self._observe(weight, x if norm is None else self._normed(x, norm))
        super().linear(x, weight, out, norm=norm, activation=activation, residual=residual)

    def mlp(
        self,
        x: ActivationArray,
        fc1: PackedLinear,
        fc2: PackedLinear,
        out: ActivationArray,
        *,
        activation: Activation,
        norm: Norm | None = None,
        residual: FloatArray | None = None,
    ) -> None:
        """Record the inputs of both layers; here the hidden layer is stored whole."""
        hidden = np.empty((len(x), fc1.out_features), np.float32)
        self.linear(x, fc1, hidden, norm=norm, activation=activation)
        self.linear(hidden, fc2, out, residual=residual)

    def tubelet_embed(
        self,
        clip: FloatArray,
        tubelet: tuple[int, int, int],
        weight: PackedLinear,
        out: ActivationArray,
        *,
        residual: FloatArray | None = None,
    ) -> None:
        """Record tubelets as rows, in the order of the weight's values: channel, frame, row, column."""
        frames, channels, height, width = clip.shape
        t, h, w = (size // step for size, step in zip((frames, height, width), tubelet, strict=True))
        (dt, dh, dw) = tubelet
        cut = clip[: t * dt, :, : h * dh, : w * dw].reshape(t, dt, channels, h, dh, w, dw)
        self._observe(weight, cut.transpose(0, 3, 5, 2, 1, 4, 6).reshape(t * h * w, -1))
        super().tubelet_embed(clip, tubelet, weight, out, residual=residual)

    def _normed(self, x: ActivationArray, norm: Norm) -> FloatArray:
        """Return norm(x) for any norm, computed by a linear layer with the identity as its weight."""
        features = x.shape[-1]
        if features not in self._identities:
            self._identities[features] = super().pack([np.eye(features, dtype=np.float32)], [None])
        out = np.empty((len(x), features), np.float32)
        super().linear(x, self._identities[features], out, norm=norm)
        return out

    def _observe(self, weight: PackedLinear, rows: NDArray[Any]) -> None:
        if not self._names.get(weight):
            return
        gram = rows.T @ rows
        if weight in self._sums:
            self._sums[weight] += gram
        else:
            self._sums[weight] = gram

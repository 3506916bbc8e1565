"""Tensors of a layer: their shapes, their storage, and how a layer finds them by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qora_vision.engine.ops import FloatArray
from qora_vision.engine.tensors import QuantizedTensor, Tensor

# How a tensor may be stored. "weight": in the precision of the model file (q4, q8, f16 or f32). "fine
# weight": the same, but with at least eight bits. "table": with at least half precision, such as position
# embeddings. "exact": always float32, such as norms and biases.
Storage = Literal["weight", "fine weight", "table", "exact"]


@dataclass(frozen=True)
class TensorSpec:
    """Shape of a tensor, and how it may be stored."""

    shape: tuple[int, ...]
    storage: Storage = "exact"

    @property
    def quantisable(self) -> bool:
        """Whether it may be stored in four or eight bits."""
        return self.storage in ("weight", "fine weight")


@dataclass(frozen=True)
class TensorScope:
    """The tensors of a layer and of its sub-layers: those whose names begin with a prefix and a dot.

    Each access reads the mapping again. A mapping may create a tensor at each access.

    Attributes
    ----------
    values
        All tensors of the model by their full names.
    prefix
        Full name of the layer; empty for the model itself.
    """

    values: Mapping[str, Tensor]
    prefix: str = ""

    def scope(self, name: str) -> TensorScope:
        """Return the tensors of the sub-layer of this name; with an empty name, those of this layer."""
        return TensorScope(self.values, join_names(self.prefix, name))

    def stored(self, name: str) -> Tensor:
        """Return a tensor as it is stored; `KeyError` if there is none of this name."""
        return self.values[join_names(self.prefix, name)]

    def floats(self, name: str) -> FloatArray:
        """Return a tensor that is never quantised, as a C-contiguous float32 copy.

        A view of a mapped file would keep whole pages in memory for the few values that a pass reads.
        """
        tensor = self.stored(name)
        assert not isinstance(tensor, QuantizedTensor), f"{join_names(self.prefix, name)} is never quantised"
        return np.array(tensor, np.float32, order="C")


def join_names(*names: str) -> str:
    """Join the names of a layer, a sub-layer and so on by dots; empty names are left out."""
    return ".".join(name for name in names if name)

"""Layers that several models share: each packs its weights once and runs on an `Engine`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qora_vision.ops import Activation, Engine, FloatArray, LayerNorm, PackedLinear
from qora_vision.weights.tensors import QuantizedTensor, Tensor

# How a tensor is stored: quantised or in half precision as the model file says; in half precision at most
# (tables such as position embeddings); always float32 (norms and biases).
Storage = Literal["weight", "table", "exact"]


@dataclass(frozen=True)
class TensorSpec:
    """Shape of a model's tensor, and how it may be stored."""

    shape: tuple[int, ...]
    storage: Storage = "exact"


@dataclass(frozen=True)
class Tensors:
    """A model's tensors seen from below a prefix."""

    values: Mapping[str, Tensor]
    prefix: str = ""

    def below(self, name: str) -> Tensors:
        """Return the tensors whose names go on with `name.`."""
        return Tensors(self.values, f"{self.prefix}{name}.")

    def weight(self, name: str) -> Tensor:
        """Return a tensor as it is stored."""
        return self.values[self.prefix + name]

    def floats(self, name: str) -> FloatArray:
        """Return a tensor that is not quantised as contiguous float32."""
        tensor = self.weight(name)
        assert not isinstance(tensor, QuantizedTensor), f"{self.prefix}{name} is never quantised"
        return np.ascontiguousarray(tensor, np.float32)

    def optional_floats(self, name: str) -> FloatArray | None:
        """Return `floats(name)`, or None where the model has no such tensor."""
        return self.floats(name) if self.prefix + name in self.values else None


class Workspace:
    """Activations of one forward pass, allocated once and used by every block."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def floats(self, name: str, *shape: int) -> FloatArray:
        """Return the float32 buffer of this name and shape; its contents are what was left there."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape:
            array = self._arrays[name] = np.empty(shape, np.float32)
        return array


def linear_specs(out_features: int, in_features: int, bias: bool = True) -> Iterator[tuple[str, TensorSpec]]:
    """Yield the tensors of a linear layer."""
    yield "weight", TensorSpec((out_features, in_features), "weight")
    if bias:
        yield "bias", TensorSpec((out_features,))


def norm_specs(features: int) -> Iterator[tuple[str, TensorSpec]]:
    """Yield the tensors of a layer norm."""
    yield "weight", TensorSpec((features,))
    yield "bias", TensorSpec((features,))


def make_norm(tensors: Tensors, eps: float) -> LayerNorm:
    """Make a layer norm of `weight` and `bias`."""
    return LayerNorm(tensors.floats("weight"), tensors.floats("bias"), eps)


def make_linear(engine: Engine, *layers: Tensors) -> PackedLinear:
    """Pack linear layers with the same input as one, outputs in the order of the layers."""
    return engine.pack(
        [layer.weight("weight") for layer in layers], [layer.optional_floats("bias") for layer in layers]
    )


@dataclass(frozen=True)
class BlockConfig:
    """Shape of a pre-norm transformer block; `biased` names those of q, k and v that have a bias."""

    embed_dim: int
    num_heads: int
    mlp_dim: int
    activation: Activation
    norm_eps: float
    biased: str = "qkv"

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.embed_dim // self.num_heads

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return the tensors of the block by name."""
        dim = self.embed_dim
        parts = {
            "norm1": norm_specs(dim),
            "attn.q": linear_specs(dim, dim, "q" in self.biased),
            "attn.k": linear_specs(dim, dim, "k" in self.biased),
            "attn.v": linear_specs(dim, dim, "v" in self.biased),
            "attn.proj": linear_specs(dim, dim),
            "norm2": norm_specs(dim),
            "mlp.fc1": linear_specs(self.mlp_dim, dim),
            "mlp.fc2": linear_specs(dim, self.mlp_dim),
        }
        return {f"{part}.{name}": spec for part, specs in parts.items() for name, spec in specs}


class TransformerBlock:
    """x += proj(attention(norm1(x))); x += fc2(activation(fc1(norm2(x)))): pre-norm, Dosovitskiy et al. 2021.

    Parameters
    ----------
    first_row_only
        Queries, projection and MLP are computed for row 0 of each sequence alone: for the last block of a
        model whose classifier reads the CLS token. Keys and values still come from all rows.
    """

    def __init__(
        self, engine: Engine, config: BlockConfig, tensors: Tensors, first_row_only: bool = False
    ) -> None:
        self._engine = engine
        self._config = config
        self._norm1 = make_norm(tensors.below("norm1"), config.norm_eps)
        self._norm2 = make_norm(tensors.below("norm2"), config.norm_eps)
        q, k, v = (tensors.below(f"attn.{name}") for name in "qkv")
        self._query = make_linear(engine, q) if first_row_only else None
        self._keys_values = make_linear(engine, k, v) if first_row_only else make_linear(engine, q, k, v)
        self._proj = make_linear(engine, tensors.below("attn.proj"))
        self._fc1 = make_linear(engine, tensors.below("mlp.fc1"))
        self._fc2 = make_linear(engine, tensors.below("mlp.fc2"))

    def __call__(self, x: FloatArray, workspace: Workspace, sequences: int = 1) -> FloatArray:
        """Run the block on sequences of one length.

        Parameters
        ----------
        x
            (sequences * rows, embed_dim) float32, changed in place.
        workspace
            Buffers of this forward pass.
        sequences
            How many sequences x holds, one after the other; tokens see their own alone.

        Returns
        -------
        x, or the first row of each sequence (sequences, embed_dim) if the block was made so.
        """
        config, dim, engine = self._config, self._config.embed_dim, self._engine
        rows = x.shape[0] // sequences
        # Each head's rows lie together: attention reads them several times.
        parts = self._keys_values.out_features // dim
        joint = workspace.floats("qkv", parts * config.num_heads, x.shape[0], config.head_dim)
        engine.linear(x, self._keys_values, joint, norm=self._norm1)
        by_head = joint.reshape(parts, config.num_heads, sequences, rows, config.head_dim)
        heads = by_head.transpose(0, 2, 3, 1, 4)
        keys, values = heads[-2], heads[-1]
        if self._query is None:
            queries = heads[0]
        else:
            x = x[::rows]
            query = workspace.floats("query", sequences, dim)
            engine.linear(x, self._query, query, norm=self._norm1)
            queries = query.reshape(sequences, 1, config.num_heads, config.head_dim)

        attended = workspace.floats("attended", x.shape[0], dim)
        engine.attention(queries, keys, values, attended)
        engine.linear(attended, self._proj, x, residual=x)
        engine.mlp(x, self._fc1, self._fc2, x, activation=config.activation, norm=self._norm2, residual=x)
        return x

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        layers = (self._query, self._keys_values, self._proj, self._fc1, self._fc2)
        return sum(layer.nbytes for layer in layers if layer is not None)

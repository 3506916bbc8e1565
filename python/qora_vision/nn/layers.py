"""Layers that several models share: each packs its weights once and runs on an `Engine`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qora_vision.engine.ops import (
    Activation,
    ActivationArray,
    ActivationType,
    Engine,
    FloatArray,
    LayerNorm,
    PackedLinear,
)
from qora_vision.engine.tensors import QuantizedTensor, Tensor

# How a tensor is stored: quantised or in half precision as the model file says; likewise, but never in less
# than eight bits; in half precision at most (tables such as position embeddings); always float32 (norms and
# biases).
Storage = Literal["weight", "fine weight", "table", "exact"]


@dataclass(frozen=True)
class TensorSpec:
    """Shape of a model's tensor, and how it may be stored."""

    shape: tuple[int, ...]
    storage: Storage = "exact"

    @property
    def quantisable(self) -> bool:
        """Whether it may be stored in four or eight bits."""
        return self.storage in ("weight", "fine weight")


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
        """Return a tensor that is not quantised as contiguous float32 of its own.

        A view of a mapped file would bring pages back for every few values that a forward pass reads.
        """
        tensor = self.weight(name)
        assert not isinstance(tensor, QuantizedTensor), f"{self.prefix}{name} is never quantised"
        return np.array(tensor, np.float32, order="C")

    def optional_floats(self, name: str) -> FloatArray | None:
        """Return `floats(name)`, or None where the model has no such tensor."""
        return self.floats(name) if self.prefix + name in self.values else None


class Workspace:
    """Activations of a forward pass or a stream, allocated once and used by every block."""

    def __init__(self) -> None:
        self._rooms: dict[str, FloatArray] = {}
        self._arrays: dict[str, ActivationArray] = {}

    def floats(self, name: str, *shape: int) -> FloatArray:
        """Return the float32 buffer of this name in a shape; its contents are what was left there.

        A name is one place in memory: what it gave in another shape is lost.
        """
        return self.activations(name, np.float32, *shape)

    def activations(self, name: str, dtype: ActivationType, *shape: int) -> ActivationArray:
        """Return the buffer of this name likewise, float32 or bf16."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            size = math.prod(shape)
            floats = -(-size * np.dtype(dtype).itemsize // 4)
            if name not in self._rooms or self._rooms[name].size < floats:
                self._rooms[name] = _aligned_floats(floats)
            array = self._arrays[name] = self._rooms[name].view(dtype)[:size].reshape(shape)
        return array


class Workspaces:
    """The workspaces of a model: as many as forward passes have run at a time, kept for those to come.

    Where the allocator gives large blocks back, new ones for each pass cost a small model 4 % of its time.
    """

    def __init__(self) -> None:
        self._free: list[Workspace] = []

    @contextmanager
    def lend(self) -> Iterator[Workspace]:
        """Yield a workspace that nobody else has until the context ends."""
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = Workspace()
        yield workspace
        self._free.append(workspace)


def _aligned_floats(size: int) -> FloatArray:
    """Allocate an array that begins a cache line: NumPy aligns to 16 bytes, and vectors would cross lines."""
    line = 16
    room = np.empty(size + line - 1, np.float32)
    begin = -room.ctypes.data // room.itemsize % line
    return room[begin : begin + size]


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
    """Shape of a pre-norm transformer block.

    `biased` names those of q, k and v that have a bias. `divided`: attention over time comes before the one
    over space (`DividedBlock`).
    """

    embed_dim: int
    num_heads: int
    mlp_dim: int
    activation: Activation
    norm_eps: float
    biased: str = "qkv"
    divided: bool = False

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.embed_dim // self.num_heads

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return the tensors of the block by name."""
        dim = self.embed_dim
        parts: dict[str, Iterator[tuple[str, TensorSpec]]] = {}
        for norm, attention in (("time_norm", "time"), ("norm1", "attn")):
            if attention == "attn" or self.divided:
                parts[norm] = norm_specs(dim)
                for name in "qkv":
                    parts[f"{attention}.{name}"] = linear_specs(dim, dim, name in self.biased)
                parts[f"{attention}.proj"] = linear_specs(dim, dim)
        parts["norm2"] = norm_specs(dim)
        parts["mlp.fc1"] = linear_specs(self.mlp_dim, dim)
        parts["mlp.fc2"] = linear_specs(dim, self.mlp_dim)
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
        self._joint = make_linear(engine, k, v) if first_row_only else make_linear(engine, q, k, v)
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
        x = self._attend(x, workspace, sequences)
        engine, activation = self._engine, self._config.activation
        engine.mlp(x, self._fc1, self._fc2, x, activation=activation, norm=self._norm2, residual=x)
        return x

    def _attend(self, x: FloatArray, workspace: Workspace, sequences: int) -> FloatArray:
        """Add the attention to x, in place; return the rows that go on."""
        keys, values, queries = self._project(x, workspace, sequences)
        # What is attended to lies over keys and values, which have been read by then.
        heads = heads_buffer(self._config, self._joint, workspace, x.shape[0], keys.dtype.type)
        attended = (
            heads[-2 * self._config.num_heads :].reshape(-1).view(np.float32)[: x.size].reshape(x.shape)
        )
        if self._query is not None:
            x = x[:: x.shape[0] // sequences]
            attended = attended[: x.shape[0]]
        self._engine.attention(queries, keys, values, attended)
        self._engine.linear(attended, self._proj, x, residual=x)
        return x

    @property
    def _heads_type(self) -> ActivationType:
        """What queries, keys and values are stored as; float32 where more than attention reads them."""
        whole_floats = self._config.embed_dim % 2 == 0  # what is attended to lies over them
        return self._engine.attention_type if whole_floats else np.float32

    def _project(
        self, x: FloatArray, workspace: Workspace, sequences: int
    ) -> tuple[ActivationArray, ActivationArray, ActivationArray]:
        """Return keys, values and queries: (sequences, rows or 1, heads, head_dim)."""
        config, engine = self._config, self._engine
        rows = x.shape[0] // sequences
        if self._query is None:
            queries, keys, values = project_heads(
                engine, config, self._joint, self._norm1, x, workspace, rows, self._heads_type
            )
            return keys, values, queries
        keys, values = project_heads(
            engine, config, self._joint, self._norm1, x, workspace, rows, self._heads_type
        )
        query = workspace.floats("query", sequences, config.embed_dim)
        engine.linear(x[::rows], self._query, query, norm=self._norm1)
        return keys, values, query.reshape(sequences, 1, config.num_heads, config.head_dim)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        layers = (self._query, self._joint, self._proj, self._fc1, self._fc2)
        return sum(layer.nbytes for layer in layers if layer is not None)


class TimeAttention:
    """x += proj(attention(norm(x))) where each patch attends to itself in other frames."""

    def __init__(self, engine: Engine, config: BlockConfig, tensors: Tensors) -> None:
        self._engine = engine
        self._config = config
        self._norm = make_norm(tensors.below("time_norm"), config.norm_eps)
        self._joint = make_linear(engine, *(tensors.below(f"time.{name}") for name in "qkv"))
        self._proj = make_linear(engine, tensors.below("time.proj"))

    def __call__(self, x: FloatArray, workspace: Workspace, frames: int, cls_tokens: int) -> None:
        """Change x (frames * rows, embed_dim) in place, but for the `cls_tokens` first rows of a frame."""
        engine, config = self._engine, self._config
        rows = x.shape[0] // frames
        heads = project_heads(engine, config, self._joint, self._norm, x, workspace, rows)
        attended = workspace.floats("attended", x.shape[0], config.embed_dim)
        out = attended.reshape(frames, rows, config.num_heads, config.head_dim)
        out[:, :cls_tokens] = 0.0
        attend_over_time(engine, (part[:, cls_tokens:] for part in (*heads, out)))
        by_frame = x.reshape(frames, rows, config.embed_dim)
        kept = by_frame[:, :cls_tokens].copy()
        engine.linear(attended, self._proj, x, residual=x)
        by_frame[:, :cls_tokens] = kept

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return self._joint.nbytes + self._proj.nbytes


class DividedBlock(TransformerBlock):
    """Attention of each patch over time, then of each frame over space, then the MLP.

    Divided space-time attention of Bertasius et al. 2021, section 3.2: CLS takes no part in the first,
    belongs to every frame in the second, and gets the mean of what the frames find. The projection over time
    is that of the reference's `temporal_attention.output.dense` and `temporal_dense` in one.
    """

    def __init__(
        self, engine: Engine, config: BlockConfig, tensors: Tensors, first_row_only: bool = False
    ) -> None:
        super().__init__(engine, config, tensors, first_row_only)
        self._time = TimeAttention(engine, config, tensors)

    def _attend(self, x: FloatArray, workspace: Workspace, sequences: int) -> FloatArray:
        """Add both attentions: a sequence is a frame's patches behind CLS, the same row in all of them.

        Returns
        -------
        x, or CLS (1, embed_dim) if the block was made so.
        """
        engine, dim = self._engine, self._config.embed_dim
        self._time(x, workspace, sequences, cls_tokens=1)
        keys, values, queries = self._project(x, workspace, sequences)
        if self._query is not None:
            attended = workspace.floats("attended first", sequences, dim)
            engine.attention(queries, keys, values, attended)
            # The projection is linear: that of the mean is the mean of projections.
            attended, x = attended.mean(axis=0, keepdims=True), x[:1]
        else:
            attended = workspace.floats("attended", x.shape[0], dim)
            engine.attention(queries, keys, values, attended)
            by_frame = attended.reshape(sequences, -1, dim)
            by_frame[:, 0] = by_frame[:, 0].mean(axis=0)
        engine.linear(attended, self._proj, x, residual=x)
        return x

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return super().nbytes + self._time.nbytes


def attend_over_time(engine: Engine, parts: Iterable[FloatArray]) -> None:
    """Let each patch attend to itself in other frames.

    Parameters
    ----------
    engine
        How the op runs.
    parts
        Queries, keys, values and the result, each (frames, patches, heads, head_dim).
    """
    queries, keys, values, out = (part.transpose(1, 0, 2, 3) for part in parts)
    engine.short_attention(queries, keys, values, out)


def heads_buffer(
    config: BlockConfig, layer: PackedLinear, workspace: Workspace, tokens: int, dtype: ActivationType
) -> ActivationArray:
    """Return where `project_heads` puts the heads of all projections: (heads, tokens, head_dim)."""
    heads = layer.out_features // config.head_dim
    return workspace.activations("joint", dtype, heads, tokens, config.head_dim)


def project_heads(
    engine: Engine,
    config: BlockConfig,
    layer: PackedLinear,
    norm: LayerNorm,
    x: FloatArray,
    workspace: Workspace,
    rows: int,
    dtype: ActivationType = np.float32,
) -> Sequence[ActivationArray]:
    """Apply a layer that packs several projections; `rows` tokens are a sequence.

    Returns
    -------
    For each projection (sequences, rows, heads, head_dim), views of one buffer. Each head's rows lie
    together: attention reads them several times.
    """
    joint = heads_buffer(config, layer, workspace, x.shape[0], dtype)
    engine.linear(x, layer, joint, norm=norm)
    by_head = joint.reshape(-1, config.num_heads, x.shape[0] // rows, rows, config.head_dim)
    return [part.transpose(1, 2, 0, 3) for part in by_head]

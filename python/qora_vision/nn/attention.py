"""Self-attention with its norm, its projections and its residual: x += proj(attention(norm(x)))."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from qora_vision.engine.ops import ActivationArray, ActivationType, Engine, FloatArray
from qora_vision.nn.layer import Branch, Module
from qora_vision.nn.linear import FusedLinear, Linear
from qora_vision.nn.norm import Norm
from qora_vision.nn.specs import TensorScope
from qora_vision.nn.workspace import Workspace


@dataclass(frozen=True)
class AttentionConfig:
    """Shape of multi-head attention. `biased` holds the letters of the projections with a bias."""

    embed_dim: int
    num_heads: int
    biased: str = "qkv"

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.embed_dim // self.num_heads

    def projection(self, name: str) -> Linear:
        """Return the layer that makes "q", "k" or "v"."""
        return Linear(self.embed_dim, self.embed_dim, name in self.biased)


class QkvProjection(Module):
    """Queries, keys and values of normed rows.

    Parameters
    ----------
    config
        Shape of the attention.
    norm_name, norm
        The norm and its name.
    name
        Prefix of the names of the layers "q", "k" and "v".
    first_row_only
        Compute queries for row 0 of each sequence only.

    Attributes
    ----------
    heads_type
        The dtype of queries, keys and values that attention reads fastest. Use it only if nothing else reads
        them and the result of attention goes to `keys_values_memory`. Not set before `bind`.
    """

    heads_type: ActivationType

    def __init__(
        self, config: AttentionConfig, norm_name: str, norm: Norm, name: str, first_row_only: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.first_row_only = first_row_only
        self._norm = self.add(norm_name, norm)
        self._query = self.add(f"{name}.q", config.projection("q")) if first_row_only else None
        fused = "kv" if first_row_only else "qkv"
        self._fused = self.add(name, FusedLinear({part: config.projection(part) for part in fused}))

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        super().bind(engine, tensors)
        whole_floats = self.config.embed_dim % 2 == 0
        self.heads_type = engine.attention_type if whole_floats else np.float32

    def __call__(
        self, x: FloatArray, workspace: Workspace, sequences: int, dtype: ActivationType = np.float32
    ) -> tuple[ActivationArray, ActivationArray, ActivationArray]:
        """Project x (sequences * rows, embed_dim).

        Returns
        -------
        Queries, keys and values: (sequences, rows, heads, head_dim) of `dtype`, valid until the workspace is
        used for other heads. With `first_row_only` queries are (sequences, 1, heads, head_dim) float32.
        """
        rows = x.shape[0] // sequences
        heads = project_heads(self.config, self._fused, self._norm, x, workspace, rows, dtype)
        if self._query is None:
            queries, keys, values = heads
            return queries, keys, values
        keys, values = heads
        query = workspace.floats("query", sequences, self.config.embed_dim)
        self._query(x[::rows], query, norm=self._norm)
        return query.reshape(sequences, 1, self.config.num_heads, self.config.head_dim), keys, values

    def keys_values_memory(self, rows: int, workspace: Workspace, dtype: ActivationType) -> FloatArray:
        """Return the memory of keys and values as (rows, embed_dim) float32, for the result of attention.

        `Engine.attention` has packed both before it writes its result. `rows` and `dtype` are those of the
        projected heads.
        """
        heads = _heads_buffer(self.config, self._fused, workspace, rows, dtype)
        memory = heads[-2 * self.config.num_heads :].reshape(-1).view(np.float32)
        return memory[: rows * self.config.embed_dim].reshape(rows, self.config.embed_dim)


class SelfAttention(Branch):
    """Each token attends to all tokens of its sequence: layers "norm1" and "attn.q", "k", "v", "proj".

    Parameters
    ----------
    config
        Shape of the attention.
    norm
        Runs on the tokens before they are projected to queries, keys and values.
    first_row_only
        Compute queries and output for row 0 of each sequence only: for the last block of a model whose
        classifier reads the CLS token. Keys and values still come from all rows.
    rotate
        Rotary positions: changes queries and keys, (sequences, rows, heads, head_dim) float32, in place.
        None: the model has none.
    """

    def __init__(
        self,
        config: AttentionConfig,
        norm: Norm,
        first_row_only: bool = False,
        rotate: Callable[[FloatArray], None] | None = None,
    ) -> None:
        super().__init__()
        self._rotate = rotate
        self._project = self.add("", QkvProjection(config, "norm1", norm, "attn", first_row_only))
        self._proj = self.add("attn.proj", Linear(config.embed_dim, config.embed_dim))

    def __call__(self, x: FloatArray, workspace: Workspace, sequences: int = 1) -> FloatArray:
        """Add attention to x (sequences * rows, embed_dim), in place.

        Returns
        -------
        x, or with `first_row_only` the first row of each sequence, (sequences, embed_dim).
        """
        rotate, project = self._rotate, self._project
        dtype = project.heads_type if rotate is None else np.float32
        queries, keys, values = project(x, workspace, sequences, dtype)
        if rotate is not None:
            rotate(keys)
            rotate(queries)
        attended = project.keys_values_memory(x.shape[0], workspace, dtype)
        if project.first_row_only:
            x = x[:: x.shape[0] // sequences]
            attended = attended[: x.shape[0]]
        self._engine.attention(queries, keys, values, attended)
        self._proj(attended, x, residual=x)
        return x


class TimeAttention(Branch):
    """Each patch attends to itself in other frames: layers "time_norm" and "time.q", "k", "v", "proj".

    Parameters
    ----------
    config
        Shape of the attention.
    norm
        As in `SelfAttention`.
    cls_tokens
        The first rows of each frame that take no part and stay unchanged: their number.
    """

    def __init__(self, config: AttentionConfig, norm: Norm, cls_tokens: int = 0) -> None:
        super().__init__()
        self._cls_tokens = cls_tokens
        self._project = self.add("", QkvProjection(config, "time_norm", norm, "time"))
        self._proj = self.add("time.proj", Linear(config.embed_dim, config.embed_dim))

    def __call__(self, x: FloatArray, workspace: Workspace, sequences: int = 1) -> FloatArray:
        """Add attention to x (sequences * rows, embed_dim), in place; a sequence is a frame."""
        cls = self._cls_tokens
        heads = self._project(x, workspace, sequences)
        attended = workspace.floats("attended", *x.shape)
        out = attended.reshape(heads[0].shape)
        out[:, :cls] = 0.0
        attend_over_time(self._engine, (part[:, cls:] for part in (*heads, out)))
        by_frame = x.reshape(sequences, -1, x.shape[1])
        kept = by_frame[:, :cls].copy()
        self._proj(attended, x, residual=x)
        by_frame[:, :cls] = kept
        return x


def attend_over_time(engine: Engine, parts: Iterable[FloatArray]) -> None:
    """Let each patch attend to itself in other frames.

    Parameters
    ----------
    engine
        Runs the op.
    parts
        Queries, keys, values and the result, each (frames, patches, heads, head_dim) float32.
    """
    queries, keys, values, out = (part.transpose(1, 0, 2, 3) for part in parts)
    engine.short_attention(queries, keys, values, out)


def project_heads(
    config: AttentionConfig,
    layer: FusedLinear,
    norm: Norm,
    x: FloatArray,
    workspace: Workspace,
    rows: int,
    dtype: ActivationType = np.float32,
) -> Sequence[ActivationArray]:
    """Apply a layer that packs several projections; a sequence has `rows` tokens.

    Returns
    -------
    For each projection (sequences, rows, heads, head_dim) of `dtype`, views of one buffer. The rows of a head
    are contiguous, because attention reads them several times.
    """
    fused = _heads_buffer(config, layer, workspace, x.shape[0], dtype)
    layer(x, fused, norm=norm)
    by_head = fused.reshape(-1, config.num_heads, x.shape[0] // rows, rows, config.head_dim)
    return [part.transpose(1, 2, 0, 3) for part in by_head]


def _heads_buffer(
    config: AttentionConfig, layer: FusedLinear, workspace: Workspace, tokens: int, dtype: ActivationType
) -> ActivationArray:
    """Return the buffer for the heads of all projections: (heads, tokens, head_dim)."""
    heads = layer.out_features // config.head_dim
    return workspace.activations("joint", dtype, heads, tokens, config.head_dim)

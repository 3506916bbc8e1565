"""V-JEPA 2: an encoder with rotary positions in three dimensions; for a classifier, pooled by attention.

Assran et al. 2025, "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning",
sections 2 and 4; Su et al. 2021, "RoFormer" for rotary positions. Reference: `VJEPA2ForVideoClassification`
of Hugging Face transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.models.base import Model, OnBlock, Output, reporter
from qora_vision.models.vit import MAX_DEPTH, VitConfig
from qora_vision.nn.attention import SelfAttention, project_heads
from qora_vision.nn.block import Block, BlockConfig, Stack, plain_stack
from qora_vision.nn.embedding import Table
from qora_vision.nn.heads import Head, TokenMean
from qora_vision.nn.layer import Layer, Module
from qora_vision.nn.linear import FusedLinear
from qora_vision.nn.specs import TensorScope, TensorSpec
from qora_vision.nn.workspace import Workspace

# Base of the frequencies of rotary positions.
_ROTARY_BASE = 10000.0


@dataclass(frozen=True)
class Vjepa2Config(VitConfig):
    """Shape of a V-JEPA 2; the defaults are those of ViT-L on 16 frames.

    `pooler_depth`: blocks of self-attention before the query of the pooler attends to their output. A model
    without a classifier has no pooler.
    """

    name: ClassVar[str] = "vjepa2"

    image_size: tuple[int, int] = (256, 256)
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_dim: int = 4096
    qkv_bias: bool = True
    pooler_depth: int = 3
    pooler_heads: int = 16
    pooler_mlp_dim: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooler_depth > MAX_DEPTH:
            raise ValueError(
                f"{self.name}: pooler_depth must be at most {MAX_DEPTH}, got {self.pooler_depth}"
            )
        if self.embed_dim % self.pooler_heads:
            raise ValueError(
                f"{self.name}: embed_dim {self.embed_dim} is no multiple of pooler_heads {self.pooler_heads}"
            )

    @property
    def sequence_length(self) -> int:
        """Tokens: the tubelets."""
        return self.num_tubelets

    @property
    def block(self) -> BlockConfig:
        """Shape of each block of the encoder."""
        return replace(super().block, biased="qkv" if self.qkv_bias else "")

    @property
    def pooler_block(self) -> BlockConfig:
        """Shape of each block of the pooler."""
        return replace(super().block, num_heads=self.pooler_heads, mlp_dim=self.pooler_mlp_dim)

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name; positions are computed."""
        return Vjepa2(self).specs()


class Rotary(Layer):
    """Rotates queries and keys by the positions of their tokens; it has no tensor.

    The angles are computed when the layer is bound. All blocks use the same ones.
    """

    _engine: Engine
    _angles: tuple[FloatArray, FloatArray]

    def __init__(self, grid: tuple[int, int, int], head_dim: int) -> None:
        self._grid = grid
        self._head_dim = head_dim

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        return {}

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        self._engine = engine
        self._angles = rotary_angles(self._grid, self._head_dim)

    @property
    def nbytes(self) -> int:
        """Bytes of cosines and sines."""
        return sum(table.nbytes for table in self._angles)

    def __call__(self, heads: FloatArray) -> None:
        """Rotate heads (sequences, rows, heads, head_dim) in place."""
        cosines, sines = (table[: heads.shape[1]] for table in self._angles)
        self._engine.rotate(heads, cosines, sines)


class AttentivePooler(Module):
    """z = token + attention(query, k(norm(x)), v(norm(x))); z += fc2(activation(fc1(norm2(z)))).

    The token is learned, and the query a projection of it: neither depends on the clip. Heads are merged
    without a projection.
    """

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self._config = config.attention
        self._token = self.add("token", Table(config.embed_dim))
        self._query = self.add("query", Table(config.embed_dim))
        self._kv_norm = self.add("kv_norm", config.norm())
        self._keys_values = self.add("", FusedLinear({name: self._config.projection(name) for name in "kv"}))
        self._mlp = self.add("", config.mlp())

    def __call__(self, x: FloatArray, workspace: Workspace) -> FloatArray:
        """Pool the tokens x (rows, embed_dim) to a new array (1, embed_dim)."""
        config, engine = self._config, self._engine
        keys, values = project_heads(
            config, self._keys_values, self._kv_norm, x, workspace, x.shape[0], engine.attention_type
        )
        pooled = np.empty((1, config.embed_dim), np.float32)
        query = self._query.values.reshape(1, 1, config.num_heads, config.head_dim)
        engine.attention(query, keys, values, pooled)
        pooled += self._token.values
        return self._mlp(pooled, workspace)


class PooledHead(Module):
    """The classifier: blocks of self-attention, the pooler, a linear layer."""

    def __init__(self, config: Vjepa2Config, num_classes: int) -> None:
        super().__init__()
        block = config.pooler_block
        self._blocks = self.add("pooler.blocks", plain_stack(block, config.pooler_depth))
        self._pooler = self.add("pooler", AttentivePooler(block))
        self._head = self.add("", Head(config.embed_dim, num_classes))

    def __call__(
        self, x: FloatArray, workspace: Workspace, report: Callable[[FloatArray], None]
    ) -> tuple[FloatArray, FloatArray]:
        """Classify the tokens x (rows, embed_dim), which are changed; returns what `Head` does."""
        self._blocks(x, workspace, report)
        return self._head(self._pooler(x, workspace))


class Vjepa2(Model):
    """The network; see `Model`. `on_block` gets the encoder's blocks first, then those of the pooler."""

    config: Vjepa2Config

    def __init__(self, config: Vjepa2Config) -> None:
        super().__init__(config)
        block = config.block
        rotary = self.add("", Rotary(config.grid, block.head_dim))
        self._embed = self.add("embed", config.embedding())
        self._blocks = self.add(
            "blocks",
            Stack(
                Block(SelfAttention(block.attention, block.norm(), rotate=rotary), block.mlp())
                for _ in range(config.depth)
            ),
        )
        self._norm = self.add("norm", config.norm())
        classes = config.num_classes
        end = TokenMean() if classes is None else PooledHead(config, classes)
        self._end = self.add("", end)

    def run(self, clip: FloatArray, workspace: Workspace, on_block: OnBlock | None) -> Output:
        """See `Model`."""
        config, report = self.config, reporter(on_block)
        x = workspace.floats("x", config.sequence_length, config.embed_dim)
        self._embed(clip, x)
        report(x)
        self._blocks(x, workspace, report)
        self._norm(x, x)
        if isinstance(self._end, TokenMean):
            return Output(*self._end(x))
        return Output(*self._end(x, workspace, report))


def rotary_angles(grid: tuple[int, int, int], head_dim: int) -> tuple[FloatArray, FloatArray]:
    """Return cosines and sines of the angles of a head's channels, for `Engine.rotate`.

    An even number r of channels, about a third, belongs to each axis of the grid; the remaining channels do
    not rotate. There are r / 2 frequencies, 10000^(-2k / r). The reference repeats the whole list of them to
    fill r channels, but rotates neighbouring channels as a pair. So the two channels of a pair have different
    frequencies. This is not a rotation, but the weights were trained with it.

    Returns
    -------
    Two (tokens, 3 r) float32 arrays; tokens are ordered by frame, row, column.
    """
    pairs = head_dim // 6
    frequencies = _ROTARY_BASE ** (-np.arange(pairs) / max(pairs, 1))
    positions = np.indices(grid).reshape(3, -1, 1)
    angles = np.concatenate([np.tile(axis * frequencies, 2) for axis in positions], axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

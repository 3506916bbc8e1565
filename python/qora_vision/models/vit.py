"""What vision transformers over the tubelets of a clip have in common: their config, and the classifier.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"; Arnab et al. 2021 for tubelets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qora_vision.engine.ops import Activation, Engine, FloatArray, LayerNorm
from qora_vision.models.base import Output, check_fields
from qora_vision.nn.layers import (
    BlockConfig,
    Tensors,
    TensorSpec,
    TransformerBlock,
    Workspace,
    linear_specs,
    make_linear,
)

# Far above every published model: a damaged config must not make us list tensors for ever.
MAX_DEPTH = 1000


@dataclass(frozen=True)
class VitConfig:
    """Shape of a transformer over tubelets; defaults are those of ViT-B/16 on 16 frames.

    `tubelet_size` is (frames, height, width), `image_size` (height, width) in pixels.
    """

    # Name of the architecture, for errors.
    name: ClassVar[str] = "vit"

    num_classes: int
    num_frames: int = 16
    image_size: tuple[int, int] = (224, 224)
    num_channels: int = 3
    tubelet_size: tuple[int, int, int] = (2, 16, 16)
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    activation: Activation = "gelu"
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        check_fields(self.name, self)
        if self.depth > MAX_DEPTH:
            raise ValueError(f"{self.name}: depth must be at most {MAX_DEPTH}, got {self.depth}")
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"{self.name}: embed_dim {self.embed_dim} is no multiple of num_heads {self.num_heads}"
            )
        if min(self.grid) < 1:
            raise ValueError(
                f"{self.name}: a clip of {self.clip_shape} is smaller than one tubelet {self.tubelet_size}"
            )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tubelets along time, height and width; what does not fill one is dropped."""
        (t, h, w), (height, width) = self.tubelet_size, self.image_size
        return self.num_frames // t, height // h, width // w

    @property
    def num_tubelets(self) -> int:
        """Tubelets of a clip."""
        return math.prod(self.grid)

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, C, H, W) of a clip."""
        return self.num_frames, self.num_channels, *self.image_size

    @property
    def block(self) -> BlockConfig:
        """Shape of each transformer block."""
        return BlockConfig(self.embed_dim, self.num_heads, self.mlp_dim, self.activation, self.norm_eps)

    def embed_specs(self) -> dict[str, TensorSpec]:
        """Return the tensors of the tubelet embedding."""
        weight = TensorSpec((self.embed_dim, self.num_channels, *self.tubelet_size), "weight")
        return {"embed.weight": weight, "embed.bias": TensorSpec((self.embed_dim,))}

    def block_specs(self) -> dict[str, TensorSpec]:
        """Return the tensors of all blocks."""
        block = self.block.tensor_specs()
        return {f"blocks.{i}.{name}": spec for i in range(self.depth) for name, spec in block.items()}

    def head_specs(self, pre_logits_dim: int | None = None) -> dict[str, TensorSpec]:
        """Return the tensors of `Head`; `pre_logits_dim` is the width of its tanh layer, if it has one."""
        specs = {}
        if pre_logits_dim is not None:
            layer = linear_specs(pre_logits_dim, self.embed_dim)
            specs = {f"pre_logits.{name}": spec for name, spec in layer}
        head = linear_specs(self.num_classes, pre_logits_dim or self.embed_dim)
        return specs | {f"head.{name}": spec for name, spec in head}


class Blocks:
    """A stack of transformer blocks, named as `VitConfig.block_specs` does.

    Parameters
    ----------
    engine, config
        See `TransformerBlock`.
    depth
        How many.
    tensors
        Those that hold "blocks.0" and so on.
    first_row_only
        The last block computes row 0 of each sequence alone.
    kind
        Of block: what makes one of an engine, a config, its tensors, and whether it computes row 0 alone.
    """

    def __init__(
        self,
        engine: Engine,
        config: BlockConfig,
        depth: int,
        tensors: Tensors,
        first_row_only: bool = False,
        kind: Callable[[Engine, BlockConfig, Tensors, bool], TransformerBlock] = TransformerBlock,
    ) -> None:
        self._blocks = [
            kind(engine, config, tensors.below(f"blocks.{i}"), first_row_only and i == depth - 1)
            for i in range(depth)
        ]

    def __call__(
        self, x: FloatArray, workspace: Workspace, report: Callable[[FloatArray], None], sequences: int = 1
    ) -> FloatArray:
        """Run all blocks on x (sequences * rows, embed_dim), changed in place, and report after each."""
        for block in self._blocks:
            x = block(x, workspace, sequences)
            report(x)
        return x

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return sum(block.nbytes for block in self._blocks)


class Head:
    """Linear layer on one row, which is the embedding, behind a tanh layer where there are `pre_logits`."""

    def __init__(self, engine: Engine, tensors: Tensors, pre_logits: bool = False) -> None:
        self._engine = engine
        self._pre_logits = make_linear(engine, tensors.below("pre_logits")) if pre_logits else None
        self._linear = make_linear(engine, tensors.below("head"))

    def __call__(self, row: FloatArray) -> Output:
        """Classify a (1, embed_dim) float32 row."""
        if self._pre_logits is not None:
            wide = np.empty((1, self._pre_logits.out_features), np.float32)
            self._engine.linear(row, self._pre_logits, wide)
            row = np.tanh(wide)
        logits = np.empty((1, self._linear.out_features), np.float32)
        self._engine.linear(row, self._linear, logits)
        return Output(logits[0], row[0])

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return self._linear.nbytes + (0 if self._pre_logits is None else self._pre_logits.nbytes)


class Classifier:
    """Layer norm and linear layer on one row: its norm is the embedding, the rest the logits."""

    def __init__(self, engine: Engine, norm: LayerNorm, tensors: Tensors) -> None:
        self._engine = engine
        self._norm = norm
        self._head = Head(engine, tensors)

    def __call__(self, row: FloatArray) -> Output:
        """Classify a (1, embed_dim) float32 row."""
        embedding = np.empty((1, row.shape[1]), np.float32)
        self._engine.layer_norm(row, self._norm, embedding)
        return self._head(embedding)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return self._head.nbytes

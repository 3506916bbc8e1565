"""ViViT with joint space-time attention (Model 1 of Arnab et al. 2021, "ViViT: A Video Vision Transformer").

Reference: `VivitForVideoClassification` of Hugging Face transformers, and scenic's projects/vivit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qora_vision.layers import (
    BlockConfig,
    Tensors,
    TensorSpec,
    TransformerBlock,
    Workspace,
    linear_specs,
    make_linear,
    make_norm,
    norm_specs,
)
from qora_vision.models.base import Output, check_clip, check_fields
from qora_vision.ops import Activation, Engine, FloatArray
from qora_vision.weights.tensors import Tensor

# Far above every published model: a damaged config must not make us list tensors for ever.
MAX_DEPTH = 1000


@dataclass(frozen=True)
class VivitConfig:
    """Shape of a ViViT; `tubelet_size` is (frames, height, width), `image_size` (height, width) in pixels."""

    num_classes: int
    num_frames: int = 32
    image_size: tuple[int, int] = (224, 224)
    num_channels: int = 3
    tubelet_size: tuple[int, int, int] = (2, 16, 16)
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    activation: Activation = "gelu_tanh"
    norm_eps: float = 1e-6
    qkv_bias: bool = True

    def __post_init__(self) -> None:
        check_fields("vivit", self)
        if self.depth > MAX_DEPTH:
            raise ValueError(f"vivit: depth must be at most {MAX_DEPTH}, got {self.depth}")
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"vivit: embed_dim {self.embed_dim} is no multiple of num_heads {self.num_heads}"
            )
        if min(self.grid) < 1:
            raise ValueError(
                f"vivit: a clip of {self.clip_shape} is smaller than one tubelet {self.tubelet_size}"
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
    def sequence_length(self) -> int:
        """Tokens: the tubelets and CLS."""
        return self.num_tubelets + 1

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, C, H, W) of a clip."""
        return self.num_frames, self.num_channels, *self.image_size

    @property
    def block(self) -> BlockConfig:
        """Shape of each transformer block."""
        return BlockConfig(
            self.embed_dim, self.num_heads, self.mlp_dim, self.activation, self.norm_eps, self.qkv_bias
        )

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name."""
        specs = {
            "cls_token": TensorSpec((self.embed_dim,), "table"),
            "pos_embed": TensorSpec((self.sequence_length, self.embed_dim), "table"),
            "embed.weight": TensorSpec((self.embed_dim, self.num_channels, *self.tubelet_size), "weight"),
            "embed.bias": TensorSpec((self.embed_dim,)),
        }
        block = self.block.tensor_specs()
        specs |= {f"blocks.{i}.{name}": spec for i in range(self.depth) for name, spec in block.items()}
        specs |= {f"norm.{name}": spec for name, spec in norm_specs(self.embed_dim)}
        return specs | {f"head.{name}": spec for name, spec in linear_specs(self.num_classes, self.embed_dim)}


class Vivit:
    """The network, with its weights packed for one engine.

    Parameters
    ----------
    config
        Shape of the model.
    tensors
        By the names of `config.tensor_specs()`; not needed any more once the model is made.
    engine
        How its ops run.
    """

    def __init__(self, config: VivitConfig, tensors: Mapping[str, Tensor], engine: Engine) -> None:
        named = Tensors(tensors)
        self.config = config
        self._engine = engine
        positions = named.floats("pos_embed")
        self._cls_row = named.floats("cls_token") + positions[0]
        self._positions = positions[1:]
        self._embed = make_linear(engine, named.below("embed"))
        self._blocks = [
            TransformerBlock(
                engine, config.block, named.below(f"blocks.{i}"), first_row_only=i == config.depth - 1
            )
            for i in range(config.depth)
        ]
        self._norm = make_norm(named.below("norm"), config.norm_eps)
        self._head = make_linear(engine, named.below("head"))

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        packed = sum(block.nbytes for block in self._blocks) + self._embed.nbytes + self._head.nbytes
        return packed + self._positions.nbytes

    def forward(self, clip: FloatArray, on_block: Callable[[int, FloatArray], None] | None = None) -> Output:
        """Classify one clip.

        Parameters
        ----------
        clip
            (T, C, H, W) float32, preprocessed, C-contiguous, of exactly the configured size.
        on_block
            Called with 0 and the embedded tokens, then with i and the output of block i: (sequence_length,
            embed_dim) float32, valid during the call; the last block computes row 0 alone, (1, embed_dim).

        Raises
        ------
        VideoError
            If the clip has another shape or dtype.
        """
        config, engine = self.config, self._engine
        check_clip(clip, config.clip_shape)
        workspace = Workspace()
        x = workspace.floats("x", config.sequence_length, config.embed_dim)
        x[0] = self._cls_row
        engine.tubelet_embed(clip, config.tubelet_size, self._embed, x[1:], residual=self._positions)
        if on_block is not None:
            on_block(0, x)
        for i, block in enumerate(self._blocks, start=1):
            x = block(x, workspace)
            if on_block is not None:
                on_block(i, x)

        embedding = np.empty((1, config.embed_dim), np.float32)
        engine.layer_norm(x[:1], self._norm, embedding)
        logits = np.empty((1, config.num_classes), np.float32)
        engine.linear(embedding, self._head, logits)
        return Output(logits[0], embedding[0])

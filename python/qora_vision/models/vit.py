"""The common part of the configs of vision transformers over tubelets.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"; Arnab et al. 2021 for tubelets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from qora_vision.engine.ops import Activation
from qora_vision.models.base import check_fields
from qora_vision.nn.block import BlockConfig
from qora_vision.nn.embedding import TubeletEmbedding
from qora_vision.nn.heads import NormedHead, TokenMean
from qora_vision.nn.norm import LayerNorm

# Far above every published model. It bounds the list of tensors that a damaged config leads to.
MAX_DEPTH = 1000


@dataclass(frozen=True)
class VitConfig:
    """Shape of a transformer over tubelets; defaults are those of ViT-B/16 on 16 frames.

    `tubelet_size` is (frames, height, width), `image_size` (height, width) in pixels. `num_classes` is None
    where there is no classifier: the network embeds.
    """

    # Name of the architecture, for errors.
    name: ClassVar[str] = "vit"

    num_classes: int | None
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
        """Tubelets along time, height and width; pixels that do not fill a tubelet are dropped."""
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

    def embedding(self) -> TubeletEmbedding:
        """Return the layer that embeds tubelets."""
        return TubeletEmbedding(self.tubelet_size, self.num_channels, self.embed_dim)

    def norm(self) -> LayerNorm:
        """Return the layer norm after the blocks."""
        return LayerNorm(self.embed_dim, self.norm_eps)

    def end(self) -> NormedHead | TokenMean:
        """Return what follows the blocks: a layer norm, and the classifier if there is one."""
        if self.num_classes is None:
            return TokenMean(("norm", self.norm()))
        return NormedHead("norm", self.norm(), self.embed_dim, self.num_classes)

"""ViViT whose attention is factorised in each block: Models 3 and 4 of Arnab et al. 2021, section 3.3.

Reference: `ViViT` of google-research/scenic, projects/vivit/model.py, attention types
"factorized_self_attention_block" and "factorized_dot_product_attention".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from qora_vision.engine.ops import Activation, FloatArray
from qora_vision.models.base import Model, OnBlock, Output, reporter
from qora_vision.models.vit import VitConfig
from qora_vision.nn.attention import QkvProjection, SelfAttention, TimeAttention, attend_over_time
from qora_vision.nn.block import Block, BlockConfig, Stack
from qora_vision.nn.embedding import Table
from qora_vision.nn.heads import Head
from qora_vision.nn.layer import Branch
from qora_vision.nn.linear import Linear
from qora_vision.nn.specs import TensorSpec
from qora_vision.nn.workspace import Workspace

# Over time and then over space, the reverse, or over both at once with half of the heads each.
FactorisedAttention = Literal["time_space", "space_time", "dot_product"]


@dataclass(frozen=True)
class VivitFactorisedAttentionConfig(VitConfig):
    """Shape of the model; the defaults are those of size B/16x2. There is no CLS: tokens are averaged.

    `attention`: the order of the two attentions of a block ("time_space" or "space_time", Model 3), or one
    whose first half of heads looks over time and the rest over space ("dot_product", Model 4).
    `pre_logits_dim`: width of a tanh layer before the classifier, None where there is none.
    """

    name: ClassVar[str] = "vivit_factorised_attention"

    num_classes: int
    num_frames: int = 32
    activation: Activation = "gelu_tanh"
    attention: FactorisedAttention = "time_space"
    pre_logits_dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention == "dot_product" and self.num_heads % 2:
            raise ValueError(
                f"{self.name}: num_heads must be even (half of the heads attend over time, half over space), "
                f"got {self.num_heads}"
            )

    @property
    def sequence_length(self) -> int:
        """Tokens that one attention sees at most."""
        return max(self.grid[0], self.grid[1] * self.grid[2])

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name."""
        return VivitFactorisedAttention(self).specs()


class TimeSpaceAttention(Branch):
    """Attention over time and attention over space, in either order. A sequence is a frame."""

    def __init__(self, config: BlockConfig, time_first: bool) -> None:
        super().__init__()
        time = self.add("", TimeAttention(config.attention, config.norm()))
        space = self.add("", SelfAttention(config.attention, config.norm()))
        self._in_order: tuple[Branch, Branch] = (time, space) if time_first else (space, time)

    def __call__(self, x: FloatArray, workspace: Workspace, sequences: int = 1) -> FloatArray:
        """See `Branch`."""
        for attention in self._in_order:
            x = attention(x, workspace, sequences)
        return x


class DotProductAttention(Branch):
    """One attention whose first half of heads looks over time, the rest over space. A sequence is a frame."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self._project = self.add("", QkvProjection(config.attention, "norm1", config.norm(), "attn"))
        self._proj = self.add("attn.proj", Linear(config.embed_dim, config.embed_dim))

    def __call__(self, x: FloatArray, workspace: Workspace, sequences: int = 1) -> FloatArray:
        """See `Branch`."""
        queries, keys, values = self._project(x, workspace, sequences)
        heads, head_dim = queries.shape[2:]
        half = heads // 2
        attended = workspace.floats("attended", *x.shape)
        by_head = attended.reshape(queries.shape)
        attend_over_time(self._engine, (part[:, :, :half] for part in (queries, keys, values, by_head)))
        over_space = attended[:, half * head_dim :]
        self._engine.attention(queries[:, :, half:], keys[:, :, half:], values[:, :, half:], over_space)
        self._proj(attended, x, residual=x)
        return x


class VivitFactorisedAttention(Model):
    """The network; see `Model`. `on_block` gets (num_tubelets, embed_dim), by time, row and column."""

    config: VivitFactorisedAttentionConfig

    def __init__(self, config: VivitFactorisedAttentionConfig) -> None:
        super().__init__(config)
        self._embed = self.add("embed", config.embedding())
        self._blocks = self.add("blocks", Stack(self._block() for _ in range(config.depth)))
        self._positions = self.add("pos_embed", Table(config.num_tubelets, config.embed_dim))
        self._norm = self.add("norm", config.norm())
        self._head = self.add("", Head(config.embed_dim, config.num_classes, config.pre_logits_dim))

    def _block(self) -> Block:
        config, kind = self.config.block, self.config.attention
        if kind == "dot_product":
            return Block(DotProductAttention(config), config.mlp())
        return Block(TimeSpaceAttention(config, time_first=kind == "time_space"), config.mlp())

    def run(self, clip: FloatArray, workspace: Workspace, on_block: OnBlock | None) -> Output:
        """See `Model`."""
        config, report = self.config, reporter(on_block)
        x = workspace.floats("x", config.num_tubelets, config.embed_dim)
        self._embed(clip, x, residual=self._positions.values)
        report(x)
        x = self._blocks(x, workspace, report, sequences=config.grid[0])
        self._norm(x, x)
        return Output(*self._head(x.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)))

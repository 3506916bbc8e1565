"""ViViT whose attention is factorised in each block: Models 3 and 4 of Arnab et al. 2021, section 3.3.

Reference: `ViViT` of google-research/scenic, projects/vivit/model.py, attention types
"factorized_self_attention_block" and "factorized_dot_product_attention".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from qora_vision.engine.ops import Activation, ActivationType, Engine, FloatArray
from qora_vision.engine.tensors import Tensor
from qora_vision.models.base import Output, check_clip, reporter
from qora_vision.models.vit import Blocks, Head, VitConfig
from qora_vision.nn.layers import (
    BlockConfig,
    Tensors,
    TensorSpec,
    TimeAttention,
    TransformerBlock,
    Workspace,
    Workspaces,
    attend_over_time,
    make_linear,
    make_norm,
    norm_specs,
)

# Over time and then over space, the other way about, or over both at once, each with half of the heads.
FactorisedAttention = Literal["time_space", "space_time", "dot_product"]


@dataclass(frozen=True)
class VivitFactorisedAttentionConfig(VitConfig):
    """Shape of the model; the defaults are those of size B/16x2. There is no CLS: tokens are averaged.

    `attention`: the order of the two attentions of a block ("time_space" or "space_time", Model 3), or one
    whose first half of heads looks over time and the rest over space ("dot_product", Model 4).
    `pre_logits_dim`: width of a tanh layer before the classifier, None where there is none.
    """

    name: ClassVar[str] = "vivit_factorised_attention"

    num_frames: int = 32
    activation: Activation = "gelu_tanh"
    attention: FactorisedAttention = "time_space"
    pre_logits_dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention == "dot_product" and self.num_heads % 2:
            raise ValueError(
                f"{self.name}: half of the heads look over time, half over space: {self.num_heads} is odd"
            )

    @property
    def sequence_length(self) -> int:
        """Tokens that one attention sees at most."""
        return max(self.grid[0], self.grid[1] * self.grid[2])

    @property
    def block(self) -> BlockConfig:
        """Shape of each transformer block."""
        return replace(super().block, divided=self.attention != "dot_product")

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name."""
        dim = self.embed_dim
        specs = self.embed_specs() | self.block_specs()
        specs["pos_embed"] = TensorSpec((self.num_tubelets, dim), "table")
        specs |= {f"norm.{name}": spec for name, spec in norm_specs(dim)}
        return specs | self.head_specs(self.pre_logits_dim)


class TimeSpaceBlock(TransformerBlock):
    """Attention over time, then over space, then the MLP. A sequence is a frame."""

    def __init__(
        self, engine: Engine, config: BlockConfig, tensors: Tensors, first_row_only: bool = False
    ) -> None:
        super().__init__(engine, config, tensors, first_row_only)
        self._time = TimeAttention(engine, config, tensors)

    def _attend(self, x: FloatArray, workspace: Workspace, sequences: int) -> FloatArray:
        self._time(x, workspace, sequences, cls_tokens=0)
        return super()._attend(x, workspace, sequences)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return super().nbytes + self._time.nbytes


class SpaceTimeBlock(TimeSpaceBlock):
    """Attention over space, then over time, then the MLP. A sequence is a frame."""

    def _attend(self, x: FloatArray, workspace: Workspace, sequences: int) -> FloatArray:
        x = TransformerBlock._attend(self, x, workspace, sequences)
        self._time(x, workspace, sequences, cls_tokens=0)
        return x


class DotProductBlock(TransformerBlock):
    """One attention whose first half of heads looks over time, the rest over space. A sequence is a frame."""

    @property
    def _heads_type(self) -> ActivationType:
        return np.float32  # over time in float32

    def _attend(self, x: FloatArray, workspace: Workspace, sequences: int) -> FloatArray:
        keys, values, queries = self._project(x, workspace, sequences)
        engine, half = self._engine, self._config.num_heads // 2
        attended = workspace.floats("attended", *x.shape)
        by_head = attended.reshape(queries.shape)
        attend_over_time(engine, (part[:, :, :half] for part in (queries, keys, values, by_head)))
        over_space = attended[:, half * self._config.head_dim :]
        engine.attention(queries[:, :, half:], keys[:, :, half:], values[:, :, half:], over_space)
        engine.linear(attended, self._proj, x, residual=x)
        return x


_BLOCKS: dict[FactorisedAttention, type[TransformerBlock]] = {
    "time_space": TimeSpaceBlock,
    "space_time": SpaceTimeBlock,
    "dot_product": DotProductBlock,
}


class VivitFactorisedAttention:
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

    def __init__(
        self, config: VivitFactorisedAttentionConfig, tensors: Mapping[str, Tensor], engine: Engine
    ) -> None:
        named = Tensors(tensors)
        self.config = config
        self._engine = engine
        self._workspaces = Workspaces()
        self._positions = named.floats("pos_embed")
        self._embed = make_linear(engine, named.below("embed"))
        self._blocks = Blocks(engine, config.block, config.depth, named, kind=_BLOCKS[config.attention])
        self._norm = make_norm(named.below("norm"), config.norm_eps)
        self._head = Head(engine, named, pre_logits=config.pre_logits_dim is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights, and of the positions."""
        return sum(part.nbytes for part in (self._embed, self._blocks, self._head, self._positions))

    def forward(self, clip: FloatArray, on_block: Callable[[int, FloatArray], None] | None = None) -> Output:
        """Classify one clip.

        Parameters
        ----------
        clip
            (T, C, H, W) float32, preprocessed, C-contiguous, of exactly the configured size.
        on_block
            Called with 0 and the embedded tokens, then with i and the output of block i: (num_tubelets,
            embed_dim) float32, by time, row and column, valid during the call.

        Raises
        ------
        VideoError
            If the clip has another shape or dtype.
        """
        config, engine = self.config, self._engine
        check_clip(clip, config.clip_shape)
        report = reporter(on_block)
        with self._workspaces.lend() as workspace:
            x = workspace.floats("x", config.num_tubelets, config.embed_dim)
            engine.tubelet_embed(clip, config.tubelet_size, self._embed, x, residual=self._positions)
            report(x)
            x = self._blocks(x, workspace, report, sequences=config.grid[0])
            engine.layer_norm(x, self._norm, x)
            return self._head(x.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32))

"""TimeSformer: attention over time and over space in turn, over both at once, or over space alone.

Bertasius, Wang & Torresani 2021, "Is Space-Time Attention All You Need for Video Understanding?". Reference:
`TimesformerForVideoClassification` of Hugging Face transformers, and facebookresearch/TimeSformer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.models.base import Model, OnBlock, Output, reporter
from qora_vision.models.vit import VitConfig
from qora_vision.nn.attention import QkvProjection, TimeAttention
from qora_vision.nn.block import Block, BlockConfig, Stack, plain_stack
from qora_vision.nn.layer import Branch, Layer
from qora_vision.nn.linear import Linear
from qora_vision.nn.specs import TensorScope, TensorSpec
from qora_vision.nn.workspace import Workspace

AttentionType = Literal["divided_space_time", "joint_space_time", "space_only"]


@dataclass(frozen=True)
class TimesformerConfig(VitConfig):
    """Shape of a TimeSformer; the defaults are those of TimeSformer-B. A tubelet is one frame thick.

    `frame_average` matters for "space_only" alone: the classifier reads the mean of the frames' CLS tokens,
    as in the original, else each frame's, and the logits are averaged.
    """

    name: ClassVar[str] = "timesformer"

    num_frames: int = 8
    tubelet_size: tuple[int, int, int] = (1, 16, 16)
    attention_type: AttentionType = "divided_space_time"
    qkv_bias: bool = True
    frame_average: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tubelet_size[0] != 1:
            raise ValueError(f"timesformer: a tubelet must be 1 frame thick, got {self.tubelet_size}")

    @property
    def num_patches(self) -> int:
        """Patches of a frame."""
        return self.num_tubelets // self.num_frames

    @property
    def sequence_length(self) -> int:
        """Tokens that one attention sees at most: a frame's, or the clip's where it is joint; and CLS."""
        joint = self.attention_type == "joint_space_time"
        return (self.num_tubelets if joint else self.num_patches) + 1

    @property
    def block(self) -> BlockConfig:
        """Shape of each transformer block."""
        return replace(super().block, biased="qkv" if self.qkv_bias else "")

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name."""
        return Timesformer(self).specs()


class DividedAttention(Branch):
    """Attention of each patch over time, then of each frame over space.

    Divided space-time attention of Bertasius et al. 2021, section 3.2: CLS takes no part in the first,
    belongs to every frame in the second, and gets the mean of the frames' results. The projection over time
    combines the reference's `temporal_attention.output.dense` and `temporal_dense`.

    Parameters
    ----------
    config
        Shape of the block.
    first_row_only
        Attention over space is computed for CLS alone.
    """

    def __init__(self, config: BlockConfig, first_row_only: bool) -> None:
        super().__init__()
        attention = config.attention
        self._time = self.add("", TimeAttention(attention, config.norm(), cls_tokens=1))
        self._project = self.add("", QkvProjection(attention, "norm1", config.norm(), "attn", first_row_only))
        self._proj = self.add("attn.proj", Linear(config.embed_dim, config.embed_dim))

    def __call__(self, x: FloatArray, workspace: Workspace, sequences: int = 1) -> FloatArray:
        """Add both attentions: a sequence is a frame's patches after CLS, the same row in all of them.

        Returns
        -------
        x, or with `first_row_only` CLS, (1, embed_dim).
        """
        dim = x.shape[1]
        self._time(x, workspace, sequences)
        queries, keys, values = self._project(x, workspace, sequences, self._project.heads_type)
        if self._project.first_row_only:
            attended = workspace.floats("attended first", sequences, dim)
            self._engine.attention(queries, keys, values, attended)
            # The projection is linear: that of the mean is the mean of projections.
            attended, x = attended.mean(axis=0, keepdims=True), x[:1]
        else:
            attended = workspace.floats("attended", x.shape[0], dim)
            self._engine.attention(queries, keys, values, attended)
            by_frame = attended.reshape(sequences, -1, dim)
            by_frame[:, 0] = by_frame[:, 0].mean(axis=0)
        self._proj(attended, x, residual=x)
        return x


class Positions(Layer):
    """CLS token, position embeddings and, unless attention is in space only, time embeddings.

    Attributes
    ----------
    cls_row
        CLS with its position added, (embed_dim,).
    patches
        What is added to patches, (frames or 1, patches, embed_dim).
    """

    cls_row: FloatArray
    patches: FloatArray

    def __init__(self, config: TimesformerConfig) -> None:
        self._config = config

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        config, dim = self._config, self._config.embed_dim
        specs = {
            "cls_token": TensorSpec((dim,), "table"),
            "pos_embed": TensorSpec((config.num_patches + 1, dim), "table"),
        }
        if config.attention_type != "space_only":
            specs["time_embed"] = TensorSpec((config.num_frames, dim), "table")
        return specs

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        positions = tensors.floats("pos_embed")
        self.cls_row = tensors.floats("cls_token") + positions[0]
        self.patches = positions[None, 1:]
        if self._config.attention_type != "space_only":
            self.patches = positions[1:] + tensors.floats("time_embed")[:, None]

    @property
    def nbytes(self) -> int:
        """Bytes of what is added to CLS and to patches."""
        return self.cls_row.nbytes + self.patches.nbytes


class Timesformer(Model):
    """The network; see `Model`.

    Tokens lie frame by frame, each frame's after a CLS token, so that both attentions are views of them.
    Under divided attention all frames' CLS tokens are the same one; joint attention has a single one.

    `on_block` gets (T * (patches + 1), embed_dim), frames after their CLS tokens, or (T * patches + 1,
    embed_dim) where attention is joint. The last block computes CLS alone: a row for each frame where
    attention is in space only, else one.
    """

    config: TimesformerConfig

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__(config)
        depth, block = config.depth, config.block
        cls_alone = [config.num_classes is not None and i == depth - 1 for i in range(depth)]
        self._positions = self.add("", Positions(config))
        self._embed = self.add("embed", config.embedding())
        if config.attention_type == "divided_space_time":
            stack = Stack(Block(DividedAttention(block, alone), block.mlp()) for alone in cls_alone)
        else:
            stack = plain_stack(block, depth, first_row_only=cls_alone[-1])
        self._blocks = self.add("blocks", stack)
        self._head = self.add("", config.end())

    def run(self, clip: FloatArray, workspace: Workspace, on_block: OnBlock | None) -> Output:
        """See `Model`."""
        config, report = self.config, reporter(on_block)
        sequences = 1 if config.attention_type == "joint_space_time" else config.num_frames
        x = self._embedded(clip, workspace, sequences)
        report(x)
        x = self._blocks(x, workspace, report, sequences)
        if config.num_classes is None:
            return Output(*self._head(self._in_order(x, sequences)))
        if len(x) > 1 and not config.frame_average:
            outputs = [self._head(row) for row in x[:, None]]
            return Output(*(np.mean(parts, axis=0) for parts in zip(*outputs, strict=True)))
        return Output(*self._head(x.mean(axis=0, keepdims=True) if len(x) > 1 else x))

    def _in_order(self, x: FloatArray, sequences: int) -> FloatArray:
        """Return the tokens in the reference's order.

        CLS comes first, then the patches by place, each at all times. Where attention is in space only, the
        order is ours: frame by frame, each after its CLS token.
        """
        config = self.config
        if config.attention_type == "space_only":
            return x
        patches = x.reshape(sequences, -1, config.embed_dim)[:, 1:]
        by_frame = patches.reshape(config.num_frames, config.num_patches, config.embed_dim)
        return np.concatenate([x[:1], by_frame.swapaxes(0, 1).reshape(-1, config.embed_dim)])

    def _embedded(self, clip: FloatArray, workspace: Workspace, sequences: int) -> FloatArray:
        """Return `sequences` sequences of patches with positions added, each after CLS, as one matrix."""
        config = self.config
        length = config.num_tubelets // sequences + 1
        x = workspace.floats("x", sequences * length, config.embed_dim)
        by_sequence = x.reshape(sequences, length, config.embed_dim)
        by_sequence[:, 0] = self._positions.cls_row
        patches = workspace.floats("patches", config.num_tubelets, config.embed_dim)
        self._embed(clip, patches)
        by_frame = patches.reshape(config.num_frames, config.num_patches, config.embed_dim)
        by_frame += self._positions.patches
        by_sequence[:, 1:] = patches.reshape(sequences, length - 1, config.embed_dim)
        return x

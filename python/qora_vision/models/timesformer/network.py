"""TimeSformer: attention over time and over space in turn, over both at once, or over space alone.

Bertasius, Wang & Torresani 2021, "Is Space-Time Attention All You Need for Video Understanding?". Reference:
`TimesformerForVideoClassification` of Hugging Face transformers, and facebookresearch/TimeSformer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.engine.tensors import Tensor
from qora_vision.models.base import Output, check_clip, reporter
from qora_vision.models.vit import Blocks, Classifier, VitConfig
from qora_vision.nn.layers import (
    BlockConfig,
    DividedBlock,
    Tensors,
    TensorSpec,
    TransformerBlock,
    Workspace,
    Workspaces,
    make_linear,
    make_norm,
    norm_specs,
)

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
        return BlockConfig(
            self.embed_dim,
            self.num_heads,
            self.mlp_dim,
            self.activation,
            self.norm_eps,
            biased="qkv" if self.qkv_bias else "",
            divided=self.attention_type == "divided_space_time",
        )

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name."""
        specs = {
            "cls_token": TensorSpec((self.embed_dim,), "table"),
            "pos_embed": TensorSpec((self.num_patches + 1, self.embed_dim), "table"),
        }
        if self.attention_type != "space_only":
            specs["time_embed"] = TensorSpec((self.num_frames, self.embed_dim), "table")
        specs |= self.embed_specs() | self.block_specs()
        specs |= {f"norm.{name}": spec for name, spec in norm_specs(self.embed_dim)}
        return specs | self.head_specs()


class Timesformer:
    """The network, with its weights packed for one engine.

    Tokens lie frame by frame, each frame's behind a CLS token, so that both attentions are views of them.
    Under divided attention all frames' CLS tokens are the same one; joint attention has a single one.

    Parameters
    ----------
    config
        Shape of the model.
    tensors
        By the names of `config.tensor_specs()`; not needed any more once the model is made.
    engine
        How its ops run.
    """

    def __init__(self, config: TimesformerConfig, tensors: Mapping[str, Tensor], engine: Engine) -> None:
        named = Tensors(tensors)
        self.config = config
        self._engine = engine
        self._workspaces = Workspaces()
        positions = named.floats("pos_embed")
        self._cls_row = named.floats("cls_token") + positions[0]
        times = named.optional_floats("time_embed")
        # (frames or 1, patches, embed_dim)
        self._positions = positions[None, 1:] if times is None else positions[1:] + times[:, None]
        self._embed = make_linear(engine, named.below("embed"))
        kind = DividedBlock if config.block.divided else TransformerBlock
        self._blocks = Blocks(engine, config.block, config.depth, named, first_row_only=True, kind=kind)
        norm = make_norm(named.below("norm"), config.norm_eps)
        self._classifier = Classifier(engine, norm, named)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights, and of the positions."""
        packed = self._blocks.nbytes + self._embed.nbytes + self._classifier.nbytes
        return packed + self._positions.nbytes

    def forward(self, clip: FloatArray, on_block: Callable[[int, FloatArray], None] | None = None) -> Output:
        """Classify one clip.

        Parameters
        ----------
        clip
            (T, C, H, W) float32, preprocessed, C-contiguous, of exactly the configured size.
        on_block
            Called with 0 and the embedded tokens, then with i and the output of block i, float32, valid
            during the call: (T * (patches + 1), embed_dim), frames behind their CLS tokens, or
            (T * patches + 1, embed_dim) where attention is joint. The last block computes CLS alone: a row
            for each frame where attention is in space only, else one.

        Raises
        ------
        VideoError
            If the clip has another shape or dtype.
        """
        config = self.config
        check_clip(clip, config.clip_shape)
        report = reporter(on_block)
        sequences = 1 if config.attention_type == "joint_space_time" else config.num_frames
        with self._workspaces.lend() as workspace:
            x = self._embedded(clip, workspace, sequences)
            report(x)
            x = self._blocks(x, workspace, report, sequences)
            if len(x) > 1 and not config.frame_average:
                frames = [self._classifier(row) for row in x[:, None]]
                logits, embeddings = ([getattr(o, part) for o in frames] for part in ("logits", "embedding"))
                return Output(np.mean(logits, axis=0), np.mean(embeddings, axis=0))
            return self._classifier(x.mean(axis=0, keepdims=True) if len(x) > 1 else x)

    def _embedded(self, clip: FloatArray, workspace: Workspace, sequences: int) -> FloatArray:
        """Return `sequences` sequences of patches with positions added, each behind CLS, as one matrix."""
        config = self.config
        length = config.num_tubelets // sequences + 1
        x = workspace.floats("x", sequences * length, config.embed_dim)
        by_sequence = x.reshape(sequences, length, config.embed_dim)
        by_sequence[:, 0] = self._cls_row
        patches = workspace.floats("patches", config.num_tubelets, config.embed_dim)
        self._engine.tubelet_embed(clip, config.tubelet_size, self._embed, patches)
        by_frame = patches.reshape(config.num_frames, config.num_patches, config.embed_dim)
        by_frame += self._positions
        by_sequence[:, 1:] = patches.reshape(sequences, length - 1, config.embed_dim)
        return x

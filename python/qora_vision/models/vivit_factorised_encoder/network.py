"""ViViT with a factorised encoder (Model 2 of Arnab et al. 2021): one transformer over space, one over time.

Reference: `ViViT` of google-research/scenic, projects/vivit/model.py, attention type "factorized_encoder".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from qora_vision.engine.ops import Activation, Engine, FloatArray
from qora_vision.engine.tensors import Tensor
from qora_vision.models.base import Output, check_clip, reporter
from qora_vision.models.vit import MAX_DEPTH, Blocks, Head, VitConfig
from qora_vision.nn.layers import (
    BlockConfig,
    Tensors,
    TensorSpec,
    Workspace,
    Workspaces,
    make_linear,
    make_norm,
    norm_specs,
)


@dataclass(frozen=True)
class VivitFactorisedEncoderConfig(VitConfig):
    """Shape of the model; the defaults are those of ViViT-B/16x2 FE.

    `pooling`: the result of each encoder is its CLS token ("token") or the mean of its tokens, which then has
    no CLS ("gap"). `pre_logits_dim`: width of a tanh layer before the classifier, None where there is none.
    """

    name: ClassVar[str] = "vivit_factorised_encoder"

    num_frames: int = 32
    activation: Activation = "gelu_tanh"
    temporal_depth: int = 4
    temporal_num_heads: int = 12
    temporal_mlp_dim: int = 3072
    pooling: Literal["token", "gap"] = "token"
    pre_logits_dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temporal_depth > MAX_DEPTH:
            raise ValueError(f"{self.name}: temporal_depth must be at most {MAX_DEPTH}")
        if self.embed_dim % self.temporal_num_heads:
            raise ValueError(
                f"{self.name}: embed_dim {self.embed_dim} is no multiple of temporal_num_heads "
                f"{self.temporal_num_heads}"
            )

    @property
    def cls_tokens(self) -> int:
        """Tokens that an encoder puts before its own: CLS, or none."""
        return 1 if self.pooling == "token" else 0

    @property
    def sequence_length(self) -> int:
        """Tokens of a frame of tubelets, CLS included: the longer of the two sequences."""
        return self.grid[1] * self.grid[2] + self.cls_tokens

    @property
    def temporal_length(self) -> int:
        """Tokens of the temporal encoder: one a frame of tubelets, and CLS."""
        return self.grid[0] + self.cls_tokens

    @property
    def temporal_block(self) -> BlockConfig:
        """Shape of each block of the temporal encoder."""
        return replace(self.block, num_heads=self.temporal_num_heads, mlp_dim=self.temporal_mlp_dim)

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name."""
        dim = self.embed_dim
        specs = self.embed_specs() | self.block_specs()
        block = self.temporal_block.tensor_specs()
        for i in range(self.temporal_depth):
            specs |= {f"temporal.blocks.{i}.{name}": spec for name, spec in block.items()}
        for prefix, length in (("", self.sequence_length), ("temporal.", self.temporal_length)):
            specs |= {f"{prefix}norm.{name}": spec for name, spec in norm_specs(dim)}
            specs[f"{prefix}pos_embed"] = TensorSpec((length, dim), "table")
            if self.pooling == "token":
                specs[f"{prefix}cls_token"] = TensorSpec((dim,), "table")
        return specs | self.head_specs(self.pre_logits_dim)


class Encoder:
    """Position embedding, transformer blocks, layer norm and pooling over sequences of one length."""

    def __init__(
        self,
        engine: Engine,
        config: BlockConfig,
        depth: int,
        tensors: Tensors,
        pooling: Literal["token", "gap"],
    ) -> None:
        self._engine = engine
        token = pooling == "token"
        positions = tensors.floats("pos_embed")
        self.cls_row = tensors.floats("cls_token") + positions[0] if token else None
        self.positions = positions[1:] if token else positions
        self._blocks = Blocks(engine, config, depth, tensors, first_row_only=token)
        self._norm = make_norm(tensors.below("norm"), config.norm_eps)

    def __call__(
        self,
        x: FloatArray,
        sequences: int,
        workspace: Workspace,
        out: FloatArray,
        report: Callable[[FloatArray], None],
    ) -> None:
        """Encode x (sequences * rows, embed_dim), changed in place, to out (sequences, embed_dim)."""
        x = self._blocks(x, workspace, report, sequences)
        if self.cls_row is not None:
            self._engine.layer_norm(x, self._norm, out)
            return
        self._engine.layer_norm(x, self._norm, x)
        x.reshape(sequences, -1, x.shape[1]).mean(axis=1, out=out)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights, and of the positions."""
        return self._blocks.nbytes + self.positions.nbytes


class VivitFactorisedEncoder:
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
        self, config: VivitFactorisedEncoderConfig, tensors: Mapping[str, Tensor], engine: Engine
    ) -> None:
        named = Tensors(tensors)
        self.config = config
        self._engine = engine
        self._workspaces = Workspaces()
        self._embed = make_linear(engine, named.below("embed"))
        self._spatial = Encoder(engine, config.block, config.depth, named, config.pooling)
        self._temporal = Encoder(
            engine, config.temporal_block, config.temporal_depth, named.below("temporal"), config.pooling
        )
        self._head = Head(engine, named, pre_logits=config.pre_logits_dim is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return sum(part.nbytes for part in (self._embed, self._spatial, self._temporal, self._head))

    def forward(self, clip: FloatArray, on_block: Callable[[int, FloatArray], None] | None = None) -> Output:
        """Classify one clip.

        Parameters
        ----------
        clip
            (T, C, H, W) float32, preprocessed, C-contiguous, of exactly the configured size.
        on_block
            Called with 0 and the embedded tokens (frames * sequence_length, embed_dim), then with i and the
            output of block i, first those of the spatial encoder, then those of the temporal one on
            (temporal_length, embed_dim); valid during the call. With pooling "token" the last block of an
            encoder computes the CLS rows alone.

        Raises
        ------
        VideoError
            If the clip has another shape or dtype.
        """
        config, engine = self.config, self._engine
        check_clip(clip, config.clip_shape)
        report, cls = reporter(on_block), config.cls_tokens
        frames, dim, depth = config.grid[0], config.embed_dim, config.tubelet_size[0]
        with self._workspaces.lend() as workspace:
            x = workspace.floats("x", frames * config.sequence_length, dim)
            # The frames of tubelets are independent of each other up to the temporal encoder.
            for t, rows in enumerate(np.split(x, frames)):
                if self._spatial.cls_row is not None:
                    rows[0] = self._spatial.cls_row
                part = clip[t * depth : (t + 1) * depth]
                engine.tubelet_embed(
                    part, config.tubelet_size, self._embed, rows[cls:], residual=self._spatial.positions
                )
            report(x)

            y = workspace.floats("y", config.temporal_length, dim)
            self._spatial(x, frames, workspace, y[cls:], report)
            y[cls:] += self._temporal.positions
            if self._temporal.cls_row is not None:
                y[0] = self._temporal.cls_row
            embedding = np.empty((1, dim), np.float32)
            self._temporal(y, 1, workspace, embedding, report)
            return self._head(embedding)

"""ViViT with a factorised encoder (Model 2 of Arnab et al. 2021): one transformer over space, one over time.

Reference: `ViViT` of google-research/scenic, projects/vivit/model.py, attention type "factorized_encoder".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from qora_vision.engine.ops import Activation, FloatArray
from qora_vision.models.base import Model, OnBlock, Output, reporter
from qora_vision.models.vit import MAX_DEPTH, VitConfig
from qora_vision.nn.block import BlockConfig, Stack, plain_stack
from qora_vision.nn.embedding import Table
from qora_vision.nn.heads import Head
from qora_vision.nn.norm import LayerNorm
from qora_vision.nn.specs import TensorSpec
from qora_vision.nn.workspace import Workspace


@dataclass(frozen=True)
class VivitFactorisedEncoderConfig(VitConfig):
    """Shape of the model; the defaults are those of ViViT-B/16x2 FE.

    `pooling`: the result of each encoder is its CLS token ("token") or the mean of its tokens, which then has
    no CLS ("gap"). `pre_logits_dim`: width of a tanh layer before the classifier, None where there is none.
    """

    name: ClassVar[str] = "vivit_factorised_encoder"

    num_classes: int
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
        return VivitFactorisedEncoder(self).specs()


@dataclass(frozen=True)
class Encoder:
    """Position embedding, transformer blocks, layer norm and pooling over sequences of one length.

    The network lists the layers, because the tensors of the two encoders alternate in its model files.
    Without `cls_token` the result is the mean of all tokens.
    """

    blocks: Stack
    norm: LayerNorm
    positions: Table
    cls_token: Table | None

    def begin(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Write CLS, if there is one, to the first row of a sequence (tokens, embed_dim).

        Returns
        -------
        The rows and the position embeddings of the other tokens.
        """
        positions = self.positions.values
        if self.cls_token is None:
            return rows, positions
        rows[0] = self.cls_token.values + positions[0]
        return rows[1:], positions[1:]

    def __call__(
        self,
        x: FloatArray,
        sequences: int,
        workspace: Workspace,
        out: FloatArray,
        report: Callable[[FloatArray], None],
    ) -> None:
        """Encode x (sequences * rows, embed_dim), changed in place, to out (sequences, embed_dim)."""
        x = self.blocks(x, workspace, report, sequences)
        if self.cls_token is not None:
            self.norm(x, out)
            return
        self.norm(x, x)
        x.reshape(sequences, -1, x.shape[1]).mean(axis=1, out=out)


class VivitFactorisedEncoder(Model):
    """The network; see `Model`.

    `on_block` gets the embedded tokens (frames * sequence_length, embed_dim), the outputs of the spatial
    encoder's blocks, then those of the temporal one's, (temporal_length, embed_dim). With pooling "token" the
    last block of each encoder computes the CLS rows alone.
    """

    config: VivitFactorisedEncoderConfig

    def __init__(self, config: VivitFactorisedEncoderConfig) -> None:
        super().__init__(config)
        dim, token = config.embed_dim, config.pooling == "token"
        self._embed = self.add("embed", config.embedding())
        spatial = self.add("blocks", plain_stack(config.block, config.depth, token))
        temporal = self.add(
            "temporal.blocks", plain_stack(config.temporal_block, config.temporal_depth, token)
        )
        self._spatial, self._temporal = (
            Encoder(
                blocks,
                self.add(f"{prefix}norm", config.norm()),
                self.add(f"{prefix}pos_embed", Table(length, dim)),
                self.add(f"{prefix}cls_token", Table(dim)) if token else None,
            )
            for blocks, prefix, length in (
                (spatial, "", config.sequence_length),
                (temporal, "temporal.", config.temporal_length),
            )
        )
        self._head = self.add("", Head(dim, config.num_classes, config.pre_logits_dim))

    def run(self, clip: FloatArray, workspace: Workspace, on_block: OnBlock | None) -> Output:
        """See `Model`."""
        config, report = self.config, reporter(on_block)
        frames, dim, depth = config.grid[0], config.embed_dim, config.tubelet_size[0]
        x = workspace.floats("x", frames * config.sequence_length, dim)
        # The frames of tubelets are independent of each other up to the temporal encoder.
        for t, sequence in enumerate(np.split(x, frames)):
            rows, positions = self._spatial.begin(sequence)
            self._embed(clip[t * depth : (t + 1) * depth], rows, residual=positions)
        report(x)

        y = workspace.floats("y", config.temporal_length, dim)
        rows, positions = self._temporal.begin(y)
        self._spatial(x, frames, workspace, rows, report)
        rows += positions
        embedding = np.empty((1, dim), np.float32)
        self._temporal(y, 1, workspace, embedding, report)
        return Output(*self._head(embedding))

"""VideoMAE and VideoMAE V2: a plain vision transformer over tubelets, without CLS, averaged at the end.

Tong et al. 2022, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training"; Wang et al. 2023, "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking".
Reference: `VideoMAEForVideoClassification` of Hugging Face transformers, modeling_finetune.py of
MCG-NJU/VideoMAE and OpenGVLab/VideoMAEv2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qora_vision.engine.ops import FloatArray
from qora_vision.models.base import Model, OnBlock, Output, reporter
from qora_vision.models.vit import VitConfig
from qora_vision.nn.block import BlockConfig, plain_stack
from qora_vision.nn.embedding import ComputedTable
from qora_vision.nn.heads import NormedHead, TokenMean
from qora_vision.nn.norm import LayerNorm
from qora_vision.nn.specs import TensorSpec
from qora_vision.nn.workspace import Workspace


@dataclass(frozen=True)
class VideoMaeConfig(VitConfig):
    """Shape of a VideoMAE; the defaults are those of VideoMAE-B as Hugging Face has it.

    `qv_bias`: queries and values have a bias; keys never do. `mean_pooling`: the classifier reads the mean of
    all tokens through a layer norm with `pool_norm_eps`, else the first token through one with `norm_eps`.
    Without a classifier the embedding is the mean of all tokens. With `mean_pooling` it goes through the norm
    with `pool_norm_eps`, where that is not None; else each token has gone through the one with `norm_eps`.
    """

    name: ClassVar[str] = "videomae"

    norm_eps: float = 1e-12
    pool_norm_eps: float | None = 1e-5
    qv_bias: bool = True
    mean_pooling: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_classes is not None and self.pool_norm_eps is None:
            raise ValueError(f"{self.name}: a classifier needs a number as pool_norm_eps, got None")

    @property
    def sequence_length(self) -> int:
        """Tokens: the tubelets."""
        return self.num_tubelets

    @property
    def block(self) -> BlockConfig:
        """Shape of each transformer block."""
        return replace(super().block, biased="qv" if self.qv_bias else "")

    def end(self) -> NormedHead | TokenMean:
        """See `VitConfig`: with `mean_pooling` the norm is that of the mean."""
        if not self.mean_pooling:
            return super().end()
        if self.pool_norm_eps is None:
            return TokenMean()
        norm = LayerNorm(self.embed_dim, self.pool_norm_eps)
        if self.num_classes is None:
            return TokenMean(mean_norm=("pool_norm", norm))
        return NormedHead("pool_norm", norm, self.embed_dim, self.num_classes)

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name; positions are computed."""
        return VideoMae(self).specs()


class VideoMae(Model):
    """The network; see `Model`. Without mean pooling the last block computes the first token alone."""

    config: VideoMaeConfig

    def __init__(self, config: VideoMaeConfig) -> None:
        super().__init__(config)
        dim = config.embed_dim
        self._embed = self.add("embed", config.embedding())
        length = config.sequence_length
        self._positions = self.add("", ComputedTable(lambda: sinusoids(length, dim)))
        first_row_only = config.num_classes is not None and not config.mean_pooling
        self._blocks = self.add("blocks", plain_stack(config.block, config.depth, first_row_only))
        self._head = self.add("", config.end())

    def run(self, clip: FloatArray, workspace: Workspace, on_block: OnBlock | None) -> Output:
        """See `Model`."""
        report = reporter(on_block)
        x = workspace.floats("x", *self._positions.values.shape)
        self._embed(clip, x, residual=self._positions.values)
        report(x)
        x = self._blocks(x, workspace, report)
        if self.config.num_classes is not None and self.config.mean_pooling:
            x = x.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
        return Output(*self._head(x))


def sinusoids(length: int, dim: int) -> FloatArray:
    """Return the fixed position table: sines in even channels, cosines in odd ones.

    Row p has the angles p / 10000^(2 floor(j / 2) / dim), computed in float64 (Vaswani et al. 2017, section
    3.5; VideoMAE counts tubelets by time, row and column).

    Returns
    -------
    (length, dim) float32.
    """
    channels = np.arange(dim) // 2 * 2
    angles = np.arange(length)[:, None] / np.power(10000.0, channels / dim)
    angles[:, 0::2] = np.sin(angles[:, 0::2])
    angles[:, 1::2] = np.cos(angles[:, 1::2])
    return angles.astype(np.float32)

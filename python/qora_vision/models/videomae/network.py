"""VideoMAE and VideoMAE V2: a plain vision transformer over tubelets, without CLS, averaged at the end.

Tong et al. 2022, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training"; Wang et al. 2023, "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking".
Reference: `VideoMAEForVideoClassification` of Hugging Face transformers, modeling_finetune.py of
MCG-NJU/VideoMAE and OpenGVLab/VideoMAEv2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.engine.tensors import Tensor
from qora_vision.models.base import Output, check_clip, reporter
from qora_vision.models.vit import Blocks, Classifier, VitConfig
from qora_vision.nn.layers import (
    BlockConfig,
    Tensors,
    TensorSpec,
    Workspaces,
    make_linear,
    make_norm,
    norm_specs,
)


@dataclass(frozen=True)
class VideoMaeConfig(VitConfig):
    """Shape of a VideoMAE; the defaults are those of VideoMAE-B as Hugging Face has it.

    `qv_bias`: queries and values have a bias; keys never do. `mean_pooling`: the classifier reads the mean of
    all tokens through a layer norm with `pool_norm_eps`, else the first token through one with `norm_eps`.
    """

    name: ClassVar[str] = "videomae"

    norm_eps: float = 1e-12
    pool_norm_eps: float = 1e-5
    qv_bias: bool = True
    mean_pooling: bool = True

    @property
    def sequence_length(self) -> int:
        """Tokens: the tubelets."""
        return self.num_tubelets

    @property
    def block(self) -> BlockConfig:
        """Shape of each transformer block."""
        return replace(super().block, biased="qv" if self.qv_bias else "")

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name; positions are computed."""
        norm = "pool_norm" if self.mean_pooling else "norm"
        specs = self.embed_specs() | self.block_specs()
        specs |= {f"{norm}.{name}": spec for name, spec in norm_specs(self.embed_dim)}
        return specs | self.head_specs()


class VideoMae:
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

    def __init__(self, config: VideoMaeConfig, tensors: Mapping[str, Tensor], engine: Engine) -> None:
        named = Tensors(tensors)
        self.config = config
        self._engine = engine
        self._workspaces = Workspaces()
        self._positions = sinusoids(config.sequence_length, config.embed_dim)
        self._embed = make_linear(engine, named.below("embed"))
        first_row_only = not config.mean_pooling
        self._blocks = Blocks(engine, config.block, config.depth, named, first_row_only)
        if config.mean_pooling:
            norm = make_norm(named.below("pool_norm"), config.pool_norm_eps)
        else:
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
            Called with 0 and the embedded tokens, then with i and the output of block i: (sequence_length,
            embed_dim) float32, valid during the call; without mean pooling the last block computes row 0
            alone, (1, embed_dim).

        Raises
        ------
        VideoError
            If the clip has another shape or dtype.
        """
        config, engine = self.config, self._engine
        check_clip(clip, config.clip_shape)
        report = reporter(on_block)
        with self._workspaces.lend() as workspace:
            x = workspace.floats("x", config.sequence_length, config.embed_dim)
            engine.tubelet_embed(clip, config.tubelet_size, self._embed, x, residual=self._positions)
            report(x)
            x = self._blocks(x, workspace, report)
            if config.mean_pooling:
                x = x.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
            return self._classifier(x)


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

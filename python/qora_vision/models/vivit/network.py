"""ViViT with joint space-time attention (Model 1 of Arnab et al. 2021, "ViViT: A Video Vision Transformer").

Reference: `VivitForVideoClassification` of Hugging Face transformers, and scenic's projects/vivit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from qora_vision.engine.ops import Activation, Engine, FloatArray
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
class VivitConfig(VitConfig):
    """Shape of a ViViT; the defaults are those of ViViT-B/16x2."""

    name: ClassVar[str] = "vivit"

    num_frames: int = 32
    activation: Activation = "gelu_tanh"
    qkv_bias: bool = True

    @property
    def sequence_length(self) -> int:
        """Tokens: the tubelets and CLS."""
        return self.num_tubelets + 1

    @property
    def block(self) -> BlockConfig:
        """Shape of each transformer block."""
        return replace(super().block, biased="qkv" if self.qkv_bias else "")

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name."""
        specs = {
            "cls_token": TensorSpec((self.embed_dim,), "table"),
            "pos_embed": TensorSpec((self.sequence_length, self.embed_dim), "table"),
        }
        specs |= self.embed_specs() | self.block_specs()
        specs |= {f"norm.{name}": spec for name, spec in norm_specs(self.embed_dim)}
        return specs | self.head_specs()


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
        self._workspaces = Workspaces()
        positions = named.floats("pos_embed")
        self._cls_row = named.floats("cls_token") + positions[0]
        self._positions = positions[1:]
        self._embed = make_linear(engine, named.below("embed"))
        self._blocks = Blocks(engine, config.block, config.depth, named, first_row_only=True)
        norm = make_norm(named.below("norm"), config.norm_eps)
        self._classifier = Classifier(engine, norm, named)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
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
            embed_dim) float32, valid during the call; the last block computes row 0 alone, (1, embed_dim).

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
            x[0] = self._cls_row
            engine.tubelet_embed(clip, config.tubelet_size, self._embed, x[1:], residual=self._positions)
            report(x)
            x = self._blocks(x, workspace, report)
            return self._classifier(x)

"""ViViT with joint space-time attention (Model 1 of Arnab et al. 2021, "ViViT: A Video Vision Transformer").

Reference: `VivitForVideoClassification` of Hugging Face transformers, and scenic's projects/vivit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from qora_vision.engine.ops import Activation, FloatArray
from qora_vision.models.base import Model, OnBlock, Output, reporter
from qora_vision.models.vit import VitConfig
from qora_vision.nn.block import BlockConfig, plain_stack
from qora_vision.nn.embedding import Table
from qora_vision.nn.specs import TensorSpec
from qora_vision.nn.workspace import Workspace


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
        return Vivit(self).specs()


class Vivit(Model):
    """The network; see `Model`."""

    config: VivitConfig

    def __init__(self, config: VivitConfig) -> None:
        super().__init__(config)
        dim = config.embed_dim
        self._cls_token = self.add("cls_token", Table(dim))
        self._positions = self.add("pos_embed", Table(config.sequence_length, dim))
        self._embed = self.add("embed", config.embedding())
        cls_alone = config.num_classes is not None
        self._blocks = self.add("blocks", plain_stack(config.block, config.depth, first_row_only=cls_alone))
        self._head = self.add("", config.end())

    def run(self, clip: FloatArray, workspace: Workspace, on_block: OnBlock | None) -> Output:
        """See `Model`."""
        positions, report = self._positions.values, reporter(on_block)
        x = workspace.floats("x", *positions.shape)
        x[0] = self._cls_token.values + positions[0]
        self._embed(clip, x[1:], residual=positions[1:])
        report(x)
        return Output(*self._head(self._blocks(x, workspace, report)))

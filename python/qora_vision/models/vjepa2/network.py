"""V-JEPA 2 as a classifier: an encoder with rotary positions in three dimensions, pooled by attention.

Assran et al. 2025, "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning",
sections 2 and 4; Su et al. 2021, "RoFormer" for rotary positions. Reference: `VJEPA2ForVideoClassification`
of Hugging Face transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from qora_vision.engine.ops import ActivationArray, ActivationType, Engine, FloatArray
from qora_vision.engine.tensors import Tensor
from qora_vision.models.base import Output, check_clip, reporter
from qora_vision.models.vit import MAX_DEPTH, Blocks, Head, VitConfig
from qora_vision.nn.layers import (
    BlockConfig,
    Tensors,
    TensorSpec,
    TransformerBlock,
    Workspace,
    Workspaces,
    linear_specs,
    make_linear,
    make_norm,
    norm_specs,
    project_heads,
)

# Base of the frequencies of rotary positions.
_ROTARY_BASE = 10000.0


@dataclass(frozen=True)
class Vjepa2Config(VitConfig):
    """Shape of a V-JEPA 2; the defaults are those of ViT-L on 16 frames.

    `pooler_depth`: blocks of self-attention before the query of the pooler attends to their output.
    """

    name: ClassVar[str] = "vjepa2"

    image_size: tuple[int, int] = (256, 256)
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_dim: int = 4096
    qkv_bias: bool = True
    pooler_depth: int = 3
    pooler_heads: int = 16
    pooler_mlp_dim: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooler_depth > MAX_DEPTH:
            raise ValueError(
                f"{self.name}: pooler_depth must be at most {MAX_DEPTH}, got {self.pooler_depth}"
            )
        if self.embed_dim % self.pooler_heads:
            raise ValueError(
                f"{self.name}: embed_dim {self.embed_dim} is no multiple of pooler_heads {self.pooler_heads}"
            )

    @property
    def sequence_length(self) -> int:
        """Tokens: the tubelets."""
        return self.num_tubelets

    @property
    def block(self) -> BlockConfig:
        """Shape of each block of the encoder."""
        return replace(super().block, biased="qkv" if self.qkv_bias else "")

    @property
    def pooler_block(self) -> BlockConfig:
        """Shape of each block of the pooler."""
        return replace(super().block, num_heads=self.pooler_heads, mlp_dim=self.pooler_mlp_dim)

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name; positions are computed."""
        dim, block = self.embed_dim, self.pooler_block.tensor_specs()
        specs = self.embed_specs() | self.block_specs()
        specs |= {f"norm.{name}": spec for name, spec in norm_specs(dim)}
        for i in range(self.pooler_depth):
            specs |= {f"pooler.blocks.{i}.{name}": spec for name, spec in block.items()}
        specs |= {f"pooler.{name}": TensorSpec((dim,), "table") for name in ("token", "query")}
        specs |= {f"pooler.kv_norm.{name}": spec for name, spec in norm_specs(dim)}
        for layer in ("k", "v"):
            specs |= {f"pooler.{layer}.{name}": spec for name, spec in linear_specs(dim, dim)}
        specs |= {f"pooler.{name}": spec for name, spec in block.items() if name.startswith(("norm2", "mlp"))}
        return specs | self.head_specs()


class RotaryBlock(TransformerBlock):
    """A transformer block whose queries and keys turn with the positions of their tokens.

    Parameters
    ----------
    angles
        Cosines and sines for `Engine.rotate`, those of `rotary_angles`.
    """

    def __init__(
        self,
        engine: Engine,
        config: BlockConfig,
        tensors: Tensors,
        first_row_only: bool = False,
        *,
        angles: tuple[FloatArray, FloatArray],
    ) -> None:
        super().__init__(engine, config, tensors, first_row_only)
        self._angles = angles

    @property
    def _heads_type(self) -> ActivationType:
        return np.float32  # to be turned

    def _project(
        self, x: FloatArray, workspace: Workspace, sequences: int
    ) -> tuple[ActivationArray, ActivationArray, ActivationArray]:
        keys, values, queries = super()._project(x, workspace, sequences)
        for heads in (keys, queries):
            cosines, sines = (table[: heads.shape[1]] for table in self._angles)
            self._engine.rotate(heads, cosines, sines)
        return keys, values, queries


class AttentivePooler:
    """z = token + attention(query, k(norm(x)), v(norm(x))); z += fc2(activation(fc1(norm2(z)))).

    The token is learned, and the query a projection of it: neither depends on the clip. Heads are merged
    without a projection.
    """

    def __init__(self, engine: Engine, config: BlockConfig, tensors: Tensors) -> None:
        self._engine = engine
        self._config = config
        self._token = tensors.floats("token")[None]
        self._query = tensors.floats("query").reshape(1, 1, config.num_heads, config.head_dim)
        self._kv_norm = make_norm(tensors.below("kv_norm"), config.norm_eps)
        self._keys_values = make_linear(engine, tensors.below("k"), tensors.below("v"))
        self._norm2 = make_norm(tensors.below("norm2"), config.norm_eps)
        self._fc1 = make_linear(engine, tensors.below("mlp.fc1"))
        self._fc2 = make_linear(engine, tensors.below("mlp.fc2"))

    def __call__(self, x: FloatArray, workspace: Workspace) -> FloatArray:
        """Pool the tokens x (rows, embed_dim) to a new array (1, embed_dim)."""
        engine, config = self._engine, self._config
        keys, values = project_heads(
            engine, config, self._keys_values, self._kv_norm, x, workspace, x.shape[0], engine.attention_type
        )
        pooled = np.empty_like(self._token)
        engine.attention(self._query, keys, values, pooled)
        pooled += self._token
        engine.mlp(
            pooled,
            self._fc1,
            self._fc2,
            pooled,
            activation=config.activation,
            norm=self._norm2,
            residual=pooled,
        )
        return pooled

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return self._keys_values.nbytes + self._fc1.nbytes + self._fc2.nbytes


class Vjepa2:
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

    def __init__(self, config: Vjepa2Config, tensors: Mapping[str, Tensor], engine: Engine) -> None:
        named = Tensors(tensors)
        pooler = named.below("pooler")
        self.config = config
        self._engine = engine
        self._workspaces = Workspaces()
        self._angles = rotary_angles(config.grid, config.block.head_dim)
        self._embed = make_linear(engine, named.below("embed"))
        self._blocks = Blocks(
            engine, config.block, config.depth, named, kind=partial(RotaryBlock, angles=self._angles)
        )
        self._norm = make_norm(named.below("norm"), config.norm_eps)
        self._pooler_blocks = Blocks(engine, config.pooler_block, config.pooler_depth, pooler)
        self._pooler = AttentivePooler(engine, config.pooler_block, pooler)
        self._head = Head(engine, named)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights, and of the angles."""
        packed = self._embed.nbytes + self._blocks.nbytes + self._pooler_blocks.nbytes
        packed += self._pooler.nbytes + self._head.nbytes
        return packed + sum(table.nbytes for table in self._angles)

    def forward(self, clip: FloatArray, on_block: Callable[[int, FloatArray], None] | None = None) -> Output:
        """Classify one clip.

        Parameters
        ----------
        clip
            (T, C, H, W) float32, preprocessed, C-contiguous, of exactly the configured size.
        on_block
            Called with 0 and the embedded tokens, then with i and the output of block i, first those of the
            encoder, then those of the pooler: (sequence_length, embed_dim) float32, valid during the call.

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
            engine.tubelet_embed(clip, config.tubelet_size, self._embed, x)
            report(x)
            self._blocks(x, workspace, report)
            engine.layer_norm(x, self._norm, x)
            self._pooler_blocks(x, workspace, report)
            return self._head(self._pooler(x, workspace))


def rotary_angles(grid: tuple[int, int, int], head_dim: int) -> tuple[FloatArray, FloatArray]:
    """Return cosines and sines of what the channels of a head turn by, for `Engine.rotate`.

    A third of the channels, an even number r of them, belongs to each axis of the grid; what is left does not
    turn. There are r / 2 frequencies, 10000^(-2k / r), and the reference repeats the whole list of them to
    fill r channels, but turns neighbouring channels as a pair. So the two of a pair have frequencies of their
    own: no rotation, but what the weights were trained with.

    Returns
    -------
    Two (tokens, 3 r) float32 arrays; tokens are ordered by frame, row, column.
    """
    pairs = head_dim // 6
    frequencies = _ROTARY_BASE ** (-np.arange(pairs) / max(pairs, 1))
    positions = np.indices(grid).reshape(3, -1, 1)
    angles = np.concatenate([np.tile(axis * frequencies, 2) for axis in positions], axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

"""Video Swin Transformer: attention within windows of space and time, which move on from block to block.

Liu et al. 2022, "Video Swin Transformer". Reference: `swin3d_*` of torchvision, and
SwinTransformer/Video-Swin-Transformer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.engine.tensors import Tensor
from qora_vision.models.base import Output, check_clip, check_fields
from qora_vision.models.vit import MAX_DEPTH, Head
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
)

Grid = tuple[int, int, int]

STAGES = 4
# Which of two rows and two columns go where when four tokens become one: the order of the reference.
_MERGED = ((0, 0), (1, 0), (0, 1), (1, 1))


@dataclass(frozen=True)
class VideoSwinConfig:
    """Shape of a Video Swin; the defaults are those of Swin-T. `base_dim` doubles from stage to stage.

    Sizes are (frames, height, width) or (height, width). Clips that no whole number of tubelets fills are
    padded with zeros.
    """

    name: ClassVar[str] = "video_swin"

    num_classes: int
    num_frames: int = 32
    image_size: tuple[int, int] = (224, 224)
    num_channels: int = 3
    tubelet_size: tuple[int, int, int] = (2, 4, 4)
    base_dim: int = 96
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    num_heads: tuple[int, int, int, int] = (3, 6, 12, 24)
    window_size: tuple[int, int, int] = (8, 7, 7)
    mlp_ratio: int = 4
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_fields(self.name, self)
        if self.depth > MAX_DEPTH:
            raise ValueError(f"{self.name}: depths must add up to at most {MAX_DEPTH}, got {self.depths}")
        for dim, heads in zip(self.dims, self.num_heads, strict=True):
            if dim % heads:
                raise ValueError(f"{self.name}: a width of {dim} is no multiple of {heads} heads")

    @property
    def depth(self) -> int:
        """Blocks of all stages."""
        return sum(self.depths)

    @property
    def dims(self) -> list[int]:
        """Channels of a token in each stage."""
        return [self.base_dim << stage for stage in range(STAGES)]

    @property
    def embed_dim(self) -> int:
        """Channels of a token in the last stage, and of the embedding."""
        return self.dims[-1]

    @property
    def mlp_dim(self) -> int:
        """Width of the widest hidden layer."""
        return self.mlp_ratio * self.embed_dim

    @property
    def grids(self) -> list[Grid]:
        """Tokens along time, height and width in each stage; what fills no whole one makes another."""
        (t, h, w), (height, width) = self.tubelet_size, self.image_size
        frames, rows, columns = -(-self.num_frames // t), -(-height // h), -(-width // w)
        return [(frames, -(-rows >> stage), -(-columns >> stage)) for stage in range(STAGES)]

    @property
    def num_tubelets(self) -> int:
        """Tubelets of a clip."""
        return math.prod(self.grids[0])

    @property
    def sequence_length(self) -> int:
        """Tokens that attention sees: those of a window."""
        return math.prod(map(min, self.window_size, self.grids[0]))

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, C, H, W) of a clip."""
        return self.num_frames, self.num_channels, *self.image_size

    @property
    def blocks(self) -> list[BlockConfig]:
        """Shape of the blocks of each stage."""
        return [
            BlockConfig(dim, heads, self.mlp_ratio * dim, "gelu", self.norm_eps)
            for dim, heads in zip(self.dims, self.num_heads, strict=True)
        ]

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name."""
        dim, offsets = self.base_dim, math.prod(2 * size - 1 for size in self.window_size)
        specs = {
            "embed.weight": TensorSpec((dim, self.num_channels, *self.tubelet_size), "weight"),
            "embed.bias": TensorSpec((dim,)),
        }
        specs |= {f"embed_norm.{name}": spec for name, spec in norm_specs(dim)}
        for stage, (depth, block) in enumerate(zip(self.depths, self.blocks, strict=True)):
            own = {**block.tensor_specs(), "attn.bias": TensorSpec((offsets, block.num_heads), "table")}
            for i in range(depth):
                specs |= {f"stages.{stage}.blocks.{i}.{name}": spec for name, spec in own.items()}
            if stage + 1 < STAGES:
                dim, merge = block.embed_dim, f"stages.{stage}.merge"
                specs |= {f"{merge}.norm.{name}": spec for name, spec in norm_specs(4 * dim)}
                layer = linear_specs(2 * dim, 4 * dim, bias=False)
                specs |= {f"{merge}.reduction.{name}": spec for name, spec in layer}
        specs |= {f"norm.{name}": spec for name, spec in norm_specs(self.embed_dim)}
        return specs | {f"head.{name}": spec for name, spec in linear_specs(self.num_classes, self.embed_dim)}


class WindowBlock(TransformerBlock):
    """A pre-norm block whose tokens see those of their window alone.

    Parameters
    ----------
    grid
        Tokens along time, height and width.
    window, shift
        Size of windows, and how far they lie behind whole multiples of it.
    """

    def __init__(
        self, engine: Engine, config: BlockConfig, tensors: Tensors, grid: Grid, window: Grid, shift: Grid
    ) -> None:
        super().__init__(engine, config, tensors)
        self._grid, self._window, self._shift = grid, window, shift
        self._bias = tensors.floats("attn.bias")
        # Windows at the end of the grid are filled with zeros behind the norm: what is left of q, k and v.
        filling = [tensors.floats(f"attn.{name}.bias") for name in "qkv"]
        self._filling = np.reshape(filling, (-1, config.head_dim))

    def _attend(self, x: FloatArray, workspace: Workspace, sequences: int) -> FloatArray:
        engine, heads, head_dim = self._engine, self._config.num_heads, self._config.head_dim
        rows = x.shape[0]
        joint = workspace.floats("joint", 3 * heads, rows + 1, head_dim)
        engine.linear(x, self._joint, joint[:, :rows], norm=self._norm1)
        joint[:, rows] = self._filling
        queries, keys, values = joint.reshape(3, 1, heads, rows + 1, head_dim).transpose(0, 1, 3, 2, 4)
        attended = workspace.floats("attended", rows, heads * head_dim)
        engine.window_attention(
            queries,
            keys,
            values,
            self._bias,
            attended,
            grid=self._grid,
            window=self._window,
            shift=self._shift,
        )
        engine.linear(attended, self._proj, x, residual=x)
        return x

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights, and of the bias."""
        return super().nbytes + self._bias.nbytes


class Merge:
    """Two by two tokens of a frame become one of twice the channels."""

    def __init__(self, engine: Engine, tensors: Tensors, eps: float) -> None:
        self._engine = engine
        self._norm = make_norm(tensors.below("norm"), eps)
        self._reduction = make_linear(engine, tensors.below("reduction"))

    def __call__(self, x: FloatArray, workspace: Workspace, grid: Grid) -> FloatArray:
        """Return the tokens of the next stage; rows and columns of odd number are filled with zeros."""
        frames, height, width = grid
        cells = x.reshape(frames, height, width, -1)
        dim = cells.shape[-1]
        rows, columns = -(-height // 2), -(-width // 2)
        joined = workspace.floats("joined", frames, rows, columns, 4, dim)
        if height % 2 or width % 2:
            joined.fill(0.0)
        for i, (row, column) in enumerate(_MERGED):
            part = cells[:, row::2, column::2]
            joined[:, : part.shape[1], : part.shape[2], i] = part
        out = workspace.floats("x", frames * rows * columns, 2 * dim)
        self._engine.linear(joined.reshape(len(out), 4 * dim), self._reduction, out, norm=self._norm)
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return self._reduction.nbytes


class VideoSwin:
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

    def __init__(self, config: VideoSwinConfig, tensors: Mapping[str, Tensor], engine: Engine) -> None:
        named = Tensors(tensors)
        self.config = config
        self._engine = engine
        self._workspaces = Workspaces()
        self._embed = make_linear(engine, named.below("embed"))
        self._embed_norm = make_norm(named.below("embed_norm"), config.norm_eps)
        whole = config.window_size
        shifts = (0, 0, 0), (whole[0] // 2, whole[1] // 2, whole[2] // 2)
        self._stages = [
            [
                WindowBlock(
                    engine, block, named.below(f"stages.{stage}.blocks.{i}"), grid, whole, shifts[i % 2]
                )
                for i in range(depth)
            ]
            for stage, (depth, block, grid) in enumerate(
                zip(config.depths, config.blocks, config.grids, strict=True)
            )
        ]
        self._merges = [
            Merge(engine, named.below(f"stages.{stage}.merge"), config.norm_eps)
            for stage in range(STAGES - 1)
        ]
        self._norm = make_norm(named.below("norm"), config.norm_eps)
        self._head = Head(engine, named)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights, and of the blocks' bias."""
        layers = [block for blocks in self._stages for block in blocks] + self._merges
        return sum(layer.nbytes for layer in layers) + self._embed.nbytes + self._head.nbytes

    def forward(self, clip: FloatArray, on_block: Callable[[int, FloatArray], None] | None = None) -> Output:
        """Classify one clip.

        Parameters
        ----------
        clip
            (T, C, H, W) float32, preprocessed, C-contiguous, of exactly the configured size.
        on_block
            Called with 0 and the embedded tokens, then with i and the output of block i, float32, valid
            during the call: the tokens of its stage by time, row and column, (tokens, channels).

        Raises
        ------
        VideoError
            If the clip has another shape or dtype.
        """
        check_clip(clip, self.config.clip_shape)
        with self._workspaces.lend() as workspace:
            x = self._embedded(clip, workspace)
            number = 0
            if on_block is not None:
                on_block(number, x)
            for stage, blocks in enumerate(self._stages):
                if stage:
                    x = self._merges[stage - 1](x, workspace, self.config.grids[stage - 1])
                for block in blocks:
                    x = block(x, workspace)
                    number += 1
                    if on_block is not None:
                        on_block(number, x)
            self._engine.layer_norm(x, self._norm, x)
            return self._head(x.mean(axis=0, keepdims=True))

    def _embedded(self, clip: FloatArray, workspace: Workspace) -> FloatArray:
        """Return the tokens of the clip."""
        config = self.config
        t, h, w = config.tubelet_size
        frames, _, height, width = clip.shape
        missing = (0, -frames % t), (0, 0), (0, -height % h), (0, -width % w)
        if any(after for _, after in missing):
            clip = np.pad(clip, missing)
        x = workspace.floats("x", config.num_tubelets, config.base_dim)
        self._engine.tubelet_embed(clip, config.tubelet_size, self._embed, x)
        self._engine.layer_norm(x, self._embed_norm, x)
        return x

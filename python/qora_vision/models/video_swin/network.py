"""Video Swin Transformer: attention within windows of space and time, shifted in every second block.

Liu et al. 2022, "Video Swin Transformer". Reference: `swin3d_*` of torchvision, and
SwinTransformer/Video-Swin-Transformer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.models.base import Model, OnBlock, Output, check_fields, reporter
from qora_vision.models.vit import MAX_DEPTH
from qora_vision.nn.block import Block, BlockConfig, Stack
from qora_vision.nn.embedding import Table, TubeletEmbedding
from qora_vision.nn.heads import Head
from qora_vision.nn.layer import Branch, Module
from qora_vision.nn.linear import FusedLinear, Linear
from qora_vision.nn.norm import LayerNorm
from qora_vision.nn.specs import TensorScope, TensorSpec
from qora_vision.nn.workspace import Workspace

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
        """Tokens along time, height and width in each stage, rounded up."""
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
        return VideoSwin(self).specs()


class WindowAttention(Branch):
    """Each token attends to those of its window.

    Parameters
    ----------
    config
        Shape of the block.
    bias
        Added to the scores of attention: (offsets within a whole window, heads). The block lists it.
    grid
        Tokens along time, height and width.
    window, shift
        Size of windows, and the shift of their grid, in tokens.
    """

    _filling: FloatArray

    def __init__(self, config: BlockConfig, bias: Table, grid: Grid, window: Grid, shift: Grid) -> None:
        super().__init__()
        self._config = config.attention
        self._bias = bias
        self._grid, self._window, self._shift = grid, window, shift
        self._norm = self.add("norm1", config.norm())
        parts = {name: self._config.projection(name) for name in "qkv"}
        self._qkv = self.add("attn", FusedLinear(parts))
        self._proj = self.add("attn.proj", Linear(config.embed_dim, config.embed_dim))

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        super().bind(engine, tensors)
        # Windows at the end of the grid are padded with zeros after the norm. q, k and v of these tokens are
        # the biases.
        filling = [tensors.floats(f"attn.{name}.bias") for name in "qkv"]
        self._filling = np.reshape(filling, (-1, self._config.head_dim))

    def __call__(self, x: FloatArray, workspace: Workspace, sequences: int = 1) -> FloatArray:
        """See `Branch`; x is one sequence, whose tokens lie by time, row and column."""
        heads, head_dim, rows = self._config.num_heads, self._config.head_dim, x.shape[0]
        fused = workspace.floats("joint", 3 * heads, rows + 1, head_dim)
        self._qkv(x, fused[:, :rows], norm=self._norm)
        fused[:, rows] = self._filling
        queries, keys, values = fused.reshape(3, 1, heads, rows + 1, head_dim).transpose(0, 1, 3, 2, 4)
        attended = workspace.floats("attended", rows, heads * head_dim)
        self._engine.window_attention(
            queries,
            keys,
            values,
            self._bias.values,
            attended,
            grid=self._grid,
            window=self._window,
            shift=self._shift,
        )
        self._proj(attended, x, residual=x)
        return x


class Merge(Module):
    """Two by two tokens of a frame become one of twice the channels."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self._norm = self.add("norm", LayerNorm(4 * dim, eps))
        self._reduction = self.add("reduction", Linear(4 * dim, 2 * dim, bias=False))

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
        self._reduction(joined.reshape(len(out), 4 * dim), out, norm=self._norm)
        return out


class VideoSwin(Model):
    """The network; see `Model`. `on_block` gets the tokens of the block's stage, (tokens, channels)."""

    config: VideoSwinConfig

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__(config)
        embedding = TubeletEmbedding(config.tubelet_size, config.num_channels, config.base_dim)
        self._embed = self.add("embed", embedding)
        self._embed_norm = self.add("embed_norm", LayerNorm(config.base_dim, config.norm_eps))
        self._stages: list[Stack] = []
        self._merges: list[Merge] = []
        for stage, dim in enumerate(config.dims):
            blocks = Stack(self._block(stage, number) for number in range(config.depths[stage]))
            self._stages.append(self.add(f"stages.{stage}.blocks", blocks))
            if stage + 1 < STAGES:
                merge = Merge(dim, config.norm_eps)
                self._merges.append(self.add(f"stages.{stage}.merge", merge))
        self._norm = self.add("norm", LayerNorm(config.embed_dim, config.norm_eps))
        self._head = self.add("", Head(config.embed_dim, config.num_classes))

    def _block(self, stage: int, number: int) -> Block:
        """Return a block of a stage; the windows of every second one are shifted by half of their size."""
        config, block, window = self.config, self.config.blocks[stage], self.config.window_size
        shift = (window[0] // 2, window[1] // 2, window[2] // 2) if number % 2 else (0, 0, 0)
        bias = Table(math.prod(2 * size - 1 for size in window), block.num_heads)
        result = Block(WindowAttention(block, bias, config.grids[stage], window, shift), block.mlp())
        result.add("attn.bias", bias)  # after the MLP, as in model files
        return result

    def run(self, clip: FloatArray, workspace: Workspace, on_block: OnBlock | None) -> Output:
        """See `Model`."""
        report = reporter(on_block)
        x = self._embedded(clip, workspace)
        report(x)
        for stage, blocks in enumerate(self._stages):
            if stage:
                x = self._merges[stage - 1](x, workspace, self.config.grids[stage - 1])
            x = blocks(x, workspace, report)
        self._norm(x, x)
        return Output(*self._head(x.mean(axis=0, keepdims=True)))

    def _embedded(self, clip: FloatArray, workspace: Workspace) -> FloatArray:
        """Return the tokens of the clip."""
        config = self.config
        t, h, w = config.tubelet_size
        frames, _, height, width = clip.shape
        missing = (0, -frames % t), (0, 0), (0, -height % h), (0, -width % w)
        if any(after for _, after in missing):
            clip = np.pad(clip, missing)
        x = workspace.floats("x", config.num_tubelets, config.base_dim)
        self._embed(clip, x)
        self._embed_norm(x, x)
        return x

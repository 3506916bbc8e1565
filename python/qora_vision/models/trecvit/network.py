"""TRecViT: recurrence over time, attention over space (Patraucean et al. 2024, arXiv 2412.14294); causal.

Reference: google-deepmind/trecvit (`trecvit_model.py`, `modules.py`), whose recurrent block is that of
google-deepmind/recurrentgemma (De et al. 2024, "Griffin").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qora_vision.engine.ops import FloatArray
from qora_vision.models.base import Model, OnBlock, Output, check_clip, check_fields, reporter
from qora_vision.models.trecvit.recurrent import RecurrentBlock
from qora_vision.models.vit import MAX_DEPTH
from qora_vision.nn.block import BlockConfig, plain_block
from qora_vision.nn.embedding import Table, TubeletEmbedding
from qora_vision.nn.layer import LayerList, Module
from qora_vision.nn.linear import Linear
from qora_vision.nn.norm import LayerNorm
from qora_vision.nn.specs import TensorSpec
from qora_vision.nn.workspace import Workspace

# Frames of a clip that go through the network together: enough rows to fill every core, few to hold.
FRAMES_AT_ONCE = 8


@dataclass(frozen=True)
class TrecvitConfig:
    """Shape of a TRecViT; sizes are (height, width) in pixels."""

    num_classes: int
    num_frames: int = 32
    image_size: tuple[int, int] = (224, 224)
    num_channels: int = 3
    patch_size: tuple[int, int] = (16, 16)
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    recurrent_dim: int = 1536
    conv_width: int = 4
    representation_dim: int = 3072
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        check_fields("trecvit", self)
        if self.depth > MAX_DEPTH:
            raise ValueError(f"trecvit: depth must be at most {MAX_DEPTH}, got {self.depth}")
        for name in ("embed_dim", "recurrent_dim"):
            if getattr(self, name) % self.num_heads:
                raise ValueError(
                    f"trecvit: {name} {getattr(self, name)} is no multiple of num_heads {self.num_heads}"
                )
        if self.num_patches < 1:
            raise ValueError(f"trecvit: frames of {self.image_size} are smaller than {self.patch_size}")
        if not 2 <= self.conv_width <= 64:
            raise ValueError(f"trecvit: conv_width must be 2 to 64, got {self.conv_width}")

    @property
    def num_patches(self) -> int:
        """Patches of a frame; what does not fill one is dropped."""
        return math.prod(side // patch for side, patch in zip(self.image_size, self.patch_size, strict=True))

    @property
    def num_tubelets(self) -> int:
        """Patches of a clip."""
        return self.num_frames * self.num_patches

    @property
    def sequence_length(self) -> int:
        """Tokens of a frame: its patches and CLS. Attention stays within a frame."""
        return self.num_patches + 1

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, C, H, W) of a clip."""
        return self.num_frames, self.num_channels, *self.image_size

    @property
    def block(self) -> BlockConfig:
        """Shape of each transformer block."""
        return BlockConfig(self.embed_dim, self.num_heads, self.mlp_dim, "gelu_tanh", self.norm_eps)

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the model by name."""
        return Trecvit(self).specs()


@dataclass
class TrecvitState:
    """The state of a stream: made by `Trecvit.new_state`, updated by `Trecvit.step`, owned by the caller.

    Attributes
    ----------
    frames
        Number of frames since the start.
    history
        For each block ((conv_width - 1) * tokens, recurrent_dim) float32: inputs of the convolution.
    memory
        For each block (tokens, recurrent_dim) float32: the recurrent state.
    total
        (representation_dim,) float64: sum of the frames' representations.
    workspace
        Activations of a step. They are not part of the state; keeping them avoids page faults at each step.
    """

    frames: int
    history: list[FloatArray]
    memory: list[FloatArray]
    total: np.ndarray[tuple[int], np.dtype[np.float64]]
    workspace: Workspace

    @property
    def nbytes(self) -> int:
        """Bytes of the state; they do not grow with the stream."""
        return sum(array.nbytes for array in self.history + self.memory) + self.total.nbytes


class TrecvitBlock(Module):
    """A recurrent block over time, and a transformer block over the tokens of a frame."""

    def __init__(self, config: TrecvitConfig, first_row_only: bool) -> None:
        super().__init__()
        recurrent = RecurrentBlock(
            config.embed_dim, config.recurrent_dim, config.num_heads, config.conv_width, config.norm_eps
        )
        self.recurrent = self.add("recurrent", recurrent)
        self.spatial = self.add("", plain_block(config.block, first_row_only))


class Trecvit(Model):
    """The network; see `Model`.

    `on_block` is called for each group of at most FRAMES_AT_ONCE frames, with numbers from 0: (frames *
    sequence_length, embed_dim). The last block computes CLS alone, (frames, embed_dim).
    """

    config: TrecvitConfig

    def __init__(self, config: TrecvitConfig) -> None:
        super().__init__(config)
        dim, width = config.embed_dim, config.representation_dim
        self._cls_token = self.add("cls_token", Table(dim))  # it has no position
        self._positions = self.add("pos_embed", Table(config.num_patches, dim))
        embedding = TubeletEmbedding((1, *config.patch_size), config.num_channels, dim)
        self._embed = self.add("embed", embedding)
        blocks = LayerList(TrecvitBlock(config, i == config.depth - 1) for i in range(config.depth))
        self._blocks = self.add("blocks", blocks)
        self._norm = self.add("norm", LayerNorm(dim, config.norm_eps))
        self._pre_logits = self.add("pre_logits", Linear(dim, width))
        self._head = self.add("head", Linear(width, config.num_classes))

    def new_state(self) -> TrecvitState:
        """Return the state before the first frame."""
        return self._new_state(Workspace())

    def _new_state(self, workspace: Workspace) -> TrecvitState:
        config, tokens = self.config, self.config.sequence_length
        past = (config.conv_width - 1) * tokens
        return TrecvitState(
            frames=0,
            history=[np.zeros((past, config.recurrent_dim), np.float32) for _ in range(config.depth)],
            memory=[np.zeros((tokens, config.recurrent_dim), np.float32) for _ in range(config.depth)],
            total=np.zeros(config.representation_dim, np.float64),
            workspace=workspace,
        )

    def run(self, clip: FloatArray, workspace: Workspace, on_block: OnBlock | None) -> Output:
        """See `Model`."""
        state = self._new_state(workspace)
        for begin in range(0, len(clip), FRAMES_AT_ONCE):
            self._advance(clip[begin : begin + FRAMES_AT_ONCE], state, reporter(on_block))
        return self._classify(state)

    def step(self, frames: FloatArray, state: TrecvitState) -> Output:
        """Continue a stream: the result is that of `forward` for all frames since the state was new.

        Parameters
        ----------
        frames
            The next frames, (n, C, H, W) float32, preprocessed, C-contiguous, n >= 1.
        state
            From `new_state`; it is updated.

        Raises
        ------
        VideoError
            If the frames have another shape or dtype.
        """
        check_clip(frames, (max(len(frames), 1), *self.config.clip_shape[1:]))
        for begin in range(0, len(frames), FRAMES_AT_ONCE):
            self._advance(frames[begin : begin + FRAMES_AT_ONCE], state, reporter(None))
        return self._classify(state)

    def _advance(self, frames: FloatArray, state: TrecvitState, report: Callable[[FloatArray], None]) -> None:
        config, workspace = self.config, state.workspace
        count, tokens = len(frames), config.sequence_length
        x = workspace.floats("x", count * tokens, config.embed_dim)
        for frame, rows in zip(frames, np.split(x, count), strict=True):
            rows[0] = self._cls_token.values
            self._embed(frame[None], rows[1:], residual=self._positions.values)
        report(x)
        for block, history, memory in zip(self._blocks, state.history, state.memory, strict=True):
            block.recurrent(x, workspace, history, memory, fresh=state.frames == 0)
            x = block.spatial(x, workspace, sequences=count)
            report(x)
        cls = workspace.floats("cls", count, config.embed_dim)
        self._norm(x, cls)
        representation = workspace.floats("representation", count, config.representation_dim)
        self._pre_logits(cls, representation)
        state.total += np.tanh(representation).sum(axis=0, dtype=np.float64)
        state.frames += count

    def _classify(self, state: TrecvitState) -> Output:
        embedding = (state.total / state.frames).astype(np.float32)
        logits = np.empty((1, self.config.num_classes), np.float32)
        self._head(embedding[None], logits)
        return Output(logits[0], embedding)

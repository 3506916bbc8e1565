"""TRecViT: recurrence over time, attention over space (Patraucean et al. 2024, arXiv 2412.14294); causal.

Reference: google-deepmind/trecvit (`trecvit_model.py`, `modules.py`), whose recurrent block is that of
google-deepmind/recurrentgemma (De et al. 2024, "Griffin").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qora_vision.engine.ops import Engine, FloatArray, RmsNorm
from qora_vision.engine.tensors import Tensor
from qora_vision.models.base import Output, check_clip, check_fields
from qora_vision.models.vit import MAX_DEPTH
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

# The exponent of the decay (Griffin, section 2.4).
DECAY_SCALE = 8.0
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
        specs = {
            "cls_token": TensorSpec((self.embed_dim,), "table"),
            "pos_embed": TensorSpec((self.num_patches, self.embed_dim), "table"),
            "embed.weight": TensorSpec((self.embed_dim, self.num_channels, 1, *self.patch_size), "weight"),
            "embed.bias": TensorSpec((self.embed_dim,)),
        }
        block = self._recurrent_specs() | self.block.tensor_specs()
        specs |= {f"blocks.{i}.{name}": spec for i in range(self.depth) for name, spec in block.items()}
        specs |= {f"norm.{name}": spec for name, spec in norm_specs(self.embed_dim)}
        pre_logits = linear_specs(self.representation_dim, self.embed_dim)
        specs |= {f"pre_logits.{name}": spec for name, spec in pre_logits}
        head = linear_specs(self.num_classes, self.representation_dim)
        return specs | {f"head.{name}": spec for name, spec in head}

    def _recurrent_specs(self) -> dict[str, TensorSpec]:
        dim, width = self.embed_dim, self.recurrent_dim
        # Gates steer how long something is remembered, which a systematic error changes: they are small, and
        # four bits would save little.
        gate = {
            "weight": TensorSpec((width, width // self.num_heads), "fine weight"),
            "bias": TensorSpec((width,)),
        }
        parts = {
            "x": dict(linear_specs(width, dim)),
            "y": dict(linear_specs(width, dim)),
            "conv": {"weight": TensorSpec((self.conv_width, width)), "bias": TensorSpec((width,))},
            "input_gate": gate,
            "decay_gate": gate,
            "out": dict(linear_specs(dim, width)),
        }
        specs = {
            f"recurrent.{part}.{name}": spec for part, each in parts.items() for name, spec in each.items()
        }
        return specs | {"recurrent.norm": TensorSpec((dim,)), "recurrent.decay": TensorSpec((width,))}


@dataclass
class TrecvitState:
    """What a stream remembers; made by `Trecvit.new_state`, moved on by `Trecvit.step`, owned by the caller.

    Attributes
    ----------
    frames
        How many frames were seen since the start.
    history
        For each block ((conv_width - 1) * tokens, recurrent_dim) float32: inputs of the convolution.
    memory
        For each block (tokens, recurrent_dim) float32: the recurrent state.
    total
        (representation_dim,) float64: sum of the frames' representations.
    workspace
        Activations of a step: nothing that is remembered, but their pages are faulted in once for all steps.
    """

    frames: int
    history: list[FloatArray]
    memory: list[FloatArray]
    total: np.ndarray[tuple[int], np.dtype[np.float64]]
    workspace: Workspace

    @property
    def nbytes(self) -> int:
        """Bytes of what is remembered; they do not grow with the stream."""
        return sum(array.nbytes for array in self.history + self.memory) + self.total.nbytes


class RecurrentBlock:
    """x += out(RG-LRU(conv(linear_x(norm(x)))) * gelu(linear_y(norm(x)))): Griffin, figure 2, no MLP."""

    def __init__(self, engine: Engine, config: TrecvitConfig, tensors: Tensors) -> None:
        self._engine = engine
        self._width = config.recurrent_dim
        # RMS norms of this family are stored as their difference from 1.
        self._norm = RmsNorm(1.0 + tensors.floats("norm"), config.norm_eps)
        self._x = make_linear(engine, tensors.below("x"))
        self._y = make_linear(engine, tensors.below("y"))
        self._out = make_linear(engine, tensors.below("out"))
        self._conv = tensors.floats("conv.weight"), tensors.floats("conv.bias")
        # Gates are block-diagonal: each head of channels has its own, both as one layer.
        self._head = config.recurrent_dim // config.num_heads
        weights = [tensors.weight(f"{gate}.weight") for gate in ("input_gate", "decay_gate")]
        biases = [tensors.floats(f"{gate}.bias") for gate in ("input_gate", "decay_gate")]
        self._gates = [
            engine.pack([weight[part] for weight in weights], [bias[part] for bias in biases])
            for part in self._head_slices()
        ]
        softplus = np.logaddexp(0.0, tensors.floats("decay").astype(np.float64))
        self._decay = (-DECAY_SCALE * softplus / math.log(2.0)).astype(np.float32)

    def _head_slices(self) -> list[slice]:
        return [slice(begin, begin + self._head) for begin in range(0, self._width, self._head)]

    def __call__(
        self, x: FloatArray, workspace: Workspace, history: FloatArray, memory: FloatArray, *, fresh: bool
    ) -> None:
        """Run the block on x (frames * tokens, embed_dim), in place; history and memory are moved on."""
        engine, rows, width = self._engine, x.shape[0], self._width
        linear_x = workspace.floats("linear_x", rows, width)
        branch = workspace.floats("branch", rows, width)
        mixed = workspace.floats("mixed", rows, width)
        gates = workspace.floats("gates", 2, rows, width)
        engine.linear(x, self._x, linear_x, norm=self._norm)
        engine.linear(x, self._y, branch, norm=self._norm, activation="gelu_tanh")
        engine.causal_conv(linear_x, *self._conv, history, mixed)
        for part, gate in zip(self._head_slices(), self._gates, strict=True):
            engine.linear(mixed[:, part], gate, gates[:, :, part])
        engine.gated_recurrence(mixed, gates[0], gates[1], self._decay, branch, memory, mixed, fresh=fresh)
        engine.linear(mixed, self._out, x, residual=x)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return self._x.nbytes + self._y.nbytes + self._out.nbytes + sum(gate.nbytes for gate in self._gates)


class Trecvit:
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

    def __init__(self, config: TrecvitConfig, tensors: Mapping[str, Tensor], engine: Engine) -> None:
        named = Tensors(tensors)
        self.config = config
        self._engine = engine
        self._workspaces = Workspaces()
        self._cls_row = named.floats("cls_token")  # it has no position
        self._positions = named.floats("pos_embed")
        self._embed = make_linear(engine, named.below("embed"))
        blocks = [named.below(f"blocks.{i}") for i in range(config.depth)]
        self._recurrent = [RecurrentBlock(engine, config, block.below("recurrent")) for block in blocks]
        last = config.depth - 1
        self._spatial = [
            TransformerBlock(engine, config.block, block, first_row_only=i == last)
            for i, block in enumerate(blocks)
        ]
        self._norm = make_norm(named.below("norm"), config.norm_eps)
        self._pre_logits = make_linear(engine, named.below("pre_logits"))
        self._head = make_linear(engine, named.below("head"))

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        linear = self._embed.nbytes + self._pre_logits.nbytes + self._head.nbytes
        blocks = zip(self._recurrent, self._spatial, strict=True)
        return linear + sum(a.nbytes + b.nbytes for a, b in blocks) + self._positions.nbytes

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

    def forward(self, clip: FloatArray, on_block: Callable[[int, FloatArray], None] | None = None) -> Output:
        """Classify one clip.

        Parameters
        ----------
        clip
            (T, C, H, W) float32, preprocessed, C-contiguous, of exactly the configured size.
        on_block
            Called for each group of at most FRAMES_AT_ONCE frames with 0 and the embedded tokens, then with i
            and the output of block i: (frames * sequence_length, embed_dim) float32, valid during the call;
            the last block computes CLS alone, (frames, embed_dim).

        Raises
        ------
        VideoError
            If the clip has another shape or dtype.
        """
        check_clip(clip, self.config.clip_shape)
        with self._workspaces.lend() as workspace:
            state = self._new_state(workspace)
            for begin in range(0, len(clip), FRAMES_AT_ONCE):
                self._advance(clip[begin : begin + FRAMES_AT_ONCE], state, on_block)
            return self._classify(state)

    def step(self, frames: FloatArray, state: TrecvitState) -> Output:
        """Go on with a stream: the result is what `forward` gives for all frames since the state was new.

        Parameters
        ----------
        frames
            The next ones, (n, C, H, W) float32, preprocessed, C-contiguous, n >= 1.
        state
            Of `new_state`; it is moved on.

        Raises
        ------
        VideoError
            If the frames have another shape or dtype.
        """
        check_clip(frames, (max(len(frames), 1), *self.config.clip_shape[1:]))
        for begin in range(0, len(frames), FRAMES_AT_ONCE):
            self._advance(frames[begin : begin + FRAMES_AT_ONCE], state, None)
        return self._classify(state)

    def _advance(
        self,
        frames: FloatArray,
        state: TrecvitState,
        on_block: Callable[[int, FloatArray], None] | None,
    ) -> None:
        config, engine, workspace = self.config, self._engine, state.workspace
        count, tokens = len(frames), config.sequence_length
        x = workspace.floats("x", count * tokens, config.embed_dim)
        for frame, rows in zip(frames, np.split(x, count), strict=True):
            rows[0] = self._cls_row
            patch = (1, *config.patch_size)
            engine.tubelet_embed(frame[None], patch, self._embed, rows[1:], residual=self._positions)
        if on_block is not None:
            on_block(0, x)
        for i, (recurrent, spatial) in enumerate(zip(self._recurrent, self._spatial, strict=True)):
            recurrent(x, workspace, state.history[i], state.memory[i], fresh=state.frames == 0)
            x = spatial(x, workspace, sequences=count)
            if on_block is not None:
                on_block(i + 1, x)
        cls = workspace.floats("cls", count, config.embed_dim)
        engine.layer_norm(x, self._norm, cls)
        representation = workspace.floats("representation", count, config.representation_dim)
        engine.linear(cls, self._pre_logits, representation)
        state.total += np.tanh(representation).sum(axis=0, dtype=np.float64)
        state.frames += count

    def _classify(self, state: TrecvitState) -> Output:
        embedding = (state.total / state.frames).astype(np.float32)
        logits = np.empty((1, self.config.num_classes), np.float32)
        self._engine.linear(embedding[None], self._head, logits)
        return Output(logits[0], embedding)

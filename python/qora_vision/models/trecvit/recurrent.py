"""The recurrent block of TRecViT, that of Griffin (De et al. 2024, arXiv 2402.19427), over frames.

Reference: google-deepmind/trecvit (`modules.py`) and google-deepmind/recurrentgemma.
"""

from __future__ import annotations

import math

import numpy as np

from qora_vision.engine import ops
from qora_vision.engine.ops import Engine, FloatArray, PackedLinear
from qora_vision.nn.layer import Layer, Module
from qora_vision.nn.linear import Linear
from qora_vision.nn.norm import Norm
from qora_vision.nn.specs import TensorScope, TensorSpec
from qora_vision.nn.workspace import Workspace

# The exponent of the decay (Griffin, section 2.4).
DECAY_SCALE = 8.0


class OffsetRmsNorm(Norm):
    """An RMS norm whose scale is stored as its difference from 1, in one tensor named like the layer."""

    parameters: ops.RmsNorm

    def __init__(self, features: int, eps: float) -> None:
        self._features = features
        self._eps = eps

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        return {"": TensorSpec((self._features,))}

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        self.parameters = ops.RmsNorm(1.0 + tensors.floats(""), self._eps)

    @property
    def nbytes(self) -> int:
        """Bytes of the scale in float32."""
        return self.parameters.gamma.nbytes


class CausalConv(Layer):
    """A convolution of each channel over time: "weight" is (taps, channels), "bias" (channels,)."""

    _engine: Engine
    _weight: FloatArray
    _bias: FloatArray

    def __init__(self, taps: int, channels: int) -> None:
        self._shape = taps, channels

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        return {"weight": TensorSpec(self._shape), "bias": TensorSpec(self._shape[1:])}

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        self._engine = engine
        self._weight, self._bias = tensors.floats("weight"), tensors.floats("bias")

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors in float32."""
        return self._weight.nbytes + self._bias.nbytes

    def __call__(self, x: FloatArray, history: FloatArray, out: FloatArray) -> None:
        """Convolve x to out and update the history; see `Engine.causal_conv`."""
        self._engine.causal_conv(x, self._weight, self._bias, history, out)


class Gates(Layer):
    """The two gates of the recurrence, linear layers whose matrices are block-diagonal.

    Each block of channels has a gate of its own. Both gates of a block are packed as one layer. Their
    weights are kept in at least eight bits: gates decide how long the state is kept, so a systematic error
    would matter, and they are small.

    Parameters
    ----------
    width
        Channels.
    blocks
        Of channels, of one size.
    """

    _engine: Engine
    _packed: list[PackedLinear]
    _names = ("input_gate", "decay_gate")

    def __init__(self, width: int, blocks: int) -> None:
        self._width = width
        size = width // blocks
        self._slices = [slice(begin, begin + size) for begin in range(0, width, size)]

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        weight = TensorSpec((self._width, self._width // len(self._slices)), "fine weight")
        bias = TensorSpec((self._width,))
        return {
            f"{n}.{part}": spec for n in self._names for part, spec in (("weight", weight), ("bias", bias))
        }

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        self._engine = engine
        weights = [tensors.stored(f"{name}.weight") for name in self._names]
        biases = [tensors.floats(f"{name}.bias") for name in self._names]
        self._packed = [
            engine.pack([weight[part] for weight in weights], [bias[part] for bias in biases])
            for part in self._slices
        ]

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights and biases."""
        return sum(packed.nbytes for packed in self._packed)

    def __call__(self, x: FloatArray, out: FloatArray) -> None:
        """Write input gate and decay gate of x (rows, width) to out (2, rows, width)."""
        for part, packed in zip(self._slices, self._packed, strict=True):
            self._engine.linear(x[:, part], packed, out[:, :, part])


class Decay(Layer):
    """How fast each channel forgets: one tensor, named like the layer.

    Attributes
    ----------
    exponents
        (channels,) float32, for `Engine.gated_recurrence`.
    """

    exponents: FloatArray

    def __init__(self, channels: int) -> None:
        self._channels = channels

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        return {"": TensorSpec((self._channels,))}

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        softplus = np.logaddexp(0.0, tensors.floats("").astype(np.float64))
        self.exponents = (-DECAY_SCALE * softplus / math.log(2.0)).astype(np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the exponents."""
        return self.exponents.nbytes


class RecurrentBlock(Module):
    """x += out(RG-LRU(conv(linear_x(norm(x)))) * gelu(linear_y(norm(x)))): Griffin, figure 2, no MLP.

    Parameters
    ----------
    embed_dim, width
        Channels of x, and of the recurrent state.
    num_heads
        Number of blocks of channels with gates of their own.
    conv_width
        Taps of the convolution, in frames.
    norm_eps
        Epsilon of the norm.
    """

    def __init__(self, embed_dim: int, width: int, num_heads: int, conv_width: int, norm_eps: float) -> None:
        super().__init__()
        self._width = width
        self._x = self.add("x", Linear(embed_dim, width))
        self._y = self.add("y", Linear(embed_dim, width))
        self._conv = self.add("conv", CausalConv(conv_width, width))
        self._gates = self.add("", Gates(width, num_heads))
        self._out = self.add("out", Linear(width, embed_dim))
        self._norm = self.add("norm", OffsetRmsNorm(embed_dim, norm_eps))
        self._decay = self.add("decay", Decay(width))

    def __call__(
        self, x: FloatArray, workspace: Workspace, history: FloatArray, memory: FloatArray, *, fresh: bool
    ) -> None:
        """Run the block on x (frames * tokens, embed_dim), in place; history and memory are updated."""
        rows, width = x.shape[0], self._width
        linear_x = workspace.floats("linear_x", rows, width)
        branch = workspace.floats("branch", rows, width)
        mixed = workspace.floats("mixed", rows, width)
        gates = workspace.floats("gates", 2, rows, width)
        self._x(x, linear_x, norm=self._norm)
        self._y(x, branch, norm=self._norm, activation="gelu_tanh")
        self._conv(linear_x, history, mixed)
        self._gates(mixed, gates)
        self._engine.gated_recurrence(
            mixed, gates[0], gates[1], self._decay.exponents, branch, memory, mixed, fresh=fresh
        )
        self._out(mixed, x, residual=x)

"""Typed calls into the native kernels: NumPy arrays in and out.

An `Engine` chooses the instruction set, the arithmetic and the number of threads of its ops. Activations are
float32, or bf16 in arrays of uint16 (NumPy has no bf16 type). Every op checks shapes and dtypes, raises a
`ValueError` that names the op, and releases the GIL while it computes. docs/kernels/README.md describes the
kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qora_vision import _core
from qora_vision._core import PackedLinear
from qora_vision.engine.tensors import QuantizedTensor, Tensor
from qora_vision.errors import IsaError

Compute = Literal["auto", "int8", "bf16", "exact"]
Activation = Literal["gelu", "gelu_tanh"]
FloatArray = NDArray[np.float32]
# float32, or uint16 that holds bf16.
ActivationArray = NDArray[Any]
ActivationType = type[np.float32] | type[np.uint16]

__all__ = [
    "Activation",
    "Compute",
    "Engine",
    "LayerNorm",
    "PackedLinear",
    "RmsNorm",
    "available_isas",
    "cpu_info",
    "default_isa",
    "num_threads",
    "quantize",
    "set_num_threads",
]


@dataclass(frozen=True)
class LayerNorm:
    """Parameters of a layer norm over the last axis: gamma and beta (features,) float32, eps > 0."""

    gamma: FloatArray
    beta: FloatArray
    eps: float

    def as_tuple(self) -> tuple[FloatArray, FloatArray, float]:
        """Return the form that the native ops take."""
        return self.gamma, self.beta, self.eps


@dataclass(frozen=True)
class RmsNorm:
    """Parameters of an RMS norm (Zhang & Sennrich 2019) over the last axis: gamma (features,), eps > 0."""

    gamma: FloatArray
    eps: float

    def as_tuple(self) -> tuple[FloatArray, None, float]:
        """Return the form that the native ops take."""
        return self.gamma, None, self.eps


Norm = LayerNorm | RmsNorm


def available_isas() -> list[str]:
    """Return the instruction sets that this build has kernels for and this CPU can run, simplest first."""
    return _core.available_isas()


def default_isa() -> str:
    """Return the instruction set that is used: `QORA_VISION_ISA` where set, else the fastest.

    That is the most capable one, except on Intel's CPUs with BF16 and without AMX: there it is "avx512_vnni".

    Raises
    ------
    IsaError
        If `QORA_VISION_ISA` names an instruction set that is unknown or that this CPU lacks.
    """
    try:
        return _core.default_isa()
    except ValueError as error:
        raise IsaError(str(error)) from None


def set_num_threads(n: int) -> None:
    """Set how many threads ops use unless a model was loaded with its own number.

    The initial value is `QORA_VISION_NUM_THREADS`, else `OMP_NUM_THREADS`, else the CPUs of this process.

    Raises
    ------
    ValueError
        Unless 1 <= n <= 4096.
    """
    _core.set_num_threads(n)


def num_threads() -> int:
    """Return how many threads ops use unless a model was loaded with its own number."""
    return _core.num_threads()


def cpu_info() -> dict[str, Any]:
    """Describe the CPU and how it is used.

    Returns
    -------
    dict
        `name` (brand string, may be empty), `isas` (usable, simplest first), `isa` (the one that is used),
        `refused` (why the operating system keeps instruction sets of this CPU from the process, by name),
        `threads` (int), `openmp` (bool: threads come from OpenMP, else from the engine's own pool).

    Raises
    ------
    IsaError
        As `default_isa`.
    """
    return {
        "name": _core.cpu_name(),
        "isas": available_isas(),
        "isa": default_isa(),
        "refused": {isa["name"]: isa["refusal"] for isa in _core.known_isas() if isa["refusal"]},
        "threads": num_threads(),
        "openmp": _core.uses_openmp(),
    }


def quantize(weight: NDArray[Any], kind: str, threads: int = 0) -> QuantizedTensor:
    """Quantise a weight to symmetric groups of 32 along its flattened input dimensions.

    Parameters
    ----------
    weight
        (out, in...) floating-point, finite.
    kind
        "q4" (levels -8..7) or "q8" (-127..127). Each group's scale comes from a search for the least sum of
        squared errors among scales as they are stored; each value is then the nearest level.
    threads
        0: the process default.

    Raises
    ------
    ValueError
        If a weight is not finite, a scale overflows float16, or kind is unknown.
    """
    matrix = np.ascontiguousarray(weight.reshape(weight.shape[0], -1), np.float32)
    data, scales = _core.quantize(matrix, kind, threads)
    return QuantizedTensor(kind, weight.shape, data, scales.view(np.float16))


class Engine:
    """An instruction set, the arithmetic of each kind of op, and a number of threads: how ops run.

    Parameters
    ----------
    compute
        "exact": float32 throughout. "bf16": bf16 operands, float32 sums. "auto": int8 activations against
        quantised weights; for f16/f32 weights and for attention the fastest of bf16, int16 and float32 that
        the CPU has instructions for. "int8": as "auto", and attention in bytes where the CPU multiplies
        these, which is faster and coarser. docs/kernels/ has the table and the errors.
    isa
        Instruction set; None: `default_isa()`.
    threads
        None: the number of `set_num_threads` at the time that an op runs.

    Raises
    ------
    IsaError
        If the instruction set is unknown or this CPU lacks it.
    ValueError
        If compute or threads is invalid.
    """

    def __init__(
        self, compute: Compute = "auto", *, isa: str | None = None, threads: int | None = None
    ) -> None:
        if compute not in get_args(Compute):
            raise ValueError(f"compute must be one of {', '.join(get_args(Compute))}, got {compute!r}")
        valid = isinstance(threads, int) and not isinstance(threads, bool) and 1 <= threads <= 4096
        if threads is not None and not valid:
            raise ValueError(f"threads must be None or a whole number from 1 to 4096, got {threads!r}")
        self.isa = default_isa() if isa is None else isa
        try:
            table = _core.table_info(self.isa)
        except ValueError as error:
            raise IsaError(str(error)) from None
        self.compute = compute
        self.threads = threads
        self._threads = threads or 0
        fixed = {"exact": "f32", "bf16": "bf16"}.get(compute)
        self.q4_family: str = fixed or table["auto_q4"]
        self.q8_family: str = fixed or table["auto_q8"]
        self.float_family: str = fixed or table["auto_float"]
        self.window_family: str = fixed or table["auto_attention"]
        self.attention_family: str = table["int8_attention"] if compute == "int8" else self.window_family
        # Attention in bf16 rounds queries, keys and values to bf16 anyway, so they are stored as bf16.
        self.attention_type: ActivationType = np.uint16 if self.attention_family == "bf16" else np.float32

    def pack(self, weights: Sequence[Tensor], biases: Sequence[FloatArray | None]) -> PackedLinear:
        """Pack weights in the layout of the kernels. Several tensors with the same inputs become one layer.

        Parameters
        ----------
        weights
            Tensors (out_i, in...), all of one storage kind; outputs follow each other in this order.
        biases
            For each (out_i,) float32, or None for zeros.
        """
        if not weights:
            raise ValueError("pack: expected at least one weight")
        sizes = [tensor.shape[0] for tensor in weights]
        in_features = int(np.prod(weights[0].shape[1:]))
        kinds = {tensor.kind if isinstance(tensor, QuantizedTensor) else "float" for tensor in weights}
        if kinds == {"q4"}:
            family = self.q4_family
        else:
            family = self.float_family if "float" in kinds else self.q8_family
        packed = PackedLinear(self.isa, family, sum(sizes), in_features)
        at = 0
        for tensor, bias, size in zip(weights, biases, sizes, strict=True):
            if isinstance(tensor, QuantizedTensor):
                packed.set_rows(at, tensor.data, tensor.scales, bias, self._threads)
            else:
                matrix = np.ascontiguousarray(tensor.reshape(size, -1))
                packed.set_rows(at, matrix, None, bias, self._threads)
            at += size
        return packed

    def linear(
        self,
        x: ActivationArray,
        weight: PackedLinear,
        out: ActivationArray,
        *,
        norm: Norm | None = None,
        activation: Activation | None = None,
        residual: FloatArray | None = None,
    ) -> None:
        """Out = activation(norm(x) Wᵀ + b) + residual.

        x is (rows, in), out (rows, out), residual float32 like out; rows are contiguous. out may be residual
        but must not overlap x.
        """
        params = None if norm is None else norm.as_tuple()
        _core.linear(x, weight, params, activation, residual, out, self._threads)

    def mlp(
        self,
        x: ActivationArray,
        fc1: PackedLinear,
        fc2: PackedLinear,
        out: ActivationArray,
        *,
        activation: Activation,
        norm: Norm | None = None,
        residual: FloatArray | None = None,
    ) -> None:
        """Out = activation(norm(x) W1ᵀ + b1) W2ᵀ + b2 + residual, block by block of rows.

        x is (rows, in), out and residual (rows, out); out may be x and residual. The hidden layer is never
        stored whole.
        """
        params = None if norm is None else norm.as_tuple()
        _core.mlp(x, params, fc1, activation, fc2, residual, out, self._threads)

    def attention(
        self,
        q: ActivationArray,
        k: ActivationArray,
        v: ActivationArray,
        out: ActivationArray,
        scale: float | None = None,
    ) -> None:
        """Out = softmax(scale q kᵀ) v for each head, streamed over the keys.

        q is (batch, queries, heads, head_dim), k and v (batch, keys, heads, head_dim), any strides but a
        contiguous last axis; out (batch * queries, heads * head_dim) may lie over k and v. scale: head_dim **
        -0.5 when None.
        """
        factor = float(q.shape[-1]) ** -0.5 if scale is None else scale
        _core.attention(q, k, v, factor, self.attention_family, self.isa, out, self._threads)

    def short_attention(
        self, q: ActivationArray, k: ActivationArray, v: ActivationArray, out: FloatArray
    ) -> None:
        """Out = softmax(head_dim^-0.5 q kᵀ) v for many short sequences, in float32 under every `compute`.

        q and out are (batch, queries, heads, head_dim), k and v (batch, keys, heads, head_dim), any strides
        but a contiguous last axis. `attention` is faster from a few hundred keys on.
        """
        _core.short_attention(q, k, v, float(q.shape[-1]) ** -0.5, self.isa, out, self._threads)

    def rotate(self, x: FloatArray, cosines: FloatArray, sines: FloatArray) -> None:
        """Rotate pairs of neighbouring channels by the angles of their tokens, in place (rotary positions).

        x is (batch, rows, heads, head_dim) float32, any strides but a contiguous last axis; cosines and sines
        are (rows, channels), channels even. The first `channels` channels of each head rotate, the others
        stay unchanged. With i = 0, 2, ..., (a, b) = x[i], x[i + 1] becomes (a cos_i - b sin_i, b cos_{i+1} +
        a sin_{i+1}).
        """
        _core.rotate(x, cosines, sines, self.isa, self._threads)

    def window_attention(
        self,
        q: ActivationArray,
        k: ActivationArray,
        v: ActivationArray,
        bias: FloatArray,
        out: ActivationArray,
        *,
        grid: tuple[int, int, int],
        window: tuple[int, int, int],
        shift: tuple[int, int, int],
    ) -> None:
        """Attend within shifted windows of a (time, height, width) grid (Liu et al. 2022, "Video Swin").

        q, k and v are (1, tokens + 1, heads, head_dim): the grid's tokens by time, row and column, and one
        row for the padding tokens of windows at the grid's end, which are attended to like others. bias is
        (offsets, heads) float32, for every offset within a whole window. out is (tokens, heads * head_dim). A
        dimension no longer than its window is not shifted.
        """
        factor = float(q.shape[-1]) ** -0.5
        _core.window_attention(
            q, k, v, bias, grid, window, shift, factor, self.window_family, self.isa, out, self._threads
        )

    def all_finite(self, x: FloatArray) -> bool:
        """Return whether a C-contiguous float32 array holds neither NaN nor infinity."""
        return _core.all_finite(x, self.isa, self._threads)

    def layer_norm(self, x: FloatArray, norm: LayerNorm, out: FloatArray) -> None:
        """Out = (x - mean) / sqrt(var + eps) * gamma + beta for rows of (rows, features); out may be x."""
        _core.layer_norm(x, norm.gamma, norm.beta, norm.eps, self.isa, out, self._threads)

    def causal_conv(
        self, x: FloatArray, weight: FloatArray, bias: FloatArray, history: FloatArray, out: FloatArray
    ) -> None:
        """Convolve each channel over time: out[t] = bias + Σ_s weight[s] x[t - taps + 1 + s].

        x and out are (frames * tokens, features), the tokens of a frame together. weight is (taps, features),
        the current frame last. history is ((taps - 1) * tokens, features): the frames before x, oldest first.
        The call replaces it with the last frames of x.
        """
        _core.causal_conv(x, weight, bias, history, self.isa, out, self._threads)

    def gated_recurrence(
        self,
        x: FloatArray,
        input_gate: FloatArray,
        decay_gate: FloatArray,
        decay: FloatArray,
        branch: FloatArray,
        state: FloatArray,
        out: FloatArray,
        *,
        fresh: bool,
    ) -> None:
        """Run the RG-LRU over time (De et al. 2024, "Griffin", section 2.4) and multiply with a branch.

        a = 2^(decay sigmoid(decay_gate)), state = a state + sqrt(1 - a²) sigmoid(input_gate) x,
        out = state branch. With `fresh`, the first frame of x has a = 0 and the factor 1 in place of
        sqrt(1 - a²). decay is (features,) and state (tokens, features); all others are (frames * tokens,
        features) float32. The call replaces state with the one after x. out may be x.
        """
        _core.gated_recurrence(
            x, input_gate, decay_gate, decay, branch, fresh, state, self.isa, out, self._threads
        )

    def tubelet_embed(
        self,
        clip: FloatArray,
        tubelet: tuple[int, int, int],
        weight: PackedLinear,
        out: ActivationArray,
        *,
        residual: FloatArray | None = None,
    ) -> None:
        """Embed non-overlapping (t, h, w) blocks of a (T, C, H, W) float32 clip: Conv3d, stride = kernel.

        out and residual are (tokens, out), ordered by time, row, column.
        """
        _core.tubelet_embed(clip, tubelet, weight, residual, out, self._threads)

"""Reference results of the kernels: naive NumPy in float64, written from the definitions only.

Arrays that the engine takes as bf16 are uint16 there; `from_bf16` turns them into what they stand for.
Nothing here uses the package under test. How far a kernel may be from these results is derived in
`bounds.py`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

GROUP_SIZE = 32

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def gelu(x: ArrayLike) -> Floats:
    """x/2 (1 + erf(x / sqrt 2)): Hendrycks & Gimpel 2016, section 2. Without cancellation for negative x."""
    x = np.asarray(x, np.float64)
    return 0.5 * x * _erfc(-x / math.sqrt(2.0))


def gelu_tanh(x: ArrayLike) -> Floats:
    """x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3), same section, as x / (1 + exp(-2u))."""
    x = np.asarray(x, np.float64)
    u = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
    return x * np.exp(-np.logaddexp(0.0, -2.0 * u))


def activate(x: Floats, name: str | None) -> Floats:
    return x if name is None else {"gelu": gelu, "gelu_tanh": gelu_tanh}[name](x)


def layer_norm(x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, eps: float) -> Floats:
    """(x - mean) / sqrt(var + eps) gamma + beta over the last axis, biased variance: Ba et al. 2016."""
    x = np.asarray(x, np.float64)
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * np.asarray(gamma, np.float64) + np.asarray(beta, np.float64)


def rms_norm(x: ArrayLike, gamma: ArrayLike, eps: float) -> Floats:
    """x / sqrt(mean(x²) + eps) gamma over the last axis: Zhang & Sennrich 2019."""
    x = np.asarray(x, np.float64)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * np.asarray(gamma, np.float64)


def causal_conv(x: ArrayLike, weight: ArrayLike, bias: ArrayLike) -> Floats:
    """bias + Σ_s weight[s] x[t - taps + 1 + s] for x (frames, tokens, features), zeros before the start."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    taps, frames = len(weight), len(x)
    padded = np.concatenate([np.zeros((taps - 1, *x.shape[1:])), x])
    out = np.zeros_like(x) + np.asarray(bias, np.float64)
    for s in range(taps):
        out += weight[s] * padded[s : s + frames]
    return out


def sigmoid(x: ArrayLike) -> Floats:
    return np.exp(-np.logaddexp(0.0, -np.asarray(x, np.float64)))


def gated_recurrence(
    x: ArrayLike, input_gate: ArrayLike, decay_gate: ArrayLike, decay: ArrayLike, state: ArrayLike | None
) -> Floats:
    """States of the RG-LRU for arrays (frames, tokens, features): De et al. 2024, section 2.4.

    Without a state the first frame is the start of a sequence: its gated input is the state.
    """
    inputs = sigmoid(input_gate) * np.asarray(x, np.float64)
    keep = 2.0 ** (np.asarray(decay, np.float64) * sigmoid(decay_gate))
    states = []
    for gated, a in zip(inputs, keep, strict=True):
        state = gated if state is None else a * state + np.sqrt(1 - a * a) * gated
        states.append(state)
    return np.stack(states)


def linear(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    norm: tuple[ArrayLike, ArrayLike | None, float] | None = None,
    activation: str | None = None,
    residual: ArrayLike | None = None,
) -> Floats:
    """activation(norm(x) Wᵀ + b) + residual for x (rows, in) and weight (out, in)."""
    a = np.asarray(x, np.float64)
    if norm is not None:
        gamma, beta, eps = norm
        a = rms_norm(x, gamma, eps) if beta is None else layer_norm(x, gamma, beta, eps)
    y = a @ np.asarray(weight, np.float64).T
    if bias is not None:
        y = y + np.asarray(bias, np.float64)
    y = activate(y, activation)
    return y if residual is None else y + np.asarray(residual, np.float64)


def softmax(scores: ArrayLike) -> Floats:
    scores = np.asarray(scores, np.float64)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def attention(q: ArrayLike, k: ArrayLike, v: ArrayLike, scale: float) -> Floats:
    """softmax(scale q kᵀ) v of each head: (batch, rows, heads, dim) → (batch * queries, heads * dim)."""
    q, k, v = (np.asarray(a, np.float64).transpose(0, 2, 1, 3) for a in (q, k, v))
    out = softmax(scale * (q @ k.transpose(0, 1, 3, 2))) @ v
    batch, heads, queries, head_dim = out.shape
    return out.transpose(0, 2, 1, 3).reshape(batch * queries, heads * head_dim)


def tubelets(clip: ArrayLike, size: tuple[int, int, int]) -> Floats:
    """The (t, h, w) blocks of a (T, C, H, W) clip, each like a Conv3d weight: channel, time, row, column."""
    clip = np.asarray(clip, np.float64)
    frames, _, height, width = clip.shape
    t, h, w = size
    return np.stack(
        [
            clip[i : i + t, :, y : y + h, x : x + w].transpose(1, 0, 2, 3).reshape(-1)
            for i in range(0, frames - t + 1, t)
            for y in range(0, height - h + 1, h)
            for x in range(0, width - w + 1, w)
        ]
    )


def to_bf16(x: ArrayLike) -> NDArray[np.uint16]:
    """Round float32 to the nearest bf16, ties to even; a NaN stays one."""
    x = np.asarray(x, np.float32)
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), rounded)


def from_bf16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def round_bf16(x: ArrayLike) -> Floats:
    """The value of a float after it has been stored as bf16."""
    return from_bf16(to_bf16(x)).astype(np.float64)


def values(x: NDArray) -> Floats:
    """What an activation array of the engine stands for: float32, or bf16 in uint16."""
    return (from_bf16(x) if x.dtype == np.uint16 else x).astype(np.float64)


def dequantize(kind: str, data: NDArray, scales: NDArray[np.float16], columns: int) -> Floats:
    """Weights (rows, columns) from the bytes of the model file, one value after the other."""
    out = np.zeros((len(data), columns))
    for row in range(len(data)):
        for i in range(columns):
            if kind == "q8":
                q = int(data[row, i])
            else:
                byte = int(data[row, i // 2])
                q = (byte & 15 if i % 2 == 0 else byte >> 4) - 8
            out[row, i] = float(scales[row, i // GROUP_SIZE]) * q
    return out


def least_squared_errors(kind: str, groups: Floats) -> Floats:
    """Least sum of squared errors of each group (n, 32) that any half-precision scale leaves, by trying all.

    Scales from peak / 14 to peak / 4 (q4, of both signs) or peak / 140 to peak / 90 (q8) are tried: smaller
    ones cut off too much, larger ones waste a bit. The zero scale is tried too.
    """
    low, high, ratios = (-8, 7, (4, 14)) if kind == "q4" else (-127, 127, (90, 140))
    peak = np.abs(groups).max(axis=-1)
    first, last = (np.float16(peak.max() / ratios[0]), np.float16(peak[peak > 0].min() / ratios[1]))
    scales = np.arange(last.view(np.uint16), first.view(np.uint16) + 1, dtype=np.uint16).view(np.float16)
    best = (groups**2).sum(axis=-1)
    for scale in scales[scales > 0].astype(np.float64):
        tried = (peak >= scale * ratios[0] * 0.99) & (peak <= scale * ratios[1] * 1.01)
        some = groups[tried]
        for step in (scale, -scale) if kind == "q4" else (scale,):
            error = ((some - step * np.clip(np.round(some / step), low, high)) ** 2).sum(axis=-1)
            best[tried] = np.minimum(best[tried], error)
    return best


def int8_rows(x: NDArray[np.float32]) -> tuple[Floats, Floats, Floats]:
    """The documented int8 form of activation rows: u8 with a zero point, [min, max] with 0 mapped to 0..255.

    Returns the integers q - zero_point, the scale of each row (rows, 1), and how near (0..0.5) each value was
    to a tie between two integers: where that is less than float32 arithmetic can tell, either is right.
    """
    x = np.asarray(x, np.float32)
    low = np.minimum(x.min(axis=-1, keepdims=True), np.float32(0))
    span = np.maximum(x.max(axis=-1, keepdims=True), np.float32(0)) - low
    step = np.where(span > 1e-30, span / np.float32(255), np.float32(1)).astype(np.float32)
    zero_point = np.rint(-low / step).astype(np.float64)
    exact = x.astype(np.float64) * (np.float32(1) / step).astype(np.float64) + zero_point
    q = np.clip(np.rint(exact), 0, 255) - zero_point
    return q, step.astype(np.float64), 0.5 - np.abs(exact - np.rint(exact))


def int8_weight(weight: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """The int8 form of a weight: integers -127..127 and the scale of each output feature (out, 1)."""
    weight = np.asarray(weight, np.float32)
    high = np.abs(weight).max(axis=-1, keepdims=True)
    scale = np.where(high > 0, high / np.float32(127), np.float32(1)).astype(np.float32)
    return np.rint(weight * (np.float32(1) / scale)).astype(np.float64), scale.astype(np.float64)


def q4_weight(data: NDArray, scales: NDArray[np.float16], columns: int) -> tuple[Floats, Floats]:
    """What the q4 family makes of stored weights: their values, and the integers multiplier * q.

    Scales become multiples of one step for each output feature: sums of 255 |multiplier q| fit an int32.
    """
    scales = scales.astype(np.float64)
    q = dequantize("q4", data, np.ones_like(scales), columns)
    size = np.add.reduceat(np.abs(q), np.arange(0, columns, GROUP_SIZE), axis=1)
    room = (2**31 - 1) / 255 - 0.5 * size.sum(axis=1) - 1
    step = np.maximum((np.abs(scales) * size).sum(axis=1) / room, np.abs(scales).max(axis=1) / 32767)
    step = np.where(step > 0, step, 1.0)[:, None]
    whole = np.rint(scales / step).repeat(GROUP_SIZE, axis=1)[:, :columns] * q
    return whole * step, whole


def int16(x: NDArray[np.float32], limit: int, axis: int | tuple[int, ...]) -> tuple[Floats, Floats]:
    """Symmetric integers -limit..limit and their scale, one for all values along `axis`."""
    x = np.asarray(x, np.float32)
    high = np.abs(x).max(axis=axis, keepdims=True)
    scale = np.where(high > 1e-30, high / np.float32(limit), np.float32(1)).astype(np.float32)
    q = np.clip(np.rint(x * (np.float32(1) / scale)), -limit, limit)
    return q.astype(np.float64), scale.astype(np.float64)

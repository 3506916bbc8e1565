"""How far a kernel may be from the float64 result: bounds derived from the arithmetic that each family uses.

A `Bounded` is a value and the largest error that it may have. Each step below propagates the error of its
input and adds its own; nothing is fitted to what the kernels give. Two references exist for operands that are
rounded:

* `model=False`: the exact operation. A rounded operand is half a step off.
* `model=True`: the operation on operands that are rounded as documented. What remains is float32 arithmetic,
  so these bounds are far tighter and catch what half a step would hide.
"""

from __future__ import annotations

import math
import platform
from typing import NamedTuple

import numpy as np
import reference
from numpy.typing import NDArray
from reference import Floats

# Unit roundoff of float32 and of bf16: half a step of a number with 24 and with 8 significant bits.
U = 2.0**-24
BF16_U = 2.0**-8
# Results below this may be flushed to zero (the bf16 dot product of AVX-512 does so).
TINY = 2.0**-126

# csrc/kernels/math.inl.h: relative error of 2^x by the degree of its polynomial, and two roundings.
EXP2_3 = 7.5e-5 + 2 * U
EXP2_6 = 1e-7 + 2 * U
# Same file: absolute error of erf.
ERF = 4.2e-7
# Same file: error of the GELU of integer sums, absolute and for each unit of x.
FITTED_GELU, FITTED_GELU_FAR = 8.2e-5, 1.4e-6
# The largest slope of both forms of GELU (at x = sqrt 2).
GELU_SLOPE = 1.13
# csrc/ops/attention.cpp: keys whose weights are rounded relative to their common maximum.
BLOCK_KEYS = 256
# csrc/kernels/kernel_table.h: attention in the integer families. Largest stored value and weight, steps of a
# score to an octave. The weights of i8 are signed bytes on ARM.
VALUE_LIMIT = {"i16": 1448, "i8": 127}
WEIGHT_ONE = {"i16": 11584, "i8": 255 if platform.machine() in ("x86_64", "AMD64") else 127}
SCORE_STEPS = {"i16": 2.0**11, "i8": 2.0**10}
# csrc/kernels/math.inl.h: relative error of 2^x in words, before what is stored is rounded.
EXP2_WORDS = {"i16": 1.6e-4, "i8": 3e-4}
# Distances of scores from their maximum, in steps, beside what is common to all of a row: i16 cuts them off;
# i8 cuts them off to words of less than a step, multiplies by a factor that is 2^-15 off at most (half a step
# of sixteen octaves), and rounds.
CUT_OFF = {"i16": 0.5, "i8": 1.5}
# int8 activations come from x * (1 / step) + zero_point in float32, with or without a fused multiply-add: two
# or three roundings of numbers up to 256. Nearer to a tie than that, both neighbours are right.
INT8_TIE = 3 * 256 * U


class Bounded(NamedTuple):
    value: Floats
    error: Floats


def exactly(value: NDArray) -> Bounded:
    value = np.asarray(value, np.float64)
    return Bounded(value, np.zeros_like(value))


def sum_error(n: int) -> float:
    """Error of a float32 sum of n products relative to the sum of their magnitudes.

    n u at worst (Higham, Accuracy and Stability, section 3.1). Roundings are independent with mean zero, so
    that 8 sqrt(n) u holds but for a probability of 2 n exp(-32) (Higham & Mary 2019, theorem 3.1, lambda =
    8).
    """
    return min(n, 8.0 * math.sqrt(n)) * U


def rounded(x: Bounded) -> Bounded:
    """One rounding to float32; a subnormal is off by half of the smallest one at most."""
    return Bounded(x.value, x.error + U * (np.abs(x.value) + x.error) + 2.0**-150)


def stored(x: Bounded, dtype: type) -> Bounded:
    """A result in the dtype of the output array."""
    if dtype == np.float32:
        return x
    return Bounded(x.value, x.error + BF16_U * (np.abs(x.value) + x.error) + TINY)


def as_bf16(x: Bounded, model: bool) -> Bounded:
    if not model:
        return Bounded(x.value, x.error + BF16_U * (np.abs(x.value) + x.error))
    # Rounding is monotone: the stored value lies between those of the ends of the interval.
    value = reference.round_bf16(x.value)
    low, high = reference.round_bf16(x.value - x.error), reference.round_bf16(x.value + x.error)
    return Bounded(value, np.maximum(high - value, value - low))


def int8_rows(x: Bounded, model: bool) -> Bounded:
    """Activation rows of the i8 family. Half a step too for an uncertain input, which has no model."""
    if model and not x.error.any():
        q, scale, distance = reference.int8_rows(x.value.astype(np.float32))
        return Bounded(q * scale, np.where(distance < INT8_TIE, scale, 0.0))
    high = np.maximum((x.value + x.error).max(axis=-1, keepdims=True), 0.0)
    low = np.minimum((x.value - x.error).min(axis=-1, keepdims=True), 0.0)
    step = (high - low) / 255.0
    return Bounded(x.value, x.error + step * (0.5 + INT8_TIE))


def int8_weight(weight: NDArray, model: bool) -> Bounded:
    if model:
        q, scale = reference.int8_weight(weight)
        return exactly(q * scale)
    step = np.abs(weight).max(axis=-1, keepdims=True).astype(np.float64) / 127.0
    return Bounded(weight.astype(np.float64), np.broadcast_to(step * (0.5 + 256 * U), weight.shape))


def q4_weight(weight: NDArray) -> Bounded:
    """Weights of the q4 family: a group's scale is rounded to a whole number of steps.

    The step of an output feature is 255 sum|w| / 2^31 (less half of every |q| <= 8, and one), or the largest
    scale / 32767; a scale is at most the largest weight of its group, which has |q| >= 1, and at least an
    eighth of it. So |q| <= 8 |w| / max|w|.
    """
    size = np.abs(weight).astype(np.float64)
    columns = size.shape[-1]
    groups = -(-columns // reference.GROUP_SIZE)
    largest = np.maximum.reduceat(size, np.arange(groups) * reference.GROUP_SIZE, axis=-1)
    room = (2.0**31 - 1) / 255 - 4.0 * reference.GROUP_SIZE * groups - 1
    step = np.maximum(size.sum(axis=-1) / room, largest.max(axis=-1) / 32767)[:, None]
    top = largest.repeat(reference.GROUP_SIZE, axis=-1)[:, :columns]
    q = 8.0 * size / np.where(top > 0, top, 1.0)
    return Bounded(weight.astype(np.float64), 0.5 * step * q * (1 + 4 * U) + U * size)


def layer_norm(x: NDArray, gamma: NDArray, beta: NDArray, eps: float) -> Bounded:
    """Two passes: the mean, then the squares of what is left.

    The mean is off by sum_error(n) mean|x| and one rounding. A shifted mean adds its square to the variance,
    which has its own sum error; the inverse root takes half of that relative error and three roundings.
    """
    x = np.asarray(x, np.float64)
    n = x.shape[-1]
    value = reference.layer_norm(x, gamma, beta, eps)
    mean = x.mean(axis=-1, keepdims=True)
    variance = x.var(axis=-1, keepdims=True) + eps
    centred = np.abs(x - mean)
    mean_error = (sum_error(n) + 2 * U) * np.abs(x).mean(axis=-1, keepdims=True)
    centred_error = mean_error + U * (centred + mean_error)
    variance_error = mean_error**2 / variance + sum_error(n + 4) + 2 * U
    scale = np.abs(gamma) / np.sqrt(variance)
    relative = 0.5 * variance_error / (1.0 - variance_error).clip(0.5) + 4 * U
    error = scale * (centred_error + (centred + centred_error) * relative)
    return rounded(Bounded(value, error))


def rms_norm(x: NDArray, gamma: NDArray, eps: float) -> Bounded:
    """The mean square has a sum error; its inverse root takes half of that and three roundings."""
    value = reference.rms_norm(x, gamma, eps)
    relative = 0.5 * (sum_error(np.shape(x)[-1] + 2) + 2 * U) + 5 * U
    return rounded(Bounded(value, np.abs(value) * relative))


def activation(x: Bounded, name: str | None, family: str = "f32") -> Bounded:
    if name is None:
        return x
    value, size = reference.activate(x.value, name), np.abs(x.value) + x.error
    if family in ("i8", "q4"):
        own = FITTED_GELU + FITTED_GELU_FAR * size
    elif name == "gelu":
        # x/2 (1 + erf(t)): the error of erf, the rounding of t (t erf'(t) < 1), and of the result.
        own = 0.5 * size * (ERF + 2 * U)
    else:
        # x / (1 + 2^z): z has four roundings, each |z| u off in the exponent; then a sum, an inverse and a
        # product. z stops at 64, which leaves x 2^-64 of what should be nearer to zero.
        z = 2.0 * math.log2(math.e) * math.sqrt(2.0 / math.pi) * (size + 0.044715 * size**3)
        relative = EXP2_6 + 4 * U * math.log(2.0) * np.minimum(z, 64.0) + 6 * U
        own = np.abs(value) * relative + size * 2.0**-64
    return rounded(Bounded(value, GELU_SLOPE * x.error + own))


def product(family: str, a: Bounded, w: Bounded) -> Bounded:
    """A Wᵀ by one family's dot products.

    Integer sums are exact. They become float32 before the zero point's share is taken off: one rounding of at
    most the row's range times sum|w|, and three of the result.
    """
    value = a.value @ w.value.T
    w_size = np.abs(w.value) + w.error
    error = np.abs(a.value) @ w.error.T + a.error @ w_size.T
    if family in ("i8", "q4"):
        high, low = (a.value + a.error).max(axis=-1), (a.value - a.error).min(axis=-1)
        steps = np.maximum(high, 0.0) - np.minimum(low, 0.0)
        raw = steps[:, None] * w_size.sum(axis=-1)
        return Bounded(value, error + U * raw + 3 * U * (np.abs(value) + error))
    n = a.value.shape[-1]
    size = (np.abs(a.value) + a.error) @ w_size.T
    return Bounded(value, error + sum_error(n + 2) * size + n * TINY)


def affine(family: str, a: Bounded, weight: NDArray, bias: NDArray | None, model: bool) -> Bounded:
    """Encode the rows, multiply, add the bias."""
    if family == "f32":
        y = product(family, a, exactly(weight))
    elif family == "bf16":
        y = product(family, as_bf16(a, model), as_bf16(exactly(weight), model))
    else:
        w = q4_weight(weight) if family == "q4" else int8_weight(weight, model)
        y = product(family, int8_rows(a, model), w)
    return y if bias is None else rounded(Bounded(y.value + bias.astype(np.float64), y.error))


def plus(y: Bounded, residual: NDArray | None) -> Bounded:
    return y if residual is None else rounded(Bounded(y.value + residual.astype(np.float64), y.error))


Norm = tuple[NDArray, NDArray | None, float]


def linear(
    family: str,
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None = None,
    *,
    norm: Norm | None = None,
    act: str | None = None,
    residual: NDArray | None = None,
    model: bool = True,
) -> Bounded:
    """The whole op on x (rows, in), float32 or bf16 in uint16, and a weight (out, in) as dequantised."""
    a = exactly(reference.values(x))
    if norm is not None:
        gamma, beta, eps = norm
        a = rms_norm(a.value, gamma, eps) if beta is None else layer_norm(a.value, gamma, beta, eps)
    return plus(activation(affine(family, a, weight, bias, model), act, family), residual)


def mlp(
    family: str,
    x: NDArray,
    first: tuple[NDArray, NDArray | None],
    second: tuple[NDArray, NDArray | None],
    act: str,
    *,
    norm: Norm | None = None,
    residual: NDArray | None = None,
    model: bool = True,
) -> Bounded:
    hidden = linear(family, x, *first, norm=norm, act=act, model=model)
    return plus(affine(family, hidden, *second, model), residual)


def _operand(family: str, x: NDArray, axis: int, model: bool) -> Bounded:
    """An operand of attention; of integers, one scale for all values along `axis`."""
    if family == "f32":
        return exactly(x)
    if family == "bf16":
        return as_bf16(exactly(x), model)
    if family == "i8":
        middle = _middle(x)
        rounded_off = _bytes(x - middle, axis, model)
        return Bounded(rounded_off.value + middle, rounded_off.error)
    limit = VALUE_LIMIT["i16"]
    if model:
        q, scale = reference.int16(x.astype(np.float32), limit, axis)
        return exactly(q * scale)
    step = np.abs(x).max(axis=axis, keepdims=True) / limit
    return Bounded(x, np.broadcast_to(step * (0.5 + 2 * limit * U), x.shape))


def _middle(x: Floats) -> Floats:
    """Of the range of each channel, as float32 has it."""
    half = np.float32(0.5)
    low, high = (bound.astype(np.float32) for bound in (x.min(axis=0), x.max(axis=0)))
    return np.asarray(half * low + half * high, np.float64)


def _bytes(x: Floats, axis: int | None, model: bool) -> Bounded:
    """Integers up to 127, with one scale along `axis` (None: of all); float32 rounds on the way."""
    largest = np.abs(x).max(axis=axis, keepdims=True)
    step = np.where(largest > 1e-30, largest / VALUE_LIMIT["i8"], 1.0)
    exact, tie = x / step, 127 * 8 * U
    if not model:
        return Bounded(x, np.broadcast_to(step * (0.5 + tie), x.shape))
    near = np.abs(exact - np.floor(exact) - 0.5) < tie
    value = np.rint(exact) * step
    return Bounded(value, np.where(near, step, 0.0) + 8 * U * np.abs(value))


def _words(x: NDArray, factor: Floats, model: bool) -> Bounded:
    """x * factor rounded to integers, as x. Keys' factors come from a norm, which is a float32 sum."""
    exact = x.astype(np.float32).astype(np.float64) * factor
    tie = 2.0**15 * (sum_error(x.shape[-1]) + 4 * U)
    if not model:
        return Bounded(x, np.broadcast_to((0.5 + tie) / factor, x.shape))
    near = np.abs(exact - np.floor(exact) - 0.5) < tie
    return Bounded(np.rint(exact) / factor, np.where(near, 1.0 / factor, 0.0))


def _query_and_key(
    family: str, q: Floats, k: Floats, unit: float, model: bool, biased: bool = False
) -> tuple[Bounded, Bounded]:
    """The operands of Q·K. For i8, keys without the middle of each channel, which adds the same to all scores
    of a query. For i16 they share 30 bits by their norms (Cauchy-Schwarz).

    Keys: the longest of the head is as long as allowed. A query: the largest factor that keeps it as short,
    and with which a product is a power of two of a step; one power less where that leaves no bit for a bias.
    """
    if family == "i8":
        return _bytes(q, -1, model), _bytes(k - _middle(k), None, model)
    if family != "i16":
        return _operand(family, q, 0, model), _operand(family, k, 0, model)
    limit = (2.0**15 - 1 - 0.5 * math.sqrt(q.shape[-1])) * (1 - 2.0**-12)
    longest = np.linalg.norm(k, axis=-1).max()
    key_factor = limit / longest if longest > 1e-30 else 1.0
    steps = unit * SCORE_STEPS["i16"] / key_factor
    length = np.linalg.norm(q, axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        shift = np.minimum(np.floor(np.log2(limit / (length * steps))), 31)
    shift = np.where(biased & (shift < 1), shift - 1, shift)
    return _words(q, steps * np.exp2(shift), model), _words(k, np.float64(key_factor), model)


def head(
    family: str, q: Floats, k: Floats, v: Floats, scale: float, model: bool, bias: Floats | None = None
) -> Bounded:
    """One head: q (queries, d), k and v (keys, d), and what is added to scores, (queries, keys).

    With weights p_j (1 + r_j) in place of p_j the result moves by sum(p_j r_j (v_j - o)) / sum(p_j (1 +
    r_j)), since sum(p_j (v_j - o)) = 0: numerator and denominator see the same weights.
    """
    keys, dim = k.shape
    unit = scale * math.log2(math.e)  # scores are powers of two
    qo, ko = _query_and_key(family, q, k, unit, model, bias is not None)
    vo = _operand(family, v, 0, model)

    scores = unit * (qo.value @ ko.value.T)
    size = unit * (np.abs(qo.value) @ np.abs(ko.value).T)
    error = unit * (np.abs(qo.value) @ ko.error.T + qo.error @ (np.abs(ko.value) + ko.error).T)
    # Sums of integers are exact, but the norm that scales keys is a sum too.
    error = error + sum_error(dim + 2) * (size + error)
    if bias is not None:
        # Its own roundings (to units of log2, of the sum with a mask), or that to whole steps. Where scores
        # may exceed 2^29 steps it is cut off to units of theirs.
        octaves = bias * math.log2(math.e)
        scores = scores + octaves
        own = 4 * U * np.abs(octaves)
        if family == "i16":
            longest = np.linalg.norm(qo.value, axis=1, keepdims=True) * np.linalg.norm(ko.value, axis=1).max()
            own = own + 0.5 / SCORE_STEPS["i16"] + 2.0**-27 * unit * longest
        error = error + own
    # The product's scale (four roundings), the conversion of integers, the difference to the maximum of a
    # block and of that to the maximum so far: each one rounding of a number up to twice the largest score, or
    # of 14.
    error = error + 8 * U * (2 * np.abs(scores).max(axis=1, keepdims=True) + 14)

    top = scores.max(axis=1, keepdims=True)
    p = np.exp2(scores - top)
    blocks = -(-keys // BLOCK_KEYS)
    # 2^x of the score and, for each block that follows, of the correction.
    relative = (blocks + 1) * (EXP2_6 + 2 * U)
    if family == "f32":
        relative += EXP2_6
    elif family == "bf16":
        relative += EXP2_3 + BF16_U
    else:
        # Distances are cut off: all weights are up to one step too large, and what is common to them does not
        # count.
        relative += EXP2_WORDS[family] + CUT_OFF[family] * math.log(2.0) / SCORE_STEPS[family]
    p_error = np.exp2(np.minimum(scores - top + error, 64.0)) * (1.0 + relative) - p + 2.0**-64
    if family in WEIGHT_ONE:
        # Half a step of an integer weight, which is relative to the maximum of the block.
        starts = np.arange(0, keys, BLOCK_KEYS)
        block_top = np.maximum.reduceat(scores, starts, axis=1).repeat(np.diff([*starts, keys]), axis=1)
        p_error = p_error + 0.5 / (WEIGHT_ONE[family] - 1) * np.exp2(
            np.minimum(block_top - top + 2 * error, 64.0)
        )

    total = p.sum(axis=1, keepdims=True)
    out = (p @ vo.value) / total
    moved = np.stack([e @ np.abs(vo.value - o) for e, o in zip(p_error, out, strict=True)])
    remaining = total - p_error.sum(axis=1, keepdims=True)
    usable = remaining > 0
    remaining = np.where(usable, remaining, 1.0)
    # Beside the weights: the sums over keys (numerator and denominator), and what the values themselves are
    # off.
    sums = sum_error(keys + 3 * blocks) * (((p + p_error) @ np.abs(vo.value)) / remaining + np.abs(out))
    own = ((p + p_error) @ vo.error) / remaining
    error = np.where(usable, moved / remaining + sums + own, np.inf)
    return Bounded(out, error + 8 * U * np.abs(out) + TINY)


def attention(
    family: str, q: NDArray, k: NDArray, v: NDArray, scale: float, *, model: bool = True
) -> Bounded:
    """Every head of (batch, rows, heads, head_dim) arrays: (batch * queries, heads * head_dim)."""
    q, k, v = (reference.values(a) for a in (q, k, v))
    batch, queries, heads, dim = q.shape
    value = np.empty((batch, queries, heads, dim))
    error = np.empty_like(value)
    for b in range(batch):
        for h in range(heads):
            value[b, :, h], error[b, :, h] = head(family, q[b, :, h], k[b, :, h], v[b, :, h], scale, model)
    shape = (batch * queries, heads * dim)
    return Bounded(value.reshape(shape), error.reshape(shape))


def assert_within(got: NDArray, expected: Bounded, what: str) -> None:
    """Every element inside its bound; says how far out the worst one is."""
    wanted = stored(expected, got.dtype.type)
    got = reference.values(got)
    assert got.shape == wanted.value.shape, f"{what}: shape {got.shape}, expected {wanted.value.shape}"
    excess = np.abs(got - wanted.value) / np.maximum(wanted.error, 1e-300)
    excess = np.where(got == wanted.value, 0.0, np.where(np.isfinite(got), excess, np.inf))
    worst = np.unravel_index(np.argmax(excess), excess.shape)
    assert excess[worst] <= 1.0, (
        f"{what}: at {tuple(map(int, worst))} got {got[worst]!r}, expected {wanted.value[worst]!r} "
        f"± {wanted.error[worst]:.3g}: {excess[worst]:.3g} times the bound; "
        f"{int((excess > 1).sum())} of {excess.size} are out"
    )

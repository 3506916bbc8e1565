"""How far a kernel may be from the float64 result: bounds derived from the arithmetic that each family uses.

A `Bounded` is a value and the largest error that it may have. Each step below propagates the error of its
input and adds its own; no bound is fitted to results of the kernels. Two references exist for operands that
are rounded:

* `model=False`: the exact operation. A rounded operand is half a step off.
* `model=True`: the operation on operands that are rounded as documented. What remains is float32 arithmetic,
  so these bounds are far tighter and catch what half a step would hide.
"""

from __future__ import annotations

import math
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

# csrc/kernels/algorithms/math.inl.h: relative error of 2^x, of its polynomial and two roundings.
EXP2 = 1e-7 + 2 * U
# Same file: absolute error of erf.
ERF = 4.2e-7
# Same file: error of the GELU of integer sums, absolute and for each unit of x.
FITTED_GELU, FITTED_GELU_FAR = 8.2e-5, 1.4e-6
# The largest slope of both forms of GELU (at x = sqrt 2).
GELU_SLOPE = 1.13
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
        relative = EXP2 + 4 * U * math.log(2.0) * np.minimum(z, 64.0) + 6 * U
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

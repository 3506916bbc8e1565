"""How far attention may be from float64: derived from what each operand family does, as in `bounds.py`."""

from __future__ import annotations

import math
import platform

import numpy as np
import reference
from bounds import EXP2, TINY, Bounded, U, as_bf16, exactly, sum_error
from numpy.typing import NDArray
from reference import Floats

from qora_vision import _core

# csrc/kernels/kernel_table.h: attention in the integer families. Largest stored value and weight, steps of a
# score to an octave. The weights of i8 are signed bytes on ARM.
VALUE_LIMIT = {"i16": 1448, "i8": 127}
WEIGHT_ONE = {"i16": 11584, "i8": 255 if platform.machine() in ("x86_64", "AMD64") else 127}
SCORE_STEPS = {"bf16": 2.0**10, "i16": 2.0**11, "i8": 2.0**10}
# csrc/kernels/algorithms/math.inl.h: relative error of 2^x in words, of integers before what is stored is
# rounded.
EXP2_WORDS = {"bf16": 4.4e-3, "i16": 1.6e-4, "i8": 3e-4}
# Distances of scores, in steps, beside what is common to all of a row: bf16 rounds them; i16 cuts them off;
# i8 cuts them off to words of less than a step, multiplies by a factor that is 2^-15 off at most (half a step
# of sixteen octaves), and rounds.
CUT_OFF = {"bf16": 0.5, "i16": 0.5, "i8": 1.5}
# What the smallest weights become.
LEAST = {"bf16": 2.0**-31}


def block_of_keys(family: str, keys: int) -> int:
    """Keys whose weights are rounded relative to their common maximum: csrc/ops/attention/streaming.cpp."""
    info = _core.table_info("scalar")
    panel = info["max_tile_columns"]
    most, panels = info["attention_block_keys"][family] // panel, math.ceil(keys / panel)
    return math.ceil(panels / math.ceil(panels / most)) * panel


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
    block = block_of_keys(family, keys)
    blocks = math.ceil(keys / block)
    # 2^x of the score and, for each block that follows, of the correction.
    relative = (blocks + 1) * (EXP2 + 2 * U)
    if family == "f32":
        relative += EXP2
    else:
        # Where distances are cut off all weights are up to one step too large, and what is common to them
        # does not count.
        relative += EXP2_WORDS[family] + CUT_OFF[family] * math.log(2.0) / SCORE_STEPS[family]
    p_error = np.exp2(np.minimum(scores - top + error, 64.0)) * (1.0 + relative) - p
    p_error = p_error + LEAST.get(family, 2.0**-64)
    if family in WEIGHT_ONE:
        # Half a step of an integer weight, which is relative to the maximum of the block.
        starts = np.arange(0, keys, block)
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

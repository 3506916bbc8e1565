"""How far a model's output may be from the float32 reference: expected noise, from the number formats.

The kernels are held to worst cases (`bounds.py`). Through a whole network those grow past any use, so here
errors are taken as what they are: independent, with mean zero. Every linear layer adds noise in proportion to
its output; errors of layers in sequence add in squares, and a pre-norm block passes on what it gets at about
the same relative size (norms keep it, residuals average it). `relative_error` is that root mean square.

MARGIN is what a test allows above: the norm of a few dozen values scatters, and softmax and GELU (slope up to
1.13) pass some errors on enlarged.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MARGIN = 2.0

# A value rounded to steps of s is off by s / sqrt(12) root mean square.
_UNIFORM = 1 / math.sqrt(12)
# Largest of 32 normal values and of 768, and the range of 768, in deviations (root mean square over draws).
_GROUP_MAX, _ROW_MAX, _ROW_RANGE = 2.39, 3.37, 6.33

# Relative noise of a linear layer's output from the rounding of its weights, which errs as each weight does.
# f16: 11 bits. q8, q4: groups of 32 whose largest weight is 127 and 8 steps.
WEIGHT_NOISE = {
    "f32": 0.0,
    "f16": 2.0**-11 / math.sqrt(3),
    "q8": _GROUP_MAX / 127 * _UNIFORM,
    "q4": _GROUP_MAX / 8 * _UNIFORM,
}
# From the arithmetic. bf16: both operands keep 8 bits. i8: activations take 255 steps over the range of a row
# (after GELU, range and deviation shrink alike), and weights 127 steps up to the largest of their column. i16,
# in attention alone: 2047 steps up to the largest value of a column, and queries and keys of 4095 steps.
ARITHMETIC_NOISE = {
    "f32": 0.0,
    "bf16": 2.0**-9 * math.sqrt(2 / 3),
    "i8": math.hypot(_ROW_RANGE / 255, _ROW_MAX / 127) * _UNIFORM,
    "i16": math.hypot(_ROW_MAX / 2047, math.sqrt(2) * _ROW_MAX / 4095) * _UNIFORM,
}


def relative_error(depth: int, per_linear: float, per_attention: float = 0.0) -> float:
    """Expected |difference| / |output| of a model with `depth` blocks.

    In sequence: the embedding, in each block qkv, projection and the two layers of the MLP, and the head; in
    each block attention multiplies twice.
    """
    return math.hypot(math.sqrt(4 * depth + 2) * per_linear, math.sqrt(2 * depth) * per_attention)


def float32_error(depth: int, longest_sum: int) -> float:
    """Bound of the same ratio for float32 throughout.

    A sum of n products is off by 8 sqrt(n) u at most relative to its terms, but for a probability of
    2 n exp(-32) (Higham & Mary 2019, theorem 3.1, lambda = 8); u = 2^-24.
    """
    return relative_error(depth, 8 * math.sqrt(longest_sum) * 2.0**-24)


def distance(got: NDArray, expected: NDArray) -> float:
    """|got - expected| / |expected|."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def cosine(a: NDArray, b: NDArray) -> float:
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

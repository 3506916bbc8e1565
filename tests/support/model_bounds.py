"""How far a model's output may be from the float32 reference: expected noise, from the number formats.

The kernels are held to worst cases (`bounds.py`). Through a whole network those grow past any use, so here
errors are taken as what they are: independent, with mean zero. Every linear layer adds noise in proportion to
its output, and errors add in squares.

A pre-norm block adds its branches to a residual that already holds the embedding and the branches before.
If all are of one size, branch l has the share 1 / (l + 1) of the sum's square, and so of the squared error:

* attention, branch 2i - 1: values and projection, one each. Queries and keys err independently; scores of
  deviation s = 2 (what the random models here have) turn their noise into s times as much in the weights:
  2 s^2 = 8 more. Its two products, where they are rounded: s^2 + 1 = 5.
* MLP, branch 2i: its two layers.
* TRecViT has a recurrent branch before these two, of three layers and two gates. What a gate lets through is
  off by as much, relatively, as the gate's input is absolutely: s^2 for each. Errors do not add up along
  time: a state forgets them as it forgets what it has seen.

Embedding and head are whole: 2. MARGIN is what a test allows above: one token of a few dozen values scatters.
"""

from __future__ import annotations

import math
from typing import Any

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
# From the arithmetic. bf16: both operands keep 8 bits, so that a value m 2^e with 1 <= m < 2 is off by a
# uniform error up to 2^(e-8); over values spread evenly in log m, 1/m^2 is 3 / (8 ln 2) on average. i8:
# activations take 255 steps over the range of a row (after GELU, range and deviation shrink alike), weights
# 127 steps up to the largest of their column. q4: the same activations, and next to nothing from the weights,
# whose stored bits are kept.
_BF16 = 2.0**-8 * math.sqrt(2 / 3 * 3 / (8 * math.log(2)))
ARITHMETIC_NOISE = {
    "f32": 0.0,
    "bf16": _BF16,
    "i8": math.hypot(_ROW_RANGE / 255, _ROW_MAX / 127) * _UNIFORM,
    "q4": _ROW_RANGE / 255 * _UNIFORM,
}
# Of attention's products. i16: 1023 steps up to the largest value of a column, queries and keys of 4095. i8:
# 127 steps up to the largest of each.
ATTENTION_NOISE = {
    "f32": 0.0,
    "bf16": _BF16,
    "i16": math.hypot(_ROW_MAX / 1023, math.sqrt(2) * _ROW_MAX / 4095) * _UNIFORM,
    "i8": math.sqrt(3) * _ROW_MAX / 127 * _UNIFORM,
}


def engine_noise(engine: Any, weights: str) -> tuple[float, float]:
    """Noise of an engine's arithmetic: of linear layers with such stored weights, and of attention."""
    families = {"q4": engine.q4_family, "q8": engine.q8_family}
    linear = families.get(weights, engine.float_family)
    return ARITHMETIC_NOISE[linear], ATTENTION_NOISE[engine.attention_family]


def relative_error(depth: int, per_linear: float, per_attention: float = 0.0) -> float:
    """Expected |difference| / |output| of a model with `depth` blocks, from the noise of one operation."""
    attention = sum(1 / (2 * i) for i in range(1, depth + 1))
    mlp = sum(1 / (2 * i + 1) for i in range(1, depth + 1))
    linear = math.sqrt(2 + 10 * attention + 2 * mlp)
    return math.hypot(linear * per_linear, math.sqrt(5 * attention) * per_attention)


def recurrent_error(depth: int, per_linear: float, per_attention: float = 0.0) -> float:
    """`relative_error` of a TRecViT, which has three branches to a block."""
    blocks = range(1, depth + 1)
    recurrent, attention, mlp = (sum(1 / (3 * i + j) for i in blocks) for j in (-1, 0, 1))
    linear = math.sqrt(2 + (3 + 2 * 2**2) * recurrent + 10 * attention + 2 * mlp)
    return math.hypot(linear * per_linear, math.sqrt(5 * attention) * per_attention)


def model_error(config: Any, per_linear: float, per_attention: float = 0.0) -> float:
    """`relative_error` of a model of this config.

    The stages of Swin are networks one behind the other, since a linear layer between them makes what it
    gives to the next one whole again. The pooler of V-JEPA 2 is a second network behind the first: a layer
    norm makes its input whole again, and its blocks, the one with the query included, add to that.
    """
    depths = list(getattr(config, "depths", [config.depth]))
    if hasattr(config, "pooler_depth"):
        depths.append(config.pooler_depth + 1)
    return math.hypot(*(relative_error(depth, per_linear, per_attention) for depth in depths))


def float32_error(config: Any, longest_sum: int) -> float:
    """Bound of the same ratio for float32 throughout.

    A sum of n products is off by 8 sqrt(n) u at most relative to its terms, but for a probability of
    2 n exp(-32) (Higham & Mary 2019, theorem 3.1, lambda = 8); u = 2^-24.
    """
    return model_error(config, 8 * math.sqrt(longest_sum) * 2.0**-24)


def distance(got: NDArray, expected: NDArray) -> float:
    """|got - expected| / |expected|."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def cosine(a: NDArray, b: NDArray) -> float:
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

"""How far the recurrent kernels may be from float64: derived from their arithmetic, as in `bounds.py`."""

from __future__ import annotations

import math

import bounds
import numpy as np
import reference
from numpy.typing import NDArray
from reference import Floats


def causal_conv(x: NDArray, weight: NDArray, bias: NDArray) -> bounds.Bounded:
    """A float32 sum of the bias and one product a tap."""
    size = reference.causal_conv(np.abs(x), np.abs(weight), np.abs(bias))
    return bounds.rounded(
        bounds.Bounded(reference.causal_conv(x, weight, bias), size * bounds.sum_error(len(weight) + 1))
    )


def sigmoid_relative(x: NDArray) -> Floats:
    """Relative error of 1 / (1 + 2^(-x log2 e)).

    The exponent is rounded twice, which the exponential turns into 2 u |x|; it counts as far as it makes up
    the sum. The sum, the reciprocal (two) and the result are rounded.
    """
    share = 1.0 - reference.sigmoid(x)
    return (2 * bounds.U * np.abs(x) + bounds.EXP2) * share + 4 * bounds.U


# csrc/kernels/algorithms/math.inl.h, one_minus_exp2: from -1/2 on the polynomial itself, whose relative error
# is that of 2^x by at most 1 / (1 - 2^-1/2) < 3.5; below that two terms below 1 make up more than 0.29.
ONE_MINUS_EXP2 = 4 * (bounds.EXP2 + 3 * bounds.U)


def gated_recurrence(
    x: NDArray, input_gate: NDArray, decay_gate: NDArray, decay: NDArray, state: NDArray | None
) -> bounds.Bounded:
    """States of the RG-LRU, errors followed from frame to frame."""
    values = reference.gated_recurrence(x, input_gate, decay_gate, decay, state)
    gated = np.abs(reference.sigmoid(input_gate) * np.asarray(x, np.float64))
    gated_error = gated * (sigmoid_relative(input_gate) + bounds.U)
    exponent = np.abs(decay * reference.sigmoid(decay_gate))
    exponent_error = math.log(2) * exponent * (sigmoid_relative(decay_gate) + 2 * bounds.U)
    keep = 2.0**-exponent
    keep_error = keep * (exponent_error + bounds.EXP2) + 2.0**-64
    rest = 1 - keep * keep
    gain = np.sqrt(rest)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(rest > 0, 2 * keep * keep * exponent_error / rest, 0.0)
    gain_error = gain * (0.5 * (share + ONE_MINUS_EXP2) + bounds.U)
    errors = []
    before, error = (None, None) if state is None else (np.abs(state), np.zeros(state.shape))
    for t, value in enumerate(values):
        if before is None:
            error = gated_error[t]
        else:
            added = gain[t] * gated_error[t] + (gated[t] + gated_error[t]) * gain_error[t]
            error = keep[t] * error + (before + error) * keep_error[t] + added
            error = error + bounds.U * (np.abs(value) + 2 * gain[t] * gated[t] + error) + 2.0**-140
        errors.append(error)
        before = np.abs(value)
    return bounds.Bounded(values, np.stack(errors))

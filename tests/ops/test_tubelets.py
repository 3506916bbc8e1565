"""The tubelet embedding against a Conv3d written out in float64."""

from __future__ import annotations

import bounds
import numpy as np
import pytest
import reference
from kernel_cases import ISAS, LINEAR_FAMILIES, floats, framed, guarded, layer

from qora_vision import _core

pytestmark = [pytest.mark.parametrize("isa", ISAS), pytest.mark.parametrize("family", LINEAR_FAMILIES)]

# Clip (T, C, H, W), tubelet (t, h, w), outputs. Some do not divide: what is left over is dropped.
CASES = [
    ((1, 1, 1, 1), (1, 1, 1), 1),
    ((2, 3, 4, 6), (2, 2, 3), 5),
    ((5, 3, 17, 23), (2, 5, 4), 19),
    ((4, 1, 16, 16), (4, 16, 16), 70),
    ((3, 2, 9, 8), (1, 3, 8), 33),
    ((8, 3, 32, 48), (2, 16, 16), 96),
    ((16, 3, 20, 20), (1, 2, 2), 17),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_embedding(isa: str, family: str, case: tuple[tuple[int, ...], tuple[int, int, int], int]) -> None:
    shape, size, out_features = case
    rng = np.random.default_rng(71)
    clip = floats(rng, *shape)
    rows = reference.tubelets(clip, size)
    weights = layer(rng, isa, family, "f16", out_features, rows.shape[1])
    residual = framed(floats(rng, len(rows), out_features))
    for added in (None, residual):
        expected = bounds.linear(
            family, rows.astype(np.float32), weights.weight, weights.bias, residual=added
        )
        for dtype in (np.float32, np.uint16):
            for threads in (1, 3):
                out = guarded(len(rows), out_features, dtype)
                _core.tubelet_embed(clip, size, weights.packed, added, out.array, threads)
                out.assert_intact("tubelet_embed")
                bounds.assert_within(out.array, expected, f"{case}, {dtype.__name__}")


def test_it_is_a_convolution(isa: str, family: str) -> None:
    """One output value as the sum of a Conv3d: the order of tokens and weights is not in doubt."""
    rng = np.random.default_rng(72)
    clip = floats(rng, 4, 3, 6, 10)
    weights = layer(rng, isa, family, "f32", 7, 3 * 2 * 3 * 5)
    kernel = weights.weight.reshape(7, 3, 2, 3, 5).astype(np.float64)
    out = guarded(2 * 2 * 2, 7)
    _core.tubelet_embed(clip, (2, 3, 5), weights.packed, None, out.array, 1)
    t, y, x, channel = 1, 0, 1, 4
    total = float(weights.bias[channel])
    for c in range(3):
        for dt in range(2):
            for dy in range(3):
                for dx in range(5):
                    pixel = float(clip[t * 2 + dt, c, y * 3 + dy, x * 5 + dx])
                    total += pixel * kernel[channel, c, dt, dy, dx]
    rows = reference.tubelets(clip, (2, 3, 5)).astype(np.float32)
    token = (t * 2 + y) * 2 + x
    error = bounds.linear(family, rows, weights.weight, weights.bias, model=False).error[token, channel]
    assert abs(out.array[token, channel] - total) <= error


def test_nan_reaches_its_token_and_no_other(isa: str, family: str) -> None:
    rng = np.random.default_rng(73)
    clip = floats(rng, 4, 3, 8, 8)
    weights = layer(rng, isa, family, "q8", 9, 3 * 2 * 4 * 4)
    clean = guarded(8, 9)
    _core.tubelet_embed(clip, (2, 4, 4), weights.packed, None, clean.array, 1)
    clip[3, 2, 1, 6] = np.nan
    out = guarded(8, 9)
    _core.tubelet_embed(clip, (2, 4, 4), weights.packed, None, out.array, 1)
    token = (1 * 2 + 0) * 2 + 1
    assert np.isnan(out.array[token]).all()
    assert np.array_equal(np.delete(out.array, token, axis=0), np.delete(clean.array, token, axis=0))

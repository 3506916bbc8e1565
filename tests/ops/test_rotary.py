"""Rotary positions on every instruction set against float64, within derived bounds."""

from __future__ import annotations

import bounds
import numpy as np
import pytest
from argument_cases import ISA, frozen, ones, refused
from kernel_cases import ISAS, floats
from numpy.typing import NDArray

from qora_vision import _core


def turned(x: NDArray, cosines: NDArray, sines: NDArray) -> bounds.Bounded:
    """The definition in float64: channels behind those of the tables stay."""
    x, cosines, sines = (np.asarray(values, np.float64) for values in (x, cosines, sines))
    channels = cosines.shape[1]
    cosines, sines = cosines[:, None, :], sines[:, None, :]
    value, error = x.copy(), np.zeros_like(x)
    kept = x[..., :channels] * cosines
    crossed = np.empty_like(kept)
    crossed[..., 0::2] = -x[..., 1:channels:2] * sines[..., 0::2]
    crossed[..., 1::2] = x[..., 0:channels:2] * sines[..., 1::2]
    value[..., :channels] = kept + crossed
    # Two products and their sum, each rounded, where nothing is fused.
    error[..., :channels] = 2 * bounds.U * (np.abs(kept) + np.abs(crossed)) * (1 + bounds.U) + 2.0**-148
    return bounds.Bounded(value, error)


# (batch, rows, heads, head_dim, channels that turn): none at all, one pair, vectors of every width with and
# without pairs left over, those of ViT-L and of ViT-g.
SHAPES = [
    (1, 1, 1, 1, 0),
    (1, 1, 1, 2, 2),
    (2, 3, 5, 7, 6),
    (1, 33, 2, 16, 16),
    (3, 5, 1, 24, 24),
    (1, 40, 3, 35, 34),
    (2, 65, 4, 64, 60),
    (1, 9, 2, 88, 84),
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_float64_and_nothing_beside_the_heads_is_written(isa: str, shape: tuple[int, ...]) -> None:
    batch, rows, heads, dim, channels = shape
    rng = np.random.default_rng(91)
    # Heads outermost, as a projection leaves them, with values between rows that must stay.
    whole = np.full((heads, batch, rows + 1, dim + 3), 7.0, np.float32)
    x = whole[:, :, :rows, 1 : dim + 1].transpose(1, 2, 0, 3)
    x[...] = floats(rng, *x.shape)
    cosines, sines = floats(rng, rows, channels), floats(rng, rows, channels)
    expected, before = turned(x, cosines, sines), whole.copy()
    results = []
    for threads in (1, 2, 3):
        whole[...] = before
        _core.rotate(x, cosines, sines, isa, threads)
        results.append(x.copy())
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    bounds.assert_within(results[0], expected, str(shape))
    x[...] = 7.0
    assert np.all(whole == 7.0)


@pytest.mark.parametrize("isa", ISAS)
def test_the_angles_of_a_pair_may_differ(isa: str) -> None:
    """What V-JEPA 2 asks for: each channel by its own angle, so that lengths change."""
    x = np.array([[[[3.0, 4.0, 5.0]]]], np.float32)
    angles = np.array([[0.0, np.pi / 2]])
    _core.rotate(x, np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32), isa)
    np.testing.assert_allclose(x[0, 0, 0], (3.0, 3.0, 5.0), rtol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_a_nan_stays_in_its_pair(isa: str) -> None:
    x = ones(1, 2, 2, 38)
    x[0, 1, 0, 35] = np.nan
    _core.rotate(x, ones(2, 38), ones(2, 38), isa)
    wrong = np.zeros(x.shape, bool)
    wrong[0, 1, 0, 34:36] = True
    assert np.array_equal(np.isnan(x), wrong)


BAD = [
    ({"x": ones(2, 3, 8)}, "expected .batch, rows, heads, head_dim."),
    ({"x": ones(1, 3, 2, 8, dtype=np.uint16)}, "expected float32"),
    ({"x": frozen(1, 3, 2, 8)}, "read-only"),
    ({"x": ones(1, 3, 2, 16)[..., ::2]}, "must be contiguous"),
    ({"x": ones(1, 4, 2, 8)}, "angles for each row"),
    ({"x": ones(1, 3, 2, 7)}, "even number of channels up to 7, got 8"),
    ({"cosines": ones(3, 7), "sines": ones(3, 7)}, "even number of channels"),
    ({"sines": ones(3, 6)}, "do not fit the cosines"),
    ({"sines": ones(3, 8, dtype=np.float64)}, "incompatible"),
]


@pytest.mark.parametrize("index", range(len(BAD)))
def test_wrong_arguments_are_refused(index: int) -> None:
    wrong, message = BAD[index]
    right = {"x": ones(1, 3, 2, 8), "cosines": ones(3, 8), "sines": ones(3, 8), "isa": ISA}
    _core.rotate(**right)
    refused(_core.rotate, right | wrong, "rotate", message)


def test_angles_in_the_array_itself_are_refused() -> None:
    x = ones(1, 3, 2, 8)
    with pytest.raises(ValueError, match="rotate: the array overlaps the angles"):
        _core.rotate(x, ones(3, 8), x.reshape(6, 8)[:3], ISA)

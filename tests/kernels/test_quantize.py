"""Quantising: the rule value by value, the error it leaves, what it refuses; reading stored weights."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import ISAS, floats
from numpy.typing import NDArray

from qora_vision import _core
from qora_vision.engine.ops import quantize
from qora_vision.engine.tensors import QuantizedTensor

KINDS = ("q4", "q8")
LIMITS = {"q4": (-8, 7), "q8": (-127, 127)}
SHAPES = [(1, 1), (2, 31), (3, 32), (5, 33), (17, 64), (33, 97), (4, 3, 2, 5, 5), (40, 768)]
# Half precision: unit roundoff, and half of the smallest step.
HALF_U, HALF_TINY = 2.0**-11, 2.0**-25


def groups_of(weight: NDArray) -> NDArray:
    """(out, groups, 32), the last group padded with zeros."""
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    padded = np.zeros((len(flat), -(-flat.shape[1] // 32) * 32))
    padded[:, : flat.shape[1]] = flat
    return padded.reshape(len(flat), -1, 32)


def integers(tensor: QuantizedTensor) -> NDArray:
    """The stored q of every value, padding too: (out, groups, 32)."""
    if tensor.kind == "q8":
        q = tensor.data.astype(int)
    else:
        low, high = (tensor.data & 15).astype(int) - 8, (tensor.data >> 4).astype(int) - 8
        q = np.stack([low, high], axis=-1)
    return q.reshape(len(tensor.data), -1, 32)


def worst_value(kind: str, groups: NDArray) -> NDArray:
    """Root mean square error of a group (..., 32) that no search may exceed: (..., 1).

    One candidate divides the peak by 7.75 to 8.04 (q4) or 126.6 to 127.4 (q8): it is off by half a step, by
    up to 1.1 for a value that the far end of -8..7 cuts off. The best of all candidates is as good. To that
    comes how the scale is rounded: relative to half a unit of half precision, or to half its smallest step.
    """
    limit, steps = (8, 1.1) if kind == "q4" else (127, 0.52)
    peak = np.abs(groups).max(axis=-1, keepdims=True)
    return steps * peak / (7.75 if kind == "q4" else 126.6) + HALF_U * peak + limit * HALF_TINY


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_value_is_the_nearest_that_its_scale_allows(kind: str, shape: tuple[int, ...]) -> None:
    weight = floats(np.random.default_rng(81), *shape)
    tensor = quantize(weight, kind)
    assert (tensor.kind, tensor.shape) == (kind, shape)
    groups, q = groups_of(weight), integers(tensor)
    low, high = LIMITS[kind]
    assert q.min() >= low and q.max() <= high
    # Where float32 can tell: its quotient is off by two roundings.
    stored = tensor.scales.astype(np.float64)[..., None]
    quotient = np.clip(np.divide(groups, stored, out=np.zeros_like(groups), where=stored != 0), low, high)
    assert np.abs(q - quotient).max() <= 0.5 + 3 * 128 * 2.0**-24
    assert not q.reshape(len(weight), -1)[:, weight[0].size :].any(), "padding must be zero"
    columns = weight[0].size
    naive = reference.dequantize(kind, tensor.data, tensor.scales, columns)
    assert np.array_equal(tensor.dequantize().reshape(len(weight), columns), naive)


def draw(distribution: str, shape: tuple[int, int]) -> NDArray:
    rng = np.random.default_rng(82)
    values = {
        "normal": lambda: rng.standard_normal(shape),
        "laplace": lambda: rng.laplace(size=shape),
        "heavy tails": lambda: rng.standard_t(3, shape),
        "uniform": lambda: rng.uniform(-1, 1, shape),
        "one side": lambda: np.abs(rng.standard_normal(shape)),
    }[distribution]()
    return np.asarray(0.02 * values, np.float32)


@pytest.mark.parametrize("distribution", ["normal", "laplace", "heavy tails", "uniform", "one side"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_scale_is_much_better(kind: str, distribution: str) -> None:
    """Beside every half-precision scale: how much the steps of the search may cost, over all and at worst.

    q8 has so many levels that its error jumps between neighbouring scales: a search of 16 finds less of it.
    """
    weight = draw(distribution, (64, 128))
    groups = groups_of(weight)
    error = ((groups - groups_of(quantize(weight, kind).dequantize())) ** 2).sum(axis=-1)
    least = reference.least_squared_errors(kind, groups.reshape(-1, 32)).reshape(error.shape)
    assert (error >= least * (1 - 1e-9)).all(), "the oracle has missed a scale"
    whole, single = (1.01, 1.5) if kind == "q4" else (1.08, 2.0)
    assert error.sum() <= whole * least.sum()
    assert (error <= single * least).all()
    # What the search is for: the plain rule, peak / -8 or peak / 127, leaves clearly more.
    peak = np.take_along_axis(groups, np.abs(groups).argmax(axis=-1)[..., None], axis=-1)
    plain = peak / -8 if kind == "q4" else np.abs(peak) / 127
    rounded = plain * np.clip(np.round(groups / plain), *LIMITS[kind])
    assert error.sum() <= 0.95 * ((groups - rounded) ** 2).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_on_a_grid_come_back(kind: str) -> None:
    """Integers times a scale that half precision holds, the range being used: nothing is lost."""
    rng = np.random.default_rng(87)
    low, high = LIMITS[kind]
    q = rng.integers(low, high + 1, (50, 96))
    q[:, ::32] = low
    scale = np.float32(0.0078125) * rng.integers(1025, 2048, (50, 1)) / 1024 * rng.choice([-1, 1], (50, 1))
    weight = (q * scale).astype(np.float32)
    assert np.array_equal(quantize(weight, kind).dequantize(), weight)


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_small_and_large_groups(kind: str) -> None:
    weight = np.zeros((7, 64), np.float32)
    weight[1, 40] = 3
    weight[2, :32] = -2
    weight[3, :] = np.float32(1e-7)
    weight[4, 5] = 1e-20  # the scale is zero in half precision
    weight[5, 7] = 8 * 65000.0 if kind == "q4" else 127 * 65000.0
    weight[6] = np.float32(1e-45)
    tensor = quantize(weight, kind)
    back = tensor.dequantize()
    assert np.isfinite(back).all()
    assert not back[0].any() and not back[1, :40].any() and not back[4].any() and not back[6].any()
    assert back[1, 40] == pytest.approx(3, rel=HALF_U) and back[5, 7] == pytest.approx(
        weight[5, 7], rel=HALF_U
    )
    assert np.allclose(back[2, :32], -2, rtol=HALF_U) and not back[2, 32:].any()
    assert np.abs(back[3] - weight[3]).max() <= np.float32(1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_what_cannot_be_stored_is_refused(kind: str, bad: float) -> None:
    for row, column in ((0, 0), (40, 76), (20, 31)):
        weight = floats(np.random.default_rng(83), 41, 77)
        weight[row, column] = bad
        with pytest.raises(ValueError, match=rf"quantize: row {row} "):
            quantize(weight, kind)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="quantize: the kind must be 'q4' or 'q8', got 'q5'"):
        quantize(np.ones((2, 2), np.float32), "q5")


@pytest.mark.parametrize("kind", KINDS)
def test_other_dtypes_and_layouts_give_the_same(kind: str) -> None:
    weight = floats(np.random.default_rng(84), 20, 50).astype(np.float16)
    wanted = quantize(weight.astype(np.float32), kind)
    for other in (weight, weight.astype(np.float64), np.asfortranarray(weight.astype(np.float32))):
        got = quantize(other, kind)
        assert np.array_equal(got.data, wanted.data) and np.array_equal(got.scales, wanted.scales)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_it(kind: str) -> None:
    weight = floats(np.random.default_rng(85), 333, 70)
    wanted = quantize(weight, kind, threads=1)
    for threads in (2, 3, 7):
        got = quantize(weight, kind, threads=threads)
        assert np.array_equal(got.data, wanted.data) and np.array_equal(got.scales, wanted.scales)


def _rows_of(isa: str, data: NDArray, scales: NDArray | None, columns: int) -> NDArray:
    """What a layer reads from stored weights: its product with the identity, exact in the f32 family."""
    packed = _core.PackedLinear(isa, "f32", len(data), columns)
    packed.set_rows(0, data, scales, None)
    out = np.empty((columns, len(data)), np.float32)
    _core.linear(np.eye(columns, dtype=np.float32), packed, None, None, None, out, 1)
    return out.T


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("columns", [1, 31, 32, 33, 95, 128])
def test_stored_weights_are_read_as_they_are(isa: str, columns: int) -> None:
    """Every nibble and byte; scales of both signs, subnormal and zero; half precision of every kind."""
    rng = np.random.default_rng(86)
    rows, groups = 21, -(-columns // 32)
    scales = rng.integers(0, 0x7C00, (rows, groups), dtype=np.uint16)
    scales[::3] |= 0x8000
    scales[1::5] &= 0x03FF
    scales[2] = 0
    scales = scales.view(np.float16)
    q4 = rng.integers(0, 256, (rows, groups * 16), dtype=np.uint8)
    q8 = rng.integers(-127, 128, (rows, groups * 32), dtype=np.int8)
    for kind, data in (("q4", q4), ("q8", q8)):
        wanted = reference.dequantize(kind, data, scales, columns)
        assert np.array_equal(_rows_of(isa, data, scales, columns), wanted), kind
    half = rng.integers(0, 0x7C00, (rows, columns), dtype=np.uint16)
    half[::2] |= 0x8000
    half[1] &= 0x03FF
    plain = half.view(np.float16)
    assert np.array_equal(_rows_of(isa, plain, None, columns), plain.astype(np.float32))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    values=st.lists(st.floats(-1e4, 1e4, width=32, allow_subnormal=True), min_size=1, max_size=70),
)
def test_any_values(kind: str, values: list[float]) -> None:
    weight = np.array([values], np.float32)
    tensor = quantize(weight, kind)
    groups = groups_of(weight)
    error = np.sqrt(((groups - groups_of(tensor.dequantize())) ** 2).mean(axis=-1, keepdims=True))
    assert (error <= worst_value(kind, groups)).all()

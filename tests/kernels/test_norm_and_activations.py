"""Layer norm, GELU and the storing of bf16 on every instruction set, number by number against float64."""

from __future__ import annotations

import bounds
import numpy as np
import pytest
import reference
from kernel_cases import ISAS, activations, floats, framed, framed_vector, guarded, norm_params
from numpy.typing import NDArray

from qora_vision import _core

pytestmark = pytest.mark.parametrize("isa", ISAS)


def norm(isa: str, x: NDArray, gamma: NDArray, beta: NDArray, eps: float, threads: int = 1) -> NDArray:
    out = guarded(*x.shape)
    _core.layer_norm(x, gamma, beta, eps, isa, out.array, threads)
    out.assert_intact("layer_norm")
    return out.array


def through(isa: str, x: NDArray, act: str | None, dtype: type = np.float32) -> NDArray:
    """act(x) as the epilogue of a layer whose weight is the identity, so that its sums are exact."""
    side = x.shape[1]
    packed = _core.PackedLinear(isa, "f32", side, side)
    packed.set_rows(0, np.eye(side, dtype=np.float32), None, None)
    out = guarded(len(x), side, dtype)
    _core.linear(framed(x), packed, None, act, None, out.array, 1)
    out.assert_intact("linear")
    return out.array


@pytest.mark.parametrize("features", [1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 97, 768, 3073])
def test_layer_norm_sizes(isa: str, features: int) -> None:
    rng = np.random.default_rng(61)
    params = norm_params(rng, features)
    for rows in (1, 3, 17, 33):
        x = activations(rng, rows, features)
        got = norm(isa, x, *params)
        bounds.assert_within(got, bounds.layer_norm(x, *params), f"{rows} x {features}")
        exact = reference.layer_norm(x, *params)
        assert np.abs(got - exact).max() <= bounds.layer_norm(x, *params).error.max()


@pytest.mark.parametrize("eps", [1e-12, 1e-6, 1e-5, 1.0])
def test_layer_norm_of_hard_rows(isa: str, eps: float) -> None:
    """A mean far from zero (one pass would lose all digits), constants, tiny and large values, an outlier."""
    rng = np.random.default_rng(62)
    x = floats(rng, 9, 203)
    x[0] += 1000
    x[1] = 5.5
    x[2] = 0
    x[3] *= 1e-10
    x[4] *= 1e10
    x[5] = 0
    x[5, 202] = 1e3
    x[6] = -1e4 + x[6] * 1e-2
    x[7, :100] = -3
    gamma, beta, _ = norm_params(rng, 203)
    bounds.assert_within(
        norm(isa, framed(x), gamma, beta, eps), bounds.layer_norm(x, gamma, beta, eps), "hard"
    )


@pytest.mark.parametrize("features", [7, 64, 203])
def test_no_row_depends_on_those_beside_it(isa: str, features: int) -> None:
    rng = np.random.default_rng(67)
    params = norm_params(rng, features)
    x = activations(rng, 23, features)
    side_by_side = norm(isa, x, *params)
    for row, of_row in zip(x, side_by_side, strict=True):
        assert np.array_equal(norm(isa, framed(row[None]), *params)[0], of_row)


def test_layer_norm_in_place(isa: str) -> None:
    rng = np.random.default_rng(63)
    params = norm_params(rng, 45)
    x = activations(rng, 39, 45)
    out = guarded(39, 45)
    out.array[...] = x
    _core.layer_norm(out.array, *params, isa, out.array, 2)
    out.assert_intact("layer_norm")
    assert np.array_equal(out.array, norm(isa, x, *params))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_layer_norm_of_what_is_not_finite(isa: str, bad: float) -> None:
    rng = np.random.default_rng(64)
    params = norm_params(rng, 45)
    clean = activations(rng, 20, 45)
    wanted = norm(isa, clean, *params)
    for column in (0, 31, 32, 44):
        x = clean.copy()
        x[7, column] = bad
        got = norm(isa, x, *params)
        assert not np.isfinite(got[7]).any()
        assert np.array_equal(np.delete(got, 7, axis=0), np.delete(wanted, 7, axis=0))


def _grid() -> NDArray[np.float32]:
    dense = np.linspace(-12, 12, 30001)
    wide = np.geomspace(1e-38, 1e4, 2000)
    special = [0.0, -0.0, 1e-45, -1e-45, 5.656854, -5.656854, 3e38 / 1e30]
    return np.concatenate([dense, wide, -wide, special]).astype(np.float32)


@pytest.mark.parametrize("act", ["gelu", "gelu_tanh"])
@pytest.mark.parametrize("side", [1, 15, 17])
def test_gelu_number_by_number(isa: str, act: str, side: int) -> None:
    grid = _grid()
    x = grid[: grid.size // side * side].reshape(-1, side)
    bounds.assert_within(through(isa, x, act), bounds.activation(bounds.exactly(x), act), act)


@pytest.mark.parametrize("act", ["gelu", "gelu_tanh"])
def test_gelu_of_integer_sums(isa: str, act: str) -> None:
    """Number by number: an input of 1 and one weight for each output, all exact in bytes."""
    grid = _grid()
    packed = _core.PackedLinear(isa, "i8", grid.size, 1)
    packed.set_rows(0, grid[:, None], None, None)
    got = guarded(1, grid.size)
    _core.linear(framed(np.ones((1, 1), np.float32)), packed, None, act, None, got.array, 1)
    sums = bounds.Bounded(grid.astype(np.float64), 4 * bounds.U * np.abs(grid))
    bounds.assert_within(got.array[0], bounds.activation(sums, act, "i8"), act)


@pytest.mark.parametrize("act", ["gelu", "gelu_tanh"])
def test_gelu_far_out(isa: str, act: str) -> None:
    """x above, zero below; nothing overflows on the way."""
    x = np.geomspace(20, 3e37, 200).astype(np.float32).reshape(-1, 1)
    assert np.abs(through(isa, x, act) / x - 1).max() <= 4 * bounds.U
    low = through(isa, -x, act)
    # What erf leaves of 1 at 4, where it is cut off, and its own error; the other form ends at 2^-64.
    assert (np.abs(low) <= x * (0.5 * bounds.ERF + 2e-8)).all()


@pytest.mark.parametrize("act", [None, "gelu", "gelu_tanh"])
def test_nan_stays_nan(isa: str, act: str | None) -> None:
    for dtype in (np.float32, np.uint16):
        got = reference.values(through(isa, np.full((3, 1), np.nan, np.float32), act, dtype))
        assert np.isnan(got).all()
        got = reference.values(through(isa, np.full((3, 1), np.inf, np.float32), act, dtype))
        assert not np.isfinite(got).any()


def test_bf16_is_rounded_to_nearest_even(isa: str) -> None:
    """Every lower half that matters: ties of both parities, overflow to infinity, subnormals."""
    rng = np.random.default_rng(65)
    upper = np.concatenate([np.arange(0x3F78, 0x3F88), [0, 1, 0x7F, 0x80, 0x7F7E, 0x7F7F, 0x0001]])
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    bits = (upper[:, None].astype(np.uint32) << 16 | lower.astype(np.uint32)).reshape(-1)
    bits = np.concatenate([bits, rng.integers(0, 0x7F80_0000, 3000, dtype=np.uint32)])
    x = np.concatenate([bits.view(np.float32), -bits.view(np.float32)])
    for side in (1, 19):
        part = x[: x.size // side * side].reshape(-1, side)
        if side > 1:  # zero times infinity would spread along a row, and no large value may meet another
            part = part[np.abs(part).max(axis=1) < 1e38]
        got = through(isa, part, None, np.uint16)
        # Sums with zeros turn -0 into 0; the bf16 instructions flush subnormals.
        right = got == np.where(part == 0, np.uint16(0), reference.to_bf16(part))
        flushed = (np.abs(part) < bounds.TINY) & (got & 0x7FFF == 0)
        assert (right | (flushed if isa.endswith(("_bf16", "_amx")) else False)).all()


@pytest.mark.parametrize("side", [1, 2, 15, 16, 17, 40])
def test_bf16_inputs_are_read_exactly(isa: str, side: int) -> None:
    rng = np.random.default_rng(66)
    x = framed(reference.to_bf16(floats(rng, 7, side) * 100))
    packed = _core.PackedLinear(isa, "f32", side, side)
    packed.set_rows(0, np.eye(side, dtype=np.float32), None, None)
    out = guarded(7, side)
    _core.linear(x, packed, None, None, None, out.array, 1)
    assert np.array_equal(out.array, reference.from_bf16(x))


def test_parameters_are_read_no_further_than_they_go(isa: str) -> None:
    """Gamma and beta lie between NaN: one value too many would show."""
    x = np.ones((2, 19), np.float32)
    x[:, ::2] = -1
    got = norm(isa, x, framed_vector(np.ones(19, np.float32)), framed_vector(np.zeros(19, np.float32)), 1e-6)
    assert np.isfinite(got).all()

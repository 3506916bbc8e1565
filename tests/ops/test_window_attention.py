"""Windowed attention on every instruction set and operand family against float64, within derived bounds.

The windows here are made as the reference implementations make them, by padding, rolling and reshaping.
"""

from __future__ import annotations

from dataclasses import dataclass

import attention_bounds
import bounds
import numpy as np
import pytest
import reference
from kernel_cases import ISAS, WINDOW_FAMILIES, floats, guarded
from numpy.typing import NDArray

from qora_vision import _core

pytestmark = [pytest.mark.parametrize("isa", ISAS), pytest.mark.parametrize("family", WINDOW_FAMILIES)]

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Case:
    grid: Size
    window: Size
    shift: Size
    heads: int = 2
    dim: int = 8

    @property
    def tokens(self) -> int:
        return int(np.prod(self.grid))

    @property
    def offsets(self) -> int:
        return int(np.prod([2 * w - 1 for w in self.window]))


CASES = {
    "one token": Case((1, 1, 1), (1, 1, 1), (0, 0, 0), 1, 1),
    "whole windows": Case((4, 6, 6), (2, 3, 3), (0, 0, 0)),
    "shifted": Case((4, 6, 6), (2, 3, 3), (1, 1, 1), 3, 32),
    "shifted one way": Case((4, 4, 9), (2, 2, 3), (0, 0, 2), 1, 5),
    "padded": Case((3, 5, 7), (2, 3, 4), (0, 0, 0), 2, 7),
    "padded and shifted": Case((5, 4, 7), (2, 3, 3), (1, 1, 2), 2, 17),
    "short in time": Case((2, 6, 9), (4, 3, 3), (2, 1, 1)),
    "short in space": Case((6, 2, 8), (3, 4, 3), (1, 2, 1)),
    "short throughout": Case((2, 3, 2), (4, 5, 3), (2, 2, 1), 2, 33),
    "larger than a block of queries": Case((5, 6, 6), (5, 5, 5), (0, 2, 2), 1, 32),
    "larger than a block of keys": Case((8, 9, 8), (8, 7, 7), (4, 3, 3), 1, 32),
    "many windows": Case((2, 21, 20), (2, 2, 2), (0, 1, 1), 1, 4),
}


def partition(x: NDArray, window: list[int]) -> NDArray:
    """(T, H, W) in windows (windows, tokens)."""
    counts = [n // w for n, w in zip(x.shape, window, strict=True)]
    blocks = x.reshape(counts[0], window[0], counts[1], window[1], counts[2], window[2])
    return blocks.transpose(0, 2, 4, 1, 3, 5).reshape(int(np.prod(counts)), -1)


def windows_of(case: Case) -> tuple[NDArray, NDArray, NDArray]:
    """Rows of the grid in each window and their regions (windows, tokens); index of bias (tokens, tokens)."""
    window = [min(n, w) for n, w in zip(case.grid, case.window, strict=True)]
    shift = [0 if n <= w else s for n, w, s in zip(case.grid, case.window, case.shift, strict=True)]
    missing = [(0, -n % w) for n, w in zip(case.grid, window, strict=True)]
    rows = np.pad(np.arange(case.tokens).reshape(case.grid), missing, constant_values=case.tokens)
    rows = np.roll(rows, [-s for s in shift], (0, 1, 2))
    regions = np.zeros(rows.shape, int)
    for axis, (n, w, s) in enumerate(zip(rows.shape, window, shift, strict=True)):
        along = np.zeros(n, int)
        if s:
            along[n - w : n - s], along[n - s :] = 1, 2
        regions = 3 * regions + along.reshape([-1 if axis == d else 1 for d in range(3)])
    places = np.stack(np.meshgrid(*map(np.arange, case.window), indexing="ij")).reshape(3, -1)
    offsets = (places[:, :, None] - places[:, None]) + np.array(case.window)[:, None, None] - 1
    _, height, width = (2 * w - 1 for w in case.window)
    index = (offsets[0] * height + offsets[1]) * width + offsets[2]
    count = int(np.prod(window))
    return partition(rows, window), partition(regions, window), index[:count, :count]


@dataclass(frozen=True)
class Operands:
    q: NDArray
    k: NDArray
    v: NDArray
    bias: NDArray


def operands(case: Case, seed: int, scale: float = 1.5, bias: float = 1.0) -> Operands:
    """q, k and v as a model has them, heads outermost, with NaN between and around; and bias."""
    rng = np.random.default_rng(seed)
    whole = np.full((3 * case.heads, case.tokens + 2, case.dim + 1), np.nan, np.float32)
    whole[:, :-1, :-1] = scale * floats(rng, 3 * case.heads, case.tokens + 1, case.dim)
    parts = whole[:, :-1, :-1].reshape(3, case.heads, case.tokens + 1, case.dim).transpose(0, 2, 1, 3)
    return Operands(*parts[:, None], bias * floats(rng, case.offsets, case.heads))


def run(
    isa: str, family: str, case: Case, x: Operands, threads: int = 1, dtype: type = np.float32
) -> NDArray:
    out = guarded(case.tokens, case.heads * case.dim, dtype)
    sizes = case.grid, case.window, case.shift
    _core.window_attention(x.q, x.k, x.v, x.bias, *sizes, case.dim**-0.5, family, isa, out.array, threads)
    out.assert_intact("window_attention")
    return out.array


def expected(family: str, case: Case, x: Operands, model: bool) -> bounds.Bounded:
    rows, regions, index = windows_of(case)
    value = np.full((case.tokens + 1, case.heads, case.dim), np.nan)
    error = np.full_like(value, np.nan)
    q, k, v = (reference.values(part[0]) for part in (x.q, x.k, x.v))
    for order, region in zip(rows, regions, strict=True):
        mask = np.where(region[:, None] == region, 0.0, -100.0)
        for h in range(case.heads):
            added = x.bias[index, h].astype(np.float64) + mask
            result = attention_bounds.head(
                family, q[order, h], k[order, h], v[order, h], case.dim**-0.5, model, added
            )
            value[order, h], error[order, h] = result
    shape = (case.tokens, case.heads * case.dim)
    return bounds.Bounded(value[:-1].reshape(shape), error[:-1].reshape(shape))


@pytest.mark.parametrize("name", CASES)
def test_against_float64(isa: str, family: str, name: str) -> None:
    case = CASES[name]
    x = operands(case, 51)
    got = run(isa, family, case, x)
    for model in (True, False):
        what = f"{name}, {'rounded operands' if model else 'exact'}"
        bounds.assert_within(got, expected(family, case, x, model), what)
    for threads in (2, 3, 7):
        assert np.array_equal(run(isa, family, case, x, threads), got)


def test_bf16_operands_and_results(isa: str, family: str) -> None:
    case = CASES["padded and shifted"]
    x = operands(case, 52)
    x = Operands(*(reference.to_bf16(part) for part in (x.q, x.k, x.v)), x.bias)
    got = run(isa, family, case, x, dtype=np.uint16)
    bounds.assert_within(got, expected(family, case, x, True), "bf16")


@pytest.mark.parametrize(
    ("scale", "bias"), [(0.0, 3.0), (1e-12, 1.0), (1.5, 6e4), (150.0, 1.0), (3e4, 300.0)]
)
def test_scores_and_bias_of_any_size(isa: str, family: str, scale: float, bias: float) -> None:
    """Queries of zero, bias beyond scores, scores beyond bias: what is added counts in full."""
    case = CASES["padded and shifted"]
    x = operands(case, 53, scale, bias)
    x = Operands(x.q, x.k, np.ascontiguousarray(operands(case, 54).v), np.clip(x.bias, -65536.0, 65536.0))
    got = run(isa, family, case, x)
    bounds.assert_within(got, expected(family, case, x, True), f"{scale}, {bias}")


def test_what_is_not_finite_stays_in_its_window(isa: str, family: str) -> None:
    case = CASES["shifted"]
    x = operands(case, 55)
    x.q[0, 5, 0, 1] = x.k[0, 77, 1, 2] = x.v[0, 140, 2, 3] = np.nan
    got = run(isa, family, case, x).reshape(case.tokens, case.heads, case.dim)
    wrong = np.zeros(got.shape, bool)
    rows = windows_of(case)[0]
    wrong[5, 0] = True
    wrong[next(order for order in rows if 77 in order), 1] = True
    wrong[next(order for order in rows if 140 in order), 2, 3] = True
    assert np.array_equal(np.isnan(got), wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": (4, 6, 0)}, r"impossible sizes: grid \(4, 6, 0\)"),
        ({"window": (2, 3, 2000)}, "impossible sizes"),
        ({"shift": (2, 1, 1)}, r"the shift \(2, 1, 1\) must be less than the window \(2, 3, 3\)"),
        ({"shift": (-1, 1, 1)}, "the shift"),
        ({"grid": (4, 6, 5)}, "must have batch 1 and 121 rows"),
        ({"bias": np.zeros((74, 2), np.float32)}, "has 75 rows of bias, got 74"),
        ({"bias": np.zeros((75, 3), np.float32)}, r"the bias must be \(offsets, 2\)"),
        ({"bias": np.full((75, 2), np.nan, np.float32)}, "the bias must be finite"),
        ({"bias": np.full((75, 2), 7e4, np.float32)}, "at most 65536 in magnitude"),
        ({"out": np.zeros((145, 16), np.float32)}, r"the output must be \(144, 16\)"),
        ({"scale": np.nan}, "the scale must be positive"),
        ({"v": np.zeros((1, 145, 1, 8), np.float32)}, "do not fit together"),
        ({"family": "i8"}, "the operand family must be f32, bf16 or i16"),
        ({"family": "q4"}, "the operand family must be f32, bf16 or i16"),
    ],
)
def test_wrong_arguments_are_refused(isa: str, family: str, change: dict, message: str) -> None:
    case = CASES["whole windows"]
    x = operands(case, 56)
    arguments = {
        **{"q": x.q, "k": x.k, "v": x.v, "bias": x.bias},
        **{"grid": case.grid, "window": case.window, "shift": case.shift, "scale": 0.5},
        **{"out": np.zeros((144, 16), np.float32), "family": family, "isa": isa},
    }
    with pytest.raises(ValueError, match=f"window_attention: .*{message}"):
        _core.window_attention(**(arguments | change))


def test_overlaps_are_refused(isa: str, family: str) -> None:
    x = np.zeros((1, 145, 2, 8), np.float32)
    bias = np.zeros((75, 2), np.float32)
    out = x.reshape(145, 16)[1:]
    with pytest.raises(ValueError, match="window_attention: the output overlaps q, k or v"):
        _core.window_attention(x, x, x, bias, (4, 6, 6), (2, 3, 3), (0, 0, 0), 1.0, family, isa, out, 1)

"""Attention over many short sequences on every instruction set against float64, within derived bounds."""

from __future__ import annotations

import attention_bounds
import bounds
import numpy as np
import pytest
import reference
from kernel_cases import ISAS, floats
from numpy.typing import NDArray

from qora_vision import _core

pytestmark = pytest.mark.parametrize("isa", ISAS)

# (batch, heads, queries, keys, head_dim): one of each, vectors +- 1, those of divided attention.
SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 3, 2, 3, 7),
    (3, 2, 5, 15, 16),
    (1, 2, 9, 16, 17),
    (2, 1, 4, 17, 33),
    (50, 3, 8, 8, 64),
    (7, 2, 16, 16, 80),
    (2, 2, 96, 96, 24),
]


def strided(rng: np.random.Generator, batch: int, rows: int, heads: int, dim: int) -> NDArray[np.float32]:
    """(batch, rows, heads, dim) as a model has it: heads outermost, then time, then the batch; NaN around."""
    whole = np.full((heads, rows, batch + 1, dim + 1), np.nan, np.float32)
    whole[:, :, :batch, :dim] = floats(rng, heads, rows, batch, dim) * 1.5
    return whole[:, :, :batch, :dim].transpose(2, 1, 0, 3)


@pytest.mark.parametrize("shape", SHAPES)
def test_against_float64_and_nothing_beside_the_output_is_written(isa: str, shape: tuple[int, ...]) -> None:
    batch, heads, queries, keys, dim = shape
    rng = np.random.default_rng(7)
    q = strided(rng, batch, queries, heads, dim)
    k, v = (strided(rng, batch, keys, heads, dim) for _ in range(2))
    whole = np.full((queries, batch + 2, heads, dim + 3), 7.0, np.float32)
    out = whole[:, 1:-1, :, 1:-2].transpose(1, 0, 2, 3)
    results = []
    for threads in (1, 2, 3):
        out[...] = 7.0
        _core.short_attention(q, k, v, dim**-0.5, isa, out, threads)
        results.append(out.copy())
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    expected = attention_bounds.attention("f32", q, k, v, dim**-0.5, model=False)
    bounds.assert_within(results[0].reshape(batch * queries, heads * dim), expected, str(shape))
    out[...] = 7.0
    assert np.all(whole == 7.0)


def test_bf16_operands(isa: str) -> None:
    rng = np.random.default_rng(8)
    q, k, v = (reference.to_bf16(floats(rng, 5, 9, 2, 24)) for _ in range(3))
    out = np.empty((5, 9, 2, 24), np.float32)
    _core.short_attention(q, k, v, 24**-0.5, isa, out, 2)
    expected = attention_bounds.attention("f32", q, k, v, 24**-0.5, model=False)
    bounds.assert_within(out.reshape(45, 48), expected, "bf16")


def test_huge_scores_and_what_is_not_finite(isa: str) -> None:
    rng = np.random.default_rng(9)
    q, k, v = (floats(rng, 4, 8, 3, 16) for _ in range(3))
    out, hard = np.empty((4, 8, 3, 16), np.float32), np.empty((4, 8, 3, 16), np.float32)
    _core.short_attention(q * 1e4, k * 1e4, v, 0.25, isa, hard, 1)
    best = np.einsum("bqhd,bkhd->bqhk", q, k).argmax(axis=-1)
    for b, i, h in np.ndindex(4, 8, 3):
        np.testing.assert_allclose(hard[b, i, h], v[b, best[b, i, h], h], rtol=1e-5, atol=1e-6)
    q[0, 2, 1, 3] = k[1, 4, 2, 5] = v[2, 6, 0, 7] = np.nan
    _core.short_attention(q, k, v, 0.25, isa, out, 1)
    wrong = np.zeros(out.shape, bool)
    wrong[0, 2, 1] = wrong[1, :, 2] = wrong[2, :, 0, 7] = True
    assert np.array_equal(np.isnan(out), wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": (2, 8, 3, 16)}, "do not fit together"),
        ({"v": (4, 7, 3, 16)}, "do not fit together"),
        ({"out": (4, 8, 3, 15)}, "must be float32 with the shape of q"),
        ({"q": (4, 0, 3, 16), "out": (4, 0, 3, 16)}, "at least one query"),
        ({"scale": 0.0}, "scale must be positive"),
        ({"scale": float("nan")}, "scale must be positive"),
    ],
)
def test_wrong_arguments_are_refused(isa: str, change: dict, message: str) -> None:
    arrays = {name: np.zeros(change.get(name, (4, 8, 3, 16)), np.float32) for name in ("q", "k", "v", "out")}
    with pytest.raises(ValueError, match=f"short_attention: .*{message}"):
        _core.short_attention(
            arrays["q"], arrays["k"], arrays["v"], change.get("scale", 0.25), isa, arrays["out"], 1
        )


def test_overlaps_are_refused(isa: str) -> None:
    x = np.zeros((4, 8, 3, 16), np.float32)
    with pytest.raises(ValueError, match="overlaps"):
        _core.short_attention(x, x.copy(), x.copy(), 0.25, isa, x, 1)
    frozen = np.zeros((4, 8, 3, 16), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        _core.short_attention(x, x, x, 0.25, isa, frozen, 1)

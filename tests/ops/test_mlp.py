"""Two layers with an activation between them, block by block of rows, within bounds around float64."""

from __future__ import annotations

import bounds
import numpy as np
import pytest
import reference
from kernel_cases import (
    ISAS,
    LINEAR_FAMILIES,
    WEIGHT_KINDS,
    Layer,
    activations,
    floats,
    framed,
    guarded,
    layer,
    norm_params,
    tile,
)
from numpy.typing import NDArray

from qora_vision import _core

pytestmark = [pytest.mark.parametrize("isa", ISAS), pytest.mark.parametrize("family", LINEAR_FAMILIES)]


def run(
    x: NDArray,
    fc1: Layer,
    fc2: Layer,
    act: str,
    norm: bounds.Norm | None = None,
    residual: NDArray | None = None,
    dtype: type = np.float32,
    threads: int = 1,
) -> NDArray:
    out = guarded(len(x), len(fc2.weight), dtype)
    _core.mlp(x, norm, fc1.packed, act, fc2.packed, residual, out.array, threads)
    out.assert_intact("mlp")
    return out.array


def expect(
    family: str,
    x: NDArray,
    fc1: Layer,
    fc2: Layer,
    act: str,
    norm: bounds.Norm | None = None,
    residual: NDArray | None = None,
    model: bool = True,
) -> bounds.Bounded:
    first, second = (fc1.weight, fc1.bias), (fc2.weight, fc2.bias)
    return bounds.mlp(family, x, first, second, act, norm=norm, residual=residual, model=model)


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
@pytest.mark.parametrize("act", ["gelu", "gelu_tanh"])
def test_sizes(isa: str, family: str, kind: str, act: str) -> None:
    mr, nr = tile(isa, family)
    rng = np.random.default_rng(51)
    for rows, width, hidden, out in ((1, 1, 1, 1), (mr + 1, 33, nr + 1, nr - 1), (2 * mr - 1, 64, 127, 65)):
        fc1 = layer(rng, isa, family, kind, hidden, width)
        fc2 = layer(rng, isa, family, kind, out, hidden)
        x = activations(rng, rows, width)
        got = run(x, fc1, fc2, act)
        for model in (True, False):
            expected = expect(family, x, fc1, fc2, act, model=model)
            bounds.assert_within(got, expected, f"{rows}, {width}, {hidden}, {out}, model {model}")


@pytest.mark.parametrize("rows", [191, 193, 400])
def test_blocks_of_rows_with_everything(isa: str, family: str, rows: int) -> None:
    rng = np.random.default_rng(52)
    fc1 = layer(rng, isa, family, "q4", 96, 40)
    fc2 = layer(rng, isa, family, "q4", 40, 96)
    norm = norm_params(rng, 40)
    for in_type in (np.float32, np.uint16):
        x = activations(rng, rows, 40, in_type)
        residual = framed(floats(rng, rows, 40))
        for out_type in (np.float32, np.uint16):
            got = run(x, fc1, fc2, "gelu", norm, residual, out_type)
            expected = expect(family, x, fc1, fc2, "gelu", norm, residual)
            bounds.assert_within(got, expected, f"{rows} rows")
    if family == "f32":
        hidden = reference.linear(reference.values(x), fc1.weight, fc1.bias, norm=norm, activation="gelu")
        exact = reference.linear(hidden, fc2.weight, fc2.bias, residual=residual)
        bounds.assert_within(got, bounds.Bounded(exact, expected.error), "the oracle")


def test_in_place(isa: str, family: str) -> None:
    """The output may be the input and the residual: a transformer's own use."""
    rng = np.random.default_rng(53)
    fc1 = layer(rng, isa, family, "q8", 70, 24)
    fc2 = layer(rng, isa, family, "q8", 24, 70)
    norm = norm_params(rng, 24)
    for rows in (1, 13, 300):
        x = activations(rng, rows, 24)
        apart = run(x, fc1, fc2, "gelu_tanh", norm, x)
        for threads in (1, 3):
            out = guarded(rows, 24)
            out.array[...] = x
            _core.mlp(out.array, norm, fc1.packed, "gelu_tanh", fc2.packed, out.array, out.array, threads)
            out.assert_intact("mlp in place")
            assert np.array_equal(out.array, apart)


def test_a_real_model(isa: str, family: str) -> None:
    rng = np.random.default_rng(54)
    fc1 = layer(rng, isa, family, "q4", 1536, 384)
    fc2 = layer(rng, isa, family, "q4", 384, 1536)
    x = activations(rng, 99, 384)
    norm = norm_params(rng, 384)
    got = run(x, fc1, fc2, "gelu", norm, x)
    for model in (True, False):
        bounds.assert_within(
            got, expect(family, x, fc1, fc2, "gelu", norm, x, model), f"ViT-S, model {model}"
        )


def test_nothing_between_the_layers(isa: str, family: str) -> None:
    rng = np.random.default_rng(55)
    fc1, fc2 = layer(rng, isa, family, "f32", 30, 20), layer(rng, isa, family, "f32", 10, 30)
    x = activations(rng, 8, 20)
    out = guarded(8, 10)
    _core.mlp(x, None, fc1.packed, None, fc2.packed, None, out.array, 1)
    first = bounds.linear(family, x, fc1.weight, fc1.bias, model=False)
    bounds.assert_within(
        out.array, bounds.affine(family, first, fc2.weight, fc2.bias, False), "no activation"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_shows_in_its_row_and_only_there(isa: str, family: str, bad: float) -> None:
    rng = np.random.default_rng(56)
    fc1, fc2 = layer(rng, isa, family, "q8", 70, 24), layer(rng, isa, family, "q8", 24, 70)
    clean = activations(rng, 17, 24)
    for act in ("gelu", "gelu_tanh"):
        for norm in (None, norm_params(rng, 24)):
            wanted = run(clean, fc1, fc2, act, norm)
            for row in (0, 9, 16):
                x = clean.copy()
                x[row, 23] = bad
                got = run(x, fc1, fc2, act, norm)
                assert not np.isfinite(got[row]).any(), f"{bad} became {got[row, :4]}"
                others = np.arange(17) != row
                assert np.array_equal(got[others], wanted[others]), "another row changed"

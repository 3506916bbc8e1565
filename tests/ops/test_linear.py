"""Linear layers on every instruction set and operand family against float64, within derived bounds."""

from __future__ import annotations

import bounds
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    ACTIVATIONS,
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
    set_weight,
    tile,
)
from numpy.typing import NDArray

from qora_vision import _core

pytestmark = [pytest.mark.parametrize("isa", ISAS), pytest.mark.parametrize("family", LINEAR_FAMILIES)]


def run(
    x: NDArray,
    weights: Layer,
    *,
    norm: bounds.Norm | None = None,
    act: str | None = None,
    residual: NDArray | None = None,
    dtype: type = np.float32,
    in_place: bool = False,
    threads: int = 1,
) -> NDArray:
    """The op into a guarded output; `in_place` puts the residual there first."""
    out = guarded(len(x), len(weights.weight), dtype)
    if in_place:
        out.array[...] = residual
        residual = out.array
    _core.linear(x, weights.packed, norm, act, residual, out.array, threads)
    out.assert_intact("linear")
    return out.array


def check(
    family: str, x: NDArray, weights: Layer, what: str, models: tuple[bool, ...] = (True, False)
) -> None:
    got = run(x, weights)
    for model in models:
        expected = bounds.linear(family, x, weights.weight, weights.bias, model=model)
        bounds.assert_within(got, expected, f"{what}, {'rounded operands' if model else 'exact'}")


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
def test_sizes_around_the_tile_and_the_groups(isa: str, family: str, kind: str) -> None:
    mr, nr = tile(isa, family)
    rng = np.random.default_rng(11)
    cases = [
        (1, 1, 1),
        (1, nr, 2),
        (mr, 1, 3),
        (mr - 1 or 1, nr - 1, 31),
        (mr, nr, 32),
        (mr + 1, nr + 1, 33),
        (2 * mr + 1, 2 * nr - 1, 64),
        (2 * mr - 1, 2 * nr + 1, 65),
        (13, 37, 101),
        (3, 3 * nr, 95),
    ]
    for rows, out_features, in_features in cases:
        weights = layer(rng, isa, family, kind, out_features, in_features)
        x = activations(rng, rows, in_features)
        check(family, x, weights, f"{rows} x {in_features} -> {out_features}, {kind}")


@pytest.mark.parametrize("extra", [-1, 0, 1, None])
def test_reductions_around_a_slice_of_a_panel(isa: str, family: str, extra: int | None) -> None:
    """None: three steps more than two slices."""
    rng = np.random.default_rng(12)
    mr, nr = tile(isa, family)
    info = _core.table_info(isa)
    slice_steps, kr = info["linear_slice_steps"], info["kr"][family]
    extra = slice_steps + 3 if extra is None else extra
    for in_features in {kr * slice_steps + extra, kr * (slice_steps + extra)}:
        weights = layer(rng, isa, family, "q8", nr + 3, in_features)
        check(family, activations(rng, mr + 2, in_features), weights, f"{in_features} inputs")


@pytest.mark.parametrize(("blocks", "extra"), [(1, -1), (1, 0), (1, 1), (2, 5)])
def test_more_rows_than_a_block(isa: str, family: str, blocks: int, extra: int) -> None:
    rng = np.random.default_rng(13)
    rows = blocks * _core.table_info(isa)["linear_block_rows"][family] + extra
    weights = layer(rng, isa, family, "q4", 21, 43)
    check(family, activations(rng, rows, 43), weights, f"{rows} rows")


@pytest.mark.parametrize("kind", ["q4", "f16"])
def test_the_shape_of_a_real_model(isa: str, family: str, kind: str) -> None:
    rng = np.random.default_rng(14)
    rows, in_features, out_features = (197, 768, 3072) if kind == "q4" else (50, 3072, 768)
    weights = layer(rng, isa, family, kind, out_features, in_features)
    check(family, activations(rng, rows, in_features), weights, "ViT-B", models=(True,))


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("normed", [False, True], ids=["plain", "norm"])
def test_every_prologue_and_epilogue(isa: str, family: str, act: str | None, normed: bool) -> None:
    mr, nr = tile(isa, family)
    rng = np.random.default_rng(15)
    rows, in_features, out_features = mr + 2, 75, nr + 7
    weights = layer(rng, isa, family, "q8", out_features, in_features)
    residual = framed(floats(rng, rows, out_features))
    norm = norm_params(rng, in_features) if normed else None
    for in_type in (np.float32, np.uint16):
        x = activations(rng, rows, in_features, in_type)
        for added, in_place in ((None, False), (residual, False), (residual, True)):
            expected = bounds.linear(
                family, x, weights.weight, weights.bias, norm=norm, act=act, residual=added
            )
            exact = reference.linear(
                reference.values(x), weights.weight, weights.bias, norm=norm, activation=act, residual=added
            )
            for out_type in (np.float32,) if in_place else (np.float32, np.uint16):
                what = (
                    f"{in_type.__name__} in, {out_type.__name__} out, residual {added is not None}/{in_place}"
                )
                got = run(x, weights, norm=norm, act=act, residual=added, dtype=out_type, in_place=in_place)
                bounds.assert_within(got, expected, what)
                if family == "f32":
                    bounds.assert_within(got, bounds.Bounded(exact, expected.error), what)


def test_a_layer_of_several_tensors_and_without_bias(isa: str, family: str) -> None:
    rng = np.random.default_rng(16)
    _, nr = tile(isa, family)
    sizes, in_features = (nr - 3, 5, nr + 1), 45
    packed = _core.PackedLinear(isa, family, sum(sizes), in_features)
    weight, bias, at = [], [], 0
    for i, size in enumerate(sizes):
        part = layer(rng, isa, family, "f32", size, in_features)
        weight.append(set_weight(packed, at, part.weight, None if i == 1 else part.bias))
        bias.append(np.zeros_like(part.bias) if i == 1 else part.bias)
        at += size
    assert (packed.out_features, packed.in_features, packed.family) == (at, in_features, family)
    whole = Layer(packed, np.concatenate(weight), np.concatenate(bias))
    check(family, activations(rng, 9, in_features), whole, "three tensors")


def test_views_with_strides(isa: str, family: str) -> None:
    """Every second row, rows from last to first, one column, a column of a larger array."""
    rng = np.random.default_rng(17)
    weights = layer(rng, isa, family, "q4", 20, 40)
    x = activations(rng, 14, 40)
    for view in (x[::2], x[::-1], x[5:6], np.broadcast_to(x[3], (4, 40))):
        check(family, view, weights, f"strides {view.strides}", models=(True,))
    single = layer(rng, isa, family, "f32", 3, 1)
    check(family, floats(rng, 6, 5)[:, 2:3], single, "one input", models=(True,))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize("width", [2, 5, 16, 24, 64, 80])
def test_an_output_in_blocks_of_columns(isa: str, family: str, width: int, dtype: type) -> None:
    """(blocks, rows, width), such as the heads of a projection: the same bits as one matrix."""
    rng = np.random.default_rng(22)
    for blocks in (1, 3):
        weights = layer(rng, isa, family, "q8", blocks * width, 30)
        x = activations(rng, 11, 30)
        wanted = run(x, weights, act="gelu", dtype=dtype)
        apart = guarded(blocks * 11, width, dtype)
        beside = guarded(11, blocks * (width + 3), dtype)
        inner = beside.array.reshape(11, blocks, width + 3)[..., :width]
        gaps = beside.array.reshape(11, blocks, width + 3)[..., width:]
        before = gaps.copy()
        for out in (apart.array.reshape(blocks, 11, width), inner.transpose(1, 0, 2)):
            _core.linear(x, weights.packed, None, "gelu", None, out, 1)
            assert np.array_equal(out.transpose(1, 0, 2).reshape(11, -1), wanted)
        apart.assert_intact("blocks apart")
        beside.assert_intact("blocks beside each other")
        assert np.array_equal(gaps.view(f"u{gaps.itemsize}"), before.view(f"u{gaps.itemsize}"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("in_type", [np.float32, np.uint16])
def test_what_is_not_finite_shows_in_its_row_and_only_there(
    isa: str, family: str, bad: float, in_type: type
) -> None:
    rng = np.random.default_rng(18)
    mr, nr = tile(isa, family)
    weights = layer(rng, isa, family, "q8", nr + 3, 70)
    norm = norm_params(rng, 70)
    clean = activations(rng, 2 * mr + 1, 70, in_type)
    stored = reference.to_bf16([bad])[0] if in_type == np.uint16 else bad
    for row, column in ((0, 0), (mr, 69), (2 * mr, 33)):
        x = clean.copy()
        x[row, column] = stored
        for params in (None, norm):
            for act in ACTIVATIONS:
                for out_type in (np.float32, np.uint16):
                    got = run(x, weights, norm=params, act=act, dtype=out_type)
                    hit = reference.values(got[row])
                    if act is None or not np.isinf(bad):
                        assert not np.isfinite(hit).any(), f"{bad} at {row, column} became {hit[:4]}"
                    else:  # an activation may map minus infinity to zero
                        assert not (np.isfinite(hit) & (hit != 0)).any(), f"{bad} became {hit[:4]}"
                    wanted = run(clean, weights, norm=params, act=act, dtype=out_type)
                    others = np.arange(len(x)) != row
                    assert np.array_equal(got[others], wanted[others]), "another row changed"


def test_not_finite_residual_and_bias(isa: str, family: str) -> None:
    rng = np.random.default_rng(19)
    weights = layer(rng, isa, family, "f32", 19, 24)
    x = activations(rng, 5, 24)
    residual = floats(rng, 5, 19)
    clean = run(x, weights, residual=residual)
    residual[2, 18] = np.nan
    got = run(x, weights, residual=residual)
    assert np.isnan(got[2, 18])
    assert np.array_equal(np.delete(got, 2 * 19 + 18), np.delete(clean, 2 * 19 + 18))
    bias = weights.bias.copy()
    bias[7] = np.inf
    set_weight(weights.packed, 0, weights.weight, bias)
    assert np.isposinf(run(x, weights)[:, 7]).all()


def test_rows_that_are_hard_to_encode(isa: str, family: str) -> None:
    """Zeros, one sign only, a constant, an outlier, tiny and huge numbers: half a step holds for all."""
    rng = np.random.default_rng(20)
    x = floats(rng, 12, 50)
    x[0] = 0
    x[1] = np.abs(x[1]) + 5
    x[2] = -np.abs(x[2]) - 5
    x[3] = 3.25
    x[4] = -1e-3
    x[5, 17] = 1e4
    x[6] *= 1e-12
    x[7] *= 1e12
    x[8] = 0
    x[8, 49] = -7
    x[9] = np.float32(1e-38)
    weights = layer(rng, isa, family, "q8", 33, 50)
    check(family, framed(x), weights, "hard rows")


def test_weights_of_zero_and_of_one_column(isa: str, family: str) -> None:
    rng = np.random.default_rng(21)
    weight = np.zeros((18, 40), np.float32)
    weight[3, 5] = -2.5
    weight[9] = 1e-3
    packed = _core.PackedLinear(isa, family, 18, 40)
    sparse = Layer(packed, set_weight(packed, 0, weight, None), np.zeros(18, np.float32))
    x = activations(rng, 7, 40)
    check(family, x, sparse, "sparse weight")
    assert not run(x, sparse)[:, 0].any()


def test_the_largest_integer_sums(isa: str, family: str) -> None:
    """255 x 127 in every product: sums neither saturate nor wrap. test_q4_panels.py has the limits of q4."""
    in_features = 3072
    weight = np.ones((17, in_features), np.float32)
    weight[1::2] *= -1
    packed = _core.PackedLinear(isa, family, 17, in_features)
    weight = set_weight(packed, 0, weight, None)
    x = np.full((3, in_features), 2.0, np.float32)
    x[1] *= -1
    check(family, x, Layer(packed, weight, np.zeros(17, np.float32)), "extremes")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 40),
    out_features=st.integers(1, 140),
    in_features=st.integers(1, 300),
    kind=st.sampled_from(WEIGHT_KINDS),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape(
    isa: str, family: str, rows: int, out_features: int, in_features: int, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = layer(rng, isa, family, kind, out_features, in_features)
    check(family, activations(rng, rows, in_features), weights, "drawn shape")

"""Streaming attention on every instruction set and operand family against float64, within derived bounds."""

from __future__ import annotations

import attention_bounds
import bounds
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import ATTENTION_FAMILIES, ISAS, floats, guarded, tile
from numpy.typing import NDArray

from qora_vision import _core

pytestmark = [pytest.mark.parametrize("isa", ISAS), pytest.mark.parametrize("family", ATTENTION_FAMILIES)]

# (batch, heads, queries, keys, head_dim), around blocks of queries and of keys and products of int16 weights:
# test_the_shapes_cross_every_block checks them against the sizes that the table reports.
SHAPES = [
    (1, 1, 1, 1, 8),
    (1, 2, 2, 2, 1),
    (1, 1, 3, 3, 3),
    (1, 2, 1, 63, 24),
    (2, 2, 5, 64, 64),
    (1, 3, 7, 65, 80),
    (1, 2, 13, 255, 96),
    (1, 1, 95, 256, 64),
    (1, 2, 97, 257, 8),
    (2, 1, 193, 31, 24),
    (1, 1, 4, 512, 80),
    (1, 1, 4, 513, 80),
    (1, 2, 7, 1025, 24),
    (1, 1, 6, 127, 130),
]

Heads = tuple[NDArray, NDArray, NDArray]


def fused(rng: np.random.Generator, shape: tuple[int, ...], dtype: type = np.float32) -> Heads:
    """q, k and v as views of activations with more columns than they use, the rest NaN."""
    batch, heads, queries, keys, dim = shape
    width = 3 * heads * dim

    def rows(count: int) -> NDArray:
        whole = np.full((batch, count + 1, width + 3), np.nan, np.float32)
        whole[:, :count, :width] = floats(rng, batch, count, width) * 1.5
        if dtype == np.uint16:
            whole = reference.to_bf16(whole)
        return whole[:, :count, :width].reshape(batch, count, 3, heads, dim)

    def parts(whole: NDArray) -> list[NDArray]:
        return [whole[:, :, i] for i in range(3)]

    _, k, v = parts(rows(keys))
    return parts(rows(queries))[0], k, v


def run(
    isa: str,
    family: str,
    heads: Heads,
    scale: float | None = None,
    dtype: type = np.float32,
    threads: int = 1,
) -> NDArray:
    q, k, v = heads
    batch, queries, count, dim = q.shape
    out = guarded(batch * queries, count * dim, dtype)
    _core.attention(q, k, v, dim**-0.5 if scale is None else scale, family, isa, out.array, threads)
    out.assert_intact("attention")
    return out.array


def check(isa: str, family: str, heads: Heads, what: str, scale: float | None = None) -> NDArray:
    factor = heads[0].shape[-1] ** -0.5 if scale is None else scale
    got = run(isa, family, heads, scale)
    assert np.isfinite(got).all(), what
    for model in (True, False):
        expected = attention_bounds.attention(family, *heads, factor, model=model)
        bounds.assert_within(got, expected, f"{what}, {'rounded operands' if model else 'exact'}")
    return got


def test_the_shapes_cross_every_block(isa: str, family: str) -> None:
    info = _core.table_info(isa)
    queries, keys = {shape[2] for shape in SHAPES}, {shape[3] for shape in SHAPES}
    for sizes, block in (
        (queries, info["attention_block_queries"]),
        (keys, info["attention_block_keys"][family]),
        (keys, info["i16_product_keys"]),
    ):
        assert min(sizes) < block < max(sizes) and {block - 1, block, block + 1} & sizes, block


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(isa: str, family: str, shape: tuple[int, ...]) -> None:
    heads = fused(np.random.default_rng(31), shape)
    got = check(isa, family, heads, "fused qkv")
    if family == "f32":
        exact = reference.attention(*heads, shape[-1] ** -0.5)
        error = attention_bounds.attention(family, *heads, shape[-1] ** -0.5).error
        bounds.assert_within(got, bounds.Bounded(exact, error), "the oracle")


def test_around_the_tile(isa: str, family: str) -> None:
    mr, nr = tile(isa, family)
    rng = np.random.default_rng(32)
    for queries in {max(mr - 1, 1), mr, mr + 1}:
        for keys in (nr - 1, nr, nr + 1):
            for dim in (nr - 1, nr + 1):
                check(isa, family, fused(rng, (1, 1, queries, keys, dim)), f"{queries}, {keys}, {dim}")


def test_each_key_can_be_the_largest(isa: str, family: str) -> None:
    """Keys that are their own queries: whichever is overlooked by a maximum shows."""
    rng = np.random.default_rng(40)
    for keys in (1, 5, 6, 7, 9, 16, 17, 24, 33, 40, 63, 65):
        q = floats(rng, 1, keys, 1, 16)
        out = guarded(keys, 16)
        _core.attention(q, q, q, 0.5, family, isa, out.array, 1)
        bounds.assert_within(out.array, attention_bounds.attention(family, q, q, q, 0.5), f"{keys} keys")


def test_a_real_model(isa: str, family: str) -> None:
    check(isa, family, fused(np.random.default_rng(33), (1, 2, 197, 785, 64)), "ViT")


@pytest.mark.parametrize("out_type", [np.float32, np.uint16])
def test_bf16_inputs_and_outputs(isa: str, family: str, out_type: type) -> None:
    heads = fused(np.random.default_rng(34), (1, 2, 9, 70, 24), np.uint16)
    expected = attention_bounds.attention(family, *heads, 24**-0.5)
    bounds.assert_within(run(isa, family, heads, dtype=out_type), expected, "bf16")
    q, k, v = heads
    mixed = (q, k, reference.from_bf16(v))
    bounds.assert_within(run(isa, family, mixed, dtype=out_type), expected, "v as float32")


@pytest.mark.parametrize("dim", [1, 24, 33, 64, 80])
def test_how_heads_are_stored_changes_no_bit(isa: str, family: str, dim: int) -> None:
    heads = fused(np.random.default_rng(51), (2, 2, 14, 131, dim))
    stored = tuple(reference.to_bf16(part) for part in heads)
    got = run(isa, family, stored)
    assert np.array_equal(got, run(isa, family, tuple(reference.from_bf16(part) for part in stored)))
    # Rows that begin at whole dwords are operands of bf16 as they lie, others are not.
    assert np.array_equal(got, run(isa, family, tuple(np.ascontiguousarray(part) for part in stored)))
    if family == "bf16":
        assert np.array_equal(got, run(isa, family, heads))


def test_layouts(isa: str, family: str) -> None:
    """Heads before rows, one key for all rows, rows from last to first: strides are the caller's business."""
    rng = np.random.default_rng(35)
    q, k, v = (floats(rng, 1, 3, 20, 24).transpose(0, 2, 1, 3) for _ in range(3))
    check(isa, family, (q, k, v), "heads outside")
    check(isa, family, (q[:, ::-1], k[:, ::-1], v[:, ::-1]), "reversed")
    check(isa, family, (q, np.broadcast_to(k[:, :1], k.shape), v), "stride zero")


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("over", ["k", "v"])
def test_output_over_keys_or_values(isa: str, family: str, over: str, batch: int) -> None:
    """Both have been packed before the first row is written, whichever thread is how far."""
    rng = np.random.default_rng(36)
    q, k, v = (floats(rng, batch, 150, 4, 24) for _ in range(3))
    expected = run(isa, family, (q, k, v))
    out = {"k": k, "v": v}[over].reshape(batch * 150, 96)
    _core.attention(q, k, v, 24**-0.5, family, isa, out, 3)
    np.testing.assert_array_equal(out, expected)


def test_all_keys_equal(isa: str, family: str) -> None:
    """Equal weights: the mean of the values, and integer sums at their largest."""
    rng = np.random.default_rng(36)
    q, k, v = fused(rng, (1, 1, 7, 300, 64))
    k = np.broadcast_to(k[:, :1], k.shape)
    got = check(isa, family, (q, k, v), "equal keys")
    spread = np.abs(got - got[0]).max()
    assert spread <= 2 * attention_bounds.attention(family, q, k, v, 0.125).error.max()
    for constant in (3.0, -3.0):
        same = np.full_like(v, constant)
        got = run(isa, family, (q, k, same))
        # Every weight is the same whole number of units and every value the limit: only scaling rounds.
        assert np.abs(got / constant - 1).max() <= 300 * bounds.U


def test_every_distance_from_the_maximum(isa: str, family: str) -> None:
    """Two keys, and scores that part them by 0 to 20 octaves: the weight's exponential, all along."""
    q = np.linspace(0, 20 * np.log(2), 3001, dtype=np.float32).reshape(1, -1, 1, 1)
    k = np.array([0, -1], np.float32).reshape(1, 2, 1, 1)
    v = np.array([0, 1], np.float32).reshape(1, 2, 1, 1)
    check(isa, family, (q, k, v), "distances", 1.0)


def test_rows_do_not_meet(isa: str, family: str) -> None:
    """Equal weights overflow an integer product unless it is parted; neighbours do not see that it was."""
    q, k, v = (np.ascontiguousarray(a) for a in fused(np.random.default_rng(43), (1, 1, 40, 600, 24)))
    alone = run(isa, family, (q, k, v))
    others = np.arange(40) % 7 > 0
    q[0, ::7] = 0
    together = run(isa, family, (q, k, v))
    assert np.array_equal(alone[others], together[others])
    # Nor that one's scores rise by more than float weights reach without being scaled anew.
    q[0, ::7] = 1e3 * k[0, 500]
    risen = run(isa, family, (q, k, v))
    assert np.array_equal(alone[others], risen[others])


def test_zeros(isa: str, family: str) -> None:
    rng = np.random.default_rng(37)
    q, k, v = (np.ascontiguousarray(a) for a in fused(rng, (1, 1, 5, 100, 24)))
    check(isa, family, (np.zeros_like(q), k, v), "no query")
    check(isa, family, (q, np.zeros_like(k), v), "no key")
    assert not run(isa, family, (q, k, np.zeros_like(v))).any()
    q[0, 2] = 0
    v[..., 5] = 0
    assert not check(isa, family, (q, k, v), "a query and a channel")[:, 5].any()


@pytest.mark.parametrize("scale", [1e-6, 0.01, 1.0, 30.0])
def test_flat_and_peaked_scores(isa: str, family: str, scale: float) -> None:
    heads = fused(np.random.default_rng(38), (1, 1, 9, 500, 24))
    check(isa, family, heads, f"scale {scale}", scale)


@pytest.mark.parametrize("size", [1, 100])
def test_scores_far_apart_do_not_overflow(isa: str, family: str, size: int) -> None:
    """Scores in the tens of thousands, or in millions: one key takes all, whichever block it is in."""
    rng = np.random.default_rng(39)
    q, k, v = (np.ascontiguousarray(a) for a in fused(rng, (1, 1, 6, 600, 16)))
    q[...] = (np.abs(q) * 40 + 20) * size
    far_below = -np.abs(k) * 40
    for winner in (0, 255, 256, 319, 320, 599):
        k[...] = far_below
        k[0, winner] = 100
        got = check(isa, family, (q, k, v), f"winner {winner}", 1.0)
        winning = np.abs(v[0, winner, 0])
        # Of integers the value's half step; of bf16 the value's rounding.
        step = (
            np.abs(v).max() / attention_bounds.VALUE_LIMIT[family]
            if family in attention_bounds.VALUE_LIMIT
            else 0.0
        )
        slack = bounds.BF16_U if family == "bf16" else 0.0
        near = slack * winning + 0.51 * step + 8 * bounds.U * winning
        assert (np.abs(got - v[0, winner, 0]) <= near).all()


def test_ties_among_huge_scores(isa: str, family: str) -> None:
    """Where float32 cannot tell a score from the maximum, no weight exceeds 1 and overflows a sum."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        q = np.abs(floats(rng, 1, 1, 1, 64)) * np.float32(rng.uniform(30, 120))
        k = np.repeat(np.abs(floats(rng, 1, 1, 1, 64)) * np.float32(rng.uniform(30, 120)), 256, axis=1)
        out = np.empty((1, 64), np.float32)
        _core.attention(q, k, np.ones_like(k), 8.0, family, isa, out)
        np.testing.assert_allclose(out, 1.0, rtol=2e-2)


def test_a_key_of_huge_norm(isa: str, family: str) -> None:
    """It takes range from the other keys' integers: the bound says how much, and no more may be lost."""
    rng = np.random.default_rng(40)
    q, k, v = (np.ascontiguousarray(a) for a in fused(rng, (1, 1, 8, 200, 32)))
    k[0, 77] *= 1e3
    check(isa, family, (q, k, v), "outlier key")
    v[0, 3] *= 1e3
    check(isa, family, (q, k, v), "outlier value")
    q[0, 4] *= 1e3
    check(isa, family, (q, k, v), "outlier query")


@pytest.mark.parametrize("octaves", [5, 31, 33, 70, 400])
@pytest.mark.parametrize("every", [16, 64, 300])
def test_scores_that_rise(isa: str, family: str, every: int, octaves: float) -> None:
    """By so much at every so many keys, within a block of keys and from one to the next; and as they fall."""
    rng = np.random.default_rng(44)
    keys = 1100
    q, v = floats(rng, 1, 9, 1, 2), floats(rng, 1, keys, 1, 2)
    q[..., 0] = np.linspace(0.2, 1.0, 9)[:, None]
    k = floats(rng, 1, keys, 1, 2)
    k[0, :, 0, 0] = np.arange(keys) // every * octaves * np.log(2)
    check(isa, family, (q, k, v), "rising", 1.0)
    check(isa, family, (q, k[:, ::-1], v), "falling", 1.0)


def test_every_weight(isa: str, family: str) -> None:
    """Two keys whose scores are each distance apart that bf16 tells from others, up to 30 octaves."""
    steps = np.arange(30 * 1024)
    q = np.zeros((1, len(steps), 1, 4), np.float32)
    q[0, :, 0, :3] = np.stack([steps >> 10, (steps >> 5 & 31) / 32, (steps & 31) / 1024], axis=1)
    k = np.zeros((1, 2, 1, 4), np.float32)
    k[0, 1] = -1
    v = np.eye(2, 4, dtype=np.float32).reshape(1, 2, 1, 4)
    got = check(isa, family, (q, k, v), "weights", np.log(2))
    if family in attention_bounds.VALUE_LIMIT:  # these have the bound of `check` only
        return
    error = got[:, 1] / got[:, 0] * 2.0 ** (steps / 1024) - 1
    worst, typical = (4.41e-3, 1.69e-3) if family == "bf16" else (1e-6, 5e-7)
    assert np.abs(error).max() <= worst and np.sqrt(np.mean(error**2)) <= typical


@pytest.mark.parametrize("where", [0, 1500, 2999])
def test_a_dominant_key_with_a_broad_tail(isa: str, family: str, where: int) -> None:
    """3000 keys that each weigh 1e-4 of the top one, 0.3 of it together: the tail must not be rounded away.

    All that points one way is the tail, so that the second channel is its share of the result.
    """
    keys, dim = 3001, 8
    q = np.zeros((1, 3, 1, dim), np.float32)
    q[..., 0] = 1
    k = np.zeros((1, keys, 1, dim), np.float32)
    k[0, where, 0, 0] = np.log(1e4)
    v = np.zeros((1, keys, 1, dim), np.float32)
    v[0, :, 0, 1] = 1
    v[0, where, 0, :2] = 1, 0
    got = check(isa, family, (q, k, v), "broad tail", 1.0)
    share = 0.3 / 1.3
    # In the block of the dominant key all other weights are rounded, to half a unit each, or to nothing where
    # they are smaller; bf16 scores are 2^-8 off.
    block = attention_bounds.block_of_keys(family, keys)
    unit = {"f32": 0.0, "bf16": 0.02, "i16": block * 0.5 / attention_bounds.WEIGHT_ONE["i16"]}.get(
        family, block * 1e-4
    )
    slack = unit / 1.3 + np.log(1e4) * (bounds.BF16_U if family == "bf16" else 1e-3) * share
    assert np.abs(got[:, 1] - share).max() <= slack


def test_the_largest_head(isa: str, family: str) -> None:
    """Operands at their limits in every product: the integers of Q and K share 31 bits."""
    for dim in (64, 1024, 4096):
        q = np.ones((1, 2, 1, dim), np.float32)
        k = np.ones((1, 5, 1, dim), np.float32)
        k[0, 1::2] = -1
        v = floats(np.random.default_rng(41), 1, 5, 1, dim)
        check(isa, family, (q, k, v), f"head_dim {dim}", 1.0 / dim)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize("shape", [(2, 2, 7, 70, 24), (2, 2, 7, 300, 24)], ids=str)
def test_what_is_not_finite_shows(
    isa: str, family: str, bad: float, dtype: type, shape: tuple[int, ...]
) -> None:
    """In a query: its row of its head. In a key: at least its head. In a value: its channel of its head."""
    batch, heads, queries, keys, dim = shape
    clean = tuple(np.ascontiguousarray(a) for a in fused(np.random.default_rng(42), shape, dtype))
    stored = reference.to_bf16([bad])[0] if dtype == np.uint16 else bad
    wanted = run(isa, family, clean).reshape(batch, queries, heads, dim)
    for operand, row in ((0, 3), (1, 0), (1, keys - 1), (1, 65), (2, 0), (2, keys - 1)):
        arrays = [a.copy() for a in clean]
        arrays[operand][1, row, 0, 5] = stored
        for out_type in (np.float32, np.uint16):
            raw = run(isa, family, (arrays[0], arrays[1], arrays[2]), dtype=out_type)
            got = reference.values(raw).reshape(batch, queries, heads, dim)
            hit = np.zeros(got.shape, bool)
            if operand == 0:
                hit[1, row, 0] = True
            elif operand == 1:
                hit[1, :, 0] = True
            else:
                hit[1, :, 0, 5] = True
            what = f"{bad} in operand {operand}, row {row}"
            if operand == 1 and np.isinf(bad):
                # A score of minus infinity is a weight of zero: then the others' result is right too.
                others = [np.delete(arrays[i], row, axis=1) if i else arrays[i] for i in range(3)]
                rest = attention_bounds.attention(family, *others, dim**-0.5, model=False)
                rest = bounds.stored(rest, out_type)
                right = np.abs(got - rest.value.reshape(got.shape)) <= rest.error.reshape(got.shape)
                assert (~np.isfinite(got) | right)[hit].all(), what
            else:
                assert not np.isfinite(got[hit]).any(), f"{what} became {got[hit][:4]}"
            alone = np.ones(hit.shape, bool)
            alone[1, :, 0] = operand == 0
            alone &= ~hit
            expected = reference.round_bf16(wanted) if out_type == np.uint16 else wanted
            assert np.array_equal(got[alone], expected[alone]), f"{what} reached others"


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    queries=st.integers(1, 30),
    keys=st.integers(1, 320),
    dim=st.integers(1, 100),
    spread=st.floats(0.05, 20.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape(
    isa: str, family: str, batch: int, heads: int, queries: int, keys: int, dim: int, spread: float, seed: int
) -> None:
    drawn = fused(np.random.default_rng(seed), (batch, heads, queries, keys, dim))
    check(isa, family, drawn, "drawn shape", spread / dim)

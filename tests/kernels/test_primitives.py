"""Each operation of the vector wrappers, compared with NumPy.

docs/kernels/porting.md lists the promises under "where ports go wrong"; the reference is
csrc/kernels/simd/simd_scalar.h.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import reference
from kernel_cases import ISAS
from numpy.typing import NDArray

from qora_vision import _core

pytestmark = pytest.mark.parametrize("isa", ISAS)

F32, I32, I16, U16, U8, I8 = np.float32, np.int32, np.int16, np.uint16, np.uint8, np.int8
NONE = np.zeros(1, F32)
INT_MIN, INT_MAX = -(2**31), 2**31 - 1
SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 1e-38, 3e38, -3e38, np.inf, -np.inf, np.nan, 65504.0, 1e-3],
    F32,
)
GUARD = 16


def width(isa: str) -> int:
    return _core._primitives(isa)["width"]


def operand(x: NDArray | None) -> NDArray:
    return NONE if x is None else np.ascontiguousarray(x)


def run(
    isa: str,
    name: str,
    a: NDArray,
    b: NDArray | None = None,
    c: NDArray | None = None,
    *,
    n: int = 0,
    size: int,
    dtype: type = F32,
) -> NDArray:
    """The operation into `size` values; nothing beside them may change."""
    whole = np.arange((size + 2 * GUARD) * np.dtype(dtype).itemsize).astype(U8).view(dtype)
    before = whole.copy()
    _core._primitive(isa, name, operand(a), operand(b), operand(c), n, whole[GUARD:-GUARD])
    for part in (slice(None, GUARD), slice(-GUARD, None)):
        assert whole[part].tobytes() == before[part].tobytes(), f"{name} wrote beside its output"
    return whole[GUARD:-GUARD]


def vectors(isa: str, values: NDArray, step: int | None = None) -> list[NDArray]:
    """Values in pieces of a vector (or `step`), the last one filled up with the first values."""
    step = step or width(isa)
    padded = np.resize(values, -(-values.size // step) * step)
    return list(padded.reshape(-1, step))


def pairs_of(values: NDArray) -> tuple[NDArray, NDArray]:
    return np.repeat(values, values.size), np.tile(values, values.size)


def same(got: NDArray, expected: NDArray) -> None:
    """Bits, where any NaN is like any other."""
    if got.dtype == F32:
        assert (np.isnan(got) == np.isnan(expected)).all(), (got, expected)
        got, expected = np.where(np.isnan(got), F32(0), got), np.where(np.isnan(expected), F32(0), expected)
    assert got.tobytes() == expected.astype(got.dtype).tobytes(), (got, expected)


def test_every_primitive_is_tested(isa: str) -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in _core._primitives(isa)["names"] if f'"{name}"' not in source] == []
    with pytest.raises(ValueError, match="there is no 'nothing'"):
        _core._primitive(isa, "nothing", NONE, NONE, NONE, 0, NONE.copy())


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("add", np.add),
        ("sub", np.subtract),
        ("mul", np.multiply),
        # Their second operand when either is NaN, and of two zeros.
        ("max", lambda a, b: np.where(a > b, a, b)),
        ("min", lambda a, b: np.where(a < b, a, b)),
    ],
)
def test_pairs_of_floats(isa: str, name: str, op) -> None:
    a, b = pairs_of(SPECIAL)
    with np.errstate(all="ignore"):
        for x, y in zip(vectors(isa, a), vectors(isa, b), strict=True):
            same(run(isa, name, x, y, size=x.size), op(x, y))


@pytest.mark.parametrize(("name", "op"), [("abs", np.abs), ("sqrt", np.sqrt), ("round", np.rint)])
def test_functions_of_floats(isa: str, name: str, op) -> None:
    values = np.concatenate([SPECIAL, np.arange(-8.5, 9, 0.5, F32), np.array([2**22 + 0.5, 1e7], F32)])
    with np.errstate(all="ignore"):
        for x in vectors(isa, np.abs(values) if name == "sqrt" else values):
            same(run(isa, name, x, size=x.size), op(x))


def test_fma_is_rounded_once_where_it_is_fused(isa: str) -> None:
    a = np.full(width(isa), 1 + 2.0**-12, F32)
    c = np.full(width(isa), -1, F32)
    exact = F32((1 + 2.0**-12) ** 2 - 1)
    twice = F32(F32((1 + 2.0**-12) ** 2) - 1)
    assert exact != twice
    expected = np.full(width(isa), twice if isa == "scalar" else exact)
    same(run(isa, "fma", a, a, c, size=a.size), expected)


def test_reciprocals_are_about_one_ulp_off(isa: str) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([1 + rng.random(4096), 2.0 ** rng.uniform(-60, 60, 512), [1, 2, 4, 1.9999999]])
    for x in vectors(isa, values.astype(F32)):
        for signed in (x, -x):
            got = run(isa, "reciprocal", signed, size=x.size)
            assert (np.abs(got * signed.astype(np.float64) - 1) <= 2 * 2.0**-23).all()


def test_scaling_by_powers_of_two_is_exact(isa: str) -> None:
    powers = np.arange(-126, 128).astype(F32)
    for x, n in zip(vectors(isa, np.full(powers.size, 1.2345678, F32)), vectors(isa, powers), strict=True):
        same(run(isa, "scale_by_power", x, n, size=x.size), np.ldexp(x, n.astype(int)))


def test_reductions_reach_every_lane(isa: str) -> None:
    lanes = width(isa)
    assert run(isa, "sum", np.exp2(np.arange(lanes)).astype(F32), size=1)[0] == 2.0**lanes - 1
    for at in range(lanes):
        x = np.zeros(lanes, F32)
        x[at] = 3
        assert run(isa, "max_lane", x - 1, size=1)[0] == 2
        assert run(isa, "min_lane", 1 - x, size=1)[0] == -2
        assert run(isa, "first", x, size=1)[0] == x[0]
        ints = np.full(lanes, INT_MIN, I32)
        ints[at] = -7
        assert run(isa, "max_lane_i", ints, size=1, dtype=I32)[0] == -7


def test_one_value_goes_to_all_lanes(isa: str) -> None:
    same(run(isa, "set", np.array([1.25], F32), size=width(isa)), np.full(width(isa), 1.25))
    ints = run(isa, "set_i", np.array([INT_MIN], I32), size=width(isa), dtype=I32)
    same(ints, np.full(width(isa), INT_MIN))
    words = run(isa, "set_w", np.array([-5], I16), size=2 * width(isa), dtype=I16)
    same(words, np.full(2 * width(isa), -5))


def test_parts_of_vectors_touch_no_more(isa: str) -> None:
    """What is read ends where the array does: a build with sanitizers would tell."""
    lanes = width(isa)
    values = np.arange(1, lanes + 1).astype(F32)
    halves = reference.to_bf16(values)
    for n in range(1, lanes) if lanes > 1 else []:
        loaded = run(isa, "load_n", values[:n].copy(), np.array([-9], F32), n=n, size=lanes)
        same(loaded, np.where(np.arange(lanes) < n, values, -9))
        same(run(isa, "store_n", values, n=n, size=n), values[:n])
        same(run(isa, "load_bf16_n", halves[:n].copy(), n=n, size=lanes)[:n], values[:n])
        same(run(isa, "store_bf16_n", values, n=n, size=n, dtype=U16), halves[:n])
    assert lanes > 1 or {"load_n", "store_n", "load_bf16_n", "store_bf16_n"} <= set(
        _core._primitives(isa)["names"]
    )


def test_pairs_come_apart_and_together(isa: str) -> None:
    x = np.arange(2 * width(isa)).astype(F32)
    same(run(isa, "swap_pairs", x, size=x.size), x.reshape(-1, 2)[:, ::-1].ravel())


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("add_i", np.add),
        ("sub_i", np.subtract),
        ("mul_i", np.multiply),
        ("max_i", np.maximum),
        ("min_i", np.minimum),
    ],
)
def test_pairs_of_integers(isa: str, name: str, op) -> None:
    a, b = pairs_of(np.array([0, 1, -1, 7, -128, 255, 30000, -30000, 46340], I32))
    for x, y in zip(vectors(isa, a), vectors(isa, b), strict=True):
        same(run(isa, name, x, y, size=x.size, dtype=I32), op(x, y))


def test_shifts_keep_the_sign(isa: str) -> None:
    for x in vectors(isa, np.array([INT_MIN, INT_MAX, -1, 0, 1, -7, 12345, -12345], I32)):
        for n in range(32):
            same(run(isa, "shift_right_i", x, n=n, size=x.size, dtype=I32), x >> n)


def test_floats_become_the_nearest_integers(isa: str) -> None:
    """Ties to even; INT32_MIN for what does not fit, and for NaN."""
    values = np.concatenate([SPECIAL, np.arange(-6.5, 7, 0.5, F32)])
    limits = np.array([2.0**31, 2.0**31 - 128, -(2.0**31), -(2.0**31) - 256, 2.0**40, -(2.0**40)], F32)
    for x in vectors(isa, np.concatenate([values, limits])):
        fits = (x >= -(2.0**31)) & (x < 2.0**31)
        expected = np.where(fits, np.rint(np.where(fits, x, 0)).astype(np.int64), INT_MIN)
        same(run(isa, "to_int", x, size=x.size, dtype=I32), expected)
    for x in vectors(isa, np.array([0, 1, -1, 2**24 + 1, 2**24 + 3, INT_MAX, INT_MIN], I32)):
        same(run(isa, "to_float", x, size=x.size), x.astype(F32))


def test_bf16_rounds_to_even_and_keeps_nan(isa: str) -> None:
    rng = np.random.default_rng(2)
    bits = np.concatenate(
        [np.arange(0x3F800000, 0x3F840000, 0x800), rng.integers(0x00800000, 0x7F800000, 500), [0x7F7FFFFF]]
    ).astype(np.uint32)
    values = np.concatenate([bits.view(F32), -bits.view(F32), [0.0, -0.0, np.inf, -np.inf]]).astype(F32)
    for x in vectors(isa, values):
        got = run(isa, "store_bf16", x, size=x.size, dtype=U16)
        raw = x.view(np.uint32).astype(np.uint64)
        same(got, ((raw + 0x7FFF + ((raw >> 16) & 1)) >> 16).astype(U16))
        same(run(isa, "bf16_words", x, size=x.size, dtype=I32), got.astype(I32))
        same(run(isa, "load_bf16", got, size=x.size), (got.astype(np.uint32) << 16).view(F32))
    for payload in (0x7F800001, 0x7FC00000, 0xFFFFFFFF, 0x7F80FFFF):
        x = np.full(width(isa), payload, np.uint32).view(F32)
        got = run(isa, "store_bf16", x, size=x.size, dtype=U16)
        assert np.isnan((got.astype(np.uint32) << 16).view(F32)).all()


def test_narrow_stores(isa: str) -> None:
    """The nearest byte: of 0..255, or of -128..127 where the left side of a product is signed."""
    values = np.array(
        [0, 1, 127, 128, 254, 255, 256, 70000, INT_MAX, -1, -127, -128, -129, -70000, INT_MIN, 5], I32
    )
    signed = _core.table_info(isa)["i8_zero_point"] == 0
    low, high = (-128, 127) if signed else (0, 255)
    for x in vectors(isa, values):
        nearest = np.clip(x, low, high).astype(np.int64).astype(U8)
        same(run(isa, "store_bytes", x, size=x.size, dtype=U8), nearest)
        same(run(isa, "store_signed_bytes", x, size=x.size, dtype=I8), np.clip(x, -128, 127))
        words = np.clip(x, -32768, 32767)
        same(run(isa, "store_i16", words, size=x.size, dtype=I16), words)
    for x in vectors(isa, values, 4 * width(isa)):
        nearest = np.clip(x, low, high).astype(np.int64).astype(U8)
        same(run(isa, "store_bytes_4", x, size=x.size, dtype=U8), nearest)


def test_rows_become_columns(isa: str) -> None:
    x = np.arange(width(isa) ** 2).astype(I32).reshape(width(isa), -1)
    same(run(isa, "transpose", x, size=x.size, dtype=I32), x.T.ravel())


def test_values_become_dwords(isa: str) -> None:
    rng = np.random.default_rng(3)
    a, b, c, d = rng.integers(INT_MIN, INT_MAX, (4, width(isa))).astype(I32)
    pairs = ((a.astype(np.uint32) & 0xFFFF) | (b.astype(np.uint32) << 16)).view(I32)
    same(run(isa, "pair_words", a, b, size=a.size, dtype=I32), pairs)
    quads = np.stack([a, b, c, d], 1).astype(U8).view(I32).ravel()
    same(run(isa, "quad_bytes", np.concatenate([a, b, c, d]), size=a.size, dtype=I32), quads)


WORDS = np.array([0, 1, -1, 2, 1000, -1000, 16384, -16384, 32767, -32767, -32768, 12345], I32)


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("add_w", lambda a, b: (a + b).astype(I16)),
        ("sub_w", lambda a, b: np.clip(a - b, -32768, 32767)),
        ("mul_w", lambda a, b: (a * b + (1 << 14)) >> 15),
    ],
)
def test_pairs_of_words(isa: str, name: str, op) -> None:
    a, b = pairs_of(WORDS if name != "mul_w" else WORDS[WORDS != -32768])
    for x, y in zip(vectors(isa, a, 2 * width(isa)), vectors(isa, b, 2 * width(isa)), strict=True):
        same(run(isa, name, x, y, size=x.size, dtype=I16), op(x.astype(np.int64), y.astype(np.int64)))


def test_words(isa: str) -> None:
    count = 2 * width(isa)
    for x in vectors(
        isa, np.concatenate([WORDS, [32768, 70000, -40000, INT_MAX, INT_MIN]]).astype(I32), count
    ):
        # In the order of packed_column, with saturation.
        packed = np.clip(x, -32768, 32767).astype(I16)
        same(run(isa, "pack_w", x, size=count, dtype=I16), packed)
        same(run(isa, "shift_left_5_w", x, size=count, dtype=I16), packed << 5)
        same(run(isa, "shift_right_3_w", x, size=count, dtype=I16), packed >> 3)
        for n in range(1, count):
            same(
                run(isa, "first_w", x, n=n, size=count, dtype=I16), np.where(np.arange(count) < n, packed, 0)
            )
    for name, power in (("power_14_w", 14), ("power_9_w", 9)):
        for x in vectors(isa, np.arange(33).astype(I32), count):
            same(run(isa, name, x, size=count, dtype=I16), np.left_shift(1, power) >> x)


def test_sums_of_words_and_bytes(isa: str) -> None:
    """They go to some lanes: all together are what counts."""
    rng = np.random.default_rng(4)
    lanes, start = width(isa), np.arange(width(isa)).astype(I32)
    words = rng.integers(-32768, 32768, 2 * lanes).astype(I32)
    got = run(isa, "sum_pairs", words, start, size=lanes, dtype=I32)
    assert got.sum(dtype=np.int64) == start.sum() + words.sum()
    halves = rng.integers(-100, 100, 2 * lanes).astype(F32)
    as_words = reference.to_bf16(halves).view(I16).astype(I32)
    got = run(isa, "sum_bf16", as_words, start.astype(F32), size=lanes)
    assert got.sum(dtype=np.float64) == start.sum() + halves.sum(dtype=np.float64)
    count = 2 * lanes * _core._primitives(isa)["words_of_bytes"]
    data = np.resize(np.array([255, 0, 128, 7, 254], I32), count)
    same(run(isa, "pack_b", data, size=count, dtype=U8), data)
    got = run(isa, "sum_bytes", data, start, size=lanes, dtype=I32)
    assert got.sum(dtype=np.int64) == start.sum() + data.sum()
    for n in range(1, count):
        same(run(isa, "first_b", data, n=n, size=count, dtype=U8), np.where(np.arange(count) < n, data, 0))


def test_nibbles_are_looked_up_low_half_first(isa: str) -> None:
    rng = np.random.default_rng(5)
    table, data = rng.integers(-128, 128, 16).astype(I8), rng.integers(0, 256, 16).astype(U8)
    expected = np.stack([table[data & 15], table[data >> 4]], 1).ravel()
    same(run(isa, "look_up_nibbles", table, data, size=32, dtype=I8), expected)


@pytest.mark.parametrize("name", ["dot_f32", "dot_bf16", "dot_i16", "dot_i8"])
def test_dot_products_of_dwords(isa: str, name: str) -> None:
    """One dword on the left, a vector of them on the right; integers are exact at their limits."""
    rng, lanes = np.random.default_rng(6), width(isa)
    kr = {"dot_f32": 1, "dot_bf16": 2, "dot_i16": 2, "dot_i8": 4}[name]
    signed = _core.table_info(isa)["i8_zero_point"] == 0
    low, high = {"dot_i16": (-32767, 32767), "dot_i8": (-128, 127) if signed else (0, 255)}.get(
        name, (-99, 99)
    )
    right = 127 if name == "dot_i8" else high
    for case in range(30):
        a = rng.integers(low, high + 1, kr) if case > 3 else np.full(kr, (low, high)[case % 2])
        b = (
            rng.integers(-right, right + 1, (lanes, kr))
            if case > 3
            else np.full((lanes, kr), (-right, right)[case // 2])
        )
        if name == "dot_i16":
            b = b // 2  # two products of the largest words fit an int32 only then
        start = rng.integers(-1000, 1000, lanes)
        expected = start + b @ a
        if name in ("dot_f32", "dot_bf16"):
            values = (a.astype(F32), b.astype(F32))
            operands = values if kr == 1 else tuple(reference.to_bf16(x) for x in values)
            same(run(isa, name, *operands, start.astype(F32), size=lanes), expected.astype(F32))
        else:
            dtype = I16 if kr == 2 else I8
            left = a.astype(dtype) if kr == 2 or signed else a.astype(U8)
            got = run(isa, name, left, b.astype(dtype), start.astype(I32), size=lanes, dtype=I32)
            same(got, expected)


def test_instruction_sets_that_extend_another_are_as_wide(isa: str) -> None:
    bases = {row["name"]: row["base"] for row in _core.known_isas()}
    widths = {name: width(name) for name in ISAS}
    for name, other in pairwise(sorted(ISAS, key=lambda n: widths[n])):
        assert widths[name] <= widths[other]
    if isa.startswith(("avx_", "avx512_", "neon_")) and bases[isa] in widths:
        assert widths[isa] == widths[bases[isa]]

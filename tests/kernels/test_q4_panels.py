"""Weights of four bits that stay four bits: what panels of the q4 family hold on every instruction set."""

from __future__ import annotations

import bounds
import numpy as np
import pytest
import reference
from kernel_cases import ISAS, activations, floats
from numpy.typing import NDArray

from qora_vision import _core
from qora_vision.engine.ops import PackedLinear, quantize
from qora_vision.engine.tensors import QuantizedTensor

pytestmark = pytest.mark.parametrize("isa", ISAS)


def pack(isa: str, tensor: QuantizedTensor) -> PackedLinear:
    packed = PackedLinear(isa, "q4", *tensor.shape)
    packed.set_rows(0, tensor.data, tensor.scales, None)
    return packed


def run(x: NDArray, packed: PackedLinear) -> NDArray[np.float32]:
    out = np.empty((len(x), packed.out_features), np.float32)
    _core.linear(x, packed, None, None, None, out, 1)
    return out


def test_each_weight_comes_out_as_documented(isa: str) -> None:
    """A row of the unit matrix is 255 at one place and zero elsewhere: it shows one column of the weight."""
    rng = np.random.default_rng(31)
    for columns in (1, 31, 32, 33, 100, 800):
        tensor = quantize(floats(rng, 19, columns) * np.exp(floats(rng, 19, 1)), "q4")
        got = run(np.eye(columns, dtype=np.float32), pack(isa, tensor)).T
        wanted, _ = reference.q4_weight(tensor.data, tensor.scales, columns)
        # Where zero is a byte of its own, the row's other places are in the sum until it is float32.
        others = bounds.U * np.abs(wanted).sum(axis=1, keepdims=True)
        assert (np.abs(got - wanted) <= 5 * bounds.U * np.abs(wanted) + others).all(), f"{columns} columns"


def test_multipliers_use_the_room_of_an_int32_and_no_more(isa: str) -> None:
    """The largest possible sum, and one scale that dwarfs all others, which may vanish beside it."""
    rng = np.random.default_rng(32)
    columns = 3072
    data = rng.integers(0, 256, (6, columns // 2), dtype=np.uint8)
    scales = rng.uniform(-1, 1, (6, columns // 32)).astype(np.float16)
    data[:2], scales[0], scales[1] = 0, 1, -1  # -8 everywhere
    scales[2, 5] = 6e4
    scales[3] *= np.float16(1e-6)  # subnormal
    scales[4] = 0
    scales[5, 1:] = 0
    tensor = QuantizedTensor("q4", (6, columns), data, scales)
    weight, whole = reference.q4_weight(data, scales, columns)
    sums = 255 * np.abs(whole).sum(axis=1)
    assert (sums < 2**31).all() and (sums[:2] > 0.99 * 2**31).all()
    exact = reference.dequantize("q4", data, scales, columns)
    step = np.abs(exact).sum(axis=1) / (2**31 / 255 - 4 * columns - 1)
    step = np.maximum(step, np.abs(scales).max(axis=1).astype(np.float64) / 32767)
    assert (np.abs(weight - exact) <= 4.001 * step[:, None]).all()
    packed = pack(isa, tensor)
    signs = np.where(weight < 0, np.float32(-1), np.float32(1))  # drives a row's sum to its limit
    for x in (signs, np.maximum(signs, 0), np.minimum(signs, 0), activations(rng, 9, columns)):
        a = bounds.int8_rows(bounds.exactly(x), True)
        wanted = bounds.rounded(bounds.product("q4", a, bounds.exactly(weight)))  # a step is rounded, too
        bounds.assert_within(run(x, packed), wanted, "extremes")


def test_memory_stays_at_four_bits(isa: str) -> None:
    packed = PackedLinear(isa, "q4", 768, 3072)
    assert packed.nbytes <= 768 * 3072 * 4.5 / 8 + 768 * 12 + 1024


def test_other_weights_are_refused(isa: str) -> None:
    weight = np.ones((4, 40), np.float32)
    q8 = quantize(weight, "q8")
    packed = PackedLinear(isa, "q4", 4, 40)
    for data, scales in ((weight, None), (weight.astype(np.float16), None), (q8.data, q8.scales)):
        with pytest.raises(ValueError, match="pack_linear: the q4 family takes q4 weights alone"):
            packed.set_rows(0, data, scales, None)


def test_what_is_stored_behind_the_last_column_does_not_count(isa: str) -> None:
    rng = np.random.default_rng(33)
    tensor = quantize(floats(rng, 5, 40), "q4")
    x = activations(rng, 3, 40)
    wanted = run(x, pack(isa, tensor))
    data = tensor.data.copy()
    data[:, 20:] = 0x3F
    assert np.array_equal(run(x, pack(isa, QuantizedTensor("q4", (5, 40), data, tensor.scales))), wanted)

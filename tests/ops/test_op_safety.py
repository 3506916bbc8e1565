"""What would give plausible but wrong numbers is refused: overlapping outputs, weights that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_cases import ISAS, LINEAR_FAMILIES
from numpy.typing import NDArray

from qora_vision import _core
from qora_vision.engine.ops import PackedLinear

ISA = ISAS[-1]


def ones(*shape: int, dtype: Any = np.float32) -> NDArray:
    return np.ones(shape, dtype)


def packed(out_features: int, in_features: int) -> PackedLinear:
    weight = PackedLinear(ISA, "f32", out_features, in_features)
    weight.set_rows(0, ones(out_features, in_features), None, None)
    return weight


def test_outputs_apart_from_what_is_read_later() -> None:
    """What the same rows are made of may be the output; anything shifted against it may not."""
    fc, whole = packed(8, 8), ones(20, 8)
    _core.mlp(whole[:5], None, fc, None, fc, whole[:5], whole[:5])
    for x, residual, out in (
        (whole[:5], None, whole[1:6]),
        (whole[10:15], whole[:5], whole[1:6]),
        (whole[:5][::-1], None, whole[:5]),
    ):
        with pytest.raises(ValueError, match=r"mlp: the output overlaps the (input|residual)"):
            _core.mlp(x, None, fc, None, fc, residual, out)
    with pytest.raises(ValueError, match="linear: the output overlaps the residual"):
        _core.linear(whole[10:15], fc, None, None, whole[:5], whole[1:6])

    heads = ones(1, 5, 2, 4)
    with pytest.raises(ValueError, match="attention: the output overlaps q"):
        _core.attention(heads, ones(1, 5, 2, 4), ones(1, 5, 2, 4), 1.0, "f32", ISA, heads.reshape(5, 8))

    clip = ones(2, 1, 4, 4)
    with pytest.raises(ValueError, match="tubelet_embed: the output overlaps the clip"):
        _core.tubelet_embed(clip, (2, 2, 2), packed(8, 8), None, clip.reshape(4, 8))


@pytest.mark.parametrize("family", LINEAR_FAMILIES)
def test_weights_that_are_no_numbers_are_refused(family: str) -> None:
    """int8 has no NaN: it would become a plausible number."""
    for bad in (np.nan, np.inf, -np.inf):
        weight = ones(4, 40)
        weight[2, 37] = bad
        for stored in () if family == "q4" else (weight, weight.astype(np.float16)):
            with pytest.raises(
                ValueError, match="pack_linear: output feature 2 has a weight that is NaN or inf"
            ):
                PackedLinear(ISA, family, 4, 40).set_rows(0, stored, None, None)
    scales = ones(4, 2, dtype=np.float16)
    scales[3, 1] = np.nan
    data = ones(4, 32, dtype=np.uint8) if family == "q4" else ones(4, 64, dtype=np.int8)
    with pytest.raises(ValueError, match="output feature 3"):
        PackedLinear(ISA, family, 4, 40).set_rows(0, data, scales, None)


def test_a_weight_must_be_whole() -> None:
    weight = PackedLinear(ISA, "f32", 4, 8)
    weight.set_rows(0, ones(3, 8), None, None)
    with pytest.raises(ValueError, match="linear: some output features of the weight were never set"):
        _core.linear(ones(3, 8), weight, None, None, None, ones(3, 4))

"""The check of pixel values: every instruction set finds a single NaN or infinity at any position."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import ISAS, floats, framed_vector

from qora_vision import _core
from qora_vision.engine.ops import Engine

RANGE = 1 << 16  # what a thread takes at a time


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_is_enough(isa: str, bad: float) -> None:
    for size in (1, 7, 16, 33, RANGE - 1, RANGE, 3 * RANGE + 5):
        x = framed_vector(floats(np.random.default_rng(0), size))  # between NaN
        x[::3] = np.finfo(np.float32).max
        x[1::3] = 0
        for threads in (1, 3):
            assert _core.all_finite(x, isa, threads)
            for place in {0, size // 2, size - 1}:
                kept, x[place] = x[place], bad
                assert not _core.all_finite(x, isa, threads), (size, place)
                x[place] = kept


def test_any_shape_that_is_contiguous() -> None:
    engine, x = Engine(), np.zeros((2, 3, 4, 5), np.float32)
    assert engine.all_finite(x) and engine.all_finite(x[:0])
    x[1, 2, 3, 4] = np.nan
    assert not engine.all_finite(x) and engine.all_finite(x[0])
    with pytest.raises(TypeError):
        engine.all_finite(x[..., ::2])
    with pytest.raises(TypeError):
        engine.all_finite(x.astype(np.float64))

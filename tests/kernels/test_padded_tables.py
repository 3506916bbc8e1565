"""Requirements of matrix instructions on the ops: padded sums, and hooks around ranges of work.

No table needs either yet. `padded:` before the name of an instruction set is its table with the largest step
multiple and with hooks that count: zeros that are added change no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from kernel_cases import ATTENTION_FAMILIES, ISAS, LINEAR_FAMILIES, WINDOW_FAMILIES, floats, layer
from numpy.typing import NDArray

from qora_vision import _core

pytestmark = pytest.mark.parametrize("isa", ISAS)


@pytest.fixture(autouse=True)
def _counted() -> Iterator[None]:
    """Every range that was entered was left, and there were some."""
    before = _core._range_counts()
    yield
    after = _core._range_counts()
    assert after[0] - before[0] == after[1] - before[1] > 0


def assert_same(isa: str, op: Callable[[str], NDArray]) -> None:
    assert op(f"padded:{isa}").tobytes() == op(isa).tobytes()


def test_the_step_multiple_is_the_largest(isa: str) -> None:
    info = _core.table_info(f"padded:{isa}")
    assert set(info["step_multiple"].values()) == {info["max_step_multiple"]}
    assert _core.all_finite(np.zeros(3, np.float32), f"padded:{isa}", 1)


@pytest.mark.parametrize("family", LINEAR_FAMILIES)
@pytest.mark.parametrize("in_features", [1, 31, 64, 65, 515, 3072])
def test_linear_layers(isa: str, family: str, in_features: int) -> None:
    def op(name: str) -> NDArray:
        rng = np.random.default_rng(in_features)
        weights = layer(rng, name, family, "q8", 130, in_features)
        out = np.empty((29, 130), np.float32)
        # The scratch that a thread keeps must not be clean by chance.
        _core.linear(np.full((29, in_features), np.nan, np.float32), weights.packed, None, None, None, out, 1)
        _core.linear(floats(rng, 29, in_features), weights.packed, None, "gelu", None, out, 1)
        return out

    assert_same(isa, op)


@pytest.mark.parametrize("family", ATTENTION_FAMILIES)
@pytest.mark.parametrize(("keys", "head_dim"), [(1, 1), (5, 20), (197, 64), (515, 33), (600, 96)])
def test_attention(isa: str, family: str, keys: int, head_dim: int) -> None:
    def op(name: str) -> NDArray:
        rng = np.random.default_rng(keys)
        q, k, v = (floats(rng, 1, n, 2, head_dim) for n in (13, keys, keys))
        out = np.empty((13, 2 * head_dim), np.float32)
        _core.attention(np.full_like(q, np.nan), k, v, 0.2, family, name, out, 1)
        _core.attention(q, k, v, 0.2, family, name, out, 1)
        return out

    assert_same(isa, op)


@pytest.mark.parametrize("family", ATTENTION_FAMILIES)
def test_a_query_of_nan_spoils_its_row_alone(isa: str, family: str) -> None:
    """Also in steps that pad the sum of a shorter block behind it."""
    rng = np.random.default_rng(8)
    q, k, v = (floats(rng, 1, n, 1, 24) for n in (40, 517, 517))
    clean, spoilt = np.empty((40, 24), np.float32), np.empty((40, 24), np.float32)
    _core.attention(q, k, v, 0.2, family, f"padded:{isa}", clean, 1)
    q[0, 3] = np.nan
    _core.attention(q, k, v, 0.2, family, f"padded:{isa}", spoilt, 1)
    assert np.isnan(spoilt[3]).all()
    assert np.delete(spoilt, 3, 0).tobytes() == np.delete(clean, 3, 0).tobytes()


@pytest.mark.parametrize("family", WINDOW_FAMILIES)
def test_windows(isa: str, family: str) -> None:
    def op(name: str) -> NDArray:
        rng = np.random.default_rng(5)
        q, k, v = (floats(rng, 1, 5 * 6 * 6 + 1, 2, 20) for _ in range(3))
        out = np.empty((180, 40), np.float32)
        bias = floats(rng, 3 * 5 * 5, 2)
        _core.window_attention(q, k, v, bias, (5, 6, 6), (2, 3, 3), (1, 1, 1), 0.2, family, name, out, 2)
        return out

    assert_same(isa, op)


@pytest.mark.parametrize("op_name", ["norm", "rotate", "short_attention", "causal_conv", "gated_recurrence"])
def test_ops_without_tiles_enter_ranges_too(isa: str, op_name: str) -> None:
    def op(name: str) -> NDArray:
        rng = np.random.default_rng(6)
        x, gamma, out = floats(rng, 6, 24), floats(rng, 24), np.empty((6, 24), np.float32)
        heads = x.reshape(1, 6, 1, 24)
        if op_name == "norm":
            _core.layer_norm(x, gamma, gamma, 1e-6, name, out, 2)
        elif op_name == "rotate":
            _core.rotate(heads, floats(rng, 6, 24), floats(rng, 6, 24), name, 2)
            return x
        elif op_name == "short_attention":
            _core.short_attention(heads, heads, heads, 0.2, name, out.reshape(1, 6, 1, 24), 2)
        elif op_name == "causal_conv":
            _core.causal_conv(x, floats(rng, 3, 24), gamma, floats(rng, 4, 24), name, out, 2)
        else:
            gates = (floats(rng, 6, 24), floats(rng, 6, 24))
            state = floats(rng, 2, 24)
            _core.gated_recurrence(x, *gates, -abs(gamma), floats(rng, 6, 24), False, state, name, out, 2)
        return out

    assert_same(isa, op)

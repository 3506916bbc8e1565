"""The table avx512_amx: equal integers, the system's refusal, and tiles that are given back."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from kernel_cases import ISAS, activations, floats, layer

from qora_vision import _core
from qora_vision.engine.ops import Engine

AMX, VNNI = "avx512_amx", "avx512_vnni"

pytestmark = pytest.mark.skipif(AMX not in ISAS, reason="this CPU, or its system, has no AMX")


@pytest.mark.parametrize("in_features", [1, 63, 65, 768, 1111])
@pytest.mark.parametrize("rows", [1, 2, 7, 15, 16, 17, 33, 100])
def test_int8_layers_are_those_of_vnni_bit_for_bit(rows: int, in_features: int) -> None:
    def result(isa: str) -> bytes:
        rng = np.random.default_rng(rows)
        weights = layer(rng, isa, "i8", "q4", 130, in_features)
        out = np.empty((rows, 130), np.float32)
        _core.linear(activations(rng, rows, in_features), weights.packed, None, "gelu", None, out, 1)
        return out.tobytes()

    assert result(AMX) == result(VNNI)


@pytest.mark.parametrize("head_dim", [20, 32, 64, 80])
@pytest.mark.parametrize("queries", [1, 16, 31])
def test_int8_attention_is_that_of_vnni_in_one_block_of_keys(queries: int, head_dim: int) -> None:
    """Not with several blocks: those of AMX are smaller, and weights relative to the maximum of theirs."""
    keys = _core.table_info(AMX)["attention_block_keys"]["i8"] - 1

    def result(isa: str) -> bytes:
        rng = np.random.default_rng(queries)
        q, k, v = (floats(rng, 1, n, 2, head_dim) for n in (queries, keys, keys))
        out = np.empty((queries, 2 * head_dim), np.float32)
        _core.attention(q, k, v, 0.3, "i8", isa, out, 1)
        return out.tobytes()

    assert result(AMX) == result(VNNI)


@pytest.mark.parametrize("family", ["i8", "bf16"])
def test_a_row_does_not_depend_on_the_rows_beside_it(family: str) -> None:
    """A remainder goes to tiles of fewer rows, or to none."""
    rng = np.random.default_rng(4)
    weights = layer(rng, AMX, family, "f32", 64, 200)
    x = activations(rng, 37, 200)
    whole, single = np.empty((37, 64), np.float32), np.empty((1, 64), np.float32)
    _core.linear(x, weights.packed, None, None, None, whole, 1)
    for row in range(37):
        _core.linear(x[row : row + 1], weights.packed, None, None, None, single, 1)
        assert single.tobytes() == whole[row].tobytes(), row


def test_a_score_far_above_the_others_rescales_its_row_alone() -> None:
    """Rows beside it, whose reference stays, do not change in any bit."""
    rng = np.random.default_rng(5)
    q, k, v = (floats(rng, 1, n, 1, 64) for n in (16, 1100, 1100))
    clean, moved = np.empty((16, 64), np.float32), np.empty((16, 64), np.float32)
    _core.attention(q, k, v, 0.125, "bf16", AMX, clean, 1)
    q[0, 3] = 40 * k[0, 1050, 0]
    _core.attention(q, k, v, 0.125, "bf16", AMX, moved, 1)
    assert np.delete(moved, 3, 0).tobytes() == np.delete(clean, 3, 0).tobytes()
    assert np.allclose(moved[3], v[0, 1050, 0], atol=0.05)


_REFUSED = """
import ctypes, json, subprocess, sys

class Stack(ctypes.Structure):
    _fields_ = [("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

memory = ctypes.create_string_buffer(8192)
stack = Stack(ctypes.addressof(memory), 0, len(memory))
assert ctypes.CDLL(None, use_errno=True).sigaltstack(ctypes.byref(stack), None) == 0
import qora_vision
from qora_vision.cli.app import main
main(["doctor", "--json"])
"""


def test_where_linux_refuses_another_table_is_chosen_and_doctor_says_why() -> None:
    """A signal stack that the registers of tiles do not fit is one reason to refuse."""
    done = subprocess.run([sys.executable, "-c", _REFUSED], capture_output=True, text=True, timeout=60)
    cpu = json.loads(done.stdout)["cpu"]
    others = ISAS[: ISAS.index(AMX)]
    assert cpu["isas"] == others and cpu["isa"] == _core.fastest_isa(others, _core.cpu_vendor())
    assert cpu["refused"][AMX].startswith("Linux does not grant the state of tiles: ")


def test_nobody_is_refused_here() -> None:
    assert AMX in _core.available_isas() and Engine(isa=AMX).isa == AMX
    assert not any(isa["refusal"] for isa in _core.known_isas())

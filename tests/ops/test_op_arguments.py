"""What the ops refuse, each with an error that names the op; and that they read and write nothing else."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from argument_cases import ISA, frozen, ones, refused
from kernel_cases import ISAS, LINEAR_FAMILIES

from qora_vision import _core
from qora_vision.engine.ops import Engine, PackedLinear


def packed(out_features: int = 4, in_features: int = 8, family: str = "f32") -> PackedLinear:
    weight = PackedLinear(ISA, family, out_features, in_features)
    weight.set_rows(0, ones(out_features, in_features), None, None)
    return weight


# What is wrong, and a word of the message. The rest of the call is right.
ROWS = "contiguous rows"
BAD_LINEAR: list[tuple[dict[str, Any], str]] = [
    ({"x": ones(3, 9)}, "9 features, the weight expects 8"),
    ({"x": ones(8)}, ROWS),
    ({"x": ones(3, 8, 1)}, ROWS),
    ({"x": ones(3, 8, dtype=np.float64)}, "expected float32 .* got float64"),
    ({"x": ones(3, 8, dtype=np.int32)}, "got int32"),
    ({"x": ones(3, 8, dtype=np.float16)}, "got float16"),
    ({"x": ones(3, 8, dtype=">f4")}, "expected float32"),
    ({"x": ones(3, 16)[:, ::2]}, ROWS),
    ({"x": ones(8, 3).T}, ROWS),
    ({"x": None}, "incompatible|expected"),
    ({"out": ones(3, 5)}, r"must be \(3, 4\), got \(3, 5\)"),
    ({"out": ones(2, 4)}, r"must be \(3, 4\), got \(2, 4\)"),
    ({"out": ones(3, 4, dtype=np.float64)}, "got float64"),
    ({"out": ones(3, 8)[:, ::2]}, ROWS),
    ({"out": ones(12)}, ROWS),
    ({"out": ones(2, 3, 3)}, r"must be \(3, 4\), got \(3, 6\)"),
    ({"out": ones(2, 3, 4)[..., ::2]}, ROWS),
    ({"out": frozen(3, 4)}, "read-only"),
    ({"residual": ones(3, 5)}, "residual"),
    ({"residual": ones(2, 4)}, "residual"),
    ({"residual": ones(3, 4, dtype=np.uint16)}, "residual"),
    ({"residual": ones(3, 4, dtype=np.float64)}, "got float64"),
    ({"norm": (ones(7), ones(8), 1e-6)}, "gamma"),
    ({"norm": (ones(8), ones(9), 1e-6)}, "beta"),
    ({"norm": (ones(8), ones(8), 0.0)}, "eps"),
    ({"norm": (ones(8), ones(8), float("nan"))}, "eps"),
    ({"norm": (ones(8), ones(8))}, "incompatible"),
    ({"activation": "relu"}, "unknown activation 'relu'; expected gelu or gelu_tanh"),
    ({"weight": None}, "incompatible|expected"),
]


@pytest.mark.parametrize("index", range(len(BAD_LINEAR)))
def test_linear_refuses(index: int) -> None:
    wrong, message = BAD_LINEAR[index]
    right = {
        "x": ones(3, 8),
        "weight": packed(),
        "norm": None,
        "activation": None,
        "residual": None,
        "out": ones(3, 4),
    }
    _core.linear(**right)
    refused(_core.linear, right | wrong, "linear", message)


def test_linear_refuses_to_overwrite_what_it_reads() -> None:
    weight, whole = packed(8, 8), ones(20, 8)
    for x, out in (
        (whole[:5], whole[:5]),
        (whole[:5], whole[4:9]),
        (whole[4:9], whole[:5]),
        (whole[:5][::-1], whole[:5]),
        (whole[:5], whole[:5][::-1]),
        (whole[::2], whole[1:20:2]),
    ):
        with pytest.raises(ValueError, match="linear: the output overlaps the input"):
            _core.linear(x, weight, None, None, None, out)
    _core.linear(whole[:5], weight, None, None, whole[5:10], whole[5:10])


BAD_MLP: list[tuple[dict[str, Any], str]] = [
    ({"x": ones(3, 9)}, "9 features"),
    ({"x": ones(3, 8, dtype=np.float64)}, "got float64"),
    ({"fc1": packed(6, 8)}, "gives 6 features, the second expects 5"),
    ({"fc2": packed(4, 6)}, "gives 5 features, the second expects 6"),
    ({"out": ones(3, 5)}, r"must be \(3, 4\)"),
    ({"out": frozen(3, 4)}, "read-only"),
    ({"residual": ones(3, 3)}, "residual"),
    ({"activation": "silu"}, "unknown activation 'silu'"),
    ({"norm": (ones(8), ones(7), 1e-6)}, "beta"),
]


@pytest.mark.parametrize("index", range(len(BAD_MLP)))
def test_mlp_refuses(index: int) -> None:
    wrong, message = BAD_MLP[index]
    right = {
        "x": ones(3, 8),
        "norm": None,
        "fc1": packed(5, 8),
        "activation": "gelu",
        "fc2": packed(4, 5),
        "residual": None,
        "out": ones(3, 4),
    }
    _core.mlp(**right)
    refused(_core.mlp, right | wrong, "mlp", message)


Q, KV = ones(2, 3, 4, 8), ones(2, 5, 4, 8)
BAD_ATTENTION: list[tuple[dict[str, Any], str]] = [
    ({"family": "q4"}, "family must be f32, bf16, i16 or i8"),
    ({"family": "f64"}, "unknown operand family 'f64'"),
    ({"isa": "mmx"}, "unknown instruction set 'mmx'"),
    ({"q": ones(3, 4, 8)}, r"expected \(batch, rows, heads, head_dim\)"),
    ({"q": ones(1, 3, 4, 8)}, "do not fit together"),
    ({"q": ones(2, 3, 4, 7)}, "do not fit together"),
    ({"k": ones(2, 5, 3, 8)}, "do not fit together"),
    ({"v": ones(2, 6, 4, 8)}, "do not fit together"),
    ({"k": KV[:, :0], "v": KV[:, :0]}, "at least one query, key and head"),
    ({"k": ones(2, 5, 4, 16)[..., ::2]}, "contiguous"),
    ({"v": ones(2, 5, 4, 8, dtype=np.float64)}, "got float64"),
    ({"q": ones(2, 3, 4, 8, dtype=np.float16)}, "got float16"),
    ({"out": ones(6, 31)}, r"must be \(6, 32\)"),
    ({"out": ones(192)}, "expected|must be"),
    ({"out": frozen(6, 32)}, "read-only"),
    ({"scale": 0.0}, "scale"),
    ({"scale": float("nan")}, "scale"),
    ({"scale": float("inf")}, "scale"),
    (
        {"q": ones(1, 1, 1, 4097), "k": ones(1, 1, 1, 4097), "v": ones(1, 1, 1, 4097)},
        "at most 4096, got 4097",
    ),
]


@pytest.mark.parametrize("index", range(len(BAD_ATTENTION)))
def test_attention_refuses(index: int) -> None:
    wrong, message = BAD_ATTENTION[index]
    right = {"q": Q, "k": KV, "v": KV, "scale": 0.3, "family": "f32", "isa": ISA, "out": ones(6, 32)}
    _core.attention(**right)
    refused(_core.attention, right | wrong, "instruction set" if "isa" in wrong else "attention", message)


BAD_NORM: list[tuple[dict[str, Any], str]] = [
    ({"x": ones(3, 8, dtype=np.uint16)}, "expected float32"),
    ({"x": ones(3, 8, dtype=np.float64)}, "float64"),
    ({"x": ones(3, 16)[:, ::2]}, ROWS),
    ({"out": ones(3, 7)}, "differ in shape"),
    ({"out": ones(3, 8, dtype=np.uint16)}, "expected float32"),
    ({"out": frozen(3, 8)}, "read-only"),
    ({"gamma": ones(7)}, "gamma"),
    ({"gamma": ones(8, dtype=np.float64)}, "incompatible"),
    ({"beta": ones(8, 1)}, "beta"),
    ({"eps": -1.0}, "eps"),
]


@pytest.mark.parametrize("index", range(len(BAD_NORM)))
def test_layer_norm_refuses(index: int) -> None:
    wrong, message = BAD_NORM[index]
    right = {"x": ones(3, 8), "gamma": ones(8), "beta": ones(8), "eps": 1e-6, "isa": ISA, "out": ones(3, 8)}
    _core.layer_norm(**right)
    refused(_core.layer_norm, right | wrong, "layer_norm", message)


BAD_TUBELETS: list[tuple[dict[str, Any], str]] = [
    ({"clip": ones(2, 1, 4)}, r"\(T, C, H, W\)"),
    ({"clip": ones(2, 1, 4, 4, dtype=np.float64)}, "incompatible"),
    ({"clip": ones(2, 1, 4, 4, dtype=np.uint8)}, "incompatible"),
    ({"clip": ones(2, 2, 4, 4)}, "16 features, the weight expects 8"),
    ({"clip": ones(1, 1, 4, 4)}, "smaller than one tubelet"),
    ({"tubelet": (0, 2, 2)}, "positive tubelet size"),
    ({"tubelet": (2, -2, 2)}, "positive tubelet size"),
    ({"tubelet": (2, 2)}, "incompatible"),
    ({"out": ones(3, 4)}, r"must be \(4, 4\)"),
    ({"residual": ones(3, 4)}, "residual"),
]


@pytest.mark.parametrize("index", range(len(BAD_TUBELETS)))
def test_tubelet_embed_refuses(index: int) -> None:
    wrong, message = BAD_TUBELETS[index]
    right = {
        "clip": ones(2, 1, 4, 4),
        "tubelet": (2, 2, 2),
        "weight": packed(),
        "residual": None,
        "out": ones(4, 4),
    }
    _core.tubelet_embed(**right)
    refused(_core.tubelet_embed, right | wrong, "tubelet_embed", message)


@pytest.mark.parametrize("family", LINEAR_FAMILIES)
def test_packing_refuses(family: str) -> None:
    weight = PackedLinear(ISA, family, 4, 40)
    q4, q8, scales = ones(4, 32, dtype=np.uint8), ones(4, 64, dtype=np.int8), ones(4, 2, dtype=np.float16)
    for data, side, bias, message in (
        (ones(4, 39), None, None, "expected 40 stored columns"),
        (ones(5, 40), None, None, "lie outside of 4"),
        (ones(4, 80)[:, ::2], None, None, "contiguous"),
        (ones(160), None, None, "2-D"),
        (ones(4, 40, dtype=np.float64), None, None, "float32 or float16"),
        (ones(4, 40), None, ones(3), "bias must be a float32 vector of 4"),
        (q4, None, None, "float32 or float16"),
        (q4[:, :20].copy(), scales, None, "stored columns"),
        (q8[:, :40].copy(), scales, None, "stored columns"),
        (q8, scales[:, :1].copy(), None, "scales"),
        (q8, scales.astype(np.float32), None, "scales"),
        (q8.astype(np.int16), scales, None, "uint8 .* or int8"),
        (ones(4, 40, dtype=">f2"), None, None, "float32 or float16"),
        (q8, scales.astype(">f2"), None, "scales"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            weight.set_rows(0, data, side, bias)
        assert "pack_linear" in str(caught.value)
    for at in (1, -1, 2**62):
        with pytest.raises(ValueError, match=r"pack_linear: .*lie outside of 4"):
            weight.set_rows(at, ones(4, 40), None, None)
    with pytest.raises(TypeError, match="set_rows"):
        weight.set_rows(0, ones(4, 40), None, ones(4, dtype=np.float64))


def test_layers_that_cannot_be_made() -> None:
    for family, out_features, in_features, message in (
        ("i16", 4, 8, "attention only"),
        ("f64", 4, 8, "unknown operand family 'f64'"),
        ("f32", 0, 8, "positive"),
        ("f32", 4, 0, "positive"),
        ("f32", -1, 8, "positive"),
        ("i8", 4, 66312, "at most 66311 input features, got 66312"),
        ("q4", 4, 66312, "at most 66311 input features, got 66312"),
    ):
        with pytest.raises(ValueError, match=message):
            PackedLinear(ISA, family, out_features, in_features)
    with pytest.raises(ValueError, match="compute must be one of auto, int8, bf16, exact, got 'fast'"):
        Engine("fast")  # type: ignore[arg-type]
    engine = Engine()
    with pytest.raises(ValueError, match="pack_linear"):
        engine.pack([ones(2, 8), ones(2, 9)], [None, None])


# Each array ends where a page ends that may not be touched, in a process of its own, which dies where an op
# reads or writes beyond.
FENCED = """
import ctypes, mmap, sys
import numpy as np
from qora_vision import _core
libc = ctypes.CDLL(None, use_errno=True)
keep = []

def fenced(a):
    page = mmap.PAGESIZE
    size = -(-a.nbytes // page) * page
    memory = mmap.mmap(-1, size + page)
    keep.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + size), ctypes.c_size_t(page), 0) == 0
    view = np.frombuffer(memory, a.dtype, a.size, size - a.nbytes).reshape(a.shape)
    view[...] = a
    return view

isa, rng = sys.argv[1], np.random.default_rng(1)
def floats(*shape):
    return fenced(rng.standard_normal(shape, np.float32))
def halves(*shape):
    return fenced(rng.integers(0x3F00, 0x4000, shape).astype(np.uint16))

for rows, width, out in ((1, 1, 1), (3, 17, 19), (7, 33, 65), (5, 31, 47)):
    gamma, beta = floats(width), floats(width)
    _core.layer_norm(floats(rows, width), gamma, beta, 1e-6, isa, floats(rows, width), 1)
    _core.rms_norm(floats(rows, width), gamma, 1e-6, isa, floats(rows, width), 1)
    _core.causal_conv(
        floats(rows, width), floats(2, width), beta, floats(1, width), isa, floats(rows, width), 1
    )
    even = width // 2 * 2
    if even:
        _core.rotate(floats(1, rows, 1, width), floats(rows, even), floats(rows, even), isa, 1)
    several = [floats(rows, width) for _ in range(4)]
    _core.gated_recurrence(
        *several[:3], -np.abs(gamma), several[3], False, floats(1, width), isa, floats(rows, width), 1
    )
    for family in ("f32", "bf16", "i8", "q4"):
        weight = _core.PackedLinear(isa, family, out, width)
        groups = -(-width // 32)
        scales = fenced(rng.uniform(0, 1, (out, groups)).astype(np.float16))
        q8 = fenced(rng.integers(-9, 9, (out, groups * 32)).astype(np.int8))
        q4 = fenced(rng.integers(0, 255, (out, groups * 16)).astype(np.uint8))
        weight.set_rows(0, q4, scales, floats(out))
        if family != "q4":
            weight.set_rows(0, q8, scales, floats(out))
            weight.set_rows(0, fenced(rng.uniform(0, 1, (out, width)).astype(np.float16)), None, floats(out))
            weight.set_rows(0, floats(out, width), None, floats(out))
        back = _core.PackedLinear(isa, family if family != "q4" else "i8", width, out)
        back.set_rows(0, floats(width, out), None, None)
        for x in (floats(rows, width), halves(rows, width)):
            for y in (floats(rows, out), halves(rows, out)):
                _core.linear(x, weight, (gamma, beta, 1e-6), "gelu", floats(rows, out), y, 1)
            _core.mlp(x, None, weight, "gelu_tanh", back, None, floats(rows, width), 1)
        _core.tubelet_embed(floats(rows, 1, 1, width), (1, 1, width), weight, None, floats(rows, out), 1)
    for family in ("f32", "bf16", "i16"):
        for make in (floats, halves):
            q, k, v = make(1, rows, 2, width), make(1, out, 2, width), make(1, out, 2, width)
            _core.attention(q, k, v, 0.1, family, isa, make(rows, 2 * width), 1)
    for kind in ("q4", "q8"):
        _core.quantize(floats(rows, width), kind, 1)
print("untouched")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected with mprotect")
@pytest.mark.parametrize("isa", ISAS)
def test_nothing_beyond_an_array_is_touched(isa: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FENCED, isa], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "untouched\n"), done.stderr


EDGES = """
import sys
import numpy as np
from qora_vision import _core
isa = sys.argv[1]
weight = _core.PackedLinear(isa, "f32", 8, 8)
weight.set_rows(0, np.ones((8, 8), np.float32), None, None)
"""
NO_ROWS = """
whole, other = np.ones((3, 8), np.float32), np.ones((3, 8), np.float32)
for x, out in ((whole[:0], other[:0]), (np.ones((0, 8), np.float32), np.ones((0, 8), np.float32))):
    _core.linear(x, weight, None, None, None, out, 1)
    _core.mlp(x, None, weight, "gelu", weight, None, out, 1)
    _core.layer_norm(x, np.ones(8, np.float32), np.ones(8, np.float32), 1e-6, isa, out, 1)
heads = np.ones((0, 3, 2, 8), np.float32)
_core.attention(heads, heads, heads, 1.0, "f32", isa, np.ones((0, 16), np.float32), 1)
assert (other == 1).all()
print("survived")
"""
FAR_ROWS = """
for at in (2**63 - 1, 2**63 - 8, -(2**63)):
    try:
        weight.set_rows(at, np.ones((8, 8), np.float32), None, None)
    except ValueError as error:
        assert "pack_linear" in str(error)
    else:
        raise AssertionError(at)
print("survived")
"""


@pytest.mark.parametrize("code", [NO_ROWS, FAR_ROWS], ids=["no rows", "far rows"])
def test_edges_of_the_integers(code: str) -> None:
    """No rows are no work, rows far outside an error; in a process of their own, which either may end."""
    done = subprocess.run(
        [sys.executable, "-c", EDGES + code, ISA], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr

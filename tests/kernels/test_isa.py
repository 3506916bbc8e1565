"""Which instruction sets are tested, how one is chosen, and that all of them agree."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import attention_bounds
import bounds
import numpy as np
import pytest
import reference
from kernel_cases import (
    ATTENTION_FAMILIES,
    ISAS,
    LINEAR_FAMILIES,
    WEIGHT_KINDS,
    WINDOW_FAMILIES,
    activations,
    floats,
    layer,
    tile,
)
from paths import ROOT

from qora_vision import _core
from qora_vision.engine.ops import Engine, available_isas, cpu_info, default_isa, quantize
from qora_vision.errors import IsaError

# csrc/core/isas.inc: what each table needs of a CPU, as Linux names it, beside all that its base needs.
KNOWN = _core.known_isas()
PLATFORMS = {
    "x86_64": {"ANY", "X86", *({"X86_LINUX"} if sys.platform == "linux" else ())},
    "aarch64": {"ANY", "ARM64", "ARM64_GNU"},
}
CPUINFO = Path("/proc/cpuinfo")


def _expected_isas() -> list[str]:
    platforms = PLATFORMS.get(platform.machine(), {"ANY"})
    title = "flags" if platform.machine() == "x86_64" else "Features"
    lines = [line for line in CPUINFO.read_text().splitlines() if line.startswith(title)]
    if len(platforms) > 1 and not lines:
        pytest.skip("an emulator shows the /proc/cpuinfo of its host; tools/test_aarch64.sh knows its CPUs")
    flags = set(lines[0].partition(":")[2].split()) if lines else set()
    found: list[str] = []
    for isa in KNOWN:
        has_base = isa["base"] is None or isa["base"] in found
        if isa["platform"] in platforms and has_base and set(isa["features"]) <= flags:
            found.append(isa["name"])
    return found


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    merged = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=merged, capture_output=True, text=True, timeout=60
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the CPU's flags are read from /proc/cpuinfo")
def test_every_instruction_set_of_this_cpu_is_tested() -> None:
    """The tests run on the result of `available_isas`; this test checks that result."""
    assert available_isas() == _expected_isas()
    assert _expected_isas() == ISAS


def test_the_fastest_is_the_default() -> None:
    code = "from qora_vision.engine.ops import cpu_info, default_isa; print(default_isa(), cpu_info()['isa'])"
    done = _python(code, QORA_VISION_ISA="")
    assert done.stdout.split() == [_core.fastest_isa(ISAS, _core.cpu_vendor())] * 2, done.stderr


def test_bf16_without_tiles_is_slow_on_intel() -> None:
    names = [isa["name"] for isa in KNOWN]
    x86 = names[names.index("scalar") : names.index("avx512_amx") + 1]
    for vendor in ("GenuineIntel", "AuthenticAMD", ""):
        assert _core.fastest_isa(x86, vendor) == "avx512_amx"
        assert _core.fastest_isa(x86[:-3], vendor) == "avx512"
        assert _core.fastest_isa(["scalar", "neon"], vendor) == "neon"
    assert _core.fastest_isa(x86[:-1], "GenuineIntel") == "avx512_vnni"
    assert _core.fastest_isa(x86[:-1], "AuthenticAMD") == "avx512_vnni_bf16"


@pytest.mark.parametrize("isa", ISAS)
def test_the_environment_chooses_one(isa: str) -> None:
    code = (
        "from qora_vision.engine.ops import Engine, cpu_info, default_isa;"
        "print(default_isa(), Engine().isa, cpu_info()['isa'])"
    )
    done = _python(code, QORA_VISION_ISA=isa)
    assert done.stdout.split() == [isa] * 3, done.stderr


def _lacking() -> list[str]:
    return [isa["name"] for isa in KNOWN if isa["name"] not in ISAS]


def test_every_known_instruction_set_has_a_base_before_it_and_a_unit() -> None:
    names = [isa["name"] for isa in KNOWN]
    assert names[0] == "scalar" and KNOWN[0]["base"] is None and KNOWN[0]["features"] == []
    for at, isa in enumerate(KNOWN[1:], 1):
        assert isa["base"] in names[:at] and isa["features"], isa["name"]
    units = {path.stem for path in (ROOT / "csrc/kernels/tables").glob("*.cpp")}
    assert units == set(names)
    platforms = PLATFORMS.get(platform.machine(), {"ANY"})
    assert {isa["name"] for isa in KNOWN if isa["built"]} == {
        isa["name"] for isa in KNOWN if isa["platform"] in platforms
    }


@pytest.mark.parametrize("isa", ["sse9", "AVX2", "avx2 ", *_lacking()])
def test_an_instruction_set_that_is_not_there_is_an_error(isa: str) -> None:
    code = "from qora_vision.engine.ops import default_isa; default_isa()"
    done = _python(code, QORA_VISION_ISA=isa)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("qora_vision.errors.IsaError: QORA_VISION_ISA: ")
    assert f"'{isa}'" in last and ", ".join(ISAS) in last
    with pytest.raises(IsaError, match=", ".join(ISAS)):
        Engine(isa=isa)
    with pytest.raises(ValueError, match="instruction set"):
        _core.PackedLinear(isa, "f32", 1, 1)


def test_a_wrong_environment_does_not_stop_an_engine_that_is_told() -> None:
    code = "from qora_vision.engine.ops import Engine; print(Engine(isa='scalar').isa)"
    assert _python(code, QORA_VISION_ISA="nonsense").stdout.strip() == "scalar"


@pytest.mark.parametrize("isa", ISAS)
def test_tables_make_sense(isa: str) -> None:
    info = _core.table_info(isa)
    families = {"f32", "bf16", "i16", "i8", "q4"}
    assert info["nr"] % 16 == 0 and info["max_tile_columns"] % info["nr"] == 0
    assert set(info["mr"]) == families and min(info["mr"].values()) >= 1
    assert max(info["mr"].values()) <= info["max_tile_rows"]
    assert info["kr"] == {"f32": 1, "bf16": 2, "i16": 2, "i8": 4, "q4": 4}
    for family in families:
        assert info["max_step_multiple"] % info["step_multiple"][family] == 0, family
        assert info["linear_slice_steps"] % info["step_multiple"][family] == 0, family
        assert info["linear_block_rows"][family] >= info["mr"][family], family
        assert info["attention_block_keys"][family] % info["max_tile_columns"] == 0, family
        assert info["attention_block_queries"] >= info["mr"][family], family
    assert info["step_multiple"]["q4"] * 4 % info["group_size"] == 0
    assert info["i8_zero_point"] in (0, 128)
    assert info["auto_q4"] in LINEAR_FAMILIES and info["auto_q8"] in ("f32", "bf16", "i8")
    assert info["auto_float"] in ("f32", "bf16")
    assert info["auto_attention"] in WINDOW_FAMILIES
    assert info["int8_attention"] in ("i8", info["auto_attention"])
    assert cpu_info()["isas"] == ISAS and default_isa() in ISAS


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("compute", ["auto", "int8", "bf16", "exact"])
def test_an_engine_uses_the_families_it_promises(isa: str, compute: str) -> None:
    engine = Engine(compute, isa=isa, threads=2)
    info = _core.table_info(isa)
    auto = tuple(info[f"auto_{use}"] for use in ("q4", "q8", "float", "attention"))
    int8 = (*auto[:3], info["int8_attention"])
    wanted = {"auto": auto, "int8": int8, "bf16": ("bf16",) * 4, "exact": ("f32",) * 4}[compute]
    families = (engine.q4_family, engine.q8_family, engine.float_family, engine.attention_family)
    assert engine.window_family == (auto[3] if compute == "int8" else wanted[3])
    assert families == wanted
    rng = np.random.default_rng(91)
    weight, x = floats(rng, 20, 40), activations(rng, 6, 40)
    bias = floats(rng, 20)
    q4, q8 = quantize(weight, "q4"), quantize(weight, "q8")
    for stored, plain, family in (
        (weight, weight, wanted[2]),
        (weight.astype(np.float16), weight.astype(np.float16).astype(np.float32), wanted[2]),
        (q4, q4.dequantize(), wanted[0]),
        (q8, q8.dequantize(), wanted[1]),
    ):
        packed = engine.pack([stored], [bias])
        assert packed.family == family
        out = np.empty((6, 20), np.float32)
        engine.linear(x, packed, out, activation="gelu")
        bounds.assert_within(out, bounds.linear(family, x, plain, bias, act="gelu"), f"{compute}, {family}")
    q = floats(rng, 1, 6, 2, 16)
    out = np.empty((6, 32), np.float32)
    engine.attention(q, q, q, out)
    bounds.assert_within(out, attention_bounds.attention(wanted[3], q, q, q, 0.25), f"{compute} attention")


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
def test_int8_sums_are_the_same_everywhere(kind: str) -> None:
    """Integers are exact, so that only the tie of an activation and three roundings can tell tables apart."""
    shape = (37, 129, 515)
    results = []
    for isa in ISAS:
        rng = np.random.default_rng(92)
        weights = layer(rng, isa, "i8", kind, shape[1], shape[2])
        x = activations(rng, shape[0], shape[2])
        out = np.empty(shape[:2], np.float32)
        _core.linear(x, weights.packed, None, None, None, out, 1)
        results.append(out.astype(np.float64))
    tie = bounds.int8_rows(bounds.exactly(x), True).error @ np.abs(weights.weight).T.astype(np.float64)
    size = np.abs(results[0]) + np.abs(weights.bias)
    for isa, other in zip(ISAS[1:], results[1:], strict=True):
        assert (np.abs(other - results[0]) <= 10 * bounds.U * size + 1.01 * tie).all(), isa
    # Integers that every table represents in the same way: no ties, no rounding, no difference at all.
    whole = np.arange(-100, 156, dtype=np.float32).reshape(1, -1)
    exact = np.tile(np.array([127, -3, 64, 5], np.float32), 64)[None, :]
    for isa in ISAS:
        packed = _core.PackedLinear(isa, "i8", 1, 256)
        packed.set_rows(0, exact, None, None)
        out = np.empty((1, 1), np.float32)
        _core.linear(whole, packed, None, None, None, out, 1)
        assert out[0, 0] == (whole @ exact.T)[0, 0], isa


@pytest.mark.parametrize("family", ATTENTION_FAMILIES)
def test_attention_agrees_between_instruction_sets(family: str) -> None:
    rng = np.random.default_rng(93)
    q, k, v = (floats(rng, 1, n, 2, 48) for n in (30, 290, 290))
    expected = attention_bounds.attention(family, q, k, v, 48**-0.5)
    for isa in ISAS:
        out = np.empty((30, 96), np.float32)
        _core.attention(q, k, v, 48**-0.5, family, isa, out, 1)
        bounds.assert_within(out, expected, isa)


def test_tiles_are_what_the_size_tests_take_them_for() -> None:
    """Sizes are chosen around the tile: a table whose rows or columns exceed them would be tested less."""
    for isa in ISAS:
        for family in LINEAR_FAMILIES:
            rows, columns = tile(isa, family)
            assert 1 <= rows <= 16 and 16 <= columns <= 64, (isa, family)


def test_the_int8_model_is_the_documented_one() -> None:
    """The range and zero are mapped to 0..255; the largest weight to 127."""
    q, scale, _ = reference.int8_rows(np.array([[-1.0, 0.0, 4.0], [2.0, 1.01, 0.5], [0, 0, 0]], np.float32))
    assert np.allclose(scale[:, 0], [5 / 255, 2 / 255, 1.0])
    assert q.tolist() == [[-51, 0, 204], [255, 129, 64], [0, 0, 0]]
    weight, step = reference.int8_weight(np.array([[-2.0, 1.0], [0.0, 0.0]], np.float32))
    assert weight.tolist() == [[-127, 64], [0, 0]] and step[1, 0] == 1

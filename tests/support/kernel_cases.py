"""Helpers of the kernel tests: instruction sets, weights of every form, buffers between guard values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import reference
from numpy.typing import NDArray

from qora_vision import _core
from qora_vision.engine.ops import PackedLinear, available_isas, quantize

# test_isa.py compares this list with the CPU's features as the operating system reports them.
ISAS = available_isas()
LINEAR_FAMILIES = ("f32", "bf16", "i8", "q4")
ATTENTION_FAMILIES = ("f32", "bf16", "i16", "i8")
WINDOW_FAMILIES = ("f32", "bf16", "i16")
# Whatever is not float32, by instruction set: "int8" is "auto" where attention has no bytes.
FAST_ENGINES = [
    (compute, isa)
    for isa in ISAS
    for compute in ("auto", "int8", "bf16")
    if compute != "int8" or _core.table_info(isa)["int8_attention"] == "i8"
]
WEIGHT_KINDS = ("q4", "q8", "f16", "f32")
ACTIVATIONS = (None, "gelu", "gelu_tanh")

_GUARD_VALUES = 80  # more than the widest vector, on every side
_GAP = 5  # between rows; odd, so that rows are not aligned


@dataclass(frozen=True)
class Guarded:
    """A (rows, cols) array in the middle of guard values: before it, behind it, and between its rows."""

    array: NDArray
    _whole: NDArray
    _before: NDArray
    _inside: NDArray

    def assert_intact(self, what: str) -> None:
        changed = (self._whole.view(np.uint8) != self._before.view(np.uint8)).reshape(self._whole.size, -1)
        stray = np.flatnonzero(changed.any(axis=1) & ~self._inside)
        assert stray.size == 0, (
            f"{what}: wrote outside of its output, at elements {stray[:8] - _GUARD_VALUES}"
        )


def guarded(rows: int, cols: int, dtype: type = np.float32, gap: int = _GAP) -> Guarded:
    stride = cols + gap
    whole = np.empty(2 * _GUARD_VALUES + rows * stride, dtype)
    whole.view(np.uint8)[:] = np.arange(whole.nbytes) % 251  # no two neighbours are alike
    inside = np.zeros(whole.size, bool)
    body = slice(_GUARD_VALUES, _GUARD_VALUES + rows * stride)
    inside[body].reshape(rows, stride)[:, :cols] = True
    return Guarded(whole[body].reshape(rows, stride)[:, :cols], whole, whole.copy(), inside)


def framed(x: NDArray) -> NDArray:
    """The same values inside a larger buffer of NaN: a kernel that reads outside of them returns a NaN."""
    nan = 0x7FC0 if x.dtype == np.uint16 else np.nan
    frame = np.full((x.shape[0] + 2, x.shape[1] + 2 * _GAP), nan, x.dtype)
    view = frame[1:-1, _GAP:-_GAP]
    view[...] = x
    return view


def framed_vector(x: NDArray) -> NDArray:
    frame = np.full(x.size + 2 * _GUARD_VALUES, np.nan, x.dtype)
    view = frame[_GUARD_VALUES:-_GUARD_VALUES]
    view[...] = x
    return view


def floats(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape, np.float32)


def activations(rng: np.random.Generator, rows: int, cols: int, dtype: type = np.float32) -> NDArray:
    """Rows that differ in size and offset, as those of a network do, framed by NaN."""
    x = floats(rng, rows, cols) * np.exp(rng.uniform(-2, 2, (rows, 1))) + rng.uniform(-1, 1, (rows, 1))
    return framed(reference.to_bf16(x) if dtype == np.uint16 else x.astype(np.float32))


@dataclass(frozen=True)
class Layer:
    """A packed layer and the float32 weights and bias that it stands for."""

    packed: PackedLinear
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def layer(
    rng: np.random.Generator, isa: str, family: str, kind: str, out_features: int, in_features: int
) -> Layer:
    """Random weights in one stored form; the q4 family has one form alone."""
    weight = floats(rng, out_features, in_features) / np.sqrt(np.float32(in_features))
    bias = framed_vector(floats(rng, out_features))
    packed = PackedLinear(isa, family, out_features, in_features)
    return Layer(packed, set_weight(packed, 0, weight, bias, kind), bias)


def set_weight(
    packed: PackedLinear, at: int, weight: NDArray, bias: NDArray | None, kind: str = "f32", threads: int = 0
) -> NDArray[np.float32]:
    """Set rows from a float32 weight in a stored form (q4 where the family is q4); what that stands for."""
    if packed.family == "q4" or kind in ("q4", "q8"):
        tensor = quantize(weight, "q4" if packed.family == "q4" else kind)
        packed.set_rows(at, tensor.data, tensor.scales, bias, threads)
        return tensor.dequantize()
    plain = weight.astype(np.float16 if kind == "f16" else np.float32)
    packed.set_rows(at, plain, None, bias, threads)
    return plain.astype(np.float32)


def norm_params(rng: np.random.Generator, n: int) -> tuple[NDArray, NDArray, float]:
    gamma = framed_vector((1 + 0.3 * rng.standard_normal(n)).astype(np.float32))
    return gamma, framed_vector(floats(rng, n) * np.float32(0.3)), 1e-6


def tile(isa: str, family: str) -> tuple[int, int]:
    """(mr, nr) of an instruction set's tiles."""
    info = _core.table_info(isa)
    return info["mr"][family], info["nr"]

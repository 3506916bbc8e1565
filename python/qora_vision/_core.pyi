"""The native module: ops and kernels on NumPy arrays; its source is in csrc/."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]
_Floats = NDArray[np.float32]
_Norm = tuple[_Floats, _Floats | None, float]

class _IsaInfo(TypedDict):
    name: str
    platform: str
    base: str | None
    features: list[str]
    built: bool
    refusal: str

class _TableInfo(TypedDict):
    nr: int
    mr: dict[str, int]
    kr: dict[str, int]
    step_multiple: dict[str, int]
    group_size: int
    max_tile_rows: int
    max_tile_columns: int
    max_step_multiple: int
    i8_zero_point: int
    linear_block_rows: dict[str, int]
    linear_slice_steps: int
    attention_block_queries: int
    attention_block_keys: dict[str, int]
    i16_product_keys: int
    auto_q4: str
    auto_q8: str
    auto_float: str
    auto_attention: str
    int8_attention: str

class PackedLinear:
    def __init__(self, isa: str, family: str, out_features: int, in_features: int) -> None: ...
    def set_rows(
        self, at: int, data: _Array, scales: _Array | None, bias: _Floats | None, threads: int = 0
    ) -> None: ...
    @property
    def out_features(self) -> int: ...
    @property
    def in_features(self) -> int: ...
    @property
    def family(self) -> str: ...
    @property
    def nbytes(self) -> int: ...

def known_isas() -> list[_IsaInfo]: ...
def available_isas() -> list[str]: ...
def default_isa() -> str: ...
def fastest_isa(names: list[str], vendor: str) -> str: ...
def cpu_vendor() -> str: ...
def cpu_name() -> str: ...
def num_threads() -> int: ...
def quota_cpus(root: str = "") -> float: ...
def set_num_threads(n: int) -> None: ...
def uses_openmp() -> bool: ...
def table_info(isa: str) -> _TableInfo: ...
def _primitives(isa: str) -> dict[str, Any]: ...
def _primitive(isa: str, name: str, a: _Array, b: _Array, c: _Array, n: int, out: _Array) -> None: ...
def _range_counts() -> tuple[int, int]: ...
def tile_peak(isa: str, family: str, threads: int = 0) -> float: ...
def memory_peak(threads: int = 0) -> float: ...
def quantize(weight: _Floats, kind: str, threads: int = 0) -> tuple[_Array, NDArray[np.uint16]]: ...
def linear(
    x: _Array,
    weight: PackedLinear,
    norm: _Norm | None,
    activation: str | None,
    residual: _Array | None,
    out: _Array,
    threads: int = 0,
) -> None: ...
def mlp(
    x: _Array,
    norm: _Norm | None,
    fc1: PackedLinear,
    activation: str | None,
    fc2: PackedLinear,
    residual: _Array | None,
    out: _Array,
    threads: int = 0,
) -> None: ...
def short_attention(
    q: _Array, k: _Array, v: _Array, scale: float, isa: str, out: _Array, threads: int = 0
) -> None: ...
def window_attention(
    q: _Array,
    k: _Array,
    v: _Array,
    bias: _Floats,
    grid: tuple[int, int, int],
    window: tuple[int, int, int],
    shift: tuple[int, int, int],
    scale: float,
    family: str,
    isa: str,
    out: _Array,
    threads: int = 0,
) -> None: ...
def attention(
    q: _Array,
    k: _Array,
    v: _Array,
    scale: float,
    family: str,
    isa: str,
    out: _Array,
    threads: int = 0,
) -> None: ...
def rotate(x: _Array, cosines: _Floats, sines: _Floats, isa: str, threads: int = 0) -> None: ...
def rms_norm(x: _Array, gamma: _Floats, eps: float, isa: str, out: _Array, threads: int = 0) -> None: ...
def causal_conv(
    x: _Array,
    weight: _Floats,
    bias: _Floats,
    history: _Array,
    isa: str,
    out: _Array,
    threads: int = 0,
) -> None: ...
def gated_recurrence(
    x: _Array,
    input_gate: _Array,
    decay_gate: _Array,
    decay: _Floats,
    branch: _Array,
    fresh: bool,
    state: _Array,
    isa: str,
    out: _Array,
    threads: int = 0,
) -> None: ...
def all_finite(x: _Floats, isa: str, threads: int = 0) -> bool: ...
def layer_norm(
    x: _Array,
    gamma: _Floats,
    beta: _Floats,
    eps: float,
    isa: str,
    out: _Array,
    threads: int = 0,
) -> None: ...
def tubelet_embed(
    clip: _Floats,
    tubelet: tuple[int, int, int],
    weight: PackedLinear,
    residual: _Array | None,
    out: _Array,
    threads: int = 0,
) -> None: ...
def resize_u8(
    frames: NDArray[np.uint8],
    out_height: int,
    out_width: int,
    filter: str,
    rule: str,
    crop: tuple[int, int, int, int] | None = None,
    num_threads: int = 0,
) -> NDArray[np.uint8]: ...
def lookup_u8(
    parts: Sequence[NDArray[np.uint8]],
    table: _Floats,
    out: _Floats,
    reverse_channels: bool = False,
    num_threads: int = 0,
) -> None: ...

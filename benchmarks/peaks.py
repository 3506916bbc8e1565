"""What the machine can do at most, measured through a kernel that does nothing else.

The dot-product tile on operands that stay in the L1 cache: the ceiling of every GEMM and attention of the
engine, measured in the same run as they are.
"""

from __future__ import annotations

from qora_vision import _core
from qora_vision.ops import default_isa

FAMILIES = ("f32", "bf16", "i16", "i8", "q4")


def measure_peaks(threads: int) -> dict[str, float]:
    """Return Gop/s (multiply-adds count twice) of each operand family's tile, best of several tries."""
    return {family: _core.tile_peak(default_isa(), family, threads) for family in FAMILIES}

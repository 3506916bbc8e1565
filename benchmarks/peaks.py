"""What the machine can do at most, measured through kernels that do nothing else.

The dot-product tile on operands that stay in the L1 cache is the ceiling of every GEMM and attention of the
engine, reading a large array that of everything that waits for memory; both in the same run as what they
limit.
"""

from __future__ import annotations

from qora_vision import _core

MEMORY = "memory read [GB/s]"


def peak_name(family: str) -> str:
    """Return the key of a family's peak."""
    return f"{family} [GOP/s]"


def measure_peaks(isa: str, threads: int) -> dict[str, float]:
    """Return GOP/s (multiply-adds count twice) of each operand family's tile, and GB/s of reading."""
    families = _core.table_info(isa)["mr"]
    peaks = {peak_name(family): _core.tile_peak(isa, family, threads) for family in families}
    return peaks | {MEMORY: _core.memory_peak(threads)}

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
    """Return GOP/s (multiply-adds count twice) of each operand family's tile, and GB/s of reading.

    The better of two rounds: a virtual machine may be without one of its cores for longer than one of these
    measurements takes.
    """
    rounds = []
    for _ in range(2):
        tiles = {peak_name(f): _core.tile_peak(isa, f, threads) for f in _core.table_info(isa)["mr"]}
        rounds.append(tiles | {MEMORY: _core.memory_peak(threads)})
    return {name: max(peaks[name] for peaks in rounds) for name in rounds[0]}

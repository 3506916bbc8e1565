"""Peak rates of the machine, measured with kernels that do nothing else.

The dot-product tile on operands in the L1 cache is the upper bound of every matrix product and attention of
the engine. Reading a large array is the upper bound of everything that waits for memory. Both are measured in
the same run as the kernels that they bound.
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

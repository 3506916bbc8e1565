"""How a forward pass would scale to more cores than this machine has: its work items, dealt to many threads.

What ops hand to threads follows from their shapes (csrc/ops/linear.cpp and attention.cpp; the constants
below are theirs). Each op takes the time that it takes on one core here, divided by the threads and by the
balance of its items; then come a barrier for each parallel loop, and the steps between ops, which one thread
does. docs/scaling.md explains the parts, and what the model leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.tracing import Call

# Of csrc/ops/linear.cpp (panels that are not expanded) and csrc/ops/streaming_attention.h.
MAX_BLOCK_ROWS, MAX_BLOCK_TILES, ITEMS_PER_THREAD, BLOCK_QUERIES = 48, 6, 4, 96


@dataclass(frozen=True)
class Machine:
    """What the model takes from measurements: seconds of a barrier of two threads; geometry of tiles."""

    barrier: float
    nr: int
    mr: dict[str, int]


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def balance(sizes: Sequence[float], threads: int) -> float:
    """Return the part of the time that threads work, when each takes the next item as soon as it is free."""
    ends = [0.0] * threads
    for size in sizes:
        next_free = min(range(threads), key=ends.__getitem__)
        ends[next_free] += size
    return sum(sizes) / threads / max(ends)


def even_blocks(rows: int, tile: int, most: int, threads: int, repeats: int = 1) -> list[int]:
    """Return the rows of each block, as csrc/core/parallel.cpp shares them out."""
    tiles, unit = _ceil(rows, tile), threads // math.gcd(threads, repeats)
    count = min(_ceil(_ceil(rows, most), unit) * unit, tiles)
    begins = [min(rows, tiles * i // count * tile) for i in range(count + 1)]
    return [end - begin for begin, end in pairwise(begins)]


def row_blocks(rows: int, mr: int, threads: int) -> list[int]:
    """Return the rows of each block of a linear layer or MLP."""
    return even_blocks(rows, mr, max(MAX_BLOCK_ROWS, MAX_BLOCK_TILES * mr), threads)


def linear_items(rows: int, outputs: int, mr: int, nr: int, threads: int) -> list[float]:
    """Return the sizes of the items of a linear layer: blocks of rows, times ranges of panels."""
    blocks, panels = row_blocks(rows, mr, threads), _ceil(outputs, nr)
    wanted = _ceil(threads * ITEMS_PER_THREAD, len(blocks)) if threads > 1 else 1
    chunk = _ceil(panels, min(max(wanted, 1), panels))
    chunks = [min(chunk, panels - begin) for begin in range(0, panels, chunk)]
    # The last rows of a block fill a tile, or cost what they are: nearly the same.
    return [float(block * panels_of) for block in blocks for panels_of in chunks]


def attention_items(heads: int, queries: int, mr: int, threads: int) -> list[float]:
    """Return the sizes of the items of attention: blocks of queries of each head of each sequence."""
    blocks = even_blocks(queries, mr, BLOCK_QUERIES, threads, heads)
    return [float(block) for _ in range(heads) for block in blocks]


def call_seconds(call: Call, pack_seconds: float, machine: Machine, threads: int) -> float:
    """Return the predicted seconds of a native call; `pack_seconds`: to pack keys and values."""
    barrier = machine.barrier * math.log2(threads)
    if call.op == "attention":
        sequences, queries, _, heads, _ = call.shape
        heads *= sequences
        packing = pack_seconds / threads / balance([1.0] * (2 * heads), threads)  # keys, and values
        work = max(call.seconds - pack_seconds, 0.0)
        items = attention_items(heads, queries, machine.mr[call.family], threads)
        return packing + work / threads / balance(items, threads) + 2 * barrier
    if call.op == "mlp":
        blocks = row_blocks(call.shape[0], machine.mr[call.family], threads)
        return call.seconds / threads / balance(blocks, threads) + barrier
    if call.op in ("linear", "tubelet_embed"):
        rows, _, outputs = call.shape
        items = linear_items(rows, outputs, machine.mr[call.family], machine.nr, threads)
        return call.seconds / threads / balance(items, threads) + barrier
    if call.op == "all_finite":
        return call.seconds / threads + barrier
    return call.seconds  # rows of a norm and the like: too few to be shared


@dataclass(frozen=True)
class Prediction:
    """Seconds of one clip, and what they consist of."""

    threads: int
    seconds: float
    ideal: float
    imbalance: float
    barriers: float
    serial: float

    @property
    def efficiency(self) -> float:
        """The part of the threads' time that one thread would have needed too."""
        return self.ideal / self.seconds


def predict(
    calls: Sequence[Call], total: float, pack_share: float, machine: Machine, threads: int
) -> Prediction:
    """Predict a forward pass from its trace on one thread.

    Parameters
    ----------
    calls
        Native calls of one forward pass on one thread.
    total
        Seconds of that forward pass, with what lies between the calls.
    pack_share
        Part of an attention call over all queries that packs keys and values.
    threads
        How many to predict for.
    """
    serial = total - sum(call.seconds for call in calls)
    still = Machine(0.0, machine.nr, machine.mr)
    longest = max((call.seconds for call in calls if call.op == "attention"), default=0.0)

    def packing(call: Call) -> float:
        return min(pack_share * longest, call.seconds) if call.op == "attention" else 0.0

    balanced = sum(call_seconds(call, packing(call), still, threads) for call in calls)
    with_barriers = sum(call_seconds(call, packing(call), machine, threads) for call in calls)
    ideal = total / threads
    return Prediction(
        threads,
        with_barriers + serial,
        ideal,
        balanced - (total - serial) / threads,
        with_barriers - balanced,
        serial,
    )

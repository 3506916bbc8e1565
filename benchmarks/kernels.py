"""Every kernel on every instruction set, compared with the peaks of the same run.

    python -m benchmarks.kernels [--isa avx2 avx512_vnni ...] [--threads 2] [--rounds 5]

Products are compared with the peak of their operand family's tile (GOP/s, a multiply-add counts twice).
Kernels that only move data are compared with reading memory (GB/s; each necessary byte counts once). Sizes
are those of ViViT-B, with fewer rows where an instruction set is slow. The last table is the overhead of a
call: ops on so few values that computing them takes almost no time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import (
    describe_machine,
    finish,
    interleave,
    machine_line,
    make_parser,
    progress,
    table,
)
from benchmarks.peaks import MEMORY, measure_peaks, peak_name
from qora_vision import _core
from qora_vision.engine.ops import Engine, LayerNorm, available_isas, quantize

DIM, HIDDEN, HEADS, HEAD_DIM, TOKENS = 768, 3072, 12, 64, 3137
# Rows and queries: all tokens, or as many as the plain kernels manage in a moment.
FEW = 384
ARITHMETIC = {"f32": ("exact", None), "bf16": ("bf16", None), "int8": ("auto", "q8"), "q4": ("auto", "q4")}


class Inputs:
    """Arrays that all measurements share."""

    def __init__(self, rows: int) -> None:
        rng = np.random.default_rng(0)
        self.rows = rows
        self.x = rng.standard_normal((rows, DIM), np.float32)
        self.out = np.empty((rows, 3 * DIM), np.float32)
        self.qkv = rng.standard_normal((3, 1, TOKENS, HEADS, HEAD_DIM), np.float32)
        self.norm = LayerNorm(np.ones(DIM, np.float32), np.zeros(DIM, np.float32), 1e-6)
        self.wide = rng.standard_normal((3 * DIM, DIM), np.float32) / 28
        self.up = rng.standard_normal((HIDDEN, DIM), np.float32) / 28
        self.down = rng.standard_normal((DIM, HIDDEN), np.float32) / 55


def measure_products(isa: str, threads: int, rounds: int, inputs: Inputs, peaks: dict[str, float]) -> dict:
    """Return GOP/s of linear layers and attention for each arithmetic, and the part of the peak that is."""
    actions: dict[str, Callable[[], object]] = {}
    work: dict[str, tuple[str, float]] = {}
    rows, out = inputs.rows, inputs.out
    for name, (compute, kind) in ARITHMETIC.items():
        engine = Engine(compute, isa=isa, threads=threads)

        def pack(weight: np.ndarray, engine: Engine = engine, kind: str | None = kind):
            return engine.pack([quantize(weight, kind) if kind else weight], [None])

        wide, up, down = pack(inputs.wide), pack(inputs.up), pack(inputs.down)
        key = f"linear {DIM} to {3 * DIM}, {name}"
        actions[key] = lambda e=engine, w=wide: e.linear(inputs.x, w, out, norm=inputs.norm)
        work[key] = wide.family, 2.0 * rows * DIM * 3 * DIM
        key = f"mlp {DIM} to {HIDDEN} to {DIM}, {name}"
        actions[key] = lambda e=engine, a=up, b=down: e.mlp(
            inputs.x, a, b, out[:, :DIM], activation="gelu_tanh", norm=inputs.norm
        )
        work[key] = up.family, 4.0 * rows * DIM * HIDDEN
    q, k, v = inputs.qkv
    families = ("f32", "bf16", "i16", "i8")
    for family in families:
        key = f"attention, {TOKENS} keys, {family}"
        actions[key] = lambda family=family: _core.attention(
            q[:, :rows], k, v, HEAD_DIM**-0.5, family, isa, out[:, :DIM], threads
        )
        work[key] = family, 4.0 * rows * TOKENS * DIM
    result = {}
    for key, runs in interleave(actions, rounds).items():
        family, operations = work[key]
        speed = operations / min(runs) / 1e9
        result[key] = {"GOP/s": speed, "of peak": speed / peaks[peak_name(family)], "peak": family}
    return result


def measure_movers(isa: str, threads: int, rounds: int, inputs: Inputs, peaks: dict[str, float]) -> dict:
    """Return GB/s of what is limited by memory rather than by arithmetic."""
    engine = Engine("auto", isa=isa, threads=threads)
    rng = np.random.default_rng(1)
    tall, norm = rng.standard_normal((65536, DIM), np.float32), inputs.norm
    normed = np.empty_like(tall)
    matrix = rng.standard_normal((8192, 8192), np.float32)
    row, out = matrix[:1], np.empty((1, 8192), np.float32)
    packed = engine.pack([quantize(matrix, "q8")], [None])
    actions = {
        "layer norm": lambda: engine.layer_norm(tall, norm, normed),
        "linear of one row, int8": lambda: engine.linear(row, packed, out),
    }
    moved = {"layer norm": 2 * tall.nbytes, "linear of one row, int8": packed.nbytes}
    result = {}
    for key, runs in interleave(actions, rounds).items():
        speed = moved[key] / min(runs) / 1e9
        result[key] = {"GB/s": speed, "of peak": speed / peaks[MEMORY], "peak": "memory"}
    return result


def measure_overhead(isa: str, threads: int, rounds: int) -> dict[str, float]:
    """Return microseconds of ops on a few values: what calling one costs."""
    engine = Engine("auto", isa=isa, threads=threads)
    rng = np.random.default_rng(2)
    x, out = rng.standard_normal((8, 64), np.float32), np.empty((8, 64), np.float32)
    weight = engine.pack([quantize(rng.standard_normal((64, 64), np.float32), "q8")], [None])
    norm = LayerNorm(np.ones(64, np.float32), np.zeros(64, np.float32), 1e-6)
    heads, residual = x.reshape(1, 8, 1, 64), x.copy()
    calls = 200

    def many(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            for _ in range(calls):
                call()

        return run

    actions = {
        "linear": lambda: engine.linear(x, weight, out, norm=norm, residual=residual),
        "mlp": lambda: engine.mlp(x, weight, weight, out, activation="gelu", norm=norm, residual=residual),
        "attention": lambda: engine.attention(heads, heads, heads, out),
        "layer norm": lambda: engine.layer_norm(x, norm, out),
    }
    runs = interleave({name: many(call) for name, call in actions.items()}, rounds * 5)
    return {name: min(seconds) / calls * 1e6 for name, seconds in runs.items()}


def measure_isa(isa: str, threads: int, rounds: int) -> dict[str, Any]:
    """Return all figures of one instruction set."""
    progress(isa)
    inputs = Inputs(FEW if isa == "scalar" else TOKENS)
    peaks = measure_peaks(isa, threads)
    products = measure_products(isa, threads, rounds, inputs, peaks)
    return {
        "rows": inputs.rows,
        "peaks": peaks,
        "kernels": products | measure_movers(isa, threads, rounds, inputs, peaks),
        "overhead [us]": measure_overhead(isa, threads, rounds),
    }


def report(results: dict[str, Any]) -> str:
    """Lay the results out as text."""
    isas = results["isas"]

    def grid(title: str, part: str, cell: Callable[[Any], str]) -> str:
        names = list(dict.fromkeys(name for row in isas.values() for name in row[part]))
        rows = [
            [name, *(cell(row[part][name]) if name in row[part] else "-" for row in isas.values())]
            for name in names
        ]
        return table([title, *isas], rows)

    def kernel(row: dict[str, float]) -> str:
        unit = "GOP/s" if "GOP/s" in row else "GB/s"
        return f"{row[unit]:.0f} {unit} ({row['of peak']:.0%})"

    return "\n\n".join(
        [
            machine_line(results["machine"]),
            grid("peaks", "peaks", lambda value: f"{value:.0f}"),
            grid("kernels (of peak)", "kernels", kernel),
            grid("call on few values [µs]", "overhead [us]", lambda value: f"{value:.1f}"),
        ]
    )


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the part of the peak that kernels of the best instruction set reach."""
    from benchmarks.charts import Bar, Panel, draw_bars, machine_subtitle

    isa, row = list(results["isas"].items())[-1]
    bars = []
    for name, kernel in row["kernels"].items():
        speed = f"{kernel['GOP/s']:.0f} GOP/s" if "GOP/s" in kernel else f"{kernel['GB/s']:.1f} GB/s"
        bars.append(Bar(name, kernel["of peak"], f"{kernel['of peak']:.0%} · {speed}"))
    panel = Panel("Of the peak of the same run (tile of the operand family, or memory)", bars, limit=1.0)
    draw_bars(f"Kernels of {isa}", machine_subtitle(results), [panel], path)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--isa", nargs="+", choices=available_isas(), default=available_isas())
    arguments = parser.parse_args(argv)
    results = {
        "command": f"python -m benchmarks.kernels --isa {' '.join(arguments.isa)}",
        "machine": describe_machine(arguments.threads),
        "isas": {isa: measure_isa(isa, arguments.threads, arguments.rounds) for isa in arguments.isa},
    }
    finish(results, report(results), arguments, draw)


if __name__ == "__main__":
    main()

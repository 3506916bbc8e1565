"""Instruction sets beside each other: the same ops and forward passes by turns, on one thread.

    python -m benchmarks.tables [--isa avx512_vnni avx512_amx ...] [--model vivit-b ...] [--rounds 20]

Times are those in which the thread had a CPU, so that other work of the machine disturbs less. Figures are
minima, and their ratios to the first instruction set. Sizes of ops are those of ViViT-B.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES, make_checkpoint
from benchmarks.measuring import (
    describe_machine,
    figure,
    finish,
    machine_line,
    make_parser,
    progress,
    table,
)
from benchmarks.peaks import peak_name
from qora_vision import _core
from qora_vision.engine.ops import Engine, LayerNorm, available_isas, quantize
from qora_vision.tasks.load import LoadOptions, VideoClassifier, load_network, with_labels

DIM, HIDDEN, HEADS, HEAD_DIM = 768, 3072, 12, 64
FAMILIES = ("f32", "bf16", "i16", "i8")
MODEL_ROUNDS = 5  # at most: a forward pass takes seconds


def by_turns(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least seconds of CPU of each action; each is run once beforehand."""
    best = dict.fromkeys(actions, float("inf"))
    for turn in range(rounds + 1):
        for name, action in actions.items():
            started = time.thread_time()
            action()
            if turn > 0:
                best[name] = min(best[name], time.thread_time() - started)
    return best


def linear_ops(isa: str, rows: int) -> dict[str, Callable[[], object]]:
    """Return layers of 4-bit weights in int8, and of float weights in bf16."""
    rng = np.random.default_rng(0)
    x, out = rng.standard_normal((rows, DIM), np.float32), np.empty((rows, 3 * DIM), np.float32)
    norm = LayerNorm(np.ones(DIM, np.float32), np.zeros(DIM, np.float32), 1e-6)
    shapes = ((3 * DIM, DIM), (HIDDEN, DIM), (DIM, HIDDEN))
    weights = [rng.standard_normal(shape, np.float32) / np.float32(28) for shape in shapes]
    ops: dict[str, Callable[[], object]] = {}
    for name, compute in (("int8", "auto"), ("bf16", "bf16")):
        engine = Engine("bf16" if compute == "bf16" else "auto", isa=isa, threads=1)
        wide, up, down = (
            engine.pack([quantize(weight, "q4") if name == "int8" else weight], [None]) for weight in weights
        )
        ops[f"linear, {rows} x {DIM} to {3 * DIM}, {name}"] = lambda engine=engine, wide=wide: engine.linear(
            x, wide, out, norm=norm
        )
        ops[f"mlp, {rows} x {DIM} to {HIDDEN} to {DIM}, {name}"] = lambda engine=engine, up=up, down=down: (
            engine.mlp(x, up, down, out[:, :DIM], activation="gelu", norm=norm)
        )
    return ops


def attention_ops(isa: str, tokens: int) -> dict[str, Callable[[], object]]:
    """Return attention of each family; bf16 operands are stored as such, as models do."""
    rng = np.random.default_rng(1)
    qkv = rng.standard_normal((1, tokens, 3, HEADS, HEAD_DIM), np.float32)
    halves = (qkv.view(np.uint32) >> 16).astype(np.uint16)
    out = np.empty((tokens, DIM), np.float32)
    ops: dict[str, Callable[[], object]] = {}
    for family in FAMILIES:
        q, k, v = np.moveaxis(halves if family == "bf16" else qkv, 2, 0)
        ops[f"attention, {tokens} keys, {family}"] = lambda q=q, k=k, v=v, family=family: _core.attention(
            q, k, v, HEAD_DIM**-0.5, family, isa, out, 1
        )
    return ops


def forward_pass(isa: str, name: str) -> Callable[[], object]:
    """Return the forward pass of a model with 4-bit weights under `auto`."""
    model = load_network(make_checkpoint(CASES[name]), LoadOptions("q4", None, 1, None, labels_given=False))
    classifier = VideoClassifier(with_labels(model, None), Engine("auto", isa=isa, threads=1))
    config = CASES[name].config
    size = config["image_size"]
    clip = np.random.default_rng(2).uniform(-1, 1, (1, config["num_frames"], 3, size, size))
    pixels = clip.astype(np.float32)
    return lambda: classifier.forward(pixels)


def measure(isas: Sequence[str], models: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """Return the least seconds of each op and model by instruction set."""
    ops = {
        isa: {
            op: action
            for size in (3137, 197)
            for op, action in (linear_ops(isa, size) | attention_ops(isa, size)).items()
        }
        for isa in isas
    }
    seconds = {}
    for op in ops[isas[0]]:
        progress(op)
        seconds[op] = by_turns({isa: ops[isa][op] for isa in isas}, rounds)
    for name in models:
        progress(name)
        passes = {isa: forward_pass(isa, name) for isa in isas}
        seconds[f"forward pass, {name}"] = by_turns(passes, min(rounds, MODEL_ROUNDS))
    return seconds


def report(results: dict[str, Any]) -> str:
    """Lay the results out as text."""
    isas = list(results["peaks"])
    peaks = [
        [peak_name(family), *(figure(results["peaks"][isa][family]) for isa in isas)] for family in FAMILIES
    ]
    times = [
        [op, *(f"{figure(row[isa] * 1e3)} ({row[isa] / row[isas[0]]:.2f})" for isa in isas)]
        for op, row in results["seconds"].items()
    ]
    return "\n\n".join(
        [
            machine_line(results["machine"]),
            table(["peak of a tile [GOP/s]", *isas], peaks),
            table(["time [ms] (of the first)", *isas], times),
        ]
    )


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the ratios of the last instruction set to the first."""
    from benchmarks.charts import Bar, Panel, draw_bars, machine_subtitle

    isas = list(results["peaks"])
    ratios = {op: row[isas[-1]] / row[isas[0]] for op, row in results["seconds"].items()}
    bars = [Bar(op, ratio, f"{ratio:.2f}") for op, ratio in ratios.items()]
    panel = Panel(f"Time, as a share of that of {isas[0]}", bars, limit=1.0)
    draw_bars(f"{isas[-1]} beside {isas[0]}", machine_subtitle(results), [panel], path)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--isa", nargs="+", choices=available_isas(), default=available_isas()[1:])
    # Those of which a clip is as large as their config says.
    models = [name for name, case in CASES.items() if {"num_frames", "image_size"} <= set(case.config)]
    parser.add_argument("--model", nargs="*", choices=models, default=["vivit-b", "small"])
    parser.set_defaults(threads=1, rounds=20)
    arguments = parser.parse_args(argv)
    if arguments.threads != 1:
        parser.error("times are those of one thread: --threads is 1")
    results = {
        "command": f"python -m benchmarks.tables --isa {' '.join(arguments.isa)}",
        "machine": describe_machine(1),
        "peaks": {
            isa: {family: _core.tile_peak(isa, family, 1) for family in FAMILIES} for isa in arguments.isa
        },
        "seconds": measure(arguments.isa, arguments.model, arguments.rounds),
    }
    finish(results, report(results), arguments, draw)


if __name__ == "__main__":
    main()

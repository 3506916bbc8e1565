"""Threads, batches and concurrent callers: how forward passes use a machine, and what larger ones would give.

    python -m benchmarks.scaling [--model small vivit-b] [--rounds 5]

Measures one clip on 1, 2, 4, ... threads up to several times the cores (what over-subscription costs), a
batch against single clips, two Python threads with a clip each against one after the other, and the part of a
forward pass that no op shares out. From these follows the prediction for more cores (docs/scaling.md).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import qora_vision
from benchmarks.cases import CASES, Case, make_checkpoint
from benchmarks.measuring import (
    CLIP,
    describe_machine,
    figure,
    finish,
    interleave,
    machine_line,
    make_parser,
    progress,
    summary,
    table,
    timed,
)
from benchmarks.scaling_model import Machine, predict
from benchmarks.tracing import Call, tracing
from qora_vision import _core
from qora_vision.engine.ops import Engine

BATCH = 4
OVERSUBSCRIPTION = (2, 4, 8)
PREDICTED = (1, 2, 8, 32, 128)


def at_once(clf: qora_vision.VideoClassifier, pixels: np.ndarray, count: int) -> None:
    """Run one clip in each of several Python threads."""
    threads = [threading.Thread(target=clf.forward, args=(pixels,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure_threads(
    clf: qora_vision.VideoClassifier, pixels: np.ndarray, counts: Sequence[int], rounds: int
) -> dict[int, dict[str, float]]:
    """Return seconds of one clip for each number of threads."""

    def run(count: int) -> None:
        qora_vision.set_num_threads(count)
        clf.forward(pixels)

    actions = {str(count): lambda count=count: run(count) for count in counts}
    return {int(name): summary(runs) for name, runs in interleave(actions, rounds, turn_seconds=0.2).items()}


def measure_company(
    clf: qora_vision.VideoClassifier, pixels: np.ndarray, cores: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Return seconds per clip of a batch, and of two clips at once and one after the other."""
    qora_vision.set_num_threads(cores)
    batch = np.repeat(pixels, BATCH, axis=0)
    actions = {
        "one clip": (1, lambda: clf.forward(pixels)),
        f"batch of {BATCH}": (BATCH, lambda: clf.forward(batch)),
        "two one after the other": (2, lambda: (clf.forward(pixels), clf.forward(pixels))),
        "two Python threads at once": (2, lambda: at_once(clf, pixels, 2)),
    }
    runs = interleave({name: action for name, (_, action) in actions.items()}, rounds, turn_seconds=0.2)
    return {name: summary([s / actions[name][0] for s in seconds]) for name, seconds in runs.items()}


def trace_one_thread(
    clf: qora_vision.VideoClassifier, pixels: np.ndarray, rounds: int
) -> tuple[float, list[Call]]:
    """Return seconds and native calls of the fastest forward pass on one thread."""
    qora_vision.set_num_threads(1)
    best: tuple[float, list[Call]] = (float("inf"), [])
    for _ in range(rounds + 1):
        with tracing() as calls:
            seconds, _ = timed(lambda: clf.forward(pixels))
        best = min(best, (seconds, list(calls)), key=lambda run: run[0])
    return best


def measure_pack_share(calls: Sequence[Call], isa: str, rounds: int) -> float:
    """Return the part of the longest attention call that packs keys and values: what a single query takes."""
    whole = max((call for call in calls if call.op == "attention"), key=lambda call: call.seconds)
    sequences, _, keys, heads, head_dim = whole.shape
    operands = np.random.default_rng(0).standard_normal((2, sequences, keys, heads, head_dim), np.float32)
    query = np.ascontiguousarray(operands[0, :, :1])
    out = np.empty((sequences, heads * head_dim), np.float32)
    arguments = (query, operands[0], operands[1], head_dim**-0.5, whole.family, isa, out, 1)
    runs = interleave({"one query": lambda: _core.attention(*arguments)}, rounds, turn_seconds=0.2)
    return min(1.0, min(runs["one query"]) / whole.seconds)


def measure_barrier(isa: str, rounds: int) -> float:
    """Return seconds that a parallel loop costs beyond its work: a tiny layer on two threads and on one."""
    x, out = np.ones((8, 64), np.float32), np.empty((8, 64), np.float32)
    calls = 200

    def many(threads: int) -> Any:
        engine = Engine("exact", isa=isa, threads=threads)
        weight = engine.pack([np.ones((64, 64), np.float32)], [None])

        def run() -> None:
            for _ in range(calls):
                engine.linear(x, weight, out)

        return run

    runs = interleave({"one": many(1), "two": many(2)}, 5 * rounds)
    return max(0.0, min(runs["two"]) - min(runs["one"])) / calls


def measure_case(case: Case, cores: int, rounds: int) -> dict[str, Any]:
    """Return all figures of a model."""
    progress(case.name)
    clf = qora_vision.load(make_checkpoint(case), weights="q4")
    pixels = clf.preprocess(CLIP)
    counts = sorted({1, *(2**i for i in range(cores.bit_length()) if 2**i <= cores), cores})
    counts += [factor * cores for factor in OVERSUBSCRIPTION]
    threads = measure_threads(clf, pixels, counts, rounds)
    company = measure_company(clf, pixels, cores, rounds)
    total, calls = trace_one_thread(clf, pixels, rounds)
    machine = Machine(measure_barrier(clf.isa, rounds), _core.table_info(clf.isa))
    share = measure_pack_share(calls, clf.isa, rounds)
    predictions = [predict(calls, total, share, machine, n) for n in PREDICTED]
    native = sum(call.seconds for call in calls)
    ops: dict[str, float] = {}
    for call in calls:
        ops[call.op] = ops.get(call.op, 0.0) + call.seconds / total
    qora_vision.set_num_threads(cores)
    return {
        "title": case.title,
        "threads": threads,
        "company": company,
        "one thread": {
            "total [s]": total,
            "between ops": (total - native) / total,
            "ops": ops,
            "packing of attention": share,
            "barrier [us]": machine.barrier * 1e6,
        },
        "prediction": {
            p.threads: {
                "clip [s]": p.seconds,
                "efficiency": p.efficiency,
                "imbalance": p.imbalance / p.seconds,
                "barriers": p.barriers / p.seconds,
                "between ops": p.serial / p.seconds,
            }
            for p in predictions
        },
    }


def report_case(case: dict[str, Any]) -> list[str]:
    """Lay one model's results out as text."""
    threads, one = case["threads"], case["one thread"]
    alone = threads[1]["min [s]"]
    rows = [
        [str(n), figure(row["min [s]"]), figure(row["median [s]"]), f"{alone / row['min [s]']:.2f}"]
        for n, row in threads.items()
    ]
    single = case["company"]["one clip"]
    company = [
        [name, figure(row["min [s]"]), figure(row["median [s]"]), f"{single['min [s]'] / row['min [s]']:.2f}"]
        for name, row in case["company"].items()
    ]
    predicted = [
        [str(n), figure(row["clip [s]"]), *(f"{row[key]:.1%}" for key in list(row)[1:])]
        for n, row in case["prediction"].items()
    ]
    ops = ", ".join(f"{name} {share:.1%}" for name, share in one["ops"].items())
    return [
        "",
        case["title"],
        "",
        table(["threads", "min s", "median s", "speed-up"], rows),
        "",
        table(["per clip", "min s", "median s", "speed"], company),
        "",
        f"one thread: {figure(one['total [s]'])} s: {ops}, between ops {one['between ops']:.2%}",
        f"packing is {one['packing of attention']:.1%} of an attention call, "
        f"a barrier {one['barrier [us]']:.1f} µs",
        "",
        table(["predicted cores", "clip s", *list(next(iter(case["prediction"].values())))[1:]], predicted),
    ]


def report(results: dict[str, Any]) -> str:
    """Lay the results out as text."""
    lines = [machine_line(results["machine"])]
    for case in results["models"].values():
        lines += report_case(case)
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the predicted efficiency."""
    from benchmarks.charts import draw_lines, machine_subtitle

    lines = {
        name: (
            [float(n) for n in case["prediction"]],
            [100 * row["efficiency"] for row in case["prediction"].values()],
        )
        for name, case in results["models"].items()
    }
    draw_lines(
        "Predicted parallel efficiency of one clip", machine_subtitle(results), ("cores", "%"), lines, path
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--model", nargs="+", choices=CASES, default=["small", "vivit-b"], help="default: %(default)s"
    )
    arguments = parser.parse_args(argv)
    machine = describe_machine(arguments.threads)
    results = {
        "command": f"python -m benchmarks.scaling --model {' '.join(arguments.model)}",
        "machine": machine,
        "models": {
            name: measure_case(CASES[name], arguments.threads, arguments.rounds) for name in arguments.model
        },
    }
    finish(results, report(results), arguments, draw)


if __name__ == "__main__":
    main()

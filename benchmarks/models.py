"""A model from checkpoint to logits: seconds and bytes of loading, saving, opening and computing.

    python -m benchmarks.models [--model vivit-b small ...] [--threads 2] [--rounds 5]

Forward passes of all configurations are interleaved round by round. `of limit` is the time that the products
of a forward pass would take at the peaks of the same run, divided by the time it takes. Memory and the first
clip are those of fresh processes, which load the saved file, decode the example clip and classify it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qora_vision
from benchmarks.cases import CASES, Case, make_checkpoint
from benchmarks.measuring import (
    BUILD,
    CLIP,
    ROOT,
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
from benchmarks.peaks import measure_peaks, peak_name
from benchmarks.tracing import tracing

# Name -> weights and compute of `qora_vision.load`.
CONFIGURATIONS = {
    "q4 auto": ("q4", "auto"),
    "q4 int8": ("q4", "int8"),
    "q8 auto": ("q8", "auto"),
    "f16 auto": ("f16", "auto"),
    "q4 bf16": ("q4", "bf16"),
    "f32 exact": ("f32", "exact"),
}
TRIES = 3

FRESH_PROCESS = """
import json, sys, time
started = time.perf_counter()
import qora_vision
imported = time.perf_counter()
clf = qora_vision.load(sys.argv[1], compute=sys.argv[2])
loaded = time.perf_counter()
forward = [clf.classify(sys.argv[3]).timings["forward"] for _ in range(4)]
from benchmarks.measuring import peak_rss
print(json.dumps({
    "import [s]": imported - started,
    "load [s]": loaded - imported,
    "first clip [s]": forward[0],
    "steady clip [s]": min(forward[1:]),
    "peak [MB]": peak_rss(),
}))
"""


def measure_files(checkpoint: Path, weights: str, saved: Path) -> dict[str, float]:
    """Return the least seconds of loading the checkpoint, saving it and opening the result, and its size."""
    steps: dict[str, list[float]] = {}
    for _ in range(TRIES):
        seconds, clf = timed(lambda: qora_vision.load(checkpoint, weights=weights))
        steps.setdefault("load checkpoint [s]", []).append(seconds)
        steps.setdefault("save [s]", []).append(timed(lambda clf=clf: clf.save(saved))[0])
    return {name: min(seconds) for name, seconds in steps.items()} | {
        "file [MB]": saved.stat().st_size / 1e6,
        "weights in memory [MB]": clf.weights_nbytes / 1e6,
    }


def measure_process(saved: Path, compute: str, threads: int) -> dict[str, Any]:
    """Return what fresh processes need, from import to label: the least of several, the most for memory."""
    environment = os.environ | {"QORA_VISION_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", FRESH_PROCESS, str(saved), compute, str(CLIP)]
    runs = []
    for _ in range(TRIES):
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)
        runs.append(json.loads(done.stdout))
    least: dict[str, Any] = {name: min(run[name] for run in runs) for name in runs[0] if name != "peak [MB]"}
    peaks = [run["peak [MB]"] for run in runs]
    return least | {"peak [MB]": None if None in peaks else max(peaks)}


def limit_seconds(clf: qora_vision.VideoClassifier, pixels: Any, peaks: dict[str, float]) -> dict[str, float]:
    """Return the operations of a forward pass, and the seconds that its products take at the peaks."""
    with tracing() as calls:
        clf.forward(pixels)
    by_family: dict[str, float] = {}
    for call in calls:
        if call.family:
            by_family[call.family] = by_family.get(call.family, 0.0) + call.operations
    seconds = sum(count / peaks[peak_name(family)] / 1e9 for family, count in by_family.items())
    return {"GOP": sum(by_family.values()) / 1e9, "limit [s]": seconds}


def measure_case(case: Case, threads: int, rounds: int, peaks: dict[str, float]) -> dict[str, Any]:
    """Return the figures of one model in all configurations."""
    checkpoint = make_checkpoint(case)
    rows: dict[str, dict[str, Any]] = {}
    classifiers = {}
    for name, (weights, compute) in CONFIGURATIONS.items():
        progress(f"{case.name}: {name}")
        saved = BUILD / f"{case.name}-{weights}.qora-vision"
        rows[name] = measure_files(checkpoint, weights, saved) | measure_process(saved, compute, threads)
        classifiers[name] = qora_vision.load(saved, compute=compute, threads=threads)
    pixels = classifiers["f32 exact"].preprocess(CLIP)
    for name, clf in classifiers.items():
        rows[name] |= limit_seconds(clf, pixels, peaks)
    progress(f"{case.name}: forward passes")
    actions = {name: lambda clf=clf: clf.forward(pixels) for name, clf in classifiers.items()}
    for name, runs in interleave(actions, rounds, turn_seconds=0.3).items():
        rows[name] |= summary(runs)
        rows[name]["of limit"] = rows[name]["limit [s]"] / rows[name]["min [s]"]
    return {"title": case.title, "configurations": rows}


def report(results: dict[str, Any]) -> str:
    """Lay the results out as text."""
    peaks = ", ".join(f"{name} {value:.0f}" for name, value in results["peaks"].items())
    lines = [machine_line(results["machine"]), f"peaks: {peaks}"]
    columns = {
        "min s": "min [s]",
        "median s": "median [s]",
        "first s": "first clip [s]",
        "peak MB": "peak [MB]",
        "file MB": "file [MB]",
        "quantise s": "load checkpoint [s]",
        "save s": "save [s]",
        "open s": "load [s]",
        "import s": "import [s]",
    }
    for case in results["models"].values():
        rows = [
            [
                name,
                *(figure(row[key]) for key in columns.values()),
                f"{row['GOP'] / row['min [s]']:.0f}",
                f"{row['of limit']:.0%}",
            ]
            for name, row in case["configurations"].items()
        ]
        lines += ["", case["title"], "", table(["", *columns, "GOP/s", "of limit"], rows)]
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw time and memory of the first model."""
    from benchmarks.charts import Bar, Panel, draw_bars, machine_subtitle

    case = next(iter(results["models"].values()))
    rows = case["configurations"]
    times = [Bar(name, row["median [s]"], f"{figure(row['median [s]'])} s") for name, row in rows.items()]
    memory = [Bar(name, row["peak [MB]"], f"{figure(row['peak [MB]'])} MB") for name, row in rows.items()]
    draw_bars(
        case["title"],
        machine_subtitle(results),
        [Panel("Forward pass of one clip, median", times), Panel("Peak memory of the whole process", memory)],
        path,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--model", nargs="+", choices=CASES, default=["vivit-b", "small"], help="default: %(default)s"
    )
    arguments = parser.parse_args(argv)
    qora_vision.set_num_threads(arguments.threads)
    BUILD.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(arguments.threads)
    peaks = measure_peaks(machine["isa"], arguments.threads)
    results = {
        "command": f"python -m benchmarks.models --model {' '.join(arguments.model)}",
        "machine": machine,
        "peaks": peaks,
        "models": {
            name: measure_case(CASES[name], arguments.threads, arguments.rounds, peaks)
            for name in arguments.model
        },
    }
    finish(results, report(results), arguments, draw)


if __name__ == "__main__":
    main()

"""qora-vision compared with PyTorch, ONNX Runtime and OpenVINO: same weights, clip and threads, in one run.

    python -m benchmarks.peers [--model vivit-b] [--threads 2] [--rounds 5] [--isa avx2] [--only TEXT ...]

Each configuration runs in a process of its own (own memory, own threads), and the processes take turns round
by round, so that a change of the machine's speed meets all of them. What is not installed, or cannot be run,
is left out by name and with the reason. Logit errors are the largest difference from PyTorch's float32
logits, relative to the largest of these; without PyTorch, from ours. `pip install .[peers]` brings the peers.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import qora_vision
from benchmarks.cases import CASES, Case, make_checkpoint
from benchmarks.measuring import (
    BUILD,
    CLIP,
    describe_machine,
    figure,
    finish,
    machine_line,
    make_parser,
    progress,
    summary,
    table,
)
from benchmarks.peaks import measure_peaks
from benchmarks.runtimes import RUNTIMES, Unavailable
from benchmarks.workers import Worker

OURS = "qora-vision"
REFERENCES = ("PyTorch fp32", "qora-vision f32 exact")


def write_clip(case: Case, checkpoint: Path) -> Path:
    """Write the example clip as every runtime sees it, (1, T, C, H, W) float32, and return the file."""
    path = BUILD / f"{case.name}-pixels.npy"
    np.save(path, qora_vision.load(checkpoint, weights="f16").preprocess(CLIP))
    return path


def start_workers(
    case: Case, arguments: argparse.Namespace
) -> tuple[list[Worker], dict[str, str], dict[str, dict[str, str]]]:
    """Start all configurations; return the workers, why the others are left out, and versions of packages."""
    checkpoint = make_checkpoint(case)
    pixels = write_clip(case, checkpoint)
    workers, left_out, versions = [], {}, {}
    for runtime, module in RUNTIMES.items():
        for configuration in importlib.import_module(module).CONFIGURATIONS:
            name = f"{runtime} {configuration}"
            if arguments.only and not any(text.lower() in name.lower() for text in arguments.only):
                continue
            progress(f"starting {name}")
            worker = Worker(
                runtime,
                configuration,
                checkpoint,
                pixels,
                arguments.threads,
                arguments.isa,
                arguments.turn_seconds,
                arguments.patience,
            )
            try:
                worker.start(arguments.prepare_patience)
            except Unavailable as reason:
                progress(f"  left out: {reason}")
                left_out[name] = str(reason)
                continue
            versions[runtime] = worker.facts.pop("versions")
            workers.append(worker)
    return workers, left_out, versions


def run_rounds(workers: list[Worker], rounds: int, left_out: dict[str, str]) -> list[Worker]:
    """Let the workers take turns; return those that finished."""
    for i in range(rounds):
        progress(f"round {i + 1} of {rounds}")
        for worker in list(workers):
            try:
                worker.turn()
            except Unavailable as reason:
                left_out[worker.name] = str(reason)
                workers.remove(worker)
    return workers


def logit_errors(logits: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the largest difference of each from the reference, relative to its largest logit."""
    reference = next((logits[name] for name in REFERENCES if name in logits), None)
    if reference is None:
        return {}
    scale = np.abs(reference).max()
    return {name: float(np.abs(values - reference).max() / scale) for name, values in logits.items()}


def compare(forward: dict[str, dict[str, Any]], free: Sequence[str] = ()) -> dict[str, Any]:
    """Return the best peer (least median), and all times divided by its, by minimum and by median.

    A peer whose logits are not numbers is none, nor is one of the `free` runtimes, which use more of the CPU.
    """
    peers = {
        name: row
        for name, row in forward.items()
        if not name.startswith((OURS, *free)) and np.isfinite(row.get("logit error") or 0.0)
    }
    if not peers:
        return {}
    best = min(peers, key=lambda name: peers[name]["median [s]"])
    ratios = {
        name: {key: row[key] / peers[best][key] for key in ("min [s]", "median [s]")}
        for name, row in forward.items()
    }
    return {"best peer": best, "time / best peer": ratios}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run everything and return the results."""
    case = CASES[arguments.model]
    BUILD.mkdir(parents=True, exist_ok=True)
    workers, left_out, versions = start_workers(case, arguments)
    try:
        workers = run_rounds(workers, arguments.rounds, left_out)
        errors = logit_errors({worker.name: worker.logits() for worker in workers})
    finally:
        for worker in workers:
            worker.stop()
    forward = {
        worker.name: summary(worker.runs) | worker.facts | {"logit error": errors.get(worker.name)}
        for worker in workers
    }
    machine = describe_machine(arguments.threads)
    held = {runtime: importlib.import_module(RUNTIMES[runtime]).HELD for runtime in versions}
    free = [runtime for runtime, switch in held.items() if arguments.isa and not switch]
    results: dict[str, Any] = {
        "command": f"python -m benchmarks.peers --model {case.name}"
        + (f" --isa {arguments.isa}" if arguments.isa else ""),
        "machine": machine | ({"isa": arguments.isa} if arguments.isa else {}),
        "model": case.title,
        "versions": versions,
        "peaks": measure_peaks(arguments.isa or machine["isa"], arguments.threads),
        "forward": forward,
        "comparison": compare(forward, free),
        "left out": left_out,
    }
    if arguments.isa:
        results["held"] = {
            runtime: switch or "no setting; it uses the whole CPU" for runtime, switch in held.items()
        }
    return results


def report(results: dict[str, Any]) -> str:
    """Lay the results out as text."""
    comparison = results["comparison"]
    ratios = comparison.get("time / best peer", {})
    rows = []
    for name, row in results["forward"].items():
        ratio = ratios.get(name)
        rows.append(
            [
                name,
                figure(row["min [s]"]),
                figure(row["median [s]"]),
                f"{ratio['min [s]']:.2f} / {ratio['median [s]']:.2f}" if ratio else "-",
                figure(row["peak [MB]"]),
                figure(row["load [s]"]),
                "-" if row["logit error"] is None else f"{row['logit error']:.1e}",
            ]
        )
    header = ["", "min s", "median s", "time / best peer (min / median)", "peak MB", "load s", "logit error"]
    peaks = ", ".join(f"{name} {value:.0f}" for name, value in results["peaks"].items())
    lines = [results["model"], machine_line(results["machine"]), f"peaks: {peaks}"]
    lines += [
        f"{name}: {' '.join(map(' '.join, packages.items()))}"
        for name, packages in results["versions"].items()
    ]
    lines += ["", table(header, rows), ""]
    if comparison:
        lines.append(f"best peer: {comparison['best peer']}")
    lines += [f"{runtime} limited by: {how}" for runtime, how in results.get("held", {}).items()]
    lines += [f"left out: {name} ({reason})" for name, reason in results["left out"].items()]
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the chart of the README: time and memory, fastest first."""
    from benchmarks.charts import Bar, Panel, draw_bars, machine_subtitle

    ratios = results["comparison"].get("time / best peer", {})
    forward = dict(sorted(results["forward"].items(), key=lambda item: item[1]["median [s]"]))
    times, memory = [], []
    for name, row in forward.items():
        ours = name.startswith(OURS)
        ratio = f"  ({ratios[name]['median [s]']:.2f} \N{MULTIPLICATION SIGN})" if name in ratios else ""
        times.append(Bar(name, row["median [s]"], f"{figure(row['median [s]'])} s{ratio}", ours))
        memory.append(Bar(name, row["peak [MB]"], f"{figure(row['peak [MB]'])} MB", ours))
    against = f"  (\N{MULTIPLICATION SIGN} best peer, {results['comparison']['best peer']})" if ratios else ""
    draw_bars(
        results["model"],
        machine_subtitle(results)
        + " · one clip, equal threads, same weights, interleaved · shorter is better",
        [Panel(f"Forward pass, median{against}", times), Panel("Peak memory of the process", memory)],
        path,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", choices=CASES, default="vivit-b", help="default: %(default)s")
    parser.add_argument(
        "--isa", choices=["avx2"], help="hold every runtime to this instruction set, by its own switches"
    )
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="configurations whose name contains a text")
    parser.add_argument(
        "--turn-seconds", type=float, default=0.5, help="a turn's length (default: %(default)s)"
    )
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds for a turn (default: %(default)s)"
    )
    parser.add_argument(
        "--prepare-patience",
        type=float,
        default=900,
        help="seconds to convert and load (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    results = measure(arguments)
    finish(results, report(results), arguments, draw)


if __name__ == "__main__":
    main()

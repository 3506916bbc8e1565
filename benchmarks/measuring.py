"""Helpers of all benchmarks: times, memory, description of the machine, tables, files of results."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import qora_vision

ROOT = Path(__file__).parents[1]
# What benchmarks write for themselves: checkpoints with random weights, converted models.
BUILD = ROOT / "build" / "benchmarks"
CLIP = ROOT / "examples" / "asl_eat.mkv"


def timed(action: Callable[[], object]) -> tuple[float, Any]:
    """Return seconds and result of an action."""
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def repeat(action: Callable[[], object], seconds: float) -> list[float]:
    """Return the seconds of each run: one at least, and as many as begin within the given time."""
    deadline = time.perf_counter() + seconds
    runs = [timed(action)[0]]
    while time.perf_counter() < deadline:
        runs.append(timed(action)[0])
    return runs


def interleave(
    actions: Mapping[str, Callable[[], object]], rounds: int, turn_seconds: float = 0.0
) -> dict[str, list[float]]:
    """Time all actions round by round, so that a change of the machine's speed meets all of them.

    Each is run once beforehand, which is not counted. A turn lasts `turn_seconds`, and one run at least.
    """
    runs: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action()
    for _ in range(rounds):
        for name, action in actions.items():
            runs[name] += repeat(action, turn_seconds)
    return runs


def summary(runs: Sequence[float]) -> dict[str, float]:
    """Return what results quote of several runs, in seconds."""
    return {"min [s]": min(runs), "median [s]": statistics.median(runs), "runs": len(runs)}


def peak_rss() -> float | None:
    """Return the most memory that this process has held, in megabytes; None where the system does not say.

    Read from /proc and not by `getrusage`, whose figure a process inherits from the one that started it.
    """
    return _status("VmHWM")


def resident() -> float | None:
    """Return the memory that this process holds now, in megabytes; None where the system does not say."""
    return _status("VmRSS")


def _status(name: str) -> float | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def describe_machine(threads: int) -> dict[str, Any]:
    """Describe the machine and the versions of a measurement."""
    info = qora_vision.cpu_info()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": info["name"],
        "cores": usable,
        "threads": threads,
        "isa": info["isa"],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "qora_vision": qora_vision.__version__,
    }


def machine_line(machine: Mapping[str, Any]) -> str:
    """Return the description in one line."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, {machine['isa']}, "
        f"qora-vision {machine['qora_vision']}"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay cells out as a Markdown table: the first column to the left, figures to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join(
        "-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths)
    )
    return "\n".join([line(header), rule + "|", *map(line, rows)])


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure with so many significant digits, without an exponent; a dash for none."""
    if value is None:
        return "-"
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{min(max(digits - 1 - magnitude, 0), 6)}f}"


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all benchmarks have."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument(
        "--threads", type=int, default=qora_vision.cpu_info()["threads"], help="default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=5, help="counted turns of each (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument(
        "--chart", type=Path, metavar="FILE", help="also draw them (PNG or SVG; needs matplotlib)"
    )
    return parser


def finish(
    results: dict[str, Any],
    text: str,
    arguments: argparse.Namespace,
    draw: Callable[[dict[str, Any], Path], None],
) -> None:
    """Print the report, and write what else was asked for."""
    print(text)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        figures = json.dumps(_valid_json(results), indent=2, allow_nan=False)
        arguments.json.write_text(figures + "\n", encoding="utf-8")
    if arguments.chart:
        arguments.chart.parent.mkdir(parents=True, exist_ok=True)
        draw(results, arguments.chart)


def _valid_json(value: Any) -> Any:
    """Write NaN and infinity, as a peer's logits may be, as words: JSON has no numbers for them."""
    if isinstance(value, dict):
        return {key: _valid_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid_json(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def progress(message: str) -> None:
    """Say on stderr what is going on: some benchmarks take minutes."""
    print(message, file=sys.stderr, flush=True)

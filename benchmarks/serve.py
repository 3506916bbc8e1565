"""The process in which one configuration of one runtime runs; `benchmarks.workers` starts and steers it.

Its task comes as JSON in the first argument, its answers are lines of JSON on stdout. Everything that the
runtime itself prints goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import peak_rss, repeat
from benchmarks.runtimes import RUNTIMES, Unavailable


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of installed distributions.

    Raises
    ------
    Unavailable
        If one is missing.
    """
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            raise Unavailable(f"{package} is not installed") from None
    return found


def serve(task: dict[str, Any], answer) -> None:
    """Do what the task says: `prepare` a model, or `run` it whenever a line on stdin asks for a turn."""
    runtime = importlib.import_module(RUNTIMES[task["runtime"]])
    found = versions(runtime.PACKAGES)
    checkpoint, pixels = Path(task["checkpoint"]), np.load(task["pixels"])
    if task["step"] == "prepare":
        runtime.prepare(checkpoint, task["configuration"], pixels)
        answer({"versions": found})
        return
    started = time.perf_counter()
    forward = runtime.load(checkpoint, task["configuration"], task["threads"])
    loaded = time.perf_counter()
    logits = forward(pixels)
    first = time.perf_counter()
    np.save(task["logits"], logits)
    answer({"load [s]": loaded - started, "first forward [s]": first - loaded})
    for _ in sys.stdin:
        answer({"runs": repeat(lambda: forward(pixels), task["turn_seconds"]), "peak [MB]": peak_rss()})


def main() -> None:
    """Keep stdout for answers, and turn what goes wrong into one."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=answers, flush=True)

    try:
        serve(json.loads(sys.argv[1]), answer)
    except Unavailable as reason:
        answer({"unavailable": str(reason)})
    except Exception as error:  # whatever a peer raises is its reason, and the others go on
        message = " ".join(str(error).split())
        answer({"unavailable": f"{type(error).__name__}: {message[:300]}"})


if __name__ == "__main__":
    main()

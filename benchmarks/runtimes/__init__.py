"""What is set side by side: one module a runtime, ours and the peers.

Each module offers

* `TITLE`, `PACKAGES` (distributions it needs, the first of which names its version),
* `CONFIGURATIONS`: name -> what `load` is told,
* `environment(threads, isa)`: variables of the process it runs in; `isa` is None or what it is held to,
* `HELD`: how it is held to an instruction set, or that it cannot be,
* `prepare(checkpoint, configuration, pixels)`: converts the model once, in a process of its own, so that the
  memory this takes is not counted,
* `load(checkpoint, configuration, threads)`: returns a function from (1, T, C, H, W) float32 to logits.

A configuration that this machine cannot run raises `Unavailable`.
"""

from __future__ import annotations

from pathlib import Path

# In the order of reports. Modules are imported only in the processes that run them.
RUNTIMES = {
    "qora-vision": "benchmarks.runtimes.qora",
    "PyTorch": "benchmarks.runtimes.pytorch",
    "ONNX Runtime": "benchmarks.runtimes.onnx_runtime",
    "OpenVINO": "benchmarks.runtimes.open_vino",
}


class Unavailable(Exception):
    """A configuration that cannot be run here; says why."""


def is_current(path: Path, checkpoint: Path) -> bool:
    """Return whether a converted model is newer than the checkpoint it was made of."""
    return path.exists() and path.stat().st_mtime > (checkpoint / "case.json").stat().st_mtime

"""The runtimes that are compared: one module for each, ours and the peers.

Each module offers

* `TITLE`, `PACKAGES` (distributions it needs, the first of which names its version),
* `CONFIGURATIONS`: name -> what `load` is told,
* `environment(threads, isa)`: environment variables of its process; `isa` is None or the instruction set that
  it is limited to,
* `HELD`: the variables that limit it to an instruction set; empty if it cannot be limited,
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

"""qora-vision, from its own file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import qora_vision
from benchmarks.runtimes import is_current

PACKAGES = ("qora-vision",)
HELD = "QORA_VISION_ISA"
# Name -> stored weights and arithmetic.
CONFIGURATIONS = {
    "q4 auto": ("q4", "auto"),
    "q4 int8": ("q4", "int8"),
    "q8 auto": ("q8", "auto"),
    "q4 bf16": ("q4", "bf16"),
    "f32 exact": ("f32", "exact"),
}


def environment(threads: int, isa: str | None) -> dict[str, str]:
    """Return the variables that set threads and instruction set of the engine."""
    held = {"QORA_VISION_ISA": isa} if isa else {}
    return {"QORA_VISION_NUM_THREADS": str(threads)} | held


def _saved(checkpoint: Path, weights: str) -> Path:
    return checkpoint / f"{weights}.qora-vision"


def prepare(checkpoint: Path, configuration: str, pixels: np.ndarray) -> None:
    """Save the checkpoint in the form that users keep."""
    weights, _ = CONFIGURATIONS[configuration]
    if not is_current(_saved(checkpoint, weights), checkpoint):
        qora_vision.load(checkpoint, weights=weights).save(_saved(checkpoint, weights))


def load(checkpoint: Path, configuration: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the forward pass."""
    weights, compute = CONFIGURATIONS[configuration]
    return qora_vision.load(_saved(checkpoint, weights), compute=compute, threads=threads).forward

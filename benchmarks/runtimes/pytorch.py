"""PyTorch with the models of transformers: SDPA attention where they have it, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

PACKAGES = ("torch", "transformers")
HELD = "ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA and MKL_ENABLE_INSTRUCTIONS"
# Name -> dtype and whether torch.compile is applied.
CONFIGURATIONS = {
    "fp32": ("float32", False),
    "bf16": ("bfloat16", False),
    "fp32 compiled": ("float32", True),
    "bf16 compiled": ("bfloat16", True),
}


def environment(threads: int, isa: str | None) -> dict[str, str]:
    """Return the variables that set threads and instruction set of PyTorch, oneDNN and MKL."""
    held = {}
    if isa:
        held = {
            "ATEN_CPU_CAPABILITY": isa,
            "ONEDNN_MAX_CPU_ISA": isa.upper(),
            "MKL_ENABLE_INSTRUCTIONS": isa.upper(),
        }
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} | held


def read_model(checkpoint: Path):
    """Return the float32 model of a checkpoint."""
    from transformers import AutoModelForVideoClassification

    return AutoModelForVideoClassification.from_pretrained(checkpoint).eval()  # takes SDPA where it can


def logits_module(checkpoint: Path):
    """Return the float32 model as a module from pixels to logits, which exporters can trace."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.model(pixels).logits

    return Logits(read_model(checkpoint)).eval()


def prepare(checkpoint: Path, configuration: str, pixels: np.ndarray) -> None:
    """Do nothing: the checkpoint is PyTorch's own form."""


def load(checkpoint: Path, configuration: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the forward pass."""
    import torch

    torch.set_num_threads(threads)
    dtype, compiled = CONFIGURATIONS[configuration]
    model = read_model(checkpoint).to(getattr(torch, dtype))
    run = torch.compile(model) if compiled else model

    def forward(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return run(torch.from_numpy(pixels).to(model.dtype)).logits.float().numpy()

    return forward

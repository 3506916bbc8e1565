"""A ViViT checkpoint small enough for tests, written by the tool that writes the large one."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from paths import ROOT

LABELS = ("opening", "closing", "waiting", "waving", "nodding", "jumping", "resting")
CONFIG = {
    "image_size": 32,
    "num_frames": 4,
    "tubelet_size": [2, 16, 16],
    "num_channels": 3,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "hidden_act": "gelu_fast",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}


def load_maker() -> ModuleType:
    """Import tools/make_random_vivit.py."""
    spec = importlib.util.spec_from_file_location(
        "make_random_vivit", ROOT / "tools" / "make_random_vivit.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tiny_vivit(directory: Path, labels: Sequence[str] = LABELS, seed: int = 0) -> None:
    """Write the checkpoint: 8 tubelets of a (4, 3, 32, 32) clip, 64 channels, 2 blocks."""
    load_maker().write_checkpoint(directory, CONFIG, list(labels), seed)

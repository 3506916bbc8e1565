"""The models that are measured: shapes of published ones, with random weights, as checkpoints.

A case is a model type and a configuration of Hugging Face transformers. A new one is a row in `CASES`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.make_random_vivit import LABELS, VIVIT_B, write_checkpoint

from benchmarks.measuring import BUILD


@dataclass(frozen=True)
class Case:
    """A model to measure: transformers' `model_type` and config, and what it is."""

    name: str
    title: str
    model_type: str
    config: dict[str, Any]


CASES = {
    case.name: case
    for case in (
        Case("vivit-b", "ViViT-B/16x2, 32 frames, 3137 tokens", "vivit", VIVIT_B),
        Case(
            "small",
            "ViViT of width 192, 16 frames of 112 px, 393 tokens",
            "vivit",
            VIVIT_B
            | {
                "image_size": 112,
                "num_frames": 16,
                "hidden_size": 192,
                "num_attention_heads": 3,
                "intermediate_size": 768,
            },
        ),
        Case("videomae-b", "VideoMAE-B, 16 frames, 1568 tokens", "videomae", {}),
        Case("timesformer-b", "TimeSformer-B, divided attention, 8 frames, 1569 tokens", "timesformer", {}),
        Case(
            "vjepa2-l",
            "V-JEPA 2 ViT-L with its pooler, 16 frames of 256 px, 2048 tokens",
            "vjepa2",
            {"frames_per_clip": 16},
        ),
    )
}


def make_checkpoint(case: Case) -> Path:
    """Return the directory of the case's checkpoint, written on first use.

    A ViViT needs no PyTorch for that; other model types come from transformers, with its own initialisation.
    """
    directory = BUILD / case.name
    marker = directory / "case.json"
    wanted = json.dumps([case.model_type, case.config], sort_keys=True)
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return directory
    labels = LABELS.read_text(encoding="utf-8").splitlines()
    if case.model_type == "vivit":
        write_checkpoint(directory, case.config, labels)
    else:
        _write_with_transformers(case, directory, labels)
    marker.write_text(wanted, encoding="utf-8")
    return directory


def _write_with_transformers(case: Case, directory: Path, labels: list[str]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForVideoClassification

    torch.manual_seed(0)
    names = dict(enumerate(labels))
    config = AutoConfig.for_model(case.model_type, **case.config, id2label=names)
    AutoModelForVideoClassification.from_config(config).save_pretrained(directory)

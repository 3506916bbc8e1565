"""Names as training wrappers and mmaction write them: the same model comes out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from paths import DATA

import qora_vision
from qora_vision.models.registry import ARCHITECTURES
from qora_vision.weights.checkpoints import open_checkpoint

CASES = sorted(path.parent.name for path in DATA.glob("*_tiny*/golden.npz"))
PREFIXES = (
    "_orig_mod.",
    "module.",
    "model.",
    "net.",
    "_orig_mod.module.",
    "module._orig_mod.",
    "model.net.module.",
)
# Theirs in the original code -> in mmaction.
MMACTION = (
    ("patch_embed.proj", "patch_embed.projection"),
    ("mlp.fc1", "mlp.layers.0.0"),
    ("mlp.fc2", "mlp.layers.1"),
)
TIMESFORMER = (
    ("patch_embed.proj", "patch_embed.projection"),
    ("temporal_norm1", "attentions.0.norm"),
    ("temporal_attn.qkv.", "attentions.0.attn.in_proj_"),
    ("temporal_attn.proj", "attentions.0.attn.out_proj"),
    ("temporal_fc", "attentions.0.temporal_fc"),
    ("norm1", "attentions.1.norm"),
    ("norm2", "ffns.0.norm"),
    (".attn.qkv.", ".attentions.1.attn.in_proj_"),
    (".attn.proj", ".attentions.1.attn.out_proj"),
    ("mlp.fc1", "ffns.0.layers.0.0"),
    ("mlp.fc2", "ffns.0.layers.1"),
    ("blocks.", "transformer_layers.layers."),
)


def tensors_of(case: str) -> dict[str, np.ndarray]:
    source = next(
        path for path in (DATA / case).iterdir() if path.name != "config.json" and path.suffix != ".npz"
    )
    checkpoint = open_checkpoint(source)
    return {name: np.array(checkpoint.read(name)) for name in checkpoint}


def logits(directory: Path, case: str) -> np.ndarray:
    with np.load(DATA / case / "golden.npz") as golden:
        clip = golden["pixel_values"].astype(np.float32)
    return qora_vision.load(directory, weights="f32", compute="exact").forward(clip)


def written(directory: Path, case: str, tensors: dict[str, np.ndarray]) -> Path:
    shutil.copyfile(DATA / case / "config.json", directory / "config.json")
    safetensors.numpy.save_file(tensors, directory / "model.safetensors")
    return directory


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("case", CASES)
def test_wrappers_of_training(tmp_path: Path, case: str, prefix: str) -> None:
    tensors = {prefix + name: values for name, values in tensors_of(case).items()}
    assert np.array_equal(logits(written(tmp_path, case, tensors), case), logits(DATA / case, case))


def in_mmaction(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    plain = name.removeprefix("module.").removeprefix("model.")
    if plain.startswith("head."):
        return plain.replace("head.", "cls_head.fc_cls.")
    if plain.startswith("blocks.") or plain.startswith("patch_embed"):
        for theirs, mm in pairs:
            plain = plain.replace(theirs, mm, 1)
    return f"backbone.{plain}"


@pytest.mark.parametrize(
    ("case", "pairs"), [("videomae_tiny_original", MMACTION), ("timesformer_tiny_original", TIMESFORMER)]
)
def test_names_of_mmaction(tmp_path: Path, case: str, pairs: tuple[tuple[str, str], ...]) -> None:
    tensors = {in_mmaction(name, pairs): values for name, values in tensors_of(case).items()}
    if case.startswith("videomae"):
        tensors["backbone.pos_embed"] = np.zeros((1, 8, 32), np.float32)
    assert "cls_head.fc_cls.weight" in tensors and "backbone.patch_embed.projection.weight" in tensors
    assert np.array_equal(logits(written(tmp_path, case, tensors), case), logits(DATA / case, case))


def test_every_model_has_only_its_own_prefixes() -> None:
    from qora_vision.weights.checkpoints import WRAPPER_PREFIXES

    for entry in ARCHITECTURES:
        assert not set(entry.checkpoint.prefixes) & set(WRAPPER_PREFIXES)

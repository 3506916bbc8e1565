"""Names as training wrappers and mmaction write them: the same model comes out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from paths import DATA

import qora_vision
from qora_vision import CheckpointError
from qora_vision.models.registry import ARCHITECTURES
from qora_vision.models.videomae.network import sinusoids
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
        config = qora_vision.load(DATA / case).config
        positions = sinusoids(config.sequence_length, config.embed_dim)
        tensors["backbone.pos_embed"] = positions[None].astype(np.float16)
    assert "cls_head.fc_cls.weight" in tensors and "backbone.patch_embed.projection.weight" in tensors
    assert np.array_equal(logits(written(tmp_path, case, tensors), case), logits(DATA / case, case))


def test_learned_positions_are_refused(tmp_path: Path) -> None:
    case = "videomae_tiny_original"
    tensors = {in_mmaction(name, MMACTION): values for name, values in tensors_of(case).items()}
    config = qora_vision.load(DATA / case).config
    positions = sinusoids(config.sequence_length, config.embed_dim)
    positions[3, 5] += 0.01
    wrong = [positions, positions[1:], np.full_like(positions, np.nan), np.ones((), np.float32)]
    for values in wrong:
        tensors["backbone.pos_embed"] = np.ascontiguousarray(values)
        with pytest.raises(
            CheckpointError, match=r"model\.safetensors: pos_embed .*learned positions are not"
        ):
            logits(written(tmp_path, case, tensors), case)


# Hugging Face -> mmaction, where attention is not divided.
UNDIVIDED = (
    (r"timesformer\.embeddings\.cls_token", "backbone.cls_token"),
    (r"timesformer\.embeddings\.position_embeddings", "backbone.pos_embed"),
    (r"timesformer\.embeddings\.time_embeddings", "backbone.time_embed"),
    (r"timesformer\.embeddings\.patch_embeddings", "backbone.patch_embed"),
    (r"timesformer\.encoder\.layer\.", "backbone.transformer_layers.layers."),
    (r"attention\.attention\.qkv\.", "attentions.0.attn.in_proj_"),
    (r"attention\.output\.dense", "attentions.0.attn.out_proj"),
    ("layernorm_before", "norms.0"),
    ("layernorm_after", "norms.1"),
    (r"intermediate\.dense", "ffns.0.layers.0.0"),
    (r"(?<=\d\.)output\.dense", "ffns.0.layers.1"),
    (r"timesformer\.layernorm", "backbone.norm"),
    ("classifier", "cls_head.fc_cls"),
)


@pytest.mark.parametrize("kind", ["joint_space_time", "space_only"])
def test_a_bare_file_of_mmaction(tmp_path: Path, kind: str) -> None:
    """Without any config: shapes and names tell what the network is."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no reference to compare with")
    from live_reference import random_clips, random_model, reference_logits

    fields = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 96, "num_hidden_layers": 2}
    fields |= {"image_size": 32, "num_frames": 8, "num_labels": 10, "attention_type": kind}
    model = random_model("Timesformer", fields, 0)
    state = {}
    for name, values in model.state_dict().items():
        for theirs, mm in UNDIVIDED:
            name = re.sub(theirs, mm, name)
        state[name] = values
    assert all(name.startswith(("backbone.", "cls_head.")) for name in state)
    torch.save({"state_dict": state, "meta": {"epoch": 15}}, tmp_path / "timesformer.pth")
    clips = random_clips(model.config, 1, 1)
    ours = qora_vision.load(tmp_path / "timesformer.pth", weights="f32", compute="exact")
    expected = reference_logits(model, clips)
    if kind == "space_only":
        # The original code and mmaction average the frames' CLS tokens; transformers leaves a row a frame.
        with torch.no_grad():
            encoder = model.timesformer
            states = encoder(torch.from_numpy(clips), output_hidden_states=True).hidden_states
            mean = states[-1][:, 0].mean(dim=0, keepdim=True)
            expected = model.classifier(encoder.layernorm(mean)).numpy()
    assert np.abs(ours.forward(clips) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_every_model_has_only_its_own_prefixes() -> None:
    from qora_vision.weights.checkpoints import WRAPPER_PREFIXES

    for entry in ARCHITECTURES:
        assert not set(entry.checkpoint.prefixes) & set(WRAPPER_PREFIXES)

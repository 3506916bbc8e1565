"""Live comparison of VideoMAE with Hugging Face transformers on random weights; see live_reference.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_reference import (
    is_exact,
    keeps_its_promises_at_full_size,
    maker,
    random_clips,
    random_model,
    reference_logits,
)

import qora_vision
from qora_vision import CheckpointError
from qora_vision.models.videomae.network import VideoMaeConfig

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no reference to compare with")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SMALL = {
    "image_size": 32,
    "num_frames": 4,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "num_labels": 10,
}
CONFIGS = {
    "even": {},
    "three heads, odd widths": {"hidden_size": 51, "num_attention_heads": 3, "intermediate_size": 77},
    "first token, no biases of q and v": {"use_mean_pooling": False, "qv_bias": False},
    "frames and pixels left over": {
        "num_frames": 7,
        "image_size": [50, 39],
        "patch_size": [8, 12],
        "tubelet_size": 3,
    },
    "one tubelet, five layers, large eps": {
        "image_size": 16,
        "num_frames": 2,
        "num_hidden_layers": 5,
        "layer_norm_eps": 0.1,
    },
    "many tokens, tanh": {"image_size": 64, "num_frames": 10, "patch_size": 8, "hidden_act": "gelu_fast"},
}
State = dict[str, Any]


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    seed = list(CONFIGS).index(name)
    model = random_model("VideoMAE", SMALL | CONFIGS[name], seed)
    model.save_pretrained(tmp_path)
    clips = random_clips(model.config, 2, seed)
    assert is_exact(tmp_path, clips, reference_logits(model, clips))


def memory_names(state: State, model: Any) -> State:
    """Biases under the names of transformers 5 in memory."""
    return {name: values.clone() for name, values in model.state_dict().items()}


def original(state: State, model: Any) -> State:
    return maker().original_state(model, "VideoMAE")


def scaled(state: State, model: Any) -> State:
    """V2 with init_values > 0: what the branches are multiplied by is a tensor of its own."""
    state = dict(original(state, model))
    for i in range(2):
        for gamma, layer in (("gamma_1", "attn.proj"), ("gamma_2", "mlp.fc2")):
            factors = torch.rand(48, generator=torch.Generator().manual_seed(i)) + 0.5
            state[f"blocks.{i}.{gamma}"] = factors
            state[f"blocks.{i}.{layer}.weight"] = state[f"blocks.{i}.{layer}.weight"] / factors[:, None]
            state[f"blocks.{i}.{layer}.bias"] = state[f"blocks.{i}.{layer}.bias"] / factors
    return state


def prefixed(prefix: str) -> Any:
    return lambda state, model: {prefix + name: values for name, values in original(state, model).items()}


def with_leftovers(state: State, model: Any) -> State:
    leftovers = ("decoder.blocks.0.norm1.weight", "mask_token", "encoder_to_decoder.weight", "norm.weight")
    return original(state, model) | {name: torch.ones(3) for name in leftovers}


def halved(state: State, model: Any) -> State:
    return {name: values.half() for name, values in original(state, model).items()}


ALIASES = {
    "in-memory names": (memory_names, "model"),
    "original": (original, "model"),
    "deepspeed": (original, "module"),
    "averages alone": (original, "model_ema"),
    "data parallel": (prefixed("module."), "model"),
    "V2 of the hub": (prefixed("model."), None),
    "encoder of pre-training": (prefixed("encoder."), "model"),
    "several prefixes": (prefixed("module.backbone."), None),
    "scaled branches": (scaled, "module"),
    "leftovers of pre-training": (with_leftovers, "model"),
}


@pytest.mark.parametrize("alias", ALIASES)
def test_every_spelling_is_read(alias: str, tmp_path: Path) -> None:
    respell, wrapper = ALIASES[alias]
    model = random_model("VideoMAE", SMALL, 20)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = respell(model.state_dict(), model)
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 1}, tmp_path / "weights.pth")
    clips = random_clips(model.config, 1, 21)
    assert is_exact(tmp_path, clips, reference_logits(model, clips))


def test_half_precision_is_read(tmp_path: Path) -> None:
    model = random_model("VideoMAE", SMALL, 22).half()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(halved({}, model), tmp_path / "weights.pth")
    model = model.float()
    clips = random_clips(model.config, 1, 23)
    assert is_exact(tmp_path, clips, reference_logits(model, clips))


def test_the_model_that_needs_remote_code(tmp_path: Path) -> None:
    """OpenGVLab/VideoMAEv2-Base: its own model_type, arguments one level down, eps 1e-6 everywhere."""
    model = random_model("VideoMAE", SMALL | {"layer_norm_eps": 1e-6}, 24)
    fields = {"img_size": 32, "patch_size": 16, "num_classes": 10, "embed_dim": 48, "depth": 2}
    fields |= {"num_heads": 4, "mlp_ratio": 2, "qkv_bias": True, "layer_norm_eps": 1e-6, "tubelet_size": 2}
    fields |= {"use_mean_pooling": True, "num_frames": 4, "cos_attn": False}
    config = {"model_type": "VideoMAEv2_Base", "model_config": fields}
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = prefixed("model.")({}, model)
    torch.save(state, tmp_path / "pytorch_model.bin")
    clips = random_clips(model.config, 1, 25)
    assert is_exact(tmp_path, clips, reference_logits(model, clips))
    config["model_config"] = fields | {"cos_attn": True}
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cos_attn is true"):
        qora_vision.load(tmp_path)


def test_a_bare_original_file_says_what_it_is(tmp_path: Path) -> None:
    """The smallest published width: 6 heads there (Hugging Face converts it with 16)."""
    fields = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "layer_norm_eps": 1e-6}
    model = random_model("VideoMAE", fields | {"num_hidden_layers": 1, "num_labels": 174}, 26)
    torch.save({"module": original({}, model)}, tmp_path / "vit_s_ssv2.pth")
    with pytest.warns(qora_vision.QoraVisionWarning, match="Something-Something V2 are assumed"):
        clf = qora_vision.load(tmp_path / "vit_s_ssv2.pth", weights="f32", compute="exact")
    assert clf.config == VideoMaeConfig(
        num_classes=174,
        embed_dim=384,
        depth=1,
        num_heads=6,
        mlp_dim=1536,
        norm_eps=1e-6,
        pool_norm_eps=1e-6,
    )
    assert clf.labels[0] == "Approaching something with your camera"
    assert clf.preprocessing.sampling == "segments"
    clip = random_clips(model.config, 1, 27)
    expected = reference_logits(model, clip)
    assert np.abs(clf.forward(clip) - expected).max() <= 1e-4 * np.abs(expected).max()

    state = original({}, random_model("VideoMAE", SMALL, 28))
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd\.pth: a VideoMAE 48 channels wide is none of the publ"):
        qora_vision.load(tmp_path / "odd.pth")
    torch.save({"conv1.weight": torch.ones(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: its tensors \(conv1\.weight, \.\.\.\) match"):
        qora_vision.load(tmp_path / "other.pth")


def test_missing_biases_are_no_zeros(tmp_path: Path) -> None:
    """Some releases of transformers took biases that they did not find for zeros."""
    model = random_model("VideoMAE", SMALL, 29)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = {name: values for name, values in original({}, model).items() if not name.endswith("q_bias")}
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"missing tensors: blocks\.0\.attn\.q_bias, blocks\.1\.attn"):
        qora_vision.load(tmp_path)


def test_the_protocol_is_the_authors_own(tmp_path: Path) -> None:
    model = random_model("VideoMAE", SMALL, 30)
    model.save_pretrained(tmp_path)
    ours = qora_vision.load(tmp_path).preprocessing
    assert (ours.sampling, ours.stride, ours.resize, ours.crop) == ("dense", 4, 32, (32, 32))
    assert ours.mean == (0.485, 0.456, 0.406)
    processor = transformers.VideoMAEImageProcessorPil(size={"shortest_edge": 36}, crop_size=32)
    processor.save_pretrained(tmp_path)
    theirs = qora_vision.load(tmp_path)
    assert theirs.preprocessing.mean == (0.5, 0.5, 0.5)
    assert (theirs.preprocessing.sampling, theirs.preprocessing.resize) == ("dense", 36)
    frames = np.random.default_rng(3).integers(0, 256, (4, 50, 70, 3), dtype=np.uint8)
    pixels = processor(list(frames), return_tensors="np")["pixel_values"]
    got = theirs.preprocess(frames, sampling=range(4))
    # The file names the processor whose resizing differs from this one's by a step in a few pixels.
    np.testing.assert_allclose(got, pixels, rtol=0, atol=2 / 255 + 1e-6)
    assert np.mean(np.abs(got - pixels) > 1e-6) < 0.05


def test_sizes_are_those_of_transformers() -> None:
    sizes = {
        "small": (384, 12, 16, 1536),
        "base": (768, 12, 12, 3072),
        "large": (1024, 24, 16, 4096),
        "huge": (1280, 32, 16, 5120),
    }
    for dim, depth, heads, mlp in sizes.values():
        fields = {"hidden_size": dim, "num_hidden_layers": depth, "num_attention_heads": heads}
        with torch.device("meta"):
            model = maker().make_model("VideoMAE", fields | {"intermediate_size": mlp, "num_frames": 2})
        config = VideoMaeConfig(2, embed_dim=dim, depth=depth, num_heads=heads, mlp_dim=mlp)
        ours = sum(int(np.prod(spec.shape)) for spec in config.tensor_specs().values())
        assert ours == sum(parameter.numel() for parameter in model.parameters())
        assert config.sequence_length == 1568


@pytest.mark.filterwarnings("ignore:.*400 classes have no names")
def test_videomae_b_at_full_size(tmp_path: Path) -> None:
    """The promises at the size of the published model: 12 blocks, 1568 tokens, 86 million weights.

    Takes about half a minute and 1.5 GB on two cores.
    """
    keeps_its_promises_at_full_size("VideoMAE", {"num_labels": 400}, tmp_path)

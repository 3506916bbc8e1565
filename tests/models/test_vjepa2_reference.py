"""Live comparison of V-JEPA 2 with Hugging Face transformers on random weights; see live_reference.py.

The comparison at the published size runs with QORA_TEST_LARGE=1 alone: it takes minutes, and 4 GB.
"""

from __future__ import annotations

import json
import os
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
from qora_vision.models.vjepa2.network import Vjepa2Config

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no reference to compare with")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

PREDICTOR = {"pred_hidden_size": 12, "pred_num_attention_heads": 1, "pred_num_hidden_layers": 1}
SMALL = PREDICTOR | {
    "crop_size": 32,
    "patch_size": 8,
    "frames_per_clip": 4,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_labels": 10,
}
CONFIGS = {
    "heads of 24, all channels turn": {},
    "heads of 64 as in ViT-L and ViT-H": {"hidden_size": 128, "crop_size": 48, "num_pooler_layers": 1},
    "odd: three heads of 15, frames and pixels left over": {
        "hidden_size": 45,
        "num_attention_heads": 3,
        "crop_size": 39,
        "frames_per_clip": 7,
        "tubelet_size": 3,
        "hidden_act": "gelu_pytorch_tanh",
    },
    "heads of 88 and the MLP of ViT-g": {"hidden_size": 176, "mlp_ratio": 48 / 11, "num_hidden_layers": 1},
    "no biases, many frames, five layers, large eps": {
        "qkv_bias": False,
        "frames_per_clip": 40,
        "crop_size": 16,
        "num_hidden_layers": 5,
        "layer_norm_eps": 0.1,
    },
}


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    seed = list(CONFIGS).index(name)
    model = random_model("VJEPA2", SMALL | CONFIGS[name], seed)
    model.save_pretrained(tmp_path)
    clips = random_clips(model.config, 2, seed)
    assert is_exact(tmp_path, clips, reference_logits(model, clips))


def change_config(directory: Path, **fields: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_another_number_of_frames_is_a_change_of_the_config(tmp_path: Path) -> None:
    """No weight depends on it: transformers takes whatever it is given."""
    model = random_model("VJEPA2", SMALL, 10)
    model.save_pretrained(tmp_path)
    clips = np.random.default_rng(11).standard_normal((1, 10, 3, 32, 32), np.float32)
    expected = reference_logits(model, clips)
    change_config(tmp_path, frames_per_clip=10)
    assert is_exact(tmp_path, clips, expected)


def test_heads_of_the_pooler_are_those_of_the_encoder_unless_the_config_says(tmp_path: Path) -> None:
    model = random_model("VJEPA2", SMALL, 12)
    model.save_pretrained(tmp_path)
    clips = random_clips(model.config, 1, 13)
    usual = reference_logits(model, clips)
    layers = [layer.self_attn for layer in model.pooler.self_attention_layers]
    for attention in (*layers, model.pooler.cross_attention_layer.cross_attn):
        attention.num_heads, attention.head_dim, attention.scale = 6, 8, 8**-0.5
    changed = reference_logits(model, clips)
    assert is_exact(tmp_path, clips, usual)
    assert not is_exact(tmp_path, clips, changed)
    change_config(tmp_path, pooler_heads=6)
    assert is_exact(tmp_path, clips, changed)


def test_half_precision_and_prefixes_are_read(tmp_path: Path) -> None:
    model = random_model("VJEPA2", SMALL, 22).half()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = {f"module.{name}": values for name, values in model.state_dict().items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    model = model.float()
    clips = random_clips(model.config, 1, 23)
    assert is_exact(tmp_path, clips, reference_logits(model, clips))


@pytest.mark.parametrize(
    "fields",
    [
        {"crop_size": 32},
        {"crop_size": 225},
        {"crop_size": {"height": 64, "width": 64}, "resample": 3},
        {"crop_size": 48, "size": {"shortest_edge": 200}},  # transformers computes the size from the crop
        {"crop_size": 32, "image_mean": [0.5, 0.5, 0.5], "do_normalize": True},
    ],
    ids=str,
)
def test_the_processor(fields: dict[str, Any], tmp_path: Path) -> None:
    """Bit for bit, from the file that it saves and from the words that it was made of."""
    try:
        processor = transformers.VJEPA2VideoProcessor(**fields)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"VJEPA2VideoProcessor cannot be made: {error}")
    frames = np.random.default_rng(3).integers(0, 256, (4, 250, 270, 3), dtype=np.uint8)
    pixels = processor(frames, return_tensors="np")["pixel_values_videos"]
    random_model("VJEPA2", SMALL | {"crop_size": pixels.shape[-1]}, 25).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    got = qora_vision.load(tmp_path).preprocess(frames, sampling=range(4))
    assert np.array_equal(got, pixels)
    for path in tmp_path.glob("*processor*"):
        path.unlink()
    named = {"video_processor_type": "VJEPA2VideoProcessor"} | fields
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(named))
    assert np.array_equal(qora_vision.load(tmp_path).preprocess(frames, sampling=range(4)), pixels)


def test_labels_are_those_of_the_config(tmp_path: Path) -> None:
    names = {i: f"dive {i}" for i in range(48)}
    random_model("VJEPA2", SMALL | {"num_labels": 48, "id2label": names}, 26).save_pretrained(tmp_path)
    assert qora_vision.load(tmp_path).labels == list(names.values())


def test_sizes_are_those_of_transformers() -> None:
    """But for the predictor, and the projection of the pooler's query, which is folded into that."""
    sizes = {
        "large": (1024, 24, 16, 4.0, 4096),
        "huge": (1280, 32, 16, 4.0, 5120),
        "giant": (1408, 40, 22, 48 / 11, 6144),
    }
    for dim, depth, heads, ratio, mlp in sizes.values():
        fields = {"hidden_size": dim, "num_hidden_layers": depth, "num_attention_heads": heads}
        with torch.device("meta"):
            model = maker().make_model("VJEPA2", fields | {"mlp_ratio": ratio, "num_labels": 174})
        config = Vjepa2Config(
            174,
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            mlp_dim=mlp,
            pooler_heads=heads,
            pooler_mlp_dim=4 * dim,
        )
        ours = sum(int(np.prod(spec.shape)) for spec in config.tensor_specs().values())
        predictor = sum(parameter.numel() for parameter in model.vjepa2.predictor.parameters())
        theirs = sum(parameter.numel() for parameter in model.parameters()) - predictor
        assert ours == theirs - dim * dim
        assert config.sequence_length == 2048


@pytest.mark.skipif(not os.environ.get("QORA_TEST_LARGE"), reason="QORA_TEST_LARGE is not set: takes minutes")
def test_vit_l_at_full_size(tmp_path: Path) -> None:
    """The promises at the size of vjepa2-vitl-fpc16-256-ssv2: 24 and 4 blocks, 2048 tokens."""
    keeps_its_promises_at_full_size("VJEPA2", {"frames_per_clip": 16, "num_labels": 174}, tmp_path)

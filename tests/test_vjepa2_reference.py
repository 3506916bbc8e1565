"""V-JEPA 2 against Hugging Face transformers, live: same weights, same clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qora_vision

torch = pytest.importorskip("torch", reason="needs torch")
transformers = pytest.importorskip("transformers", reason="needs transformers")

# The last: heads of 10 channels (3 axes of 2, 4 that stay), a grid of positions smaller than the clip's.
CONFIGS: dict[str, dict[str, Any]] = {
    "usual": {"hidden_size": 64, "num_attention_heads": 1, "crop_size": 32, "frames_per_clip": 4},
    "several heads": {"hidden_size": 96, "num_attention_heads": 4, "crop_size": 48, "frames_per_clip": 6},
    "odd": {
        "hidden_size": 70,
        "num_attention_heads": 7,
        "crop_size": 48,
        "frames_per_clip": 8,
        "mlp_ratio": 48 / 11,
        "num_pooler_layers": 2,
        "hidden_act": "gelu_pytorch_tanh",
    },
}


def reference(fields: dict[str, Any], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    sizes = {"num_hidden_layers": 3, "num_pooler_layers": 3, "patch_size": 16, "tubelet_size": 2}
    predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    config = transformers.VJEPA2Config(
        **{**sizes, **predictor, "pred_num_mask_tokens": 2, "num_labels": 9, **fields}, attn_implementation="eager"
    )
    model = transformers.VJEPA2ForVideoClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.3 if parameter.ndim < 2 else 1.5 / parameter[0].numel() ** 0.5
            parameter.add_(torch.randn_like(parameter) * scale)
    return model


def compare(model: Any, directory: Path, clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    model.save_pretrained(directory)
    with torch.no_grad():
        expected = model(torch.from_numpy(clip)).logits.numpy()
    clf = qora_vision.load(directory, weights="f32", compute="exact")
    assert clf.architecture == "vjepa2"
    return clf.forward(clip), expected


@pytest.mark.parametrize("name", CONFIGS)
def test_logits(name: str, tmp_path: Path) -> None:
    fields = CONFIGS[name]
    side, frames = fields["crop_size"], fields["frames_per_clip"]
    clip = np.random.default_rng(1).standard_normal((2, frames, 3, side, side)).astype(np.float32)
    got, expected = compare(reference(fields), tmp_path, clip)
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_quantised(tmp_path: Path) -> None:
    """Every form of weights loads, and stays near: 4 bits lose a few percent of each layer."""
    fields = CONFIGS["several heads"]
    clip = np.random.default_rng(2).standard_normal((1, 6, 3, 48, 48)).astype(np.float32)
    exact, _ = compare(reference(fields), tmp_path, clip)
    for weights, limit in (("f16", 0.02), ("q8", 0.1), ("q4", 0.6)):
        got = qora_vision.load(tmp_path, weights=weights).forward(clip)
        assert np.linalg.norm(got - exact) <= limit * np.linalg.norm(exact), weights

"""ViViT beside Hugging Face transformers, run here and now on random weights.

Weights are drawn by `randomise` of tools/make_goldens.py: outputs of every layer have about the variance of
its inputs, and attention scores a deviation of two, so that tokens differ in weight as they do after
training. The initial values of transformers would be too easy: positions, CLS and biases are zero,
attention is nearly even.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from model_bounds import ARITHMETIC_NOISE, MARGIN, WEIGHT_NOISE, cosine, distance, relative_error
from numpy.typing import NDArray

import qora_vision
from qora_vision.classifier import VideoClassifier
from qora_vision.loading import import_checkpoint
from qora_vision.ops import Engine
from qora_vision.weights.tensors import QuantizedTensor

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no reference to compare with")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SMALL = {
    "image_size": 32,
    "num_frames": 4,
    "tubelet_size": [2, 16, 16],
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "num_labels": 10,
}
CONFIGS = {
    "even": {},
    "gelu, five layers": {"hidden_act": "gelu", "num_hidden_layers": 5},
    "gelu_new, odd widths": {
        "hidden_act": "gelu_new",
        "hidden_size": 51,
        "num_attention_heads": 3,
        "intermediate_size": 77,
    },
    "one head, no qkv bias": {"num_attention_heads": 1, "qkv_bias": False},
    "frames and pixels left over": {"num_frames": 7, "image_size": [50, 39], "tubelet_size": [3, 8, 12]},
    "one frame": {"num_frames": 1, "tubelet_size": [1, 16, 16]},
    "many tokens": {"image_size": 64, "num_frames": 10, "tubelet_size": [1, 8, 8], "hidden_size": 64},
    "one token and CLS, large eps": {"num_frames": 2, "image_size": 16, "layer_norm_eps": 0.1},
}


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = Path(__file__).parents[1] / "tools" / "make_goldens.py"
    spec = importlib.util.spec_from_file_location("make_goldens", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_model(maker: ModuleType, fields: dict[str, Any], seed: int) -> Any:
    config = transformers.VivitConfig(**fields)
    model = transformers.VivitForVideoClassification(config).eval()
    maker.randomise(model, torch.Generator().manual_seed(seed))
    return model


def random_clips(config: Any, batch: int, seed: int) -> NDArray[np.float32]:
    """Normal values: as many below -1 and above 1 as in a picture of hard contrast."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    shape = (batch, config.num_frames, config.num_channels, height, width)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def reference_logits(model: Any, clips: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return model(torch.from_numpy(clips)).logits.numpy()


def close(got: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """The promise for exact: 1e-4 of the largest logit."""
    return bool(np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_logits_are_those_of_transformers(name: str, maker: ModuleType, tmp_path: Path) -> None:
    seed = list(CONFIGS).index(name)
    model = random_model(maker, SMALL | CONFIGS[name], seed)
    model.save_pretrained(tmp_path)
    clips = random_clips(model.config, 2, seed)
    expected = reference_logits(model, clips)
    assert close(qora_vision.load(tmp_path, weights="f32", compute="exact").forward(clips), expected)


@pytest.mark.parametrize(
    "container", ["shards", "bin", "bin shards", "in-memory names", "float16", "bfloat16"]
)
def test_whatever_transformers_and_torch_write_is_read(
    container: str, maker: ModuleType, tmp_path: Path
) -> None:
    model = random_model(maker, SMALL, 20)
    if container in ("float16", "bfloat16"):
        model = model.to(getattr(torch, container))
    model.save_pretrained(tmp_path, max_shard_size="40KB" if container == "shards" else "5GB")
    if container == "shards":
        assert (tmp_path / "model.safetensors.index.json").exists()
    elif container == "bin":
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    elif container == "bin shards":
        (tmp_path / "model.safetensors").unlink()
        state = model.state_dict()
        names = sorted(state)
        halves = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
        for file, part in halves.items():
            torch.save({name: state[name] for name in part}, tmp_path / file)
        index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
        (tmp_path / "pytorch_model.bin.index.json").write_text(str(index).replace("'", '"'))
    elif container == "in-memory names":
        from safetensors.torch import save_file

        save_file(model.state_dict(), tmp_path / "model.safetensors")
    clips = random_clips(model.config, 1, 21)
    expected = reference_logits(model.float(), clips)
    assert close(qora_vision.load(tmp_path, weights="f32", compute="exact").forward(clips), expected)


def test_a_model_without_a_classifier_says_so(maker: ModuleType, tmp_path: Path) -> None:
    random_model(maker, SMALL, 22).vivit.save_pretrained(tmp_path)
    with pytest.raises(
        qora_vision.CheckpointError, match=r"classifier\.weight.*no checkpoint of a classifier"
    ):
        qora_vision.load(tmp_path)


def test_vivit_b_at_full_size(maker: ModuleType, tmp_path: Path) -> None:
    """The promises at the size of the published model: 12 blocks, 3137 tokens, 89 million weights.

    Takes about a minute and 1.5 GB on two cores, most of it for the reference and two passes of exact.
    """
    model = random_model(maker, {"num_labels": 400}, 30)
    clip = random_clips(model.config, 1, 31)
    expected = reference_logits(model, clip)[0]
    model.save_pretrained(tmp_path)
    del model

    assert close(qora_vision.load(tmp_path, weights="f32", compute="exact").forward(clip)[0], expected)

    quantized = import_checkpoint(tmp_path, "q4", "original")
    fast = VideoClassifier(quantized, Engine("auto")).forward(clip)[0]
    # Against their own weights in float32: what the fast arithmetic costs.
    tensors = {
        name: tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor
        for name, tensor in quantized.file.tensors.items()
    }
    dequantized = quantized.architecture.build(quantized.config, tensors, Engine("exact"))
    exact = dequantized.forward(clip[0]).logits
    assert cosine(fast, exact) >= 0.9995
    families = Engine("auto")
    noise = relative_error(
        12, ARITHMETIC_NOISE[families.q4_family], ARITHMETIC_NOISE[families.attention_family]
    )
    assert distance(fast, exact) < MARGIN * noise
    # Against the reference: what four bits cost.
    assert distance(exact, expected) < MARGIN * relative_error(12, WEIGHT_NOISE["q4"])

"""Live comparison of ViViT with Hugging Face transformers on random weights; see live_reference.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_reference import (
    is_exact,
    keeps_its_promises_at_full_size,
    random_clips,
    random_model,
    reference_logits,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no reference to compare with")
pytest.importorskip("transformers", reason="transformers is not installed")

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


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    seed = list(CONFIGS).index(name)
    model = random_model("Vivit", SMALL | CONFIGS[name], seed)
    model.save_pretrained(tmp_path)
    clips = random_clips(model.config, 2, seed)
    expected = reference_logits(model, clips)
    assert is_exact(tmp_path, clips, expected)


@pytest.mark.parametrize(
    "container", ["shards", "bin", "bin shards", "in-memory names", "float16", "bfloat16"]
)
def test_whatever_transformers_and_torch_write_is_read(container: str, tmp_path: Path) -> None:
    model = random_model("Vivit", SMALL, 20)
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
    assert is_exact(tmp_path, clips, expected)


@pytest.mark.filterwarnings("ignore:.*400 classes have no names")
def test_vivit_b_at_full_size(tmp_path: Path) -> None:
    """The promises at the size of the published model: 12 blocks, 3137 tokens, 89 million weights.

    Takes about a minute and 1.5 GB on two cores, most of it for the reference and two passes of exact.
    """
    keeps_its_promises_at_full_size("Vivit", {"num_labels": 400}, tmp_path)

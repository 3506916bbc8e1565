"""Live comparison of TimeSformer with Hugging Face transformers on random weights; see live_reference.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_reference import (
    close,
    is_exact,
    keeps_its_promises_at_full_size,
    maker,
    random_clips,
    random_model,
    reference_logits,
)

import qora_vision
from qora_vision import CheckpointError, VideoError
from qora_vision.models.timesformer.network import TimesformerConfig

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no reference to compare with")
pytest.importorskip("transformers", reason="transformers is not installed")

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
    "divided": {},
    "joint": {"attention_type": "joint_space_time"},
    "three heads, odd widths, one block": {
        "hidden_size": 51,
        "num_attention_heads": 3,
        "intermediate_size": 77,
        "num_hidden_layers": 1,
    },
    "seventeen frames, pixels left over": {"num_frames": 17, "image_size": 50, "patch_size": 12},
    "one frame, one patch, no biases": {"num_frames": 1, "image_size": 16, "qkv_bias": False},
    "many patches, tanh": {"image_size": 80, "patch_size": 5, "num_frames": 3, "hidden_act": "gelu_fast"},
    "joint, odd, large eps": {
        "attention_type": "joint_space_time",
        "num_frames": 5,
        "image_size": 23,
        "patch_size": 7,
        "layer_norm_eps": 0.1,
    },
}
State = dict[str, Any]


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    seed = list(CONFIGS).index(name)
    model = random_model("Timesformer", SMALL | CONFIGS[name], seed)
    model.save_pretrained(tmp_path)
    clips = random_clips(model.config, 2, seed)
    assert is_exact(tmp_path, clips, reference_logits(model, clips))


def change_config(directory: Path, **fields: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_space_alone_averages_tokens_as_the_original_or_logits_of_frames(tmp_path: Path) -> None:
    """Transformers returns the logits of every frame; the original averages tokens before the last norm."""
    model = random_model("Timesformer", SMALL | {"attention_type": "space_only"}, 10)
    model.save_pretrained(tmp_path)
    clips = random_clips(model.config, 1, 11)
    by_frame = reference_logits(model, clips)
    assert by_frame.shape == (4, 10)
    seen = []
    hook = model.timesformer.layernorm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    reference_logits(model, clips)
    hook.remove()
    with torch.no_grad():
        averaged = model.classifier(model.timesformer.layernorm(seen[0].mean(0, keepdim=True))[:, 0]).numpy()
    assert is_exact(tmp_path, clips, averaged)
    assert not close(averaged, by_frame.mean(axis=0, keepdims=True))
    change_config(tmp_path, frame_average=False)
    assert is_exact(tmp_path, clips, by_frame.mean(axis=0, keepdims=True))


def original(state: State, model: Any) -> State:
    return maker().original_state(model, "Timesformer")


def prefixed(prefix: str) -> Any:
    return lambda state, model: {prefix + name: values for name, values in original(state, model).items()}


def with_leftovers(state: State, model: Any) -> State:
    leftovers = {"pre_logits.fc.weight": torch.ones(3, 3), "head_dist.weight": torch.ones(3)}
    return original(state, model) | leftovers


ALIASES = {
    "original": (prefixed("model."), "model_state"),
    "data parallel": (prefixed("module.model."), "model_state"),
    "no prefix": (original, None),
    "in a wrapper of other trainers": (original, "state_dict"),
    "leftovers of the image model": (with_leftovers, "model_state"),
    "Hugging Face in a .bin": (lambda state, model: state, None),
}


@pytest.mark.parametrize("alias", ALIASES)
def test_every_spelling_is_read(alias: str, tmp_path: Path) -> None:
    respell, wrapper = ALIASES[alias]
    model = random_model("Timesformer", SMALL, 20)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = respell(dict(model.state_dict()), model)
    beside = {"epoch": 14, "cfg": "TRAIN:\n  ENABLE: true", "optimizer_state": {"state": {0: torch.ones(2)}}}
    path = tmp_path / ("pytorch_model.bin" if wrapper is None else "weights.pyth")
    torch.save(state if wrapper is None else {wrapper: state, **beside}, path)
    clips = random_clips(model.config, 1, 21)
    assert is_exact(tmp_path, clips, reference_logits(model, clips))


def test_half_precision_is_read(tmp_path: Path) -> None:
    model = random_model("Timesformer", SMALL, 22).half()
    model.save_pretrained(tmp_path)
    model = model.float()
    clips = random_clips(model.config, 1, 23)
    assert is_exact(tmp_path, clips, reference_logits(model, clips))


@pytest.mark.parametrize("kind", ["divided_space_time", "joint_space_time", "space_only"])
def test_a_bare_original_file_says_what_it_is(kind: str, tmp_path: Path) -> None:
    fields = SMALL | {"hidden_size": 128, "num_attention_heads": 2, "attention_type": kind, "num_labels": 600}
    fields |= {"num_frames": 8}
    model = random_model("Timesformer", fields, 26)
    state = prefixed("model.")({}, model)
    path = tmp_path / "TimeSformer_divST_8x32_224_K600.pyth"  # a published name
    torch.save({"epoch": 14, "model_state": state}, path)
    with pytest.warns(qora_vision.QoraVisionWarning, match="those of Kinetics-600 are assumed"):
        clf = qora_vision.load(path, weights="f32", compute="exact")
    assert clf.config == TimesformerConfig(
        num_classes=600,
        image_size=(32, 32),
        embed_dim=128,
        depth=2,
        num_heads=2,
        mlp_dim=96,
        attention_type=kind,
    )
    assert clf.labels[0] == "abseiling"
    ours = clf.preprocessing
    assert (ours.sampling, ours.stride, ours.resize, ours.resize_rule) == ("dense", 32, 32, "plain")
    assert (ours.mean, ours.std) == ((0.45,) * 3, (0.225,) * 3)
    if kind != "space_only":
        clips = random_clips(model.config, 1, 27)
        assert close(clf.forward(clips), reference_logits(model, clips))


def test_an_original_file_of_no_published_kind(tmp_path: Path) -> None:
    torch.save(original({}, random_model("Timesformer", SMALL, 28)), tmp_path / "odd.pyth")
    with pytest.raises(
        CheckpointError, match=r"odd\.pyth: a TimeSformer with 5 positions, .*and 48 channels"
    ):
        qora_vision.load(tmp_path / "odd.pyth")


def test_another_number_of_frames_or_size_is_refused(tmp_path: Path) -> None:
    """Transformers fed 8 frames to a model of 4 mixes the tokens of different frames, without a word."""
    model = random_model("Timesformer", SMALL, 29)
    model.save_pretrained(tmp_path)
    clf = qora_vision.load(tmp_path, weights="f32", compute="exact")
    for shape in ((1, 8, 3, 32, 32), (1, 2, 3, 32, 32), (1, 4, 3, 48, 32)):
        with pytest.raises(VideoError, match=r"pixel_values must be .* = \(B, 4, 3, 32, 32\)"):
            clf.forward(np.zeros(shape, np.float32))
    change_config(tmp_path, num_frames=8)
    with pytest.raises(CheckpointError, match=r"time_embeddings is \(1, 4, 48\) instead of \(8, 48\)"):
        qora_vision.load(tmp_path)
    change_config(tmp_path, num_frames=4, image_size=48)
    with pytest.raises(CheckpointError, match=r"position_embeddings is \(1, 5, 48\) instead of \(10, 48\)"):
        qora_vision.load(tmp_path)
    change_config(tmp_path, image_size=32, attention_type="all")
    with pytest.raises(CheckpointError, match="attention_type must be one of divided_space_time, joint"):
        qora_vision.load(tmp_path)


def test_something_something_is_sampled_in_segments(tmp_path: Path) -> None:
    random_model("Timesformer", SMALL | {"num_labels": 174}, 30).save_pretrained(tmp_path)
    with pytest.warns(qora_vision.QoraVisionWarning, match="Something-Something V2 are assumed"):
        clf = qora_vision.load(tmp_path)
    assert clf.preprocessing.sampling == "segments"
    assert clf.labels[-1] == "Wiping something off of something"


@pytest.mark.parametrize("kind", ["divided_space_time", "joint_space_time", "space_only"])
def test_parameters_are_those_of_transformers(kind: str) -> None:
    """But for the layers over time that are two there and one here: 12 times 768 * 769."""
    with torch.device("meta"):
        model = maker().make_model("Timesformer", {"attention_type": kind, "num_labels": 400})
    config = TimesformerConfig(400, attention_type=kind)
    ours = sum(int(np.prod(spec.shape)) for spec in config.tensor_specs().values())
    folded = 12 * 768 * 769 if kind == "divided_space_time" else 0
    assert ours + folded == sum(parameter.numel() for parameter in model.parameters())
    assert config.sequence_length == (1569 if kind == "joint_space_time" else 197)


@pytest.mark.filterwarnings("ignore:.*400 classes have no names")
def test_timesformer_b_at_full_size(tmp_path: Path) -> None:
    """The promises at the size of the published model: 12 blocks, 8 frames of 196 patches.

    Takes about half a minute and 1.5 GB on two cores.
    """
    keeps_its_promises_at_full_size("Timesformer", {"num_labels": 400}, tmp_path)

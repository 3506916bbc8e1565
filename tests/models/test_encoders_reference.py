"""Encoders without a classifier beside Hugging Face transformers: `last_hidden_state`, names, refusals.

Weights are random, and drawn here and now: see live_reference.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_reference import close, maker, random_clips, random_model
from model_bounds import MARGIN, engine_noise, model_error
from numpy.typing import NDArray

import qora_vision
from qora_vision import CheckpointError, Encoder, TaskError, VideoError
from qora_vision.engine.ops import Engine

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
VJEPA2 = {
    "crop_size": 32,
    "patch_size": 8,
    "frames_per_clip": 4,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pred_hidden_size": 12,
    "pred_num_attention_heads": 1,
    "pred_num_hidden_layers": 1,
}
ODD = {
    "hidden_size": 51,
    "num_attention_heads": 3,
    "intermediate_size": 77,
    "num_frames": 7,
    "image_size": 50,
}
# What the classes of transformers start with, the name of the encoder within the classifier, the config.
CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vivit": ("Vivit", "vivit", SMALL),
    "vivit, odd": ("Vivit", "vivit", SMALL | ODD | {"tubelet_size": [3, 8, 12]}),
    "videomae, tokens normalised": ("VideoMAE", "videomae", SMALL | {"use_mean_pooling": False}),
    "videomae, tokens as they are": ("VideoMAE", "videomae", SMALL),
    "videomae, odd": (
        "VideoMAE",
        "videomae",
        SMALL | ODD | {"tubelet_size": 3, "use_mean_pooling": False},
    ),
    "timesformer, divided": ("Timesformer", "timesformer", SMALL),
    "timesformer, joint": ("Timesformer", "timesformer", SMALL | {"attention_type": "joint_space_time"}),
    "timesformer, space only": ("Timesformer", "timesformer", SMALL | {"attention_type": "space_only"}),
    "timesformer, odd": ("Timesformer", "timesformer", SMALL | ODD | {"patch_size": 12}),
    "vjepa2": ("VJEPA2", "vjepa2", VJEPA2),
    "vjepa2, odd": (
        "VJEPA2",
        "vjepa2",
        VJEPA2 | {"hidden_size": 45, "num_attention_heads": 3, "crop_size": 39, "frames_per_clip": 7},
    ),
}


def encoder_of(name: str, seed: int = 0) -> tuple[Any, Any]:
    """Return a random classifier of transformers and the encoder in it."""
    classes, inner, fields = CONFIGS[name]
    model = random_model(classes, fields, seed)
    return model, getattr(model, inner)


def tokens_of(encoder: Any, clips: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `last_hidden_state` as (batch, tokens, hidden): space-only attention makes a row a frame."""
    extra = {"skip_predictor": True} if encoder.config.model_type == "vjepa2" else {}
    with torch.no_grad():
        state = encoder(torch.from_numpy(clips), **extra).last_hidden_state.numpy()
    return state.reshape(len(clips), -1, state.shape[-1])


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    _, encoder = encoder_of(name, list(CONFIGS).index(name))
    encoder.save_pretrained(tmp_path)
    clips = random_clips(encoder.config, 2, 1)
    expected = tokens_of(encoder, clips)
    ours = qora_vision.load(tmp_path, weights="f32", compute="exact")
    assert isinstance(ours, Encoder)
    got = ours.forward(clips)
    assert got.shape == expected.shape and close(got, expected)
    # The embedding is the mean of the tokens.
    raw = ours.network.forward(clips[0]).embedding
    assert close(raw, expected[0].mean(axis=0))
    ours.save(tmp_path / "encoder.qora-vision")
    again = qora_vision.load(tmp_path / "encoder.qora-vision", compute="exact")
    np.testing.assert_array_equal(again.forward(clips), got)


@pytest.mark.parametrize("weights", ["q4", "q8"])
@pytest.mark.parametrize("name", ["vivit", "videomae, tokens normalised", "timesformer, divided", "vjepa2"])
def test_quantised_tokens_keep_their_bounds(name: str, weights: str, tmp_path: Path) -> None:
    """Against the same stored weights in float32: what the fast arithmetic costs."""
    _, encoder = encoder_of(name, 5)
    encoder.save_pretrained(tmp_path)
    clips = random_clips(encoder.config, 1, 2)
    fast = qora_vision.load(tmp_path, weights=weights).forward(clips)
    exact = qora_vision.load(tmp_path, weights=weights, compute="exact")
    expected = exact.forward(clips)
    noise = model_error(exact.config, *engine_noise(Engine("auto"), weights))
    assert np.linalg.norm(fast - expected) < MARGIN * noise * np.linalg.norm(expected)


def test_a_pretraining_checkpoint_is_an_encoder(tmp_path: Path) -> None:
    """As MCG-NJU/videomae-base: the decoder is skipped."""
    config = transformers.VideoMAEConfig(
        **SMALL,
        use_mean_pooling=False,
        decoder_hidden_size=24,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    model = transformers.VideoMAEForPreTraining(config).eval()
    maker().randomise(model, torch.Generator().manual_seed(6))
    model.save_pretrained(tmp_path)
    clips = random_clips(config, 1, 7)
    ours = qora_vision.load(tmp_path, weights="f32", compute="exact")
    assert isinstance(ours, Encoder)
    assert close(ours.forward(clips), tokens_of(model.videomae, clips))


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.encoder."])
def test_an_original_pretraining_file_is_an_encoder(prefix: str, tmp_path: Path) -> None:
    """A .pth of the authors: names of the original code, with a decoder, without any config."""
    fields = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "layer_norm_eps": 1e-6}
    fields |= {"num_hidden_layers": 1, "use_mean_pooling": False}
    model = random_model("VideoMAE", fields, 8)
    state = maker().original_state(model, "VideoMAE")
    state = {prefix + name: values for name, values in state.items() if not name.startswith("head.")}
    state |= {"module.decoder.norm.weight": torch.ones(3), "module.mask_token": torch.ones(1, 1, 3)}
    torch.save({"model": state}, tmp_path / "checkpoint.pth")
    clips = random_clips(model.config, 1, 9)
    ours = qora_vision.load(tmp_path / "checkpoint.pth", weights="f32", compute="exact")
    assert close(ours.forward(clips), tokens_of(model.videomae, clips))


def test_v2_of_the_hub_normalises_the_mean(tmp_path: Path) -> None:
    """OpenGVLab/VideoMAEv2-Base has no head: its output is the mean of the tokens through fc_norm."""
    model = random_model("VideoMAE", SMALL | {"layer_norm_eps": 1e-6}, 10)
    fields = {"img_size": 32, "patch_size": 16, "num_classes": 0, "embed_dim": 48, "depth": 2, "num_heads": 4}
    fields |= {"mlp_ratio": 2, "tubelet_size": 2, "num_frames": 4, "layer_norm_eps": 1e-6}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "VideoMAEv2_Base", "model_config": fields})
    )
    state = maker().original_state(model, "VideoMAE")
    state = {f"model.{name}": values for name, values in state.items() if not name.startswith("head.")}
    torch.save(state, tmp_path / "pytorch_model.bin")
    clips = random_clips(model.config, 1, 11)
    ours = qora_vision.load(tmp_path, weights="f32", compute="exact")
    tokens = tokens_of(model.videomae, clips)
    assert close(ours.forward(clips), tokens)
    norm = torch.nn.functional.layer_norm(
        torch.from_numpy(tokens.mean(axis=1)), (48,), model.fc_norm.weight, model.fc_norm.bias, 1e-6
    )
    assert close(ours.network.forward(clips[0]).embedding, norm.detach().numpy()[0])


def test_a_classifier_that_lost_its_head_is_no_encoder(tmp_path: Path) -> None:
    model, _ = encoder_of("vivit")
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = {name: values for name, values in model.state_dict().items() if "classifier" not in name}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"missing tensors: classifier\.weight"):
        qora_vision.load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert isinstance(qora_vision.load(tmp_path), Encoder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    directory = tmp_path_factory.mktemp("encoder")
    encoder_of("videomae, tokens normalised", 12)[1].save_pretrained(directory)
    loaded = qora_vision.load(directory)
    assert isinstance(loaded, Encoder)
    return loaded


def videos(count: int) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(13).integers(0, 256, (count, 6, 40, 50, 3), dtype=np.uint8))


def test_embeddings_are_unit_vectors(encoder: Encoder) -> None:
    first, second = videos(2)
    vector = encoder.embed(first)
    assert vector.shape == (48,) and vector.dtype == np.float32
    assert abs(np.linalg.norm(vector) - 1) < 1e-6
    raw = encoder.network.forward(encoder.preprocess(first)[0]).embedding.astype(np.float64)
    np.testing.assert_allclose(vector, raw / np.linalg.norm(raw), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(encoder.embed([first, second]), [vector, encoder.embed(second)])
    # A list of frames is one clip.
    np.testing.assert_array_equal(encoder.embed(list(first)), vector)
    views = encoder.embed(first, views=(2, 3))
    assert views.shape == (48,) and not np.array_equal(views, vector)


def test_a_list_of_paths_is_several_sources(encoder: Encoder, tmp_path: Path) -> None:
    import cv2

    folders = []
    for number, video in enumerate(videos(2)):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        for i, frame in enumerate(video):
            cv2.imwrite(str(folders[-1] / f"{i:02}.png"), frame)
    expected = [encoder.embed(video, "bgr") for video in videos(2)]
    np.testing.assert_array_equal(encoder.embed(folders), expected)
    np.testing.assert_array_equal(encoder.embed([str(folders[1])]), expected[1:])
    with pytest.raises(FileNotFoundError):
        encoder.embed([folders[0], tmp_path / "missing.mp4"])
    with pytest.raises(VideoError):
        encoder.embed([])


def test_what_has_no_classes_says_so(encoder: Encoder, tmp_path: Path) -> None:
    (video,) = videos(1)
    for method in (encoder.classify, encoder.classify_windows, encoder.segments, encoder.stream):
        with pytest.raises(
            TaskError, match=r"it is an encoder \(videomae\) without classes; embed\(\) returns"
        ):
            method(video)
    with pytest.raises(TaskError, match="cannot be compared by its classes"):
        qora_vision.compare(encoder, encoder, [video])
    with pytest.raises(TaskError, match="cannot name what a stream shows"):
        next(qora_vision.stream(encoder, video))
    path = tmp_path / "encoder.qora-vision"
    encoder.save(path)
    with pytest.raises(ValueError, match="it is an encoder; load it without labels="):
        qora_vision.load(path, labels=["a"])
    info = qora_vision.read_info(path)
    assert (info.task, info.labels, info.config["num_classes"]) == ("embed", None, None)
    assert "Encoder videomae: 48 channels" in repr(encoder)


def test_calibration_serves_encoders(tmp_path: Path) -> None:
    _, model = encoder_of("vivit", 14)
    model.save_pretrained(tmp_path)
    ours = qora_vision.load(tmp_path, calibrate=videos(2))
    assert isinstance(ours, Encoder) and "calibration" in ours.provenance
    plain = qora_vision.load(tmp_path)
    clips = random_clips(model.config, 1, 15)
    assert not np.array_equal(ours.forward(clips), plain.forward(clips))

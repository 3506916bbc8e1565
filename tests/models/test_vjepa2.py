"""V-JEPA 2: positions, and what its config and its clips must be. Golden files: test_models.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_bounds import distance
from paths import DATA

import qora_vision
from qora_vision import VideoError
from qora_vision.engine.ops import Engine
from qora_vision.loading.checkpoint import import_checkpoint
from qora_vision.loading.options import LoadOptions
from qora_vision.models.vjepa2 import network as vjepa2
from qora_vision.models.vjepa2.network import Vjepa2Config, rotary_angles

TINY = DATA / "vjepa2_tiny"


def test_angles_by_their_definition() -> None:
    """Token 17 of (3, 2, 4) is in frame 2, row 0, column 1; heads of 27 channels have 8 for each axis."""
    cosines, sines = rotary_angles((3, 2, 4), 27)
    assert cosines.shape == sines.shape == (24, 24)
    frequencies = 10000.0 ** (-np.array([0, 1, 2, 3, 0, 1, 2, 3]) / 4)
    angles = np.concatenate([2 * frequencies, 0 * frequencies, 1 * frequencies])
    np.testing.assert_allclose(cosines[17], np.cos(angles), rtol=0, atol=1e-7)
    np.testing.assert_allclose(sines[17], np.sin(angles), rtol=0, atol=1e-7)


def test_heads_of_fewer_than_six_channels_do_not_turn() -> None:
    assert rotary_angles((3, 2, 4), 5)[0].shape == (24, 0)


@pytest.mark.parametrize("case", ["vjepa2_tiny", "vjepa2_tiny_odd", "vjepa2_tiny_long"])
def test_golden_files_tell_the_angles_from_true_rotations(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the two channels of a pair to turn by one angle, the first logit to differ would be far off."""

    def true_rotations(grid: tuple[int, int, int], head_dim: int) -> tuple[np.ndarray, np.ndarray]:
        def paired(table: np.ndarray) -> np.ndarray:
            axes = table.reshape(len(table), 3, 2, -1)[:, :, 0]
            return np.ascontiguousarray(axes.repeat(2, axis=2).reshape(len(table), -1))

        cosines, sines = rotary_angles(grid, head_dim)
        return paired(cosines), paired(sines)

    loaded = import_checkpoint(TINY.parent / case, LoadOptions("f32"))
    with np.load(TINY.parent / case / "golden.npz") as golden:
        clip, logits = golden["pixel_values"][0].astype(np.float32), golden["logits"]
    right = loaded.architecture.build(loaded.config, loaded.file.tensors, Engine("exact"))
    assert distance(right.forward(clip).logits, logits) < 1e-5
    monkeypatch.setattr(vjepa2, "rotary_angles", true_rotations)
    wrong = loaded.architecture.build(loaded.config, loaded.file.tensors, Engine("exact"))
    if loaded.config.block.head_dim >= 12:  # two frequencies or more
        assert distance(wrong.forward(clip).logits, logits) > 1e-3
    else:
        assert distance(wrong.forward(clip).logits, logits) < 1e-5


def test_a_clip_of_another_size_or_length_is_refused() -> None:
    clf = qora_vision.load(TINY)
    for shape in ((1, 4, 3, 24, 24), (1, 8, 3, 24, 24), (1, 6, 3, 32, 32)):
        with pytest.raises(VideoError, match=r"pixel_values must be .* = \(B, 6, 3, 24, 24\)"):
            clf.forward(np.zeros(shape, np.float32))


def test_the_published_protocol(tmp_path: Path) -> None:
    """256/224 of the crop, ImageNet's mean; every fourth frame, for long clips every second one."""
    ours = qora_vision.load(TINY).preprocessing
    assert (ours.sampling, ours.stride, ours.resize, ours.crop) == ("dense", 4, 27, (24, 24))
    assert (ours.mean, ours.resize_rule) == ((0.485, 0.456, 0.406), "torchvision")
    assert qora_vision.load(TINY.parent / "vjepa2_tiny_long").preprocessing.stride == 2


def test_a_saved_model_is_the_same(tmp_path: Path) -> None:
    clf = qora_vision.load(TINY)
    clf.save(tmp_path / "tiny.qora-vision")
    again = qora_vision.load(tmp_path / "tiny.qora-vision")
    clip = np.random.default_rng(1).standard_normal((1, 6, 3, 24, 24), np.float32)
    assert np.array_equal(again.forward(clip), clf.forward(clip))
    assert again.labels == clf.labels
    assert again.labels[0] == "fold"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooler_heads": 15}, "no multiple of pooler_heads"),
        ({"pooler_depth": 0}, "pooler_depth must be a positive integer"),
        ({"pooler_depth": 10**9}, "pooler_depth must be at most 1000"),
        ({"num_frames": 1}, "smaller than one tubelet"),
        ({"qkv_bias": 1}, "qkv_bias must be true or false"),
    ],
)
def test_impossible_configs_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"vjepa2: .*{message}"):
        Vjepa2Config(**{"num_classes": 174} | change)

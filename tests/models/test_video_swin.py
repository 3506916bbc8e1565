"""Video Swin: what its files tell of it, how clips are prepared, what is refused. No PyTorch needed.

Its numbers are tested in test_models.py, against torchvision's.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import DATA

import qora_vision
from qora_vision import CheckpointError
from qora_vision.engine.ops import Engine
from qora_vision.errors import VideoError
from qora_vision.loading.checkpoint import import_checkpoint
from qora_vision.loading.options import LoadOptions
from qora_vision.models.video_swin.checkpoint import CHECKPOINT_MAP, original_fields
from qora_vision.models.video_swin.network import VideoSwinConfig
from qora_vision.video import Preprocessing
from qora_vision.weights.checkpoints import Checkpoint, open_checkpoint

BASE = {"base_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}


def parameters(config: VideoSwinConfig) -> int:
    return sum(int(np.prod(spec.shape)) for spec in config.tensor_specs().values())


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 28_158_070),
        ({"depths": (2, 2, 18, 2)}, 49_816_678),
        (BASE, 88_048_984),
    ],
)
def test_parameters_are_those_of_torchvision(change: dict[str, Any], count: int) -> None:
    """`num_params` of `Swin3D_T_Weights`, `_S_` and `_B_`."""
    config = VideoSwinConfig(num_classes=400, **change)
    assert parameters(config) == count
    assert config.sequence_length == 392
    assert config.grids == [(16, 56, 56), (16, 28, 28), (16, 14, 14), (16, 7, 7)]


def test_something_something_has_windows_of_all_frames() -> None:
    config = VideoSwinConfig(num_classes=174, window_size=(16, 7, 7), **BASE)
    assert config.tensor_specs()["stages.0.blocks.0.attn.bias"].shape == (5239, 4)
    assert config.sequence_length == 784


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_dim": 98}, "a width of 98 is no multiple of 3 heads"),
        ({"depths": (2, 2, 6)}, "depths must be 4 positive integers"),
        ({"depths": (2, 2, 10**9, 2)}, "depths must add up to at most 1000"),
        ({"num_heads": (3, 6, 12, 0)}, "num_heads must be 4 positive integers"),
        ({"window_size": (8, 7)}, "window_size must be 3 positive integers"),
        ({"norm_eps": float("nan")}, "norm_eps must be a positive number"),
        ({"image_size": (224, 0)}, "image_size must be 2 positive integers"),
    ],
)
def test_impossible_configs_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"video_swin: .*{message}"):
        VideoSwinConfig(**({"num_classes": 400} | change))


def test_another_number_of_frames_or_size_is_refused() -> None:
    clf = qora_vision.load(DATA / "video_swin_tiny", weights="f32", compute="exact")
    for shape in ((1, 4, 3, 30, 27), (1, 6, 3, 30, 27), (1, 5, 3, 32, 27)):
        with pytest.raises(VideoError, match=r"pixel_values must be .* = \(B, 5, 3, 30, 27\)"):
            clf.forward(np.zeros(shape, np.float32))


def without_config(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / name / "checkpoint.pth", tmp_path / "swin.pth"))


def test_a_bare_file_says_what_it_is(tmp_path: Path) -> None:
    """All but frames and size, which change no tensor; the window by the index beside the bias."""
    clf = qora_vision.load(without_config("video_swin_tiny", tmp_path), weights="f32", compute="exact")
    assert clf.config == VideoSwinConfig(
        num_classes=11,
        base_dim=6,
        depths=(2, 1, 1, 1),
        num_heads=(1, 2, 3, 4),
        window_size=(2, 3, 3),
    )
    assert clf.forward(np.zeros((1, 32, 3, 224, 224), np.float32)).shape == (1, 11)


def test_a_bare_original_file_with_a_published_window(tmp_path: Path) -> None:
    """2535 rows of bias could be many windows; without an index the published one is meant."""
    clf = qora_vision.load(without_config("video_swin_tiny_original", tmp_path), weights="f32")
    assert (clf.config.window_size, clf.config.depths) == ((8, 7, 7), (1, 2, 1, 1))


def test_a_window_that_cannot_be_told(tmp_path: Path) -> None:
    path = without_config("video_swin_tiny_long", tmp_path)
    with pytest.raises(CheckpointError, match=r"swin\.pth: the window of a Video Swin with 775 rows of bias"):
        qora_vision.load(path)


class Shapes(Checkpoint):
    """The names and shapes of a checkpoint without its values."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__(Path("shapes.pth"), {})
        self.shapes = shapes

    def __iter__(self) -> Any:
        return iter(self.shapes)

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]


def changed(name: str, change: dict[str, tuple[int, ...] | None]) -> Shapes:
    checkpoint = open_checkpoint(DATA / name / "checkpoint.pth").without_prefixes(CHECKPOINT_MAP.prefixes)
    shapes = {key: checkpoint.shape(key) for key in checkpoint} | change
    return Shapes({key: shape for key, shape in shapes.items() if shape is not None})


TABLE = "features.0.0.attn.relative_position_bias_table"
INDEX = "features.0.0.attn.relative_position_index"


@pytest.mark.parametrize(
    ("rows", "tokens", "window"),
    [
        (2535, 392, [8, 7, 7]),
        (5239, 784, [16, 7, 7]),
        (2535, None, [8, 7, 7]),
        (5239, None, [16, 7, 7]),
        (75, 18, [2, 3, 3]),
        (75, 38, [38, 1, 1]),
    ],
)
def test_windows_by_the_rows_of_bias(rows: int, tokens: int | None, window: list[int]) -> None:
    index = None if tokens is None else (tokens, tokens)
    checkpoint = changed("video_swin_tiny", {TABLE: (rows, 1), INDEX: index})
    fields = original_fields(checkpoint)
    assert fields is not None
    assert fields["window_size"] == window


def test_what_is_no_video_swin() -> None:
    """An image model's patches have no time. Five stages, or one without blocks, are no published model's."""
    assert original_fields(Shapes({"patch_embed.proj.weight": (96, 3, 4, 4)})) is None
    with pytest.raises(CheckpointError, match="expected 4 stages"):
        original_fields(changed("video_swin_tiny", {TABLE.replace("s.0.", "s.8."): (75, 1)}))
    missing = {TABLE.replace("s.0.", f"s.{2 * stage}."): None for stage in range(1, 4)}
    with pytest.raises(CheckpointError, match=r"of \[2, 0, 0, 0\] blocks"):
        original_fields(changed("video_swin_tiny", missing))
    assert original_fields(changed("video_swin_tiny", {"patch_embed.proj.weight": (6, 3, 4, 4)})) is None


def test_a_config_beside_the_file_is_checked_against_it(tmp_path: Path) -> None:
    shutil.copytree(DATA / "video_swin_tiny", tmp_path / "swin")
    path = tmp_path / "swin" / "config.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"window_size": [2, 3, 4]}))
    with pytest.raises(CheckpointError, match=r"bias_table is \(75, 1\) instead of \(105, 1\)"):
        qora_vision.load(tmp_path / "swin")
    path.write_text(json.dumps(fields | {"depths": [2, 1]}))
    with pytest.raises(CheckpointError, match="depths must be 4 positive integers"):
        qora_vision.load(tmp_path / "swin")
    path.write_text(json.dumps(fields | {"depths": "2"}))
    with pytest.raises(CheckpointError, match="depths must be of type list"):
        qora_vision.load(tmp_path / "swin")


def test_clips_are_prepared_as_published() -> None:
    """32 frames two apart (for Something-Something, one a segment), short side 256 without antialias."""

    def prepared(num_classes: int) -> Preprocessing:
        protocol = CHECKPOINT_MAP.protocol(VideoSwinConfig(num_classes=num_classes))
        assert protocol.resize_rule == "plain"
        return Preprocessing.from_hf(
            protocol.processor, num_frames=32, sampling=protocol.sampling, stride=protocol.stride
        )

    kinetics = prepared(400)
    assert (kinetics.sampling, kinetics.stride) == ("dense", 2)
    assert (kinetics.resize, kinetics.crop, kinetics.resample) == (256, (224, 224), "bilinear")
    assert kinetics.mean == (0.485, 0.456, 0.406)
    assert kinetics.std == (0.229, 0.224, 0.225)
    assert (kinetics.rescale_factor, kinetics.offset) == (1 / 255, False)
    assert prepared(174).sampling == "segments"


@pytest.mark.parametrize(("width", "left"), [(340, 58), (341, 58), (343, 60), (342, 59)])
def test_the_crop_begins_at_an_even_pixel_where_the_centre_is_between_two(width: int, left: int) -> None:
    frame = np.broadcast_to(np.arange(width, dtype=np.float32)[:, None], (256, width, 3)).astype(np.uint8)
    frames = np.ascontiguousarray(frame[None])
    preparation = Preprocessing(num_frames=1, resize=None, crop=(224, 224), resize_rule="plain")
    assert preparation.crop_views(frames, ["center"])[0][0, 0, 0, 0] == left


def test_saved_files_are_read_again(tmp_path: Path) -> None:
    clf = qora_vision.load(DATA / "video_swin_tiny", weights="q4")
    clf.save(tmp_path / "swin.qora-vision")
    again = qora_vision.load(tmp_path / "swin.qora-vision")
    clip = np.random.default_rng(0).standard_normal((1, 5, 3, 30, 27), np.float32)
    assert np.array_equal(again.forward(clip), clf.forward(clip))
    assert again.weights_nbytes == clf.weights_nbytes > 0


def test_weights_in_memory_are_counted() -> None:
    model = import_checkpoint(DATA / "video_swin_tiny", LoadOptions("f32"))
    network = model.architecture.build(model.config, dict(model.file.tensors), Engine("exact"))
    assert network.nbytes > 4 * parameters(model.config)

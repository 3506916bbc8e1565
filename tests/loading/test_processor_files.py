"""Which of a checkpoint's processor files counts: the one that transformers 5 takes."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import DATA

import qora_vision
from qora_vision import CheckpointError
from qora_vision.video import Preprocessing


def processor(kind: str, name: str, side: int) -> dict[str, Any]:
    return {
        kind: name,
        "size": {"shortest_edge": side},
        "crop_size": {"height": 24, "width": 24},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }


IMAGE = processor("image_processor_type", "VideoMAEImageProcessor", 25)
VIDEO = processor("video_processor_type", "VideoMAEVideoProcessor", 32)
NESTED = processor("video_processor_type", "VideoMAEVideoProcessor", 40)
FILES = {
    "preprocessor_config.json": IMAGE,
    "video_preprocessor_config.json": VIDEO,
    "processor_config.json": {"video_processor": NESTED, "processor_class": "X"},
}
OLD = {"processor_class": "X"}


def model_directory(tmp_path: Path, files: dict[str, Any]) -> Path:
    directory = tmp_path / "model"
    shutil.copytree(DATA / "videomae_tiny", directory)
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    return directory


SETS = [dict(part) for count in range(1, 4) for part in itertools.combinations(FILES.items(), count)]


@pytest.mark.parametrize(
    "files", [*SETS, FILES | {"processor_config.json": OLD}], ids=lambda files: "+".join(files)
)
def test_the_file_that_transformers_takes(tmp_path: Path, files: dict[str, Any]) -> None:
    directory = model_directory(tmp_path, files)
    taken = qora_vision.load(directory).preprocessing
    video_processing = pytest.importorskip("transformers.video_processing_utils")
    fields, _ = video_processing.BaseVideoProcessor.get_video_processor_dict(str(directory))
    assert taken.resize == fields["size"]["shortest_edge"]


def test_a_nested_processor_that_is_none(tmp_path: Path) -> None:
    directory = model_directory(tmp_path, {"processor_config.json": {"video_processor": [1]}})
    with pytest.raises(CheckpointError, match=r"processor_config\.json: video_processor must be an object"):
        qora_vision.load(directory)


@pytest.mark.parametrize(
    "files", [{}, {"processor_config.json": OLD}, {"processor_config.json": {"video_processor": None}}]
)
def test_no_processor_at_all(tmp_path: Path, files: dict[str, Any]) -> None:
    """The authors' protocol takes its place."""
    assert qora_vision.load(model_directory(tmp_path, files)).preprocessing.resize == 24


SWITCHES = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
CLASSES = (
    "VivitImageProcessor",
    "VivitVideoProcessor",
    "VideoMAEImageProcessor",
    "VideoMAEImageProcessorPil",
    "VideoMAEVideoProcessor",
    "TimesformerVideoProcessor",
    "VJEPA2VideoProcessor",
)
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 20, 26, 3), dtype=np.uint8)
SMALL = {"size": {"shortest_edge": 18}, "crop_size": {"height": 16, "width": 16}}
# One thing at a time beside SMALL; None is null, and what is in ABSENT is left out of the file.
ABSENT = "absent"
FORMS: list[dict[str, Any]] = [
    {"size": {"height": 19, "width": 23}},
    {"size": {"height": 19, "width": 23, "shortest_edge": None}},
    {"size": [19, 23]},
    {"size": 21},
    {"size": None, "crop_size": None},
    {"size": ABSENT, "crop_size": ABSENT},
    {"size": {"shortest_edge": 18, "longest_edge": 40}},
    {"size": {"longest_edge": 40}},
    {"size": {"height": 19}},
    {"crop_size": 15},
    {"crop_size": [15, 13]},
    {"crop_size": {"height": 24, "width": 30}},
    {"crop_size": {"height": 14, "width": 17}},
    {"crop_size": {"shortest_edge": 16}},
    {"crop_size": {"height": 16}},
    {"resample": 3},
    {"resample": 0},
    {"resample": 1},
    {"resample": None},
    {"rescale_factor": 1 / 127.5},
    {"rescale_factor": None},
    {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
    {"image_mean": None, "image_std": None},
    {"image_mean": 0.5, "image_std": 0.25},
    {"image_mean": [0.5], "image_std": [0.5]},
    {"offset": True},
    {"offset": False},
    {"offset": None},
    {"do_convert_rgb": True},
    {"do_convert_rgb": None},
    {"do_pad": None},
    {"do_flip_channel_order": True},
    {"do_flip_channel_order": False},
    {"do_sample_frames": False, "num_frames": None, "fps": None, "return_metadata": False},
    {"stray": [1], "processor_class": "X", "default_to_square": False},
]


def reference_pixels(name: str, config: dict[str, Any]) -> np.ndarray:
    """(T, C, H, W) of a class of transformers; skips if it needs a library that is not there."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    try:
        made = getattr(transformers, name)
        # As from a file; what is made of keywords treats a null otherwise.
        processor = made.from_dict(dict(config))
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} cannot be made: {error}")
    if made.__name__ != name:
        pytest.skip(f"without torchvision, {name} is {made.__name__}")
    frames = FRAMES if "Video" in name and "VideoMAEImage" not in name else list(FRAMES)
    (pixels,) = processor(frames, return_tensors="np").values()
    return np.asarray(pixels)[0]


def ours(name: str, config: dict[str, Any]) -> np.ndarray:
    kind = "video_processor_type" if name.endswith("VideoProcessor") else "image_processor_type"
    return Preprocessing.from_hf(config | {kind: name}, num_frames=2, value_range="hf").apply(FRAMES)


@pytest.mark.parametrize("name", CLASSES)
def test_switches_against_transformers(name: str) -> None:
    """Every switch true, false, null and absent, with a stray key: the same pixels, or refused on purpose."""
    compared = 0
    for values in itertools.product((True, False, None, ABSENT), repeat=len(SWITCHES)):
        config = SMALL | {"stray": [1], "fps": None} | dict(zip(SWITCHES, values, strict=True))
        config = {key: value for key, value in config.items() if value != ABSENT}
        if not config.get("do_rescale", True) and name == "VivitImageProcessor":
            with pytest.raises(CheckpointError, match="offset is True; expected do_rescale"):
                ours(name, config)
            continue
        expected = reference_pixels(name, config)
        np.testing.assert_allclose(ours(name, config), expected, atol=1e-5, err_msg=str(config))
        compared += 1
    assert compared >= 128


# What transformers does and we refuse: no published checkpoint asks for it.
REFUSALS = (
    r"size is \{.*longest_edge.*; expected a number, ",
    r"resample is '(0 \(nearest|1 \(lanczos)\)'; expected 2 \(bilinear\) or 3 \(bicubic\)",
    "do_flip_channel_order is True; expected false: models that read BGR are not supported",
    r"image_mean is \[0\.5\]; expected a number or one for each of the 3 channels",
)


@pytest.mark.parametrize("name", CLASSES)
def test_forms_of_configs_against_transformers(name: str) -> None:
    """The same pixels, or a refusal of the list, for whatever form transformers takes."""
    compared, refused = 0, set()
    for form in FORMS:
        config = {key: value for key, value in (SMALL | form).items() if value != ABSENT}
        try:
            expected = reference_pixels(name, config)
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # transformers itself has no use for this form
        try:
            pixels = ours(name, config)
        except CheckpointError as error:
            reasons = [reason for reason in REFUSALS if re.search(reason, str(error))]
            assert reasons, f"{config}: {error}"
            refused.update(reasons)
        else:
            np.testing.assert_allclose(pixels, expected, atol=1e-5, err_msg=str(config))
            compared += 1
    assert compared >= 18 and len(refused) >= 2

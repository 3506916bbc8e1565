"""Which of a checkpoint's processor files counts: the one that transformers 5 takes."""

from __future__ import annotations

import itertools
import json
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


SWITCHES = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "offset")


@pytest.mark.parametrize("name", ["VivitImageProcessor", "VideoMAEImageProcessorPil"])
def test_forms_of_configs_against_transformers(name: str) -> None:
    """Every switch true, false, null and absent, with a stray key: the same pixels, or refused on purpose."""
    transformers = pytest.importorskip("transformers")
    reference = getattr(transformers, name)
    frames = np.random.default_rng(0).integers(0, 256, (2, 20, 26, 3), dtype=np.uint8)
    base = {
        "size": {"shortest_edge": 18},
        "crop_size": {"height": 16, "width": 16},
        "stray": [1],
        "fps": None,
    }
    compared = 0
    for values in itertools.product((True, False, None, "absent"), repeat=4):
        config = base | dict(zip(SWITCHES, values, strict=False))
        config = {key: value for key, value in config.items() if value != "absent"}
        given = config | {"image_processor_type": name}
        if not config.get("do_rescale", True) and "Vivit" in name:
            with pytest.raises(CheckpointError, match="offset is True; expected do_rescale"):
                Preprocessing.from_hf(given, num_frames=2, value_range="hf")
            continue
        expected = np.asarray(reference(**config)(list(frames), return_tensors="np")["pixel_values"])[0]
        ours = Preprocessing.from_hf(given, num_frames=2, value_range="hf").apply(frames)
        np.testing.assert_allclose(ours, expected, atol=1e-5, err_msg=str(config))
        compared += 1
    assert compared >= 128

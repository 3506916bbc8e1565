"""Fixtures of several test files."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from paths import ROOT
from tiny_vivit import write_tiny_vivit

import qora_vision


def pytest_configure() -> None:
    """Import the torchvision of the folder QORA_TORCHVISION, before transformers looks for one.

    It lies beside the environment, because with the package index's build, whose compiled part is for CUDA,
    transformers can be imported only after what `torchvision_swin` does about that.
    """
    if folder := os.environ.get("QORA_TORCHVISION"):
        sys.path += [folder, str(ROOT / "tools")]
        import torchvision_swin

        torchvision_swin.import_swin()


# Left out of `-m quick`: what takes the longest, most of it for a reference implementation or many mutations.
SLOW_FILES = {
    "test_annotate",
    "test_any_config",
    "test_attention",
    "test_calibration",
    "test_hostile_files",
    "test_hub",
    "test_independent_decode",
    "test_linear",
    "test_mlp",
    "test_model_files",
    "test_models",
    "test_padded_tables",
    "test_quantisation_study",
    "test_seeking",
    "test_torch_files",
    "test_window_attention",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as quick every test but those of slow files and of comparisons with a reference."""
    for item in items:
        name = item.path.stem
        if name not in SLOW_FILES and not name.endswith("_reference"):
            item.add_marker(pytest.mark.quick)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face checkpoint directory of a tiny ViViT with seven labels. Not to be changed."""
    directory = tmp_path_factory.mktemp("tiny") / "ViViT"
    write_tiny_vivit(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_model_file(tiny_checkpoint: Path) -> Path:
    """The same model as a 4-bit `.qora-vision` file. Not to be changed."""
    path = tiny_checkpoint.parent / "tiny.qora-vision"
    qora_vision.load(tiny_checkpoint).save(path)
    return path


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eleven small pictures. Not to be changed."""
    directory = tmp_path_factory.mktemp("my_frames")
    rng = np.random.default_rng(5)
    for index in range(11):
        picture = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        assert cv2.imwrite(str(directory / f"frame{index}.png"), picture)
    return directory


@pytest.fixture
def tiny_bundled(tiny_model_file: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For one test, the tiny model in place of the bundled one, under its name."""
    folder = tmp_path_factory.mktemp("package") / "assets"
    shutil.copytree(Path(qora_vision.__file__).with_name("assets"), folder)
    path = folder / "camera-motion.qora-vision"
    shutil.copy(tiny_model_file, path)
    monkeypatch.setattr("qora_vision.loading.bundled._FOLDER", folder)
    return path


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the package's environment variables, so that the user's shell does not change a test."""
    monkeypatch.delenv("QORA_VISION_MODEL", raising=False)

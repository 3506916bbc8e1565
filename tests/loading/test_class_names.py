"""Given names replace wrong names of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vivit_cases import write_checkpoint

import qora_vision
from qora_vision import CheckpointError

CLASSES = [f"name {i}" for i in range(11)]


@pytest.mark.parametrize("names", [{str(i): "x" for i in range(400)}, {"0": 0}, {"1": "a"}])
def test_given_labels_put_wrong_ones_right(tmp_path: Path, names: dict) -> None:
    directory = write_checkpoint(tmp_path, config={"id2label": names})
    with pytest.raises(CheckpointError, match=r"labels= \(--labels\) gives names"):
        qora_vision.load(directory)
    assert qora_vision.load(directory, labels=CLASSES).labels == CLASSES


@pytest.mark.parametrize("labels", [5, True, dict(enumerate(CLASSES)), set(CLASSES), np.array(CLASSES)])
def test_labels_of_another_kind_are_refused(tmp_path: Path, labels: Any) -> None:
    directory = write_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="labels must be a list of names, or the path of a file, got"):
        qora_vision.load(directory, labels=labels)


@pytest.mark.parametrize("text", ["[" * 100_000, "5", "null", '{"0": "a", "2": "b"}', '{"0": 1}'])
def test_files_of_labels_that_hold_no_names(tmp_path: Path, text: str) -> None:
    directory = write_checkpoint(tmp_path)
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"labels\.json: expected class names"):
        qora_vision.load(directory, labels=path)

"""Given names replace wrong names of a checkpoint."""

from __future__ import annotations

from pathlib import Path

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

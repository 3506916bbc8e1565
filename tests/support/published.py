"""Helpers of the tests of published weights, which we cannot ship: their paths."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray


def setting(name: str, what: str) -> Path:
    """Path in an environment variable; the test is skipped where it is not set."""
    value = os.environ.get(name)
    if not value:
        pytest.skip(f"{name} is not set: {what}")
    return Path(value)


def frames_of(name: str, count: int) -> NDArray[np.uint8]:
    """(count, H, W, 3) uint8 from a file of the data set hf-internal-testing/spaghetti-video."""
    path = setting(name, "path of eating_spaghetti.npy or eating_spaghetti_32_frames.npy")
    clip = np.load(path, allow_pickle=False)
    assert clip.shape[0] == count
    assert clip.dtype == np.uint8
    return clip

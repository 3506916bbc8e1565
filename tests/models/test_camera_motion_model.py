"""The first layer of camera-motion, which is set by hand: what it must see before anything is trained."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from paths import ROOT

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

sys.path.insert(0, str(ROOT))

from training.camera_motion.model import (  # noqa: E402
    PLACES,
    SEAMS,
    SLOTS,
    Trainee,
    new_config,
    tubelets_of,
)


def seams(clip: np.ndarray) -> np.ndarray:
    """How much each tubelet's beginning differs from the end of the one before: (SLOTS, 16 places)."""
    trainee = Trainee(new_config(), seed=7)
    tubelets = torch.from_numpy(tubelets_of(clip))[None].float() / 127.5 - 1
    with torch.no_grad():
        hidden = trainee.front(tubelets)[0, 1:, SEAMS:PLACES]
    return hidden.unflatten(0, (SLOTS, -1)).square().mean(2).sqrt().numpy()


def scene(seed: int) -> np.ndarray:
    """A picture (96, 96) of blocks of 12 pixels, which differ in contrast from place to place."""
    blocks = np.random.default_rng(seed).standard_normal((8, 8)) * np.geomspace(2, 60, 64).reshape(8, 8)
    return np.clip(128 + np.kron(blocks, np.ones((12, 12))), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("place", [0, 5, 10, 15])
@pytest.mark.parametrize("cut", [4, 8, 12])
def test_what_changes_between_tubelets_is_seen_where_it_does(cut: int, place: int) -> None:
    first, second = scene(0), scene(0)
    y, x = place // 4 * 24, place % 4 * 24
    second[y : y + 24, x : x + 24] = scene(1)[y : y + 24, x : x + 24]
    found = seams(np.stack([second if number >= cut else first for number in range(16)]))
    there = found[cut // 4, place]
    found[cut // 4, place] = 0.0
    assert there > 10 * found.max(), (there, found)


def test_a_picture_at_rest_has_no_seams() -> None:
    assert seams(np.stack([scene(3)] * 16)).max() < 1e-3

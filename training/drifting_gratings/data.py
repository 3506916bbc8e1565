"""Clips of a striped pattern that drifts: which way and how fast is the class.

Eight directions, 45 degrees apart, named as they appear in the picture, each slow or fast. Wavelength,
phase, contrast, colours and the exact direction and speed are drawn at random. A second pattern that stands
still lies over the first, and noise over both. A seed and a number decide a clip.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRAMES, SIZE = 8, 32
DIRECTIONS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")
LABELS = tuple(f"{direction}, {speed}" for direction in DIRECTIONS for speed in ("slow", "fast"))
# Pixels a frame.
SPEEDS = ((0.4, 1.0), (1.3, 2.4))

Floats = NDArray[np.float32]


def make_clips(seed: int, first: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return clips `first` to `first + count` of a seed.

    Returns
    -------
    (count, FRAMES, SIZE, SIZE, 3) uint8 RGB and (count,) class numbers.
    """
    made = [_make_clip(np.random.default_rng((seed, first + i))) for i in range(count)]
    return np.stack([clip for clip, _ in made]), np.array([label for _, label in made])


def _make_clip(rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
    label = int(rng.integers(len(LABELS)))
    direction, fast = divmod(label, 2)
    angle = direction * np.pi / 4 + rng.uniform(-0.25, 0.25)
    moving = _stripes(rng, angle, rng.uniform(*SPEEDS[fast]))
    still = _stripes(rng, rng.uniform(0, 2 * np.pi), 0.0)
    picture = moving + np.float32(rng.uniform(0, 1)) * still
    colours = np.asarray(rng.uniform(0.3, 1, 3) * rng.uniform(0.04, 0.16), np.float32)
    coloured = np.float32(0.5) + picture[..., None] * colours
    coloured += np.float32(rng.uniform(0.04, 0.25)) * rng.standard_normal(coloured.shape, np.float32)
    return np.asarray(np.clip(np.rint(coloured * 255), 0, 255), np.uint8), label


def _stripes(rng: np.random.Generator, angle: float, speed: float) -> Floats:
    """Return a sine of 6 to 12 pixels' length that moves along its normal: (FRAMES, SIZE, SIZE) in -1..1."""
    t, y, x = np.ogrid[:FRAMES, :SIZE, :SIZE]
    along = x * np.cos(angle) + y * np.sin(angle) - speed * t
    return np.sin(2 * np.pi / rng.uniform(6, 12) * along + rng.uniform(0, 2 * np.pi)).astype(np.float32)

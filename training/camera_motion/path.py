"""Camera paths: where a virtual camera looks in each frame of a window, for each class.

A path is an array (frames, 4): x and y of the camera in widths of the picture (x to the right, y down), the
logarithm of the width that it sees, and its angle in radians (clockwise). A world point q, in widths from the
middle of the picture, is seen at ``exp(-s) * R(-angle) @ (q - (x, y))``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Path = npt.NDArray[np.float64]

# Speeds of a move, in widths of the picture per frame; for zoom and roll at the edge, half a width away.
SLOWEST, FASTEST = 0.003, 0.05
_EDGE_FASTEST = 0.03
_SIGNED_AXIS = {
    "pan left": (0, -1.0),
    "pan right": (0, 1.0),
    "tilt up": (1, -1.0),
    "tilt down": (1, 1.0),
    "zoom in": (2, -2.0),
    "zoom out": (2, 2.0),
    "roll clockwise": (3, 2.0),
    "roll counterclockwise": (3, -2.0),
}
MOVES = tuple(_SIGNED_AXIS)
# What one unit of each column moves at the edge of the picture, in widths.
_REACH = np.array([1.0, 1.0, 0.5, 0.5])


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _easing(rng: np.random.Generator, frames: int) -> npt.NDArray[np.float64]:
    """Speeds of the frames - 1 steps relative to their mean: constant, swelling, fading, or with a rest."""
    t = np.linspace(0.0, 1.0, frames - 1)
    kind = rng.integers(6)
    if kind <= 2:
        speed = np.ones_like(t)
    elif kind == 3:
        speed = 0.35 + np.sin(np.pi * t)
    elif kind == 4:
        speed = 0.25 + 1.5 * (t if rng.random() < 0.5 else 1 - t)
    else:  # at rest for up to a third of the window
        rest = rng.uniform(0.05, 0.34)
        ramp = np.clip((t - rest) / 0.15, 0.0, 1.0)
        speed = ramp if rng.random() < 0.5 else ramp[::-1]
    return speed / speed.mean()


def _jitter(rng: np.random.Generator, frames: int, amplitude: float) -> Path:
    """Shake without trend: noise of random smoothness, its steps `amplitude` widths on average."""
    noise = rng.standard_normal((frames + 8, 4)) * rng.uniform(0.1, 1.0, 4) * (1.0, 1.0, 0.25, 0.7)
    lag = int(rng.integers(1, 4))
    smooth = np.stack(
        [np.convolve(noise[:, i], np.ones(lag) / lag, "valid")[:frames] for i in range(4)], axis=1
    )
    smooth -= smooth.mean(axis=0)
    # Take out the straight trend: a shake goes nowhere.
    t = np.linspace(-1.0, 1.0, frames)[:, None]
    smooth -= t * (t * smooth).sum(axis=0) / (t * t).sum()
    step = np.abs(np.diff(smooth, axis=0)) * _REACH
    return smooth * (amplitude / (np.hypot(step[:, 0], step[:, 1]) + step[:, 2] + step[:, 3]).mean())


def camera_path(rng: np.random.Generator, label: str, frames: int, ease: float = 0.0) -> Path:
    """Draw a random path of the class `label`, which is any but "cut".

    `ease` from 0 to 1 leaves out the slowest moves: 0 draws the whole range, 1 only fast ones.
    """
    path = np.zeros((frames, 4))
    if label == "static":
        if rng.random() < 0.3:  # a tripod on a floor that is walked on
            path += _jitter(rng, frames, rng.uniform(0.0001, 0.0006))
        return path
    slowest = SLOWEST * (1.0 + 3.0 * ease)
    if label == "shake":
        path += _jitter(rng, frames, _log_uniform(rng, 1.5 * slowest, 0.035))
        return path
    axis, sign = _SIGNED_AXIS[label]
    speed = _log_uniform(rng, slowest, FASTEST if axis < 2 else _EDGE_FASTEST)
    steps = np.zeros((frames - 1, 4))
    steps[:, axis] = sign * speed * _easing(rng, frames)
    # A hand is not a rail: a little of everything else, and a little unrest.
    if rng.random() < 0.5:
        others = rng.uniform(-0.2, 0.2, 4) * speed / _REACH * (rng.random(4) < 0.5)
        others[axis] = 0.0
        steps += others * _easing(rng, frames)[:, None]
    path[1:] = np.cumsum(steps, axis=0)
    path -= path[frames // 2]
    if rng.random() < 0.3:
        path += _jitter(rng, frames, speed * rng.uniform(0.05, 0.3))
    return path


def seen_at(path: Path, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where the world points (n, 2) appear in each frame: (frames, n, 2), in widths from the middle."""
    shrink, cos, sin = np.exp(-path[:, 2, None]), np.cos(path[:, 3, None]), np.sin(path[:, 3, None])
    x, y = points[None, :, 0] - path[:, 0, None], points[None, :, 1] - path[:, 1, None]
    return np.stack([shrink * (cos * x + sin * y), shrink * (cos * y - sin * x)], axis=2)


def world_of(path: Path, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the world points that appear at `points` (n, 2) in each frame: (frames, n, 2)."""
    grow, cos, sin = np.exp(path[:, 2, None]), np.cos(path[:, 3, None]), np.sin(path[:, 3, None])
    x, y = points[None, :, 0], points[None, :, 1]
    return np.stack(
        [grow * (cos * x - sin * y) + path[:, 0, None], grow * (sin * x + cos * y) + path[:, 1, None]], axis=2
    )


def flow_of(path: Path, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far what is seen at `points` moves until the next frame: (frames - 1, n, 2), in widths."""
    world = world_of(path, points)[:-1]
    after = path[1:]
    shrink, cos, sin = np.exp(-after[:, 2, None]), np.cos(after[:, 3, None]), np.sin(after[:, 3, None])
    x, y = world[..., 0] - after[:, 0, None], world[..., 1] - after[:, 1, None]
    return np.stack([shrink * (cos * x + sin * y), shrink * (cos * y - sin * x)], axis=2) - points

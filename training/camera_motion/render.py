"""Rendering: a camera path over a picture or a clip, with subjects that move on their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training.camera_motion.path import Path

Frames = npt.NDArray[np.uint8]  # (T, H, W, 3)
_SPRITE = 64


@dataclass(frozen=True)
class Scene:
    """A plane to look at: one picture for all frames, or a picture each."""

    pictures: Sequence[npt.NDArray[np.uint8]]
    middle: tuple[float, float]  # what the camera at (0, 0) looks at, in pixels of the picture
    width: float  # how much of the picture it sees, in its pixels
    base: npt.NDArray[np.float64]  # (2, 2): a fixed turn or skew of the plane


@dataclass(frozen=True)
class Subject:
    """A flat cut-out that moves in front of the scene."""

    colour: npt.NDArray[np.float32]  # (S, S, 3)
    alpha: npt.NDArray[np.float32]  # (S, S, 1)
    track: npt.NDArray[np.float64]  # (T, 4): x, y in widths of the picture, width of the subject, angle


def _sampler(scene: Scene, pose: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    """Return the 2 x 3 matrix from pixels of the output to pixels of the scene's picture."""
    grow, cos, sin = np.exp(pose[2]), np.cos(pose[3]), np.sin(pose[3])
    turn = np.array([[cos, -sin], [sin, cos]])
    linear = scene.width * (scene.base @ turn) * grow / side
    offset = np.array(scene.middle) + scene.width * scene.base @ pose[:2]
    return np.hstack([linear, (offset - linear @ np.full(2, (side - 1) / 2))[:, None]])


def _plane(scene: Scene, frame: int, pose: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.uint8]:
    picture = scene.pictures[frame % len(scene.pictures)]
    return cv2.warpAffine(
        picture,
        _sampler(scene, pose, side),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _draw(frame: npt.NDArray[np.uint8], subject: Subject, pose: npt.NDArray[np.float64]) -> None:
    """Lay the subject over the frame, in place."""
    side = frame.shape[0]
    width = pose[2] * side
    reach = int(np.ceil(width * 0.75)) + 1
    x, y = (pose[:2] + 0.5) * side - 0.5
    left, top = max(0, int(x) - reach), max(0, int(y) - reach)
    right, bottom = min(side, int(x) + reach + 1), min(side, int(y) + reach + 1)
    if right <= left or bottom <= top:
        return
    size = subject.alpha.shape[0]
    zoom = size / width
    cos, sin = np.cos(pose[3]) * zoom, np.sin(pose[3]) * zoom
    linear = np.array([[cos, sin], [-sin, cos]])
    offset = np.full(2, (size - 1) / 2) + linear @ np.array([left - x, top - y])
    matrix = np.hstack([linear, offset[:, None]])
    box, flags = (right - left, bottom - top), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    alpha = cv2.warpAffine(subject.alpha, matrix, box, flags=flags, borderMode=cv2.BORDER_CONSTANT)
    colour = cv2.warpAffine(subject.colour, matrix, box, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    region = frame[top:bottom, left:right]
    region[...] = (region + alpha[..., None] * (colour - region)).astype(np.uint8)


def render(scene: Scene, path: Path, subjects: Sequence[Subject], side: int, blur: int = 1) -> Frames:
    """Frames (T, side, side, 3) of what the camera on `path` sees.

    `blur` above 1 averages that many moments of an open shutter, which stays open half of the time between
    two frames.
    """
    frames = np.empty((len(path), side, side, 3), np.uint8)
    for number, pose in enumerate(path):
        if blur == 1:
            frame = _plane(scene, number, pose, side)
        else:
            step = path[min(number + 1, len(path) - 1)] - path[min(number, len(path) - 2)]
            total = np.zeros((side, side, 3), np.uint16)
            for moment in range(blur):
                total += _plane(scene, number, pose + step * (0.5 * moment / blur), side)
            frame = (total // blur).astype(np.uint8)
        for subject in subjects:
            _draw(frame, subject, subject.track[number])
        frames[number] = frame
    return frames


def cut_out(
    rng: np.random.Generator, picture: npt.NDArray[np.uint8], track: npt.NDArray[np.float64]
) -> Subject:
    """Cut a subject of random outline from a random part of a picture."""
    height, width = picture.shape[:2]
    size = min(height, width, int(rng.integers(60, 200)))
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    part = cv2.resize(
        picture[top : top + size, left : left + size], (_SPRITE, _SPRITE), interpolation=cv2.INTER_AREA
    )
    if rng.random() < 0.3:
        part = np.ascontiguousarray(part[..., rng.permutation(3)])
    alpha = np.zeros((_SPRITE, _SPRITE), np.uint8)
    middle, kind = _SPRITE / 2, rng.integers(3)
    if kind == 0:
        axes = (int(rng.integers(12, 31)), int(rng.integers(12, 31)))
        cv2.ellipse(alpha, (_SPRITE // 2, _SPRITE // 2), axes, 0, 0, 360, 255, -1)
    elif kind == 1:
        corners = int(rng.integers(3, 10))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = rng.uniform(14, 31, corners)
        points = middle + np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None]
        cv2.fillPoly(alpha, [points.astype(np.int32)], 255)
    else:  # a head over shoulders, more or less
        cv2.ellipse(alpha, (32, 16), (int(rng.integers(6, 11)), int(rng.integers(8, 13))), 0, 0, 360, 255, -1)
        cv2.ellipse(
            alpha, (32, 58), (int(rng.integers(12, 28)), int(rng.integers(26, 36))), 0, 0, 360, 255, -1
        )
    soft = int(rng.integers(1, 3)) * 2 + 1
    alpha[[0, -1]] = 0
    alpha[:, [0, -1]] = 0
    edge = cv2.GaussianBlur(alpha, (soft, soft), 0).astype(np.float32) / 255.0
    return Subject(part.astype(np.float32), edge, track)

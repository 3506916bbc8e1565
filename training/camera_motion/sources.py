"""Sources of the virtual camera: photographs, procedural pictures, real clips; and which are held out.

Photographs come from the wheels of scikit-image, scikit-learn and Matplotlib (licences: README.md). Those in
`HELD_OUT_PHOTOGRAPHS` and `HELD_OUT_CLIPS` are never seen in training.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]  # (H, W, 3)

PHOTOGRAPHS = {
    "skimage/data": [
        "astronaut.png",
        "coffee.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "retina.jpg",
        "grass.png",
        "gravel.png",
        "camera.png",
        "rocket.jpg",
        "brick.png",
        "cell.png",
        "clock_motion.png",
        "text.png",
    ],
    "sklearn/datasets/images": ["flower.jpg"],
}
HELD_OUT_PHOTOGRAPHS = {
    "skimage/data": ["chelsea.png", "coins.png"],
    "sklearn/datasets/images": ["china.jpg"],
    "matplotlib/mpl-data/sample_data": ["grace_hopper.jpg"],
}
# Clips of a camera that stands still, whatever its subject does.
CLIPS = (
    "asl_again.mkv",
    "asl_eat.mkv",
    "asl_walk.mkv",
    "asl_hand_25fps.mp4",
    "flower_vp8.webm",
    "pose_squats.mp4",
)
HELD_OUT_CLIPS = ("friday.mp4", "one_by_one_walking_long.mp4", "pose_1_jumping.mp4")
CLIP_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "videos" / "clear"

_CLIP_SIDE, _CLIP_FRAMES = 176, 420
_PROCEDURAL = 160


def _shrunk(picture: Picture, side: int) -> Picture:
    height, width = picture.shape[:2]
    scale = side / min(height, width)
    if scale >= 1.0:
        return picture
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def photographs(held_out: bool) -> list[Picture]:
    """Read the photographs at up to three sizes each, RGB."""
    chosen = HELD_OUT_PHOTOGRAPHS if held_out else PHOTOGRAPHS
    pictures: list[Picture] = []
    for folder, names in chosen.items():
        package, _, inside = folder.partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(
                f"the photographs come from {package}: pip install 'qora-vision[training]'"
            )
        for name in names:
            path = Path(spec.origin).parent / inside / name
            read = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if read is None:
                raise FileNotFoundError(f"cannot read {path}: expected in the wheel of {package}")
            photograph = np.asarray(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            for side in (600, 360, 220):
                if side == 220 or min(photograph.shape[:2]) > side * 0.8:
                    pictures.append(_shrunk(photograph, side))
    return pictures


def _noise(rng: np.random.Generator, side: int) -> npt.NDArray[np.float32]:
    total = np.zeros((side, side), np.float32)
    rough = rng.uniform(0.5, 1.1)
    for octave in range(2, 8):
        cells = 2**octave
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * np.float32(rough**octave)
    total -= total.min()
    return total / total.max()


def _procedural(rng: np.random.Generator) -> Picture:
    side = 320
    low, high = rng.uniform(0, 256, 3), rng.uniform(0, 256, 3)
    kind = rng.integers(5)
    if kind == 0:
        mix = _noise(rng, side)
    elif kind == 1:  # stripes or checks, bent a little so that no direction is ambiguous
        y, x = np.mgrid[:side, :side].astype(np.float32)
        bend = _noise(rng, side) * 60
        wave = np.sin((x + bend) * rng.uniform(0.08, 0.4)) * np.sin((y - bend) * rng.uniform(0.08, 0.4))
        mix = (wave > 0).astype(np.float32) if rng.random() < 0.5 else (wave + 1) / 2
    else:
        y, x = np.mgrid[:side, :side].astype(np.float32) / side
        turn = rng.uniform(0, 2 * np.pi)
        mix = np.clip(0.5 + 0.7 * (np.cos(turn) * (x - 0.5) + np.sin(turn) * (y - 0.5)), 0, 1)
        if rng.random() < 0.6:
            mix = 0.6 * mix + 0.4 * _noise(rng, side)
    picture = low + (high - low) * mix[..., None]
    picture = np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8))
    if kind == 2:
        for _ in range(int(rng.integers(25, 70))):
            words = "".join(chr(rng.integers(33, 126)) for _ in range(rng.integers(3, 12)))
            place = (int(rng.integers(-30, side)), int(rng.integers(0, side)))
            ink = tuple(int(v) for v in rng.integers(0, 256, 3))
            size = rng.uniform(0.35, 1.6)
            cv2.putText(
                picture, words, place, int(rng.integers(8)), size, ink, int(rng.integers(1, 4)), cv2.LINE_AA
            )
    elif kind >= 3:
        for _ in range(int(rng.integers(15, 80))):
            place = tuple(int(v) for v in rng.integers(0, side, 2))
            ink = tuple(int(v) for v in rng.integers(0, 256, 3))
            reach = rng.integers(4, 50, 2)
            if rng.random() < 0.5:
                box = (place, (int(reach[0]) * 2, int(reach[1]) * 2), float(rng.uniform(0, 90)))
                cv2.fillPoly(picture, [cv2.boxPoints(box).astype(np.int32)], ink, cv2.LINE_AA)
            else:
                axes = (int(reach[0]), int(reach[1]))
                cv2.ellipse(picture, place, axes, float(rng.uniform(0, 180)), 0, 360, ink, -1, cv2.LINE_AA)
    return picture


@cache
def pictures(held_out: bool) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Return (photographs, procedural pictures); the held-out procedural ones are drawn from another seed."""
    rng = np.random.default_rng([2024, int(held_out)])
    drawn = tuple(_procedural(rng) for _ in range(_PROCEDURAL // (4 if held_out else 1)))
    return tuple(photographs(held_out)), drawn


def read_clip(path: Path, side: int = _CLIP_SIDE, most: int = _CLIP_FRAMES) -> npt.NDArray[np.uint8]:
    """Read frames (T, H, W, 3) of a clip, the shorter side `side` pixels, at most `most` from its start."""
    capture = cv2.VideoCapture(str(path))
    frames: list[Picture] = []
    while len(frames) < most:
        good, frame = capture.read()
        if not good:
            break
        frames.append(_shrunk(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8), side))
    capture.release()
    if not frames:
        raise FileNotFoundError(f"no frames in {path}")
    return np.stack(frames)


@cache
def clips(held_out: bool, folder: Path = CLIP_FOLDER) -> tuple[npt.NDArray[np.uint8], ...]:
    """Decode the real clips of one side, once."""
    return tuple(read_clip(folder / name) for name in (HELD_OUT_CLIPS if held_out else CLIPS))

"""Windows of synthetic camera motion: every one a pure function of (split, index).

from training.camera_motion.data import evaluation_set
for clip, label in evaluation_set("photographs", 500):   # uint8 (16, 96, 96, 3), int
    ...
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from training.camera_motion import sources
from training.camera_motion.labels import INDEX, LABELS
from training.camera_motion.path import MOVES, Path, camera_path, flow_of, seen_at
from training.camera_motion.render import Frames, Scene, Subject, cut_out, render

FRAMES, SIDE = 16, 96
# Where the flow of the background is noted for training: the middles of GRID x GRID parts of the picture.
GRID = 4

Split = Literal["train", "photographs", "clips"]
_SEEDS: dict[Split, int] = {"train": 1, "photographs": 2, "clips": 3}


class Sample(NamedTuple):
    """A window and what is true of it."""

    clip: Frames  # uint8 (16, 96, 96, 3), RGB
    label: int
    flow: npt.NDArray[np.float32]  # (15, GRID * GRID, 2): pixels per step that the background moves there
    cut: int  # the first frame of the second scene; 0 without a cut


def grid_points() -> npt.NDArray[np.float64]:
    """Return the points of `Sample.flow`, row by row, in widths from the middle: (GRID * GRID, 2)."""
    middles = (np.arange(GRID) + 0.5) / GRID - 0.5
    y, x = np.meshgrid(middles, middles, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _pick(rng: np.random.Generator, split: Split, still: float = 0.65) -> npt.NDArray[np.uint8]:
    """Pick a photograph (with probability `still`) or a procedural picture."""
    photographs, drawn = sources.pictures(split != "train")
    chosen = photographs if split == "photographs" or rng.random() < still else drawn
    return chosen[int(rng.integers(len(chosen)))]


def _scene(rng: np.random.Generator, split: Split, frames: int, still: bool) -> Scene:
    turn = rng.normal(0, 0.12)
    base = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    base = base @ np.diag([1.0, rng.uniform(0.85, 1.18)])
    if split == "clips" or (split == "train" and rng.random() < (0.5 if still else 0.4)):
        clips = sources.clips(split != "train")
        clip = clips[int(rng.integers(len(clips)))]
        stride = int(rng.integers(1, 3))
        first = int(rng.integers(max(1, len(clip) - stride * frames)))
        pictures = [clip[min(first + i * stride, len(clip) - 1)] for i in range(frames)]
        low, high, room = 0.55, 0.95, 0.12
    else:
        picture = _pick(rng, split)
        if rng.random() < 0.3:
            picture = np.ascontiguousarray(np.rot90(picture, int(rng.integers(1, 4))))
        pictures, low, high, room = [picture], 0.3, 0.9, 0.4
    height, width = pictures[0].shape[:2]
    middle = (width * (0.5 + rng.uniform(-room, room)), height * (0.5 + rng.uniform(-room, room)))
    seen = float(np.clip(rng.uniform(low, high) * min(height, width), 70, 190))
    return Scene(pictures, middle, seen, base)


def _track(rng: np.random.Generator, path: Path, size: float) -> npt.NDArray[np.float64]:
    """Lay a subject's track: its own way, and that of the scene behind it or of the lens before it."""
    frames = len(path)
    t = np.arange(frames) - frames / 2
    own = np.zeros((frames, 2))
    if rng.random() < 0.85:
        turn = rng.uniform(0, 2 * np.pi)
        speed = np.exp(rng.uniform(np.log(0.002), np.log(0.05)))
        own += speed * np.outer(t, [np.cos(turn), np.sin(turn)])
    if rng.random() < 0.4:  # to and fro
        own += rng.uniform(0.01, 0.1) * np.outer(
            np.sin(t * rng.uniform(0.2, 1.2) + rng.uniform(0, 6)), rng.normal(size=2)
        )
    start = rng.uniform(-0.42, 0.42, 2)
    size_change, spin = rng.normal(0, 0.012), rng.normal(0, 0.03) * (rng.random() < 0.4)
    track = np.empty((frames, 4))
    track[:, 2], track[:, 3] = size * np.exp(size_change * t), rng.uniform(-0.5, 0.5) + spin * t
    if rng.random() < 0.6:  # part of the scene, nearer than its plane or on it
        nearer = rng.uniform(1.0, 1.5) if rng.random() < 0.5 else 1.0
        moved = path * (nearer, nearer, 1.0, 1.0)
        for number in range(frames):
            track[number, :2] = seen_at(moved[number : number + 1], (start + own[number])[None])[0, 0]
        track[:, 2] *= np.exp(-path[:, 2])
        track[:, 3] -= path[:, 3]
    else:  # the camera follows it
        track[:, :2] = start + own
    return track


def _subjects(rng: np.random.Generator, split: Split, path: Path, still: bool) -> list[Subject]:
    if rng.random() > (0.75 if still else 0.5):
        return []
    room, subjects = 0.3, []
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(0.15, 0.62)
        room -= size * size * 0.6
        if room < 0:
            break
        subjects.append(cut_out(rng, _pick(rng, split), _track(rng, path, size)))
    return subjects


def _has_texture(frame: npt.NDArray[np.uint8]) -> bool:
    """Whether motion could be seen: before an even wall a moving camera and a resting one film the same."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    parts = grey.reshape(GRID, SIDE // GRID, GRID, SIDE // GRID).std(axis=(1, 3))
    return int((parts > 6.0).sum()) >= GRID * GRID // 2


def _shot(rng: np.random.Generator, split: Split, path: Path, still: bool) -> Frames:
    for _ in range(6):
        scene = _scene(rng, split, len(path), still)
        if _has_texture(render(scene, path[:1], [], SIDE)[0]):
            break
    fastest = np.abs(np.diff(path, axis=0)).max()
    blur = int(rng.integers(2, 5)) if fastest > 0.008 and rng.random() < 0.45 else 1
    return render(scene, path, _subjects(rng, split, path, still), SIDE, blur)


def _film(rng: np.random.Generator, clip: Frames) -> Frames:
    """Do what a camera and its file do: exposure, flicker, softness, noise, compression, bars."""
    frames = len(clip)
    gain = np.full((frames, 1, 1, 1), np.exp(rng.normal(0, 0.2)))
    if rng.random() < 0.3:
        gain = gain * np.exp(rng.normal(0, rng.uniform(0.01, 0.08), frames)).reshape(-1, 1, 1, 1)
    if rng.random() < 0.15:  # a fade, or a light that is switched on
        ramp = 1 / (1 + np.exp((rng.uniform(0, frames) - np.arange(frames)) / rng.choice([0.05, 3.0])))
        gain = gain * np.exp(rng.normal(0, 0.5) * ramp).reshape(-1, 1, 1, 1)
    tint = np.exp(rng.normal(0, 0.08, 3))
    noise = np.zeros((1, 1, 1, 1), np.int16)
    if rng.random() < 0.4:
        grain = rng.integers(-9, 10, (frames + 3, SIDE, SIDE, 1), dtype=np.int16)
        noise = (grain[:frames] * int(rng.integers(1, 9))) // 8
    if rng.random() < 0.15:
        clip = np.repeat(clip[..., 1:2], 3, axis=3)
    elif rng.random() < 0.15:
        clip = clip[..., rng.permutation(3)]
    levels = np.arange(256, dtype=np.float32)[:, None] * tint
    pivot, contrast = 128.0, np.exp(rng.normal(0, 0.2))
    tables = np.clip((levels * gain.reshape(-1, 1, 1) - pivot) * contrast + pivot, 0, 255)
    out = np.empty_like(clip)
    for number in range(frames):
        table = tables[number].astype(np.uint8).reshape(1, 256, 3)
        out[number] = cv2.LUT(np.ascontiguousarray(clip[number]), table)
    if rng.random() < 0.25:
        sigma = rng.uniform(0.4, 1.1)
        out = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in out])
    if noise.size > 1:
        out = np.clip(out.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))]
        out = np.stack(
            [cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR) for frame in out]
        )
    if rng.random() < 0.12:
        bar, ink = int(rng.integers(3, 15)), int(rng.choice([0, 16, 255], p=[0.8, 0.15, 0.05]))
        if rng.random() < 0.7:
            out[:, :bar] = ink
            out[:, -bar:] = ink
        else:
            out[:, :, :bar] = ink
            out[:, :, -bar:] = ink
    return out


def sample(split: Split, index: int, ease: float = 0.0) -> Sample:
    """Make window number `index` of a split; classes take turns.

    `split` is "train" (all sources that are not held out), "photographs" or "clips" (held-out photographs, or
    held-out real clips with the camera's move added). `ease`: see `camera_path`.
    """
    rng = np.random.default_rng([_SEEDS[split], index])
    label = LABELS[index % len(LABELS)]
    if label != "cut":
        path = camera_path(rng, label, FRAMES, ease)
        clip = _shot(rng, split, path, still=label == "static")
        flow = flow_of(path, grid_points())
        return Sample(_film(rng, clip), INDEX[label], (flow * SIDE).astype(np.float32), 0)
    cut = int(rng.integers(2, FRAMES - 1))
    halves, flows = [], []
    for length in (cut, FRAMES - cut):
        kind = "static" if rng.random() < 0.5 else MOVES[int(rng.integers(len(MOVES)))]
        path = camera_path(rng, kind, FRAMES, ease)[:length]
        halves.append(_shot(rng, split, path, still=kind == "static"))
        flows.append(flow_of(path, grid_points()))
    flow = np.concatenate([flows[0], np.zeros((1, GRID * GRID, 2)), flows[1]])
    return Sample(_film(rng, np.concatenate(halves)), INDEX[label], (flow * SIDE).astype(np.float32), cut)


def evaluation_set(split: Split, count: int) -> Iterator[tuple[Frames, int]]:
    """Yield the first `count` windows of a split with their labels: always the same ones."""
    for index in range(count):
        made = sample(split, index)
        yield made.clip, made.label

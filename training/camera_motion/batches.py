"""Batches for training: blocks of windows from a worker, each window used in several mirror images."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from training.camera_motion.data import FRAMES, GRID, SIDE, sample
from training.camera_motion.labels import MIRRORED_LEFT_RIGHT, MIRRORED_UP_DOWN, REVERSED_IN_TIME, TRANSPOSED
from training.camera_motion.model import SLOTS, tubelets_of

# Windows of a block, and how often the block is gone through, in mirror images drawn anew each time.
BLOCK, PASSES = 768, 6
_STEP = FRAMES // SLOTS


class Block(NamedTuple):
    """Windows as arrays: grey clips (N, T, H, W), labels (N,), flow (N, T - 1, G, G, 2), cut (N,)."""

    clips: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    flow: npt.NDArray[np.float32]
    cut: npt.NDArray[np.int64]


def ease_of(block: int) -> float:
    """Curriculum: leave the slowest moves out of the first blocks."""
    return max(0.0, 1.0 - block / 5)


def grey(clip: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the luma of a clip (T, H, W, 3): (T, H, W)."""
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip])


def make_block(number: int) -> Block:
    """Block `number`, the same at each call."""
    block = Block(
        np.empty((BLOCK, FRAMES, SIDE, SIDE), np.uint8),
        np.empty(BLOCK, np.int64),
        np.empty((BLOCK, FRAMES - 1, GRID, GRID, 2), np.float32),
        np.empty(BLOCK, np.int64),
    )
    for row in range(BLOCK):
        made = sample("train", number * BLOCK + row, ease_of(number))
        block.clips[row], block.labels[row], block.cut[row] = grey(made.clip), made.label, made.cut
        block.flow[row] = made.flow.reshape(FRAMES - 1, GRID, GRID, 2)
    return block


def _work(numbers: mp.Queue, done: mp.Queue, folder: str) -> None:
    cv2.setNumThreads(1)
    while (number := numbers.get()) is not None:
        block = make_block(number)
        path = f"{folder}/block-{number}.npz"
        np.savez(path, **block._asdict())
        done.put((number, path))


def blocks(first: int, count: int, folder: str) -> Iterator[tuple[int, Block]]:
    """Blocks first ... count - 1; one worker makes the next while this one is used."""
    context = mp.get_context("spawn")
    numbers, done = context.Queue(), context.Queue()
    worker = context.Process(target=_work, args=(numbers, done, folder), daemon=True)
    worker.start()
    for number in range(first, min(first + 2, count)):
        numbers.put(number)
    for number in range(first, count):
        _, path = done.get()
        with np.load(path) as stored:
            block = Block(**{name: stored[name] for name in Block._fields})
        Path(path).unlink()
        if number + 2 < count:
            numbers.put(number + 2)
        yield number, block
    numbers.put(None)
    worker.join()


def mirrored(clip, label, flow, cut, change):  # noqa: ANN001, ANN201
    """Turn a window into one of its 16 mirror images; `change` has bits for x, y, time and transposition."""
    if change & 1:
        clip, flow, label = clip[:, :, ::-1], flow[:, :, ::-1] * (-1, 1), MIRRORED_LEFT_RIGHT[label]
    if change & 2:
        clip, flow, label = clip[:, ::-1], flow[:, ::-1] * (1, -1), MIRRORED_UP_DOWN[label]
    if change & 4:
        clip, flow, label = clip[::-1], -flow[::-1], REVERSED_IN_TIME[label]
        cut = FRAMES - cut if cut else 0
    if change & 8:
        clip, flow, label = clip.transpose(0, 2, 1), flow.transpose(0, 2, 1, 3)[..., ::-1], TRANSPOSED[label]
    return clip, label, flow, cut


def flow_targets(
    flow: npt.NDArray[np.float32], cut: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return what the helper learns of flow (15, G, G, 2): (SLOTS, G * G, 4), and what counts (SLOTS, 1, 4).

    Mean velocity and its unrest in each slot, in units that are fine for slow motion and coarse for fast;
    and whether a second scene begins in the slot, in which there is no velocity.
    """
    steps = flow.reshape(FRAMES - 1, GRID * GRID, 2)
    targets, weight = np.zeros((SLOTS, GRID * GRID, 4), np.float32), np.ones((SLOTS, 1, 4), np.float32)
    for slot in range(SLOTS):
        part = steps[slot * _STEP : (slot + 1) * _STEP - 1]
        mean = part.mean(axis=0)
        unrest = np.abs(part - mean).mean(axis=(0, 2))
        targets[slot, :, :2] = np.sign(mean) * np.log1p(np.abs(mean) / 0.3)
        targets[slot, :, 2] = np.log1p(unrest / 0.3)
        if cut and slot * _STEP <= cut < (slot + 1) * _STEP:
            targets[slot, :, 3] = 1.0
            weight[slot, :, :3] = slot * _STEP == cut
    return targets, weight


def batches(number: int, block: Block, size: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield tubelets (B, 64, 4 * 24 * 24) uint8, labels, flow targets, weights: all passes over a block."""
    rng = np.random.default_rng([99, number])
    for _ in range(PASSES):
        order = rng.permutation(BLOCK)
        for start in range(0, BLOCK - size + 1, size):
            clips, labels, targets, weights = [], [], [], []
            for row in order[start : start + size]:
                change = int(rng.integers(16))
                clip, label, flow, cut = mirrored(
                    block.clips[row], int(block.labels[row]), block.flow[row], int(block.cut[row]), change
                )
                target, weight = flow_targets(flow, cut)
                clips.append(tubelets_of(clip))
                labels.append(label)
                targets.append(target)
                weights.append(weight)
            yield (
                torch.from_numpy(np.stack(clips)),
                torch.tensor(labels),
                torch.from_numpy(np.stack(targets)),
                torch.from_numpy(np.stack(weights)),
            )

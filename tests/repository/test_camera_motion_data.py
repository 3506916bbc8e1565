"""The windows that the camera-motion model learns from: right signs, the same each time, still when still."""

import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest
from paths import ROOT

import qora_vision

sys.path.insert(0, str(ROOT))

from training.camera_motion import labels as names
from training.camera_motion.labels import LABELS
from training.camera_motion.path import MOVES, camera_path, flow_of
from training.camera_motion.render import Scene, cut_out, render


def _picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return cv2.resize(cells, (320, 320), interpolation=cv2.INTER_CUBIC)


def _scene(seed: int) -> Scene:
    return Scene([_picture(seed)], (160.0, 160.0), 120.0, np.eye(2))


def _affine(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Corners followed by Lucas and Kanade, which share no code with the renderer: 2 x 3."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after)]
    corners = cv2.goodFeaturesToTrack(grey[0], 80, 0.01, 4)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(grey[0], grey[1], corners, None)
    good = found[:, 0] == 1
    matrix, _ = cv2.estimateAffinePartial2D(corners[good], moved[good], ransacReprojThreshold=1.0)
    return matrix


# What happens in the picture; y is down, a positive turn is clockwise.
@pytest.mark.parametrize(
    ("label", "sign"),
    [
        ("pan left", ("right", 1)),
        ("pan right", ("right", -1)),
        ("tilt up", ("down", 1)),
        ("tilt down", ("down", -1)),
        ("zoom in", ("larger", 1)),
        ("zoom out", ("larger", -1)),
        ("roll clockwise", ("turned", -1)),
        ("roll counterclockwise", ("turned", 1)),
    ],
)
def test_the_picture_moves_as_the_camera_says(label: str, sign: tuple[str, int]) -> None:
    for seed in range(3):
        path = camera_path(np.random.default_rng(seed), label, 16)
        clip = render(_scene(seed), path, [], 96)
        total = {"right": 0.0, "down": 0.0, "larger": 0.0, "turned": 0.0}
        for before, after in pairwise(clip):
            matrix = _affine(before, after)
            x, y = matrix @ (47.5, 47.5, 1.0) - 47.5
            total["right"] += x
            total["down"] += y
            total["larger"] += 48 * (np.hypot(matrix[0, 0], matrix[1, 0]) - 1)
            total["turned"] += 48 * np.arctan2(matrix[1, 0], matrix[0, 0])
        most = max(total, key=lambda name: abs(total[name]))
        assert (most, np.sign(total[most])) == sign, total


def test_flow_is_what_can_be_measured() -> None:
    path = camera_path(np.random.default_rng(5), "zoom in", 16)
    clip = render(_scene(5), path, [], 96)
    point = np.array([[0.25, -0.25]])
    matrix = _affine(clip[7], clip[8])
    at = point[0] * 96 + 47.5
    measured = matrix @ (*at, 1.0) - at
    np.testing.assert_allclose(flow_of(path, point)[7, 0] * 96, measured, atol=0.2)


def test_a_still_camera_keeps_the_background_still_behind_a_moving_subject() -> None:
    rng = np.random.default_rng(3)
    track = np.stack([np.linspace(-0.3, 0.3, 16), np.full(16, 0.25), np.full(16, 0.3), np.zeros(16)], axis=1)
    clip = render(_scene(1), np.zeros((16, 4)), [cut_out(rng, _picture(9), track)], 96)
    assert (clip[:, :40] == clip[0, :40]).all()
    assert (clip[0, 60:] != clip[-1, 60:]).any()


def test_a_shake_goes_nowhere() -> None:
    for seed in range(5):
        path = camera_path(np.random.default_rng(seed), "shake", 16)
        t = np.linspace(-1, 1, 16)
        steps = np.abs(np.diff(path[:, :2], axis=0)).mean()
        assert np.abs(t @ path[:, :2]).max() < 1e-9
        assert steps > 0.0005


def test_mirrors_undo_themselves_and_move_what_they_should() -> None:
    for table in (
        names.MIRRORED_LEFT_RIGHT,
        names.MIRRORED_UP_DOWN,
        names.REVERSED_IN_TIME,
        names.TRANSPOSED,
    ):
        assert [table[table[i]] for i in range(len(LABELS))] == list(range(len(LABELS)))
    assert LABELS[names.MIRRORED_LEFT_RIGHT[LABELS.index("pan left")]] == "pan right"
    assert LABELS[names.MIRRORED_LEFT_RIGHT[LABELS.index("tilt up")]] == "tilt up"
    assert LABELS[names.REVERSED_IN_TIME[LABELS.index("zoom in")]] == "zoom out"
    assert {LABELS[names.REVERSED_IN_TIME[LABELS.index(move)]] for move in MOVES} == set(MOVES)


def test_a_window_is_a_function_of_its_number() -> None:
    for package in ("skimage", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    from training.camera_motion.data import sample

    one, same, other = sample("photographs", 21), sample("photographs", 21), sample("photographs", 32)
    assert (one.clip == same.clip).all() and one.cut == same.cut > 0
    assert LABELS[one.label] == LABELS[other.label] == "cut"
    assert (one.clip != other.clip).any()


def test_the_model_that_ships_tells_moves_over_pictures_that_it_never_saw() -> None:
    asset = ROOT / "python" / "qora_vision" / "assets" / "camera-motion.qora-vision"
    model = qora_vision.load(asset, threads=2)
    assert tuple(model.labels) == LABELS
    right = 0
    for seed in range(6):
        for label in LABELS[:-1]:
            path = camera_path(np.random.default_rng([seed, LABELS.index(label)]), label, 16)
            clip = render(_scene(100 + seed), path, [], 96)
            right += model.classify(clip, top_k=1, sampling=list(range(16))).labels == [label]
    assert right >= 50, f"{right} of 60"

"""Frame choice: the formulas, written out, and what follows from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qora_vision.errors import VideoError
from qora_vision.video.sampling import (
    dense_indices,
    temporal_view_indices,
    uniform_indices,
    validate_indices,
    view_indices,
)

totals = st.integers(1, 5000)
lengths = st.integers(1, 64)


def test_uniform_is_the_linspace_rule_users_know() -> None:
    for total in range(1, 500):
        expected = np.linspace(0, total - 1, 32).astype(int).tolist()
        assert uniform_indices(total, 32) == expected


@given(totals, st.integers(2, 64))
def test_uniform_spans_the_clip_evenly(total: int, num_frames: int) -> None:
    indices = uniform_indices(total, num_frames)
    assert len(indices) == num_frames
    assert indices[0] == 0
    assert indices[-1] == total - 1
    steps = np.diff(indices)
    assert steps.min() >= 0
    assert steps.max() - steps.min() <= 1


def test_uniform_examples() -> None:
    assert uniform_indices(7, 4) == [0, 2, 4, 6]
    assert uniform_indices(300, 5) == [0, 74, 149, 224, 299]
    assert uniform_indices(3, 5) == [0, 0, 1, 1, 2]
    assert uniform_indices(1, 3) == [0, 0, 0]
    assert uniform_indices(10, 1) == [4]


def test_dense_takes_the_middle_window() -> None:
    # (300 - 64) // 2 = 118
    assert dense_indices(300, 32, 2) == list(range(118, 182, 2))
    assert dense_indices(65, 32, 2) == list(range(0, 64, 2))


def test_dense_loops_a_short_clip() -> None:
    assert dense_indices(5, 4, 2) == [0, 2, 4, 1]
    assert dense_indices(1, 4, 2) == [0, 0, 0, 0]


def test_temporal_views_are_spread_over_the_clip() -> None:
    views = temporal_view_indices(300, 32, 2, 4)
    assert [view[0] for view in views] == [0, 78, 157, 236]  # v * 236 // 3
    assert views[-1][-1] == 298
    assert all(np.diff(view).tolist() == [2] * 31 for view in views)


def test_one_temporal_view_is_the_middle_one() -> None:
    assert temporal_view_indices(300, 32, 2, 1) == [dense_indices(300, 32, 2)]


def test_temporal_views_of_a_short_clip_are_the_same_loop() -> None:
    assert temporal_view_indices(10, 8, 2, 3) == [dense_indices(10, 8, 2)] * 3


@given(
    totals, lengths, st.integers(1, 8), st.integers(1, 6), st.sampled_from(["uniform", "dense", "segments"])
)
def test_every_rule_stays_inside_the_clip(
    total: int, num_frames: int, stride: int, views: int, rule: str
) -> None:
    chosen = view_indices(total, num_frames, rule, stride, views)  # type: ignore[arg-type]
    assert [len(view) for view in chosen] == [num_frames] * views
    assert all(0 <= index < total for view in chosen for index in view)


def test_uniform_views_share_out_a_finer_grid() -> None:
    views = view_indices(100, 4, "uniform", 2, 3)
    assert sorted(index for view in views for index in view) == uniform_indices(100, 12)
    assert views == [[0, 27, 54, 81], [9, 36, 63, 90], [18, 45, 72, 99]]
    assert view_indices(100, 4, "uniform", 2, 1) == [uniform_indices(100, 4)]


def test_segments_give_their_middle_frame_or_one_at_each_phase() -> None:
    assert view_indices(100, 4, "segments", 2, 1) == [[12, 37, 62, 87]]
    assert view_indices(101, 4, "segments", 2, 1) == [[12, 37, 63, 88]]
    assert view_indices(100, 4, "segments", 2, 2) == [[0, 25, 50, 75], [12, 37, 62, 87]]
    assert view_indices(3, 6, "segments", 2, 1) == [[0, 0, 1, 1, 2, 2]]
    # The authors' own formula, with the rounding of floating point.
    for total in (17, 40, 113, 300):
        tick = total / 16
        for views in (1, 2):
            phases = [tick / 2] if views == 1 else [0.0, tick / 2]
            theirs = [[int(phase + tick * i + 1e-9) for i in range(16)] for phase in phases]
            assert view_indices(total, 16, "segments", 1, views) == theirs


def test_an_empty_clip_is_refused() -> None:
    with pytest.raises(VideoError, match="0 frames"):
        view_indices(0, 8, "segments", 1)
    with pytest.raises(VideoError, match="0 frames"):
        uniform_indices(0, 32)
    with pytest.raises(VideoError, match="0 frames"):
        dense_indices(0, 32, 2)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="num_frames"):
        uniform_indices(10, 0)
    with pytest.raises(ValueError, match="stride"):
        dense_indices(10, 4, 0)
    with pytest.raises(ValueError, match="views"):
        temporal_view_indices(10, 4, 1, 0)
    with pytest.raises(ValueError, match="offset"):
        dense_indices(10, 4, 1, offset=-1)
    with pytest.raises(ValueError, match="'random'"):
        view_indices(10, 4, "random", 1)  # type: ignore[arg-type]


def test_explicit_indices() -> None:
    assert validate_indices(np.array([3, 0, 3]), total=4) == [3, 0, 3]  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="frame 4 was asked for, but the clip has 4 frames"):
        validate_indices([0, 4], total=4)
    with pytest.raises(VideoError, match="count from 0"):
        validate_indices([-1])
    with pytest.raises(VideoError, match="integers"):
        validate_indices([1.5])  # type: ignore[list-item]
    with pytest.raises(VideoError, match="at least 1"):
        validate_indices([])

"""Segments from constructed timelines of scores: borders, thresholds, short ones, overlap, smoothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from paths import CLIP

import qora_vision
from qora_vision import Segment
from qora_vision.tasks.segments import SegmentRule, find_segments
from qora_vision.tasks.windows import ScoredWindow

LABELS = ["a", "b", "c"]


def windows(*scores: tuple[float, ...]) -> list[ScoredWindow]:
    """Windows of 2 s, one each second: the middles are 1, 2, 3, ..."""
    return [ScoredWindow(float(i), i + 2.0, np.float32(each)) for i, each in enumerate(scores)]


def found(given: list[ScoredWindow], overlapping: bool = False, **rule) -> list[tuple[float, float, str]]:
    segments = list(find_segments(given, LABELS, SegmentRule(**rule), overlapping))
    return [(segment.start, segment.end, segment.label) for segment in segments]


A, B, C, LOW = (0.8, 0.1, 0.1), (0.1, 0.7, 0.2), (0.1, 0.2, 0.7), (0.35, 0.33, 0.32)


def test_borders_lie_half_way_between_middles() -> None:
    assert found(windows(A, A, B, C, C)) == [(0, 2.5, "a"), (2.5, 3.5, "b"), (3.5, 6, "c")]
    (segment, *_) = find_segments(windows(A, A, B), LABELS, SegmentRule(), False)
    assert segment == Segment(0, 2.5, "a", tuple(np.float32([0.8, 0.8]).tolist()))
    assert found([]) == [] and found(windows(B)) == [(0, 2, "b")]


def test_what_no_label_reaches_is_a_gap() -> None:
    assert found(windows(A, LOW, LOW, B), min_score=0.5) == [(0, 1.5, "a"), (3.5, 5, "b")]
    assert found(windows(LOW, LOW), min_score=0.5) == []
    # A label that holds goes on down to `release`, by default 0.8 times `min_score`.
    weak = (0.42, 0.3, 0.28)
    assert found(windows(A, weak, LOW), min_score=0.5) == [(0, 2.5, "a")]
    assert found(windows(weak, A), min_score=0.5) == [(1.5, 3, "a")]
    assert found(windows(A, weak, LOW), min_score=0.5, release=0.3) == [(0, 4, "a")]
    assert found(windows(A, weak, LOW), min_score=0.5, release=0.5) == [(0, 1.5, "a")]


def test_short_segments_go_to_their_neighbours() -> None:
    assert found(windows(A, A, B, A, A), min_length=2) == [(0, 6, "a")]
    assert found(windows(A, A, B, B, B), min_length=2) == [(0, 2.5, "a"), (2.5, 6, "b")]
    # The one before gets it, and at the beginning the one after.
    assert found(windows(A, A, B, C, C), min_length=1.5) == [(0, 3.5, "a"), (3.5, 6, "c")]
    assert found(windows(B, A, A), min_length=2) == [(0, 4, "a")]
    assert found(windows(B, C, A, A, A), min_length=2) == [(0, 6, "a")]
    # A gap is closed likewise.
    assert found(windows(A, A, LOW, A, A), min_score=0.5, min_length=1.5) == [(0, 6, "a")]
    assert found(windows(A, B, C), min_length=9) == []
    (segment,) = find_segments(windows(A, A, B, A), LABELS, SegmentRule(min_length=2), False)
    assert segment.scores == tuple(np.float32([0.8, 0.8, 0.1, 0.8]).tolist())


def test_labels_of_a_multi_label_model_overlap() -> None:
    both = (0.9, 0.9, 0.0)
    given = windows((0.9, 0, 0), both, both, (0.0, 0.9, 0.0), (0.0, 0.0, 0.0))
    assert found(given, overlapping=True) == [(0, 3.5, "a"), (1.5, 4.5, "b")]
    assert found(windows(both, both), overlapping=True) == [(0, 3, "a"), (0, 3, "b")]
    # 0.5 begins, and 0.4 goes on.
    wave = windows((0.45, 0, 0), (0.5, 0, 0), (0.45, 0, 0), (0.39, 0, 0), (0.45, 0, 0))
    assert found(wave, overlapping=True) == [(1.5, 3.5, "a")]
    assert found(wave, overlapping=True, min_score=0.42) == [(0, 6, "a")]
    assert found(wave, overlapping=True, min_length=2.5) == []
    assert found(wave, overlapping=True, min_score=0.5, release=0.5) == [(1.5, 2.5, "a")]


def test_smoothing_averages_neighbours() -> None:
    flicker = windows(A, A, B, A, A, B, B, B)
    assert len(found(flicker)) == 4
    assert found(flicker, smooth=2) == [(0, 5.5, "a"), (5.5, 9, "b")]
    # Each window is the mean of those at most a second away, fewer at the ends.
    given = windows((1.0, 0, 0), (0.0, 0, 0), (0.4, 0, 0), (0.0, 0, 0))
    assert found(given, overlapping=True, smooth=2, min_score=0.45, release=0.45) == [(0, 2.5, "a")]


def test_segments_come_as_soon_as_they_are_known() -> None:
    def endless() -> Iterator[ScoredWindow]:
        for i in itertools.count():
            yield ScoredWindow(float(i), i + 2.0, np.float32(A if i // 4 % 2 == 0 else B))

    for rule in (SegmentRule(), SegmentRule(min_length=2, smooth=1, min_score=0.3)):
        for overlapping in (False, True):
            segments = find_segments(endless(), LABELS, rule, overlapping)
            assert [segment.label for segment in itertools.islice(segments, 4)] == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"min_score": "high"}, "min_score must be a number or None, got 'high'"),
        ({"min_score": float("nan")}, "min_score must be a number or None, got nan"),
        ({"release": 0.2}, "release must be at most min_score, got 0.2 and None"),
        ({"release": 0.6, "min_score": 0.5}, "release must be at most min_score, got 0.6 and 0.5"),
        ({"min_length": -1}, "min_length must be seconds, 0 or more, got -1"),
        ({"smooth": float("inf")}, "smooth must be seconds, 0 or more, got inf"),
        ({"smooth": True}, "smooth must be seconds"),
        ({"window": 0}, "window must be seconds, more than 0, got 0"),
        ({"hop": 0}, "hop must be seconds, more than 0, got 0"),
        ({"hop": "1"}, "hop must be seconds, more than 0, got '1'"),
        ({"window": 10**400}, "window must be seconds, more than 0"),
        ({"start": None}, "start must be seconds, 0 or more, got None"),
        ({"start": None, "end": 1}, "start must be seconds, 0 or more, got None"),
        ({"fps": "25"}, "fps must be a positive number"),
    ],
)
def test_wrong_rules_are_refused_at_the_call(rule: dict, message: str) -> None:
    clf = qora_vision.load("camera-motion")
    with pytest.raises(ValueError, match=message):
        clf.segments(CLIP, **rule)


def test_windows_in_seconds() -> None:
    clf = qora_vision.load("camera-motion")
    video = np.random.default_rng(0).integers(0, 256, (120, 72, 96, 3), dtype=np.uint8)
    reports: list[tuple[int, int, str]] = []
    (segment,) = clf.segments(
        video, window=2.6, hop=0.5, fps=25, min_length=4, progress=lambda *report: reports.append(report)
    )
    # From 0, 0.5, ..., 2 s, and the last 2.6 of 4.8 s.
    assert (segment.start, round(segment.end, 6), len(segment.scores)) == (0, 4.8, 6)
    assert reports[-1] == (5, 5, "seconds of video")


def test_a_reader_that_is_left_ends(tmp_path) -> None:
    """Segments that nobody takes any more: the thread that decodes is gone."""
    import threading

    clf = qora_vision.load("camera-motion")
    video = np.zeros((400, 72, 96, 3), np.uint8)
    segments = clf.segments(video, hop=0.2, min_score=2.0)
    assert list(segments) == []
    taken = clf.segments(np.concatenate([video, video + 255]), hop=0.1, min_length=0.1)
    next(taken)
    taken.close()
    del taken
    assert not [thread for thread in threading.enumerate() if thread.name == "qora-vision reader"]


def test_errors_on_the_way_come_out(tmp_path) -> None:
    clf = qora_vision.load("camera-motion")
    for i in range(40):
        (tmp_path / f"{i:03}.png").write_bytes(b"no picture")
    with pytest.raises(qora_vision.VideoError, match=r"000\.png"):
        list(clf.segments(tmp_path))


def test_windows_and_steps_that_are_longer_than_any_video() -> None:
    clf = qora_vision.load("camera-motion")
    (whole,) = clf.segments(CLIP, window=1e308, hop=1e308)
    assert (whole.start, len(whole.scores)) == (0.0, 1)
    assert [len(each.scores) for each in clf.segments(CLIP, hop=1e30)] == [2]


def test_seconds_may_be_numbers_of_numpy() -> None:
    clf = qora_vision.load("camera-motion")
    expected = list(clf.segments(CLIP, window=0.5, hop=0.25, start=1))
    given = clf.segments(CLIP, window=np.float32(0.5), hop=np.float64(0.25), start=np.int64(1))
    assert list(given) == expected

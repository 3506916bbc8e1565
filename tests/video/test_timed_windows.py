"""Windows in seconds: which frames they show, at constant and varying rates, and how many they hold."""

from __future__ import annotations

import numpy as np
import pytest

from qora_vision.video import ClipWindow, Preprocessing, TimedWindow

# Frames are used as they are, and a byte becomes itself: the clip shows which frames it holds.
PLAIN = Preprocessing(num_frames=4, stride=2, resize=None, crop=None, rescale_factor=1.0, offset=False)


def slid(window: TimedWindow, times: list[float], fps: float) -> list[tuple[float, float, list[int]]]:
    """(start, end, numbers of the frames) of each window."""
    window.set_rate(fps)
    found: list[ClipWindow | None] = []
    for number, seconds in enumerate(times):
        found.append(window.push(np.full((2, 2, 3), number, np.uint8), seconds))
    found.append(window.finish())
    return [
        (round(each.start, 6), round(each.end, 6), each.clip[:, 0, 0, 0].astype(int).tolist())
        for each in found
        if each is not None
    ]


def test_a_constant_rate() -> None:
    times = [i / 10 for i in range(23)]
    assert slid(TimedWindow(PLAIN, window=0.8, hop=0.6), times, 10) == [
        (0.0, 0.8, [0, 2, 4, 6]),
        (0.6, 1.4, [6, 8, 10, 12]),
        (1.2, 2.0, [12, 14, 16, 18]),
        (1.5, 2.3, [15, 17, 19, 21]),
    ]
    # Half a window is the default hop; the model's own 7 frames are the default window.
    assert [each[:2] for each in slid(TimedWindow(PLAIN, window=0.8), times[:12], 10)] == [
        (0.0, 0.8),
        (0.4, 1.2),
    ]
    assert slid(TimedWindow(PLAIN, hop=0.7), times[:14], 10) == [
        (0.0, 0.7, [0, 1, 3, 5]),
        (0.7, 1.4, [7, 8, 10, 12]),
    ]


def test_a_rate_that_varies() -> None:
    """Ten frames a second, then one: a window of 2 s has 20 frames first, then two."""
    times = [i / 10 for i in range(20)] + [2.0, 3.0, 4.0, 5.0]
    windows = slid(TimedWindow(PLAIN, window=2, hop=2), times, 10)
    assert windows == [
        (0.0, 2.0, [0, 5, 10, 15]),
        (2.0, 4.0, [20, 20, 21, 21]),
        (3.1, 5.1, [21, 21, 22, 22]),
    ]


def test_a_gap_has_no_windows() -> None:
    times = [0.0, 0.1, 0.2, 0.3, 100.0, 100.1, 100.2]
    windows = slid(TimedWindow(PLAIN, window=0.4, hop=0.4), times, 10)
    assert windows[0] == (0.0, 0.4, [0, 1, 2, 3])
    assert len(windows) == 2 and windows[1][1] == 100.3
    # What is on the screen at the start of a window came before it.
    assert windows[1][2][-1] == 6 and windows[1][2][0] in (3, 4)


def test_hops_longer_than_windows() -> None:
    times = [i / 10 for i in range(25)]
    assert [each[:2] for each in slid(TimedWindow(PLAIN, window=0.4, hop=1.0), times, 10)] == [
        (0.0, 0.4),
        (1.0, 1.4),
        (2.0, 2.4),
        (2.1, 2.5),
    ]


def test_a_short_video_is_one_window() -> None:
    assert slid(TimedWindow(PLAIN, window=10), [0.0, 0.1], 10) == [(0.0, 0.2, [0, 0, 1, 1])]
    assert slid(TimedWindow(PLAIN, window=10), [3.0], 10) == [(3.0, 3.1, [0, 0, 0, 0])]
    assert TimedWindow(PLAIN, window=1).finish() is None


def test_long_windows_hold_few_frames() -> None:
    window = TimedWindow(PLAIN, window=100, hop=10)
    window.set_rate(25)
    clips = [window.push(np.full((2, 2, 3), i // 20, np.uint8), i / 25) for i in range(5000)]
    assert len(window._held) <= 6 * 4
    rare = TimedWindow(PLAIN, window=1, hop=1000)
    rare.set_rate(25)
    most = 0
    for i in range(5000):
        rare.push(np.zeros((2, 2, 3), np.uint8), i / 25)
        most = max(most, len(rare._held))
    assert most <= 6 * 4 + 2
    (first, *_) = [clip for clip in clips if clip is not None]
    # Frames 0, 625, 1250 and 1875, each at most 1 / 16 of a window earlier.
    for shown, due in zip(first.clip[:, 0, 0, 0], (0, 31, 62, 93), strict=True):
        assert due - 8 <= shown <= due


@pytest.mark.parametrize("name", ["window", "hop"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "2", True, 10**400])
def test_wrong_seconds_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} must be seconds, more than 0, got "):
        TimedWindow(PLAIN, **{name: value})

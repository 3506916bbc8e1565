"""Segments of a video: neighbouring windows with the same label, joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qora_vision.tasks.prediction import Window
from qora_vision.timeline.segment import Segment


def join_windows(windows: Iterable[Window]) -> Iterator[Segment]:
    """Join neighbouring windows with the same best label; yield each segment when another label ends it.

    Windows overlap, so the border between two labels is a convention: half way between the middle of the last
    window of the one and the middle of the first window of the other.

    Parameters
    ----------
    windows
        In order of time, as `VideoClassifier.classify_windows` yields them.

    Yields
    ------
    Segment
    """
    start = middle = end = 0.0
    label: str | None = None
    scores: list[float] = []
    for window in windows:
        best, score = next(iter(window.prediction))
        previous, middle = middle, (window.start + window.end) / 2
        if label is None:
            start, label = window.start, best
        elif best != label:
            border = (previous + middle) / 2
            yield Segment(start, border, label, tuple(scores))
            start, label, scores = border, best, []
        scores.append(score)
        end = window.end
    if label is not None:
        yield Segment(start, end, label, tuple(scores))

"""Segments of a video: neighbouring windows with the same label, joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from qora_vision.tasks.prediction import Window


class Segment(NamedTuple):
    """A stretch of a video with one label.

    Attributes
    ----------
    start, end
        Seconds from the first frame. Segments touch and do not overlap, though windows do.
    label
        The best class of each of its windows.
    scores
        Their scores, one for each window, in order.
    """

    start: float
    end: float
    label: str
    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean of the windows' scores."""
        return sum(self.scores) / len(self.scores)

    def to_dict(self) -> dict[str, Any]:
        """Return times, label, mean score and number of windows as JSON values."""
        return {
            "start": self.start,
            "end": self.end,
            "label": self.label,
            "score": self.score,
            "windows": len(self.scores),
        }


def join_windows(windows: Iterable[Window]) -> Iterator[Segment]:
    """Join neighbours with the same best label, each segment as soon as another label ends it.

    Windows overlap, so where one label ends and the next begins is a convention: half way between the middle
    of the last window of the one and the middle of the first window of the other.

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

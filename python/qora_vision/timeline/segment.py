"""A stretch of a video with one label."""

from __future__ import annotations

from typing import Any, NamedTuple


class Segment(NamedTuple):
    """A stretch of a video with one label.

    Attributes
    ----------
    start, end
        Seconds from the start of the video. Segments of one label do not overlap, though windows do.
    label
        The class that holds.
    scores
        Its scores, one for each window, in order.
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

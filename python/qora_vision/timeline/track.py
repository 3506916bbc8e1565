"""The segments of one video, as the writers of formats need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qora_vision.timeline.segment import Segment

# The rate of a video that states none.
_USUAL_FPS = 25.0


@dataclass(frozen=True)
class Track:
    """The segments of one video.

    Attributes
    ----------
    source
        Path or address of the video.
    segments
        In order of time.
    fps
        Nominal frames per second: edit lists count frames. None: 25.
    duration
        Seconds. None if unknown: the video then ends with the last segment.
    """

    source: str
    segments: Sequence[Segment]
    fps: float | None = None
    duration: float | None = None

    @property
    def name(self) -> str:
        """The last part of the source."""
        return Path(self.source).name or self.source

    @property
    def rate(self) -> float:
        """Frames per second to count with."""
        return self.fps or _USUAL_FPS

    @property
    def length(self) -> float:
        """Duration of the video in seconds; if unknown, the end of the last segment."""
        return max([self.duration or 0.0, *(segment.end for segment in self.segments)])

    @property
    def labels(self) -> list[str]:
        """Every label once, in the order in which they appear."""
        return list(dict.fromkeys(segment.label for segment in self.segments))


def one_line(text: str) -> str:
    """Return a text without line breaks and control characters: line-based formats cannot hold them."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def milliseconds(seconds: float) -> int:
    """Round a time to whole milliseconds."""
    return round(1000 * seconds)

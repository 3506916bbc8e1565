"""The segments of one video, as the writers of formats need them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TypeVar

from qora_vision.errors import shown
from qora_vision.timeline.segment import Segment

# The rate of a video that states none.
_USUAL_FPS = 25.0
# They join letters, or keep them apart, in Persian and Hindi for instance, and join emoji.
_JOINERS = "\u200c\u200d"

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(frozen=True)
class Track:
    """The segments of one video.

    Attributes
    ----------
    source
        Path or address of the video.
    segments
        Are put in the order of their starts.
    fps
        Nominal frames per second: edit lists count frames. None: 25.
    duration
        Seconds. None if unknown: the video then ends with the last segment.

    Raises
    ------
    ValueError
        If a segment, `fps` or `duration` holds what no file can: NaN, times below 0, no label, no score.
    """

    source: str
    segments: Sequence[Segment]
    fps: float | None = None
    duration: float | None = None

    def __post_init__(self) -> None:
        # Those of a multi-label model come in the order of their ends; WebVTT demands that of the starts.
        segments = sorted(map(_checked, self.segments), key=lambda each: (each.start, each.end))
        object.__setattr__(self, "segments", tuple(segments))
        for name, value in (("fps", self.fps), ("duration", self.duration)):
            if value is None:
                continue
            if not (isinstance(value, Real) and 0 < value < math.inf):
                raise ValueError(f"{name} must be a positive number or None, got {shown(value)}")
            object.__setattr__(self, name, float(value))

    @property
    def name(self) -> str:
        """The last part of the source."""
        return Path(self.source).name or self.source

    @property
    def location(self) -> str:
        """The absolute path, or the address."""
        return self.source if "://" in self.source else str(Path(self.source).absolute())

    @property
    def url(self) -> str:
        """The location as a URL."""
        return self.source if "://" in self.source else Path(self.source).absolute().as_uri()

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


def _checked(segment: Segment) -> Segment:
    """Return a segment with numbers of Python, if it can be written."""
    try:
        start, end, label, scores = segment
        times, values = (float(start), float(end)), tuple(map(float, scores))
    except (TypeError, ValueError, OverflowError):
        right = False
    else:
        right = isinstance(label, str) and 0 <= times[0] <= times[1] and bool(values)
        right = right and all(map(math.isfinite, (*times, *values)))
    if not right:
        raise ValueError(
            f"cannot write the segment {shown(segment)}: expected start and end with 0 <= start <= end, a "
            "label, and at least one score, all finite"
        )
    return Segment(*times, label, values)


def one_line(text: str) -> str:
    """Return a text without line breaks and control characters: line-based formats cannot hold them."""
    kept = (char if char.isprintable() or char in _JOINERS else " " for char in text)
    return " ".join("".join(kept).split())


def distinct(texts: Mapping[KeyT, str]) -> dict[KeyT, str]:
    """Return each text as a line that is not empty and that no other has: a number tells equal ones apart."""
    counts: dict[str, int] = {}
    lines: dict[KeyT, str] = {}
    taken: set[str] = set()
    for key, text in texts.items():
        base = line = one_line(text) or "(no name)"
        while line in taken:
            counts[base] = counts.get(base, 1) + 1
            line = f"{base} ({counts[base]})"
        taken.add(line)
        lines[key] = line
    return lines


def distinct_labels(tracks: Iterable[Track]) -> dict[str, str]:
    """Return the names of all labels, in the order in which they appear, all different."""
    return distinct({label: label for track in tracks for label in track.labels})


def milliseconds(seconds: float) -> int:
    """Round a time to whole milliseconds."""
    return round(1000 * seconds)

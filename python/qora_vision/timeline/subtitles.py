"""Subtitle files: SubRip (.srt) and WebVTT (.vtt), which every player shows."""

from __future__ import annotations

from qora_vision.timeline.segment import Segment
from qora_vision.timeline.track import Track, milliseconds, one_line


def write_srt(track: Track) -> str:
    """Return the segments as a SubRip file."""
    return "\n".join(
        f"{number}\n{_span(segment, ',')}\n{_text(segment)}\n"
        for number, segment in enumerate(track.segments, 1)
    )


def write_vtt(track: Track) -> str:
    """Return the segments as a WebVTT file (https://www.w3.org/TR/webvtt1/)."""
    cues = [f"{_span(segment, '.')}\n{_escaped(_text(segment))}\n" for segment in track.segments]
    return "\n".join(["WEBVTT\n", *cues])


def _text(segment: Segment) -> str:
    return f"{one_line(segment.label)} ({100 * segment.score:.0f} %)"


def _span(segment: Segment, mark: str) -> str:
    start, end = milliseconds(segment.start), milliseconds(segment.end)
    # Players do not show a cue that ends when it starts.
    return f"{_clock(start, mark)} --> {_clock(max(end, start + 1), mark)}"


def _clock(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{rest:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

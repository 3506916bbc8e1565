"""Edit lists: CMX 3600 (.edl) and OpenTimelineIO (.otio), which video editors open.

Both put the segments one after the other, each as a cut from the video; labels and scores go with the cuts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from qora_vision.timeline.segment import Segment
from qora_vision.timeline.track import Track, one_line


def write_edl(track: Track) -> str:
    """Return the segments as a CMX 3600 list.

    Time codes count frames of the nominal rate, which is rounded to a whole number (non-drop): 29.97 frames a
    second count as 30.
    """
    lines = [f"TITLE: {one_line(track.name)}", "FCM: NON-DROP FRAME", ""]
    base, record = max(1, round(track.rate)), 0
    for number, segment in enumerate(track.segments, 1):
        first, last = _frames(segment, track.rate)
        ends = (first, last, record, record + last - first)
        record = ends[-1]
        codes = " ".join(_time_code(frame, base) for frame in ends)
        lines += [
            f"{number:03}  AX       V     C        {codes}",
            f"* FROM CLIP NAME: {one_line(track.name)}",
            f"* COMMENT: {one_line(segment.label)} {100 * segment.score:.0f} %",
        ]
    return "\n".join([*lines, ""])


def write_otio(tracks: Sequence[Track]) -> str:
    """Return the segments as OpenTimelineIO's JSON: a timeline for each video.

    Several timelines are in one `SerializableCollection`. Segments are clips that are named by their labels;
    their metadata has score and windows under "qora_vision". Source: the serialised form that
    https://opentimelineio.readthedocs.io documents.
    """
    timelines = [_timeline(track) for track in tracks]
    if len(timelines) == 1:
        return json.dumps(timelines[0], indent=2, ensure_ascii=False) + "\n"
    collection = {
        "OTIO_SCHEMA": "SerializableCollection.1",
        "name": "segments",
        "metadata": {},
        "children": timelines,
    }
    return json.dumps(collection, indent=2, ensure_ascii=False) + "\n"


def _timeline(track: Track) -> dict[str, Any]:
    length = track.length
    return {
        "OTIO_SCHEMA": "Timeline.1",
        "name": track.name,
        "metadata": {},
        "global_start_time": None,
        "tracks": {
            "OTIO_SCHEMA": "Stack.1",
            "name": "tracks",
            "metadata": {},
            "source_range": None,
            "effects": [],
            "markers": [],
            "enabled": True,
            "children": [
                {
                    "OTIO_SCHEMA": "Track.1",
                    "name": "segments",
                    "kind": "Video",
                    "metadata": {},
                    "source_range": None,
                    "effects": [],
                    "markers": [],
                    "enabled": True,
                    "children": [_clip(track, length, segment) for segment in track.segments],
                }
            ],
        },
    }


def _clip(track: Track, length: float, segment: Segment) -> dict[str, Any]:
    first, last = _frames(segment, track.rate)
    reference = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "name": track.name,
        "metadata": {},
        "available_range": _range(0, max(last, round(length * track.rate)), track.rate),
        "available_image_bounds": None,
        "target_url": track.url,
    }
    return {
        "OTIO_SCHEMA": "Clip.2",
        "name": segment.label,
        "metadata": {"qora_vision": segment.to_dict()},
        "source_range": _range(first, last - first, track.rate),
        "effects": [],
        "markers": [],
        "enabled": True,
        "media_references": {"DEFAULT_MEDIA": reference},
        "active_media_reference_key": "DEFAULT_MEDIA",
    }


def _range(start: int, duration: int, rate: float) -> dict[str, Any]:
    def time(value: int) -> dict[str, Any]:
        return {"OTIO_SCHEMA": "RationalTime.1", "value": float(value), "rate": rate}

    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time(start), "duration": time(duration)}


def _frames(segment: Segment, rate: float) -> tuple[int, int]:
    """Return the first frame of a segment and the one after its last: at least one frame."""
    first = round(segment.start * rate)
    return first, max(first + 1, round(segment.end * rate))


def _time_code(frame: int, base: int) -> str:
    seconds, rest = divmod(frame, base)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{rest:02}"

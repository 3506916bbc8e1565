"""Annotation files of behaviour scientists: BORIS (.boris) and ELAN (.eaf)."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qora_vision.timeline.segment import Segment
from qora_vision.timeline.track import Track, distinct, distinct_labels, milliseconds, one_line

# Of BORIS 8; its program writes the same number.
_BORIS_VERSION = "7.0"
# Each behaviour of BORIS has a key; behaviours beyond these have none.
_KEYS = string.ascii_lowercase + string.digits


def write_boris(tracks: Sequence[Track]) -> str:
    """Return the segments as a BORIS project: an observation for each video, a state event for each segment.

    Every label is a behaviour of the ethogram; the comment of an event's start is its score. Source: the
    project format of BORIS 8 (Friard & Gamba 2016, https://www.boris.unito.it).
    """
    codes = distinct_labels(tracks)
    names = distinct(dict(enumerate(track.name for track in tracks)))
    project = {
        "time_format": "hh:mm:ss",
        "project_date": "",
        "project_name": "qora-vision segments",
        "project_description": "",
        "project_format_version": _BORIS_VERSION,
        "subjects_conf": {},
        "behaviors_conf": {str(i): _behaviour(i, code) for i, code in enumerate(codes.values())},
        "observations": {names[i]: _observation(track, codes) for i, track in enumerate(tracks)},
        "behavioral_categories": [],
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }
    return json.dumps(project, indent=1, ensure_ascii=False) + "\n"


def _behaviour(number: int, code: str) -> dict[str, Any]:
    return {
        "type": "State event",
        "key": _KEYS[number] if number < len(_KEYS) else "",
        "code": code,
        "description": "",
        "color": "",
        "category": "",
        "modifiers": {},
        "excluded": "",
        "coding map": "",
    }


def _observation(track: Track, codes: Mapping[str, str]) -> dict[str, Any]:
    events: list[list[Any]] = []
    for segment in track.segments:
        code, comment = codes[segment.label], f"score {segment.score:.4f}"
        for time, note in ((segment.start, comment), (segment.end, "")):
            events.append([round(time, 3), "", code, "", note, round(time * track.rate)])
    # Of events at one time, those that end come first: BORIS pairs the starts and stops of a behaviour.
    events.sort(key=lambda event: (event[0], bool(event[4])))
    path = track.location
    return {
        "file": {"1": [path], **{str(player): [] for player in range(2, 9)}},
        "type": "MEDIA",
        "date": "1970-01-01T00:00:00.000",
        "description": "",
        "time offset": 0.0,
        "events": events,
        "observation time interval": [0, 0],
        "independent_variables": {},
        "visualize_spectrogram": False,
        "visualize_waveform": False,
        "media_creation_date_as_offset": False,
        "media_scan_sampling_duration": 0,
        "image_display_duration": 1,
        "close_behaviors_between_videos": False,
        "media_info": {
            "length": {path: track.length},
            "fps": {path: track.rate},
            "hasVideo": {path: True},
            "hasAudio": {path: False},
            "offset": {"1": 0.0},
            "zoom level": {"1": 0},
        },
    }


def write_eaf(track: Track) -> str:
    """Return the segments as an ELAN file: a tier for each label, segments as annotations with their scores.

    Source: the EAF 3.0 schema, https://www.mpi.nl/tools/elan/EAFv3.0.xsd.
    """
    from xml.etree import ElementTree  # slow to import, and needed only here

    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "qora-vision",
            "DATE": "1970-01-01T00:00:00+00:00",
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    ElementTree.SubElement(
        header,
        "MEDIA_DESCRIPTOR",
        {
            "MEDIA_URL": track.url,
            "RELATIVE_MEDIA_URL": f"./{one_line(track.name)}",
            "MIME_TYPE": _mime_type(track.name),
        },
    )
    order = ElementTree.SubElement(root, "TIME_ORDER")
    slots: dict[int, str] = {}
    for time in sorted({milliseconds(t) for s in track.segments for t in (s.start, s.end)}):
        slots[time] = f"ts{len(slots) + 1}"
        ElementTree.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": slots[time], "TIME_VALUE": str(time)})
    number = 0
    of_label: dict[str, list[Segment]] = {}
    for segment in track.segments:
        of_label.setdefault(segment.label, []).append(segment)
    for label, name in distinct_labels([track]).items():
        attributes = {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": name}
        tier = ElementTree.SubElement(root, "TIER", attributes)
        for segment in of_label[label]:
            start, end = milliseconds(segment.start), milliseconds(segment.end)
            if start == end:
                continue
            number += 1
            annotation = ElementTree.SubElement(
                ElementTree.SubElement(tier, "ANNOTATION"),
                "ALIGNABLE_ANNOTATION",
                {
                    "ANNOTATION_ID": f"a{number}",
                    "TIME_SLOT_REF1": slots[start],
                    "TIME_SLOT_REF2": slots[end],
                },
            )
            ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = f"{segment.score:.4f}"
    ElementTree.SubElement(
        root,
        "LINGUISTIC_TYPE",
        {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"},
    )
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _mime_type(name: str) -> str:
    """Return ELAN's media type of a video: "unknown" for all but a few kinds."""
    known = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".mpg": "video/mpeg"}
    return known.get(Path(name).suffix.lower(), "unknown")

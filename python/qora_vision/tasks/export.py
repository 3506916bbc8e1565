"""Segments of videos as files: subtitles, edit lists, tables, annotations."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path

from qora_vision.files.atomic import replace_file
from qora_vision.timeline.formats import FORMATS
from qora_vision.timeline.segment import Segment
from qora_vision.timeline.track import Track
from qora_vision.video import as_frames


def make_track(
    source: str | PathLike[str], segments: Iterable[Segment], *, fps: float | None = None
) -> Track:
    """Put the segments of a video together with its frame rate and length, as files of segments need them.

    Parameters
    ----------
    source
        The path or address of the video, or a folder of images. Its header is read, where it can be opened a
        second time.
    segments
        From `VideoClassifier.segments`.
    fps
        Frames per second of what carries no time.

    Raises
    ------
    VideoError, OSError
        If the source cannot be opened.
    """
    name = os.fsdecode(source)
    if name == "-" or Path(name).is_fifo():
        return Track(name, tuple(segments), fps)
    frames = as_frames(source)
    rate, count = frames.rate(fps), frames.promised_frames
    return Track(name, tuple(segments), rate, count / rate if rate and count else None)


def format_tracks(tracks: Sequence[Track], format: str) -> str:
    """Return the segments of videos as the text of a file.

    Parameters
    ----------
    tracks
        From `make_track`, at least one.
    format
        One of `TIMELINE_FORMATS`: "csv", "srt" and "vtt" (subtitles), "edl" and "otio" (edit lists), "boris"
        and "eaf" (annotations for BORIS and ELAN).

    Raises
    ------
    ValueError
        If the format is none of these, there is no track or what is none, or there are several and the format
        holds one.
    """
    known = FORMATS.get(format)
    if known is None:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if not isinstance(tracks, Sequence) or not all(isinstance(track, Track) for track in tracks):
        raise ValueError("tracks must be a list of what make_track returns")
    if not tracks:
        raise ValueError("there are no tracks to write: expected at least one")
    if len(tracks) > 1 and not known.several:
        raise ValueError(
            f"a file of {format} ({known.title}) holds one video, got {len(tracks)}: write a file for each"
        )
    return known.write(tracks)


def write_tracks(path: str | PathLike[str], tracks: Sequence[Track], *, format: str | None = None) -> None:
    """Write the segments of videos to a file, completely or not at all.

    Parameters
    ----------
    path
        The file; one that exists is replaced only once the new one is complete.
    tracks, format
        As of `format_tracks`; None: what the suffix of the path says.

    Raises
    ------
    ValueError
        As `format_tracks` does.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    text = format_tracks(tracks, path.suffix.lower().removeprefix(".") if format is None else format)
    with replace_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))

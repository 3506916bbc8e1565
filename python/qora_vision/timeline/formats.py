"""The list of formats that segments can be written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qora_vision.timeline.behaviour import write_boris, write_eaf
from qora_vision.timeline.edit_lists import write_edl, write_otio
from qora_vision.timeline.subtitles import write_srt, write_vtt
from qora_vision.timeline.tables import write_csv
from qora_vision.timeline.track import Track


@dataclass(frozen=True)
class TimelineFormat:
    """A format of files.

    Attributes
    ----------
    title
        For people.
    write
        Makes the text of a file.
    several
        Whether one file can hold several videos.
    """

    title: str
    write: Callable[[Sequence[Track]], str]
    several: bool = False


def _single(write: Callable[[Track], str]) -> Callable[[Sequence[Track]], str]:
    def write_one(tracks: Sequence[Track]) -> str:
        (track,) = tracks
        return write(track)

    return write_one


# By name, which is also the suffix of the files.
FORMATS = {
    "csv": TimelineFormat("table", write_csv, several=True),
    "srt": TimelineFormat("SubRip subtitles", _single(write_srt)),
    "vtt": TimelineFormat("WebVTT subtitles", _single(write_vtt)),
    "edl": TimelineFormat("CMX 3600 edit list", _single(write_edl)),
    "otio": TimelineFormat("OpenTimelineIO", write_otio, several=True),
    "boris": TimelineFormat("BORIS project", write_boris, several=True),
    "eaf": TimelineFormat("ELAN annotations", _single(write_eaf)),
}

"""Segments as rows: CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from qora_vision.timeline.track import Track

COLUMNS = ("source", "start", "end", "label", "score", "windows")


def write_csv(tracks: Sequence[Track]) -> str:
    """Return all segments as CSV (RFC 4180 with line feeds), a row for each, after a row of column names.

    Times are seconds with three digits behind the point.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for track in tracks:
        for segment in track.segments:
            times = f"{segment.start:.3f}", f"{segment.end:.3f}"
            score = f"{segment.score:.4f}"
            # Readers of CSV refuse the NUL character, and so does the writer of Python 3.10.
            source, label = (name.replace("\0", " ") for name in (track.source, segment.label))
            writer.writerow([source, *times, label, score, len(segment.scores)])
    return text.getvalue()

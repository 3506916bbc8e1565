"""Write a copy of a video with its segments in the picture: label, score, and a timeline of the video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qora_vision.files.atomic import replace_path
from qora_vision.timeline.segment import Segment
from qora_vision.video import Clock, as_frames
from qora_vision.video._opencv import load_opencv
from qora_vision.video.writing import WRITERS, write_frames

Frame = NDArray[np.uint8]

# Colours of the timeline (BGR), assigned in the order in which labels appear.
_PALETTE = (
    (180, 119, 31),
    (14, 127, 255),
    (44, 160, 44),
    (40, 39, 214),
    (189, 103, 148),
    (75, 86, 140),
    (194, 119, 227),
    (34, 189, 188),
    (207, 190, 23),
    (127, 127, 127),
)
ANNOTATION_FORMATS = tuple(WRITERS)


def annotate(
    source: Any,
    segments: Sequence[Segment],
    output: str | os.PathLike[str],
    *,
    fps: float | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Write a copy of a video that shows the label of each moment.

    The video is decoded again. Sound is not copied, and the picture is encoded again at a constant rate.

    Parameters
    ----------
    source
        A video file or a folder of images.
    segments
        From `join_windows`, in order of time.
    output
        File to write, completely or not at all: .mp4, .m4v, .mov, .mkv (MPEG-4), .avi (Motion JPEG) or .gif
        (at most 40 s, 480 pixels wide, 12.5 frames a second).
    fps
        Frames per second of a folder, which has no time stamps; None: 25.
    progress
        Called with (done, total, what).

    Raises
    ------
    ValueError
        If the extension is not one of these, there are no segments, a GIF would be too long, or `output` is
        the source itself.
    VideoError
        If the source cannot be read, or this build of OpenCV cannot write the format.
    OSError
        If a file is missing or `output` cannot be written; an existing `output` is unchanged.
    """
    target = Path(output)
    check_output(target)
    if not segments:
        raise ValueError("there are no segments to show")
    if isinstance(source, str | os.PathLike) and target.exists() and target.samefile(source):
        raise ValueError(f"{target} is the video itself: give the annotated copy another name")
    opened = as_frames(source)
    clock = Clock(1 / (opened.rate(fps) or 25.0), opened.start)
    painter = _Painter(segments)
    total = opened.promised_frames

    def painted() -> Iterator[tuple[float, Frame]]:
        for done, (stamp, frame) in enumerate(opened.stream(lambda frame: frame)):
            seconds = clock.tick(stamp)
            if progress is not None and total:
                progress(min(done, total), total, "writing")
            yield seconds, painter.paint(frame, seconds)

    with replace_path(target, f".tmp{target.suffix.lower()}") as temporary:
        write_frames(temporary, painted(), 1 / clock.nominal, segments[-1].end)


def check_output(path: Path) -> None:
    """Raise `ValueError` unless a video can be written under such a name."""
    if path.suffix.lower() not in WRITERS:
        known = ", ".join(ANNOTATION_FORMATS)
        raise ValueError(f"{path}: cannot write {path.suffix or 'a name without an extension'}; use {known}")


class _Painter:
    """Draws on frames; keeps the index of the current segment."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._index = 0
        labels = dict.fromkeys(segment.label for segment in segments)
        self._colors = {label: _PALETTE[i % len(_PALETTE)] for i, label in enumerate(labels)}

    def paint(self, frame: Frame, seconds: float) -> Frame:
        """Return a copy of a BGR frame with the segment at this time; times must not decrease."""
        while self._index + 1 < len(self._segments) and seconds >= self._segments[self._index].end:
            self._index += 1
        segment = self._segments[self._index]
        picture = np.array(frame)
        height, width = picture.shape[:2]
        band = max(8, round(0.12 * height))
        strip = max(2, band // 5)
        below = picture[height - band - strip :]
        below[:] = below // 4
        self._write(below[:band], segment)
        self._draw_strip(below[band:], width, seconds)
        return picture

    def _write(self, area: Frame, segment: Segment) -> None:
        """Write label and score in the largest size that fits."""
        cv2 = load_opencv()
        text = f"{segment.label}  {100 * segment.score:.0f} %"
        font, (height, width) = cv2.FONT_HERSHEY_SIMPLEX, area.shape[:2]
        (text_width, text_height), below = cv2.getTextSize(text, font, 1.0, 1)
        scale = min(0.7 * height / (text_height + below), 0.94 * width / text_width)
        place = (round(0.03 * width), round((height + scale * (text_height - below)) / 2))
        weight = max(1, round(1.5 * scale))
        cv2.putText(area, text, place, font, scale, (255, 255, 255), weight, cv2.LINE_AA)

    def _draw_strip(self, area: Frame, width: int, seconds: float) -> None:
        """Draw all segments as colours, and mark the current time."""
        end = self._segments[-1].end
        for segment in self._segments:
            left, right = round(width * segment.start / end), round(width * segment.end / end)
            area[:, left:right] = self._colors[segment.label]
        here = min(width - 1, round(width * seconds / end))
        area[:, max(0, here - 1) : here + 2] = 255

"""Interlaced frames: two fields, taken at different times, of which one is made a whole picture."""

from __future__ import annotations

import importlib
from fractions import Fraction
from typing import Any

from qora_vision.errors import VideoError

try:
    av: Any = importlib.import_module("av")
    importlib.import_module("av.filter")
except ImportError as problem:
    raise VideoError(f"PyAV cannot be loaded ({problem}): pip install av") from None

# One frame for each frame, and only those that are flagged as interlaced are changed.
_FILTER = ("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
_TICK = Fraction(1, 1000)  # of times that nobody reads


class Deinterlacer:
    """FFmpeg's bwdif on single frames; it looks at the frames before and after."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._shape: Any = None
        self._latest: Any = None

    def apply(self, previous: Any, frame: Any, following: Any) -> Any:
        """Return the frame without its second field, as the `ffmpeg` command's `-vf bwdif` gives it.

        Parameters
        ----------
        previous, frame, following
            Neighbours in display order; None before the first and after the last.

        Returns
        -------
        A new frame; or the same one, fields woven, if FFmpeg cannot filter frames of its format or size.
        """
        shape = (frame.format.name, frame.width, frame.height)
        try:
            if self._graph is None or self._latest is not frame or self._shape != shape:
                self._start(shape)
                if previous is not None and _shape(previous) == shape:
                    self._graph.push(previous)
                    self._graph.push(frame)
                    self._graph.pull()
                else:
                    self._graph.push(frame)
            if following is not None and _shape(following) == shape:
                self._graph.push(following)
                self._latest = following
                return self._graph.pull()
            self._graph.push(None)
            last = self._graph.pull()
            self._graph = None
            return last
        except (av.error.FFmpegError, ValueError):
            self._graph = None
            return frame

    def _start(self, shape: tuple[str, int, int]) -> None:
        graph = av.filter.Graph()
        if hasattr(graph, "threads"):
            graph.threads = 1
        name, width, height = shape
        source = graph.add_buffer(width=width, height=height, format=name, time_base=_TICK)
        filtering = graph.add(*_FILTER)
        sink = graph.add("buffersink")
        source.link_to(filtering)
        filtering.link_to(sink)
        graph.configure()
        self._graph, self._shape = graph, shape


def _shape(frame: Any) -> tuple[str, int, int]:
    return frame.format.name, frame.width, frame.height

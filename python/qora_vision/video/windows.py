"""Clips of a window that slides over a source of any length: one decode, memory for one window."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import VideoError
from qora_vision.video.clock import Clock
from qora_vision.video.origins import is_capture, is_video_object
from qora_vision.video.preprocess import Preprocessing, common_size
from qora_vision.video.sampling import uniform_indices
from qora_vision.video.sources import ChannelOrder, Frame, FrameSource, as_frames, check_frame

DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class ClipWindow:
    """One window of a source.

    Attributes
    ----------
    start, end
        Seconds from the first frame of the source: when the window's first frame appears, and when its last
        one has gone.
    clip
        (T, 3, h, w) float32, what the model reads.
    """

    start: float
    end: float
    clip: NDArray[np.float32]


class SlidingWindow:
    """Turns frames that arrive one by one into windows; holds the resized frames of one window.

    A window is every `stride`-th frame of ``(num_frames - 1) * stride + 1`` frames, and starts `hop` frames
    after the one before it. When the frames end, a last window covers what came after the last full one, at
    the price of a shorter step; if there were too few frames for even one, it spreads over those there are.

    Parameters
    ----------
    preprocessing
        How frames are prepared, and how many make a clip.
    stride
        Step between the frames of a window; None: that of `preprocessing`.
    hop
        Step between windows, in frames; None: half a window, so that neighbours overlap by half.
    channel_order
        Of the frames that are pushed.
    num_threads
        For making floats of a window's bytes; 0: the process default.

    Raises
    ------
    ValueError
        If stride or hop is no whole number of at least 1.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        stride: int | None = None,
        hop: int | None = None,
        channel_order: ChannelOrder = "rgb",
        num_threads: int = 0,
    ) -> None:
        for name, value in (("stride", stride), ("hop", hop)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a whole number of frames, at least 1, got {value!r}")
        self.stride = stride or preprocessing.stride
        self.span = (preprocessing.num_frames - 1) * self.stride + 1
        self.hop = hop or max(1, self.span // 2)
        self.channel_order = channel_order
        self.frame_seconds = 1 / DEFAULT_FPS  # of a frame that stands alone
        self._preprocessing = preprocessing
        self._num_threads = num_threads
        self._held: deque[tuple[float, Frame]] = deque(maxlen=self.span)
        self._count = 0

    def push(self, frame: Frame, seconds: float) -> ClipWindow | None:
        """Take the next frame, (H, W, 3) uint8, which is not kept; return the window that it completes."""
        return self.push_prepared(self.prepare(frame), seconds)

    def prepare(self, frame: Frame) -> Frame:
        """Resize and crop one frame, as bytes; the result is a copy."""
        # Of one frame's resizing, threads would spend more on meeting than they save.
        return self._preprocessing.crop_views(frame[None], ["center"], num_threads=1)[0]

    def push_prepared(self, crop: Frame, seconds: float) -> ClipWindow | None:
        """`push` for what `prepare` has made already."""
        self._held.append((seconds, crop))
        self._count += 1
        if self._count < self.span or (self._count - self.span) % self.hop:
            return None
        return self._window(list(range(0, self.span, self.stride)))

    def finish(self) -> ClipWindow | None:
        """Return the window over the last frames, if no window has shown them yet."""
        if not self._count:
            return None
        if self._count < self.span:
            return self._window(uniform_indices(self._count, self._preprocessing.num_frames))
        if (self._count - self.span) % self.hop:
            return self._window(list(range(0, self.span, self.stride)))
        return None

    def _window(self, chosen: list[int]) -> ClipWindow:
        crops = [self._held[index][1] for index in chosen]
        clip = np.empty((len(crops), 3, *common_size(crops)), np.float32)
        self._preprocessing.to_float(
            crops, clip, channel_order=self.channel_order, num_threads=self._num_threads
        )
        first, last = self._held[0][0], self._held[-1][0]
        # What the last frame lasts is known only when the next one comes: the mean of the others has to do.
        lasting = (last - first) / (len(self._held) - 1) if len(self._held) > 1 else self.frame_seconds
        return ClipWindow(first, last + lasting, clip)


def iter_windows(source: object, window: SlidingWindow, *, fps: float | None = None) -> Iterator[ClipWindow]:
    """Yield the windows of a source as soon as each is complete.

    Parameters
    ----------
    source
        What `as_frames` takes. An iterable is read frame by frame and not held, so it may be endless.
    window
        Fresh; its channel order is that of arrays and iterables, files know their own.
    fps
        Frames per second of what carries no time stamps: folders, arrays, iterables, raw streams (.h264).
        None: what a raw stream says itself, or else 25.

    Raises
    ------
    VideoError, OSError, ValueError
        As `as_frames` does, at the call; what is found wrong on the way, on the way.
    """
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a positive number of frames per second, got {fps!r}")
    whole = isinstance(source, np.ndarray) or is_video_object(source) or is_capture(source)
    if isinstance(source, Iterable) and not whole:
        window.frame_seconds = 1 / (fps or DEFAULT_FPS)
        return _from_iterable(source, window, window.frame_seconds)
    opened = as_frames(source, window.channel_order, once=True)
    window.channel_order = opened.channel_order
    window.frame_seconds = 1 / (opened.rate(fps) or DEFAULT_FPS)
    return _from_source(opened, window, window.frame_seconds)


def _from_source(source: FrameSource, window: SlidingWindow, nominal: float) -> Iterator[ClipWindow]:
    clock = Clock(nominal)
    for stamp, crop in source.stream(window.prepare):
        ready = window.push_prepared(crop, clock.tick(stamp))
        if ready is not None:
            yield ready
    last = window.finish()
    if last is not None:
        yield last


def _from_iterable(frames: Iterable[object], window: SlidingWindow, nominal: float) -> Iterator[ClipWindow]:
    index = -1
    for index, frame in enumerate(frames):
        ready = window.push(check_frame(frame, f"frame {index}"), index * nominal)
        if ready is not None:
            yield ready
    if index < 0:
        raise VideoError("the iterable gave no frames: at least 1 is needed")
    last = window.finish()
    if last is not None:
        yield last

"""Clips of a window that slides over a source of any length: one decode, memory for one window."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import VideoError
from qora_vision.video.clock import Clock, is_number
from qora_vision.video.origins import is_capture, is_video_object
from qora_vision.video.preprocess import Preprocessing, common_size
from qora_vision.video.sampling import uniform_indices
from qora_vision.video.sources import ChannelOrder, Frame, FrameSource, as_frames, check_frame

DEFAULT_FPS = 25.0
_LEAST_FPS, _MOST_FPS = 1e-6, 1e6


@dataclass(frozen=True)
class ClipWindow:
    """One window of a source.

    Attributes
    ----------
    start, end
        Seconds from the start of the source: the start of the window's first frame, and the end of its
        last frame.
    clip
        (T, 3, h, w) float32, the input of the model.
    """

    start: float
    end: float
    clip: NDArray[np.float32]


class SlidingWindow:
    """Turns frames that arrive one by one into windows; holds the resized frames of one window.

    A window is every `stride`-th frame of ``(num_frames - 1) * stride + 1`` frames, and starts `hop` frames
    after the previous one. When the frames end, a last window covers the frames after the last full window,
    with a shorter step. If there are too few frames for one window, the window spreads over all of them.

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
        self._held: deque[tuple[float, Frame]] = deque(maxlen=self.span)
        self._preprocessing = preprocessing
        self._num_threads = num_threads
        self._count = 0
        self.set_rate(DEFAULT_FPS)

    def set_rate(self, fps: float) -> None:
        """Say how many frames a second will come, before the first one is pushed."""
        self.frame_seconds = 1 / fps  # duration of a single frame

    def push(self, frame: Frame, seconds: float) -> ClipWindow | None:
        """Take the next frame, (H, W, 3) uint8, which is not kept; return the window that it completes."""
        return self.push_prepared(self.prepare(frame), seconds)

    def prepare(self, frame: Frame) -> Frame:
        """Resize and crop one frame, as bytes; the result is a copy."""
        # One thread: for one frame, starting threads would cost more than it saves.
        return self._preprocessing.crop_views(frame[None], ["center"], num_threads=1)[0]

    def push_prepared(self, crop: Frame, seconds: float) -> ClipWindow | None:
        """`push` for a frame that `prepare` has already resized and cropped."""
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
        clip = self._to_clip([self._held[index][1] for index in chosen])
        first, last = self._held[0][0], self._held[-1][0]
        # The duration of the last frame is unknown before the next one: the mean of the others is used.
        lasting = (last - first) / (len(self._held) - 1) if len(self._held) > 1 else self.frame_seconds
        return ClipWindow(first, last + lasting, clip)

    def _to_clip(self, crops: list[Frame]) -> NDArray[np.float32]:
        clip = np.empty((len(crops), 3, *common_size(crops)), np.float32)
        self._preprocessing.to_float(
            crops, clip, channel_order=self.channel_order, num_threads=self._num_threads
        )
        return clip


def iter_windows(
    source: object,
    window: SlidingWindow,
    *,
    fps: float | None = None,
    between: tuple[float, float | None] = (0.0, None),
    stopped: Callable[[], bool] | None = None,
) -> Iterator[ClipWindow]:
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
    between
        Seconds from which and to which frames are used; None: the end. It is an error if there are none.
    stopped
        Asked at each frame whether to end there.

    Raises
    ------
    VideoError, OSError, ValueError
        As `as_frames` does, at the call; errors of later frames are raised during the iteration.
    """
    if fps is not None and not (is_number(fps) and _LEAST_FPS <= fps <= _MOST_FPS):
        raise ValueError(
            f"fps must be a positive number of frames per second, {_LEAST_FPS:g} to {_MOST_FPS:g}, "
            f"got {fps!r}"
        )
    _check_between(between)
    if isinstance(source, Iterable) and comes_one_by_one(source):
        window.set_rate(fps or DEFAULT_FPS)
        return _from_iterable(source, window, _Span(Clock(window.frame_seconds), between, stopped))
    opened = as_frames(source, window.channel_order, once=True)
    window.channel_order = opened.channel_order
    window.set_rate(opened.rate(fps) or DEFAULT_FPS)
    return _from_source(opened, window, _Span(Clock(window.frame_seconds, opened.start), between, stopped))


def comes_one_by_one(source: object) -> bool:
    """Whether a source is an iterable of frames, which may be endless, and not a file or an array."""
    whole = isinstance(source, np.ndarray) or is_video_object(source) or is_capture(source)
    return isinstance(source, Iterable) and not whole


def _check_between(between: tuple[float, float | None]) -> None:
    start, end = between
    for name, value in (("start", start), ("end", 0.0 if end is None else end)):
        if not (is_number(value) and value >= 0):
            raise ValueError(f"{name} must be seconds, 0 or more, got {value!r}")
    if end is not None and end <= start:
        raise ValueError(f"end must be after start, got {end!r} and {start!r} seconds")


class _Span:
    """Which frames lie between two times: those that are on the screen."""

    def __init__(
        self, clock: Clock, between: tuple[float, float | None], stopped: Callable[[], bool] | None
    ) -> None:
        self._clock = clock
        self._start, self._end = between
        self._stopped = stopped
        self.seconds = 0.0  # of the last frame
        self.found = False

    def wanted(self, stamp: float | None) -> bool | None:
        """See `Wanted`."""
        self.seconds = self._clock.tick(stamp)
        if self._end is not None and self.seconds >= self._end:
            return None
        if self._stopped is not None and self._stopped():
            return None
        inside = not self._start or self.seconds + self._clock.nominal > self._start
        self.found = self.found or inside
        return inside

    def since(self, origin: float | None) -> float | None:
        """Return the time stamp of the start, if the one of time 0 is known and there is anything to skip."""
        return None if origin is None or not self._start else origin + self._start

    def check(self) -> None:
        """Raise `VideoError` if no frame was wanted."""
        if not self.found:
            raise VideoError(
                f"there is no frame from {self._start} s to {self._end or 'the end'}: the last one that was "
                f"read is at {self.seconds:.3f} s; choose another start and end"
            )


def _from_source(source: FrameSource, window: SlidingWindow, span: _Span) -> Iterator[ClipWindow]:
    for _, crop in source.stream(window.prepare, span.wanted, span.since(source.start)):
        ready = window.push_prepared(crop, span.seconds)
        if ready is not None:
            yield ready
    span.check()
    last = window.finish()
    if last is not None:
        yield last


def _from_iterable(frames: Iterable[object], window: SlidingWindow, span: _Span) -> Iterator[ClipWindow]:
    index = -1
    for index, frame in enumerate(frames):
        wanted = span.wanted(None)
        if wanted is None:
            break
        picture = check_frame(frame, f"frame {index}")
        ready = window.push(picture, span.seconds) if wanted else None
        if ready is not None:
            yield ready
    if index < 0:
        raise VideoError("the iterable gave no frames: at least 1 is needed")
    span.check()
    last = window.finish()
    if last is not None:
        yield last

"""Windows of some seconds, by the times of the frames: also where the frame rate varies."""

from __future__ import annotations

from collections import deque

import numpy as np

from qora_vision.video.clock import is_number
from qora_vision.video.preprocess import Preprocessing
from qora_vision.video.sources import ChannelOrder, Frame
from qora_vision.video.windows import ClipWindow, SlidingWindow

# Where more frames than the first are held for each frame of a clip, some are dropped, so that the second are
# left in each window: those between would hardly change which ones are chosen.
_MOST_HELD, _HELD = 6, 4
# Seconds by which times may be off: they are sums and products of floats.
_SLACK = 1e-6


class TimedWindow(SlidingWindow):
    """A `SlidingWindow` that is measured in seconds; see there for the other parameters.

    A clip has the frames that are on the screen at `num_frames` evenly spaced times of the window. A position
    of the window in which no new frame appears is left out. A last window ends with the last frame.

    Parameters
    ----------
    window
        Seconds of a window; None: those of the model's own frames and stride at the stated frame rate.
    hop
        Seconds between windows; None: half a window.

    Raises
    ------
    ValueError
        If window or hop is no number above 0.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        window: float | None = None,
        hop: float | None = None,
        channel_order: ChannelOrder = "rgb",
        num_threads: int = 0,
    ) -> None:
        for name, length in (("window", window), ("hop", hop)):
            if length is not None and not (is_number(length) and length > 0):
                raise ValueError(f"{name} must be seconds, more than 0, got {length!r}")
        self._chosen_seconds = (window, hop)
        super().__init__(preprocessing, channel_order=channel_order, num_threads=num_threads)

    def set_rate(self, fps: float) -> None:
        """See `SlidingWindow`."""
        super().set_rate(fps)
        window, hop = self._chosen_seconds
        self._length = float(window or self.span / fps)
        self._hop = float(hop or self._length / 2)
        self._held: deque[tuple[float, Frame]] = deque()
        self._start: float | None = None  # of the window that is to come
        self._least_gap = 0.0  # between frames that are held

    def push_prepared(self, crop: Frame, seconds: float) -> ClipWindow | None:
        """See `SlidingWindow`."""
        ready = None
        if self._start is None:
            self._start = seconds
        elif seconds >= self._start + self._length - _SLACK:
            ready = self._clip(self._start, self._start + self._length)
            passed = (seconds + _SLACK - self._start - self._length) // self._hop
            self._start += (passed + 1) * self._hop
        # No window needs more than the last `_length` seconds, and the frame before them, which is on the
        # screen until the next one comes.
        while len(self._held) > 1 and self._held[1][0] <= seconds - self._length + _SLACK:
            self._held.popleft()
        self._hold(seconds, crop)
        self._last = seconds
        return ready

    def _hold(self, seconds: float, crop: Frame) -> None:
        """Hold a frame, unless it comes too soon after the last one that is held."""
        count = self._preprocessing.num_frames
        largest = self._length / (_HELD * count)
        if self._held and seconds - self._held[-1][0] < self._least_gap - _SLACK:
            return
        self._held.append((seconds, crop))
        if len(self._held) > _MOST_HELD * count and self._least_gap < largest:
            self._least_gap = min(largest, (seconds - self._held[0][0]) / (_HELD * count))
            held, self._held = self._held, deque()
            for time, each in held:
                if not self._held or time - self._held[-1][0] >= self._least_gap - _SLACK:
                    self._held.append((time, each))

    def finish(self) -> ClipWindow | None:
        """Return the window that ends with the last frame."""
        if self._start is None:
            return None
        end = self._last + self.frame_seconds
        return self._clip(max(self._held[0][0], end - self._length), end)

    def _clip(self, start: float, end: float) -> ClipWindow:
        count = self._preprocessing.num_frames
        times = np.array([seconds for seconds, _ in self._held])
        wanted = start + np.arange(count) * (end - start) / count
        shown = np.searchsorted(times, wanted + _SLACK, side="right") - 1
        return ClipWindow(start, end, self._to_clip([self._held[max(0, i)][1] for i in shown.tolist()]))

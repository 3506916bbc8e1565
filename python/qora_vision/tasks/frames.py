"""The choice of a source's frames: the arguments that all tasks share, as one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import IO, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qora_vision.engine.ops import FloatArray
from qora_vision.video import (
    ClipWindow,
    FrameSource,
    Preprocessing,
    SlidingWindow,
    TimedWindow,
    as_frames,
    iter_windows,
    load_clips,
)

# A video file or a folder of images, the bytes of a video or a file object opened in binary, a (T, H, W, 3)
# uint8 array, or (H, W, 3) uint8 frames one by one.
Frames: TypeAlias = (
    str
    | PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | IO[bytes]
    | NDArray[np.uint8]
    | Iterable[NDArray[np.uint8]]
)
ChannelOrder: TypeAlias = Literal["rgb", "bgr"]
SamplingRule: TypeAlias = Literal["uniform", "dense", "segments"]
# A rule, or frame numbers.
Sampling: TypeAlias = SamplingRule | Sequence[int]


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a source make a clip; `VideoClassifier.classify` documents the fields."""

    channel_order: ChannelOrder = "rgb"
    sampling: Sampling | None = None
    stride: int | None = None
    views: tuple[int, int] = (1, 1)

    def clips(self, frames: Frames, preprocessing: Preprocessing, threads: int) -> FloatArray:
        """Read and prepare the chosen frames.

        Parameters
        ----------
        frames
            The source.
        preprocessing
            The model's own rule, for fields that this choice leaves open.
        threads
            0: the process default.

        Returns
        -------
        (views, T, C, H, W) float32.

        Raises
        ------
        VideoError, OSError
            If the source cannot be used.
        ValueError
            If the choice is invalid.
        """
        rule = preprocessing if self.stride is None else replace(preprocessing, stride=self.stride)
        indices: Sequence[int] | None = None
        if isinstance(self.sampling, str):
            rule = replace(rule, sampling=self.sampling)
        elif self.sampling is not None:
            indices = self.sampling
        source = as_frames(frames, self.channel_order)
        return load_clips(source, rule, indices=indices, views=self.views, num_threads=threads)


@dataclass(frozen=True)
class WindowChoice:
    """How a window slides over a source; `VideoClassifier.classify_windows` documents the fields.

    `seconds` are `window` and `hop` of `VideoClassifier.segments`; with one of them the window is measured in
    seconds, and not by `stride` and `hop`. `between` are its `start` and `end`.
    """

    channel_order: ChannelOrder = "rgb"
    stride: int | None = None
    hop: int | None = None
    fps: float | None = None
    seconds: tuple[float | None, float | None] = (None, None)
    between: tuple[float, float | None] = (0.0, None)

    def windows(
        self,
        frames: Frames | FrameSource,
        preprocessing: Preprocessing,
        threads: int,
        stopped: Callable[[], bool] | None = None,
    ) -> Iterator[ClipWindow]:
        """Return the clips of the window's positions, in order of time; they are read one by one.

        Parameters and errors are those of `FrameChoice.clips`. A wrong choice is an error at the call.
        `stopped` is asked at each frame whether to end.
        """
        seconds, hop_seconds = self.seconds
        shared: dict[str, Any] = {"channel_order": self.channel_order, "num_threads": threads}
        window: SlidingWindow
        if seconds is None and hop_seconds is None:
            window = SlidingWindow(preprocessing, stride=self.stride, hop=self.hop, **shared)
        else:
            window = TimedWindow(preprocessing, window=seconds, hop=hop_seconds, **shared)
        return iter_windows(frames, window, fps=self.fps, between=self.between, stopped=stopped)

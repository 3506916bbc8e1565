"""Reading video files with OpenCV, one frame at a time, trusting nothing that the container promises."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import VideoError
from qora_vision.video._opencv import cv2, quiet
from qora_vision.video.sampling import validate_indices

T = TypeVar("T")

_LARGEST_COUNT = 2**31
_REENCODE = "ffmpeg -i {name} -c:v libx264 -pix_fmt yuv420p -an reencoded.mp4"
# Codecs that OpenCV's wheels decode: if not one frame comes out, then the file is the problem.
_COMMON_CODECS = {
    "h264",
    "avc1",
    "hevc",
    "hvc1",
    "hev1",
    "vp80",
    "vp90",
    "fmp4",
    "mp4v",
    "mjpg",
    "xvid",
    "mpg1",
    "mpg2",
}


@dataclass(frozen=True)
class VideoInfo:
    """What a video holds, after decoding all of it.

    Attributes
    ----------
    width, height
        Pixels of the frames as they are handed out, after rotation.
    fps
        Nominal frames per second by the container, None if it says nothing usable.
    frame_count
        Frames that really decode.
    rotation
        Degrees clockwise (0, 90, 180, 270) by the container's tag; already applied to the frames.
    codec
        Four-character code, such as "h264"; empty if unknown.
    duration
        Seconds from the first frame's time stamp to the end of the last frame, None if there are no usable
        stamps.
    """

    width: int
    height: int
    fps: float | None
    frame_count: int
    rotation: int
    codec: str
    duration: float | None


class VideoReader:
    """Frames of one video file; a context manager.

    Frames are numbered in display order from 0. The rotation tag is applied. OpenCV cannot seek reliably, so
    every pass decodes from the start: frames before a wanted one are decoded (`grab`) but not converted to
    pixels (`retrieve`), and a pass stops at the last wanted frame. Not for use by several threads at once.

    Parameters
    ----------
    path
        A video file. Streams and URLs are not read.
    threads
        Decoder threads. With 1, the default, damaged files too decode the same way every time; more threads
        are faster on large frames, but FFmpeg's concealment of damage then depends on their timing.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If the path is not a file.
    VideoError
        If OpenCV cannot open it; the message says what is known of the reason.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        self.path = Path(path)
        self._threads = threads
        if not self.path.exists():
            raise FileNotFoundError(f"no such video file: {self.path}")
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path} is a folder; a video file was expected")
        self._capture: cv2.VideoCapture | None = self._open()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. Safe to call twice; a later call that needs the file opens it again."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    @property
    def promised_frames(self) -> int | None:
        """The container's own frame count, None if absurd. A hint: too high or too low in many files."""
        return self._peek(lambda capture: _count_hint(capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    @property
    def fps(self) -> float | None:
        """Nominal frames per second by the container, None if it says nothing usable."""
        return self._peek(_rate)

    @property
    def codec(self) -> str:
        """Four-character code of the video stream, such as "h264"; empty if unknown."""
        return self._peek(_codec)

    def count_frames(self) -> int:
        """Count the frames that decode, by decoding them all.

        Raises
        ------
        VideoError
            If not one frame decodes.
        """
        return sum(1 for _ in self._grabs())

    def info(self) -> VideoInfo:
        """Describe the video; decodes all of it.

        Raises
        ------
        VideoError
            If not one frame decodes.
        """
        count, first, last = 0, 0.0, 0.0
        width = height = rotation = 0
        fps: float | None = None
        for index, capture in self._grabs():
            last = capture.get(cv2.CAP_PROP_POS_MSEC)
            if index == 0:
                first = last
                height, width = self._retrieve(capture, index, None).shape[:2]
                rotation = _rotation(capture.get(cv2.CAP_PROP_ORIENTATION_META))
                fps = _rate(capture)
            count = index + 1
        duration = None
        if fps is not None and math.isfinite(last - first) and last >= first:
            duration = (last - first) / 1000.0 + 1.0 / fps
        return VideoInfo(width, height, fps, count, rotation, self.codec, duration)

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Read frames by number.

        Parameters
        ----------
        indices
            Frame numbers from 0 in any order; repeats are allowed and decoded once.

        Returns
        -------
        (n, H, W, 3) uint8 RGB in the order of `indices`.

        Raises
        ------
        VideoError
            If a number is negative or past the end, no frame decodes, or frames differ in size.
        """
        wanted = validate_indices(indices)
        frames = self.pick(wanted, lambda frame: cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        shapes = sorted({frame.shape[:2] for frame in frames.values()})
        if len(shapes) > 1:
            raise VideoError(
                f"{self.path}: the frame size changes within the clip ({shapes}): read them one by one"
            )
        return np.stack([np.asarray(frames[index], dtype=np.uint8) for index in wanted])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield every frame as (H, W, 3) uint8 RGB, one at a time."""
        for index, capture in self._grabs():
            frame = self._retrieve(capture, index, None)
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def stream(self, transform: Callable[[NDArray[np.uint8]], T]) -> Iterator[tuple[float, T]]:
        """Apply `transform` to every frame as it comes; yields its time stamp in seconds with the result.

        `transform` gets what it gets in `pick`. Stamps are the container's, and may be anything: NaN, equal
        or falling in damaged files.

        Raises
        ------
        VideoError
            If not one frame decodes.
        """
        buffer: NDArray[np.uint8] | None = None
        for index, capture in self._grabs():
            seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
            buffer = self._retrieve(capture, index, buffer)
            yield seconds, transform(buffer)

    def pick(self, indices: Iterable[int], transform: Callable[[NDArray[np.uint8]], T]) -> dict[int, T]:
        """Apply `transform` to the frames of these numbers, as they come, and keep the results by number.

        `transform` gets (H, W, 3) uint8 BGR in a buffer that is used again for the next frame: it must not
        keep it.

        Raises
        ------
        VideoError
            If a number is past the end, or no frame decodes.
        """
        wanted = set(indices)
        kept, count = self._pass(wanted, transform, last=max(wanted))
        if len(kept) < len(wanted):
            validate_indices(sorted(wanted), total=count)
        return kept

    def select(
        self, choose: Callable[[int], Sequence[int]], transform: Callable[[NDArray[np.uint8]], T]
    ) -> tuple[int, dict[int, T]]:
        """`pick` the frames that a rule chooses once the true number of frames is known.

        The first pass decodes the whole clip to count it and, meanwhile, keeps the frames that the rule would
        choose if the container's count were right. It nearly always is; if not, a second pass fetches what is
        missing. So the cost is one decode of the clip, two at most, and memory holds the chosen frames'
        results, not the clip.

        Parameters
        ----------
        choose
            From the number of frames to frame numbers below it.
        transform
            As in `pick`.

        Returns
        -------
        The true number of frames, and the results by frame number (at least those that were chosen).

        Raises
        ------
        VideoError
            If no frame decodes.
        """
        hint = self.promised_frames
        guess = set(choose(hint)) if hint else set()
        kept, count = self._pass(guess, transform, last=None)
        wanted = set(choose(count))
        kept = {index: value for index, value in kept.items() if index in wanted}
        missing = wanted - kept.keys()
        if missing:
            kept.update(self.pick(missing, transform))
        return count, kept

    def _pass(
        self, wanted: set[int], transform: Callable[[NDArray[np.uint8]], T], last: int | None
    ) -> tuple[dict[int, T], int]:
        """Decode once up to frame `last` (None: the end): results by number, and the frames seen."""
        kept: dict[int, T] = {}
        buffer: NDArray[np.uint8] | None = None
        count = 0
        for index, capture in self._grabs():
            count = index + 1
            if index in wanted:
                buffer = self._retrieve(capture, index, buffer)
                kept[index] = transform(buffer)
            if index == last:
                break
        return kept, count

    def _grabs(self) -> Iterator[tuple[int, cv2.VideoCapture]]:
        """Yield (index, capture) after each decoded frame of a fresh pass; refuse a video without any."""
        capture = self._capture or self._open()
        self._capture = None  # a capture serves one pass
        try:
            index = 0
            while _grab(capture):
                yield index, capture
                index += 1
            if index == 0:
                raise VideoError(self._nothing_decodes(_codec(capture)))
        finally:
            capture.release()

    def _retrieve(
        self, capture: cv2.VideoCapture, index: int, buffer: NDArray[np.uint8] | None
    ) -> NDArray[np.uint8]:
        ok, frame = capture.retrieve() if buffer is None else capture.retrieve(buffer)
        if not ok or frame is None or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise VideoError(f"{self.path}: frame {index} decodes but cannot be converted to 8-bit colour")
        return np.asarray(frame, dtype=np.uint8)

    def _peek(self, question: Callable[[cv2.VideoCapture], T]) -> T:
        if self._capture is None:
            self._capture = self._open()
        return question(self._capture)

    def _open(self) -> cv2.VideoCapture:
        ffmpeg = cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG)
        with quiet():
            # An absolute path, so that FFmpeg cannot take a file name for a protocol.
            name = str(self.path.absolute())
            if ffmpeg:
                capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, self._threads])
            else:
                capture = cv2.VideoCapture(name)
        if not capture.isOpened():
            raise VideoError(self._cannot_open())
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture

    def _cannot_open(self) -> str:
        with self.path.open("rb") as file:
            head = file.read(64)
        if not head:
            return f"{self.path} is empty (0 bytes): a video file was expected"
        if head.startswith(b"version https://git-lfs"):
            return f"{self.path} is a Git LFS pointer, not the video itself: fetch it with `git lfs pull`"
        return (
            f"cannot open {self.path} as a video: OpenCV {cv2.__version__} does not read this container, or "
            "it is damaged or cut off (an MP4 that lost the index at its end cannot be opened); check the "
            f"file or re-encode the original: {_REENCODE.format(name=self.path.name)}"
        )

    def _nothing_decodes(self, codec: str) -> str:
        again = f"re-encode it: {_REENCODE.format(name=self.path.name)}"
        if codec.lower() in {"av01", "av1"}:
            build = f"this OpenCV build ({cv2.__version__})"
            return f"{self.path}: the codec AV1 is not supported by {build}; {again}"
        if codec.lower() in _COMMON_CODECS:
            return (
                f"{self.path}: the header promises {codec} video, but no frame decodes: the file is damaged "
                "or incomplete; copy or download it again"
            )
        name = f"the codec {codec!r}" if codec else "an unknown codec"
        return (
            f"{self.path}: no frame decodes; {name} may not be supported by OpenCV {cv2.__version__}; {again}"
        )


def _grab(capture: cv2.VideoCapture) -> bool:
    try:
        return bool(capture.grab())
    except cv2.error:
        return False


def _count_hint(value: float) -> int | None:
    return int(value) if math.isfinite(value) and 1 <= value < _LARGEST_COUNT else None


def _rate(capture: cv2.VideoCapture) -> float | None:
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and rate > 0 else None


def _rotation(value: float) -> int:
    return int(value) % 360 if value in {-270, -180, -90, 0, 90, 180, 270} else 0


def _codec(capture: cv2.VideoCapture) -> str:
    number = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    text = number.to_bytes(4, "little").decode("latin-1").strip("\0 ")
    return text if text.isprintable() else ""

"""A common interface to all sources of frames: a video file, a folder of images, an array, any iterable."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import VideoError
from qora_vision.video.decode import VideoReader, Wanted, every_frame
from qora_vision.video.images import IMAGE_SUFFIXES, list_images, read_bgr
from qora_vision.video.origins import CAMERA_HINT, find_origin, is_capture, is_video_object
from qora_vision.video.sampling import validate_indices

T = TypeVar("T")
Frame = NDArray[np.uint8]
ChannelOrder = Literal["rgb", "bgr"]
_EXPECTED = "expected (H, W, 3) uint8 frames with values 0 to 255"


class FrameSource(ABC):
    """Frames numbered from 0, handed to a function one at a time.

    Attributes
    ----------
    channel_order
        Order of the frames that `transform` gets: "rgb", or "bgr" where converting would cost another pass.
    """

    channel_order: ChannelOrder = "rgb"

    @abstractmethod
    def pick(self, indices: Iterable[int], transform: Callable[[Frame], T]) -> dict[int, T]:
        """Apply `transform` to each of these frames once and return the results by frame number.

        `transform` gets (H, W, 3) uint8 and must not keep it. Raises VideoError for a number past the end.
        """

    @abstractmethod
    def select(
        self, choose: Callable[[int], Sequence[int]], transform: Callable[[Frame], T]
    ) -> tuple[int, dict[int, T]]:
        """`pick` what `choose` names for the true number of frames; returns that number too."""

    @abstractmethod
    def stream(
        self, transform: Callable[[Frame], T], wanted: Wanted = every_frame, since: float | None = None
    ) -> Iterator[tuple[float | None, T]]:
        """Apply `transform` to every frame in order; yields its time stamp in seconds, if it has one, too."""

    @property
    def fps(self) -> float | None:
        """Nominal frames per second, None if the source has none."""
        return None

    @property
    def has_stamps(self) -> bool:
        """Whether frames carry time stamps."""
        return False

    @property
    def start(self) -> float | None:
        """Time stamp of time 0, None if it is that of the first frame."""
        return None

    def rate(self, chosen: float | None) -> float | None:
        """Frames per second, where the caller may choose one for what carries no time stamps."""
        return (self.fps or chosen) if self.has_stamps else (chosen or self.fps)

    @property
    @abstractmethod
    def promised_frames(self) -> int | None:
        """Estimated number of frames, for a progress bar only. None: unknown."""


class VideoFile(FrameSource):
    """A video; see `VideoReader` for what it may be, and `VideoReader.select` for what a selection costs."""

    channel_order: ChannelOrder = "bgr"

    def __init__(self, path: Any, *, decoder: str | None = None, once: bool = False) -> None:
        self._origin = find_origin(path, once=once)
        self._decoder = decoder
        # An error of opening the file is raised here, before any work. The first pass takes over the reader.
        self._opened: VideoReader | None = (reader := VideoReader(self._origin, decoder=decoder))
        weakref.finalize(self, reader.close).atexit = False
        self.path = reader.path
        self._fps, self._has_stamps, self._start = reader.fps, reader.has_stamps, reader.start
        self._promised = reader.promised_frames

    def _reader(self) -> VideoReader:
        reader, self._opened = self._opened, None
        return reader or VideoReader(self._origin, decoder=self._decoder)

    def pick(self, indices: Iterable[int], transform: Callable[[Frame], T]) -> dict[int, T]:
        """Decode up to the last wanted frame."""
        with self._reader() as reader:
            return reader.pick(indices, transform)

    def select(
        self, choose: Callable[[int], Sequence[int]], transform: Callable[[Frame], T]
    ) -> tuple[int, dict[int, T]]:
        """Decode the clip once, or twice if the container's frame count is wrong."""
        with self._reader() as reader:
            return reader.select(choose, transform)

    def stream(
        self, transform: Callable[[Frame], T], wanted: Wanted = every_frame, since: float | None = None
    ) -> Iterator[tuple[float | None, T]]:
        """Decode the clip once, keeping nothing."""
        with self._reader() as reader:
            yield from reader.stream(transform, wanted, since)

    @property
    def fps(self) -> float | None:
        """As the file says."""
        return self._fps

    @property
    def has_stamps(self) -> bool:
        """Whether frames carry time stamps: true for all but raw streams."""
        return self._has_stamps

    @property
    def start(self) -> float | None:
        """As the container says."""
        return self._start

    @property
    def promised_frames(self) -> int | None:
        """The container's frame count, which may be wrong."""
        return self._promised


class _Counted(FrameSource):
    """A source whose length is known and whose frames can be read in any order."""

    @abstractmethod
    def _total(self) -> int: ...

    @abstractmethod
    def _frame(self, index: int) -> Frame: ...

    def pick(self, indices: Iterable[int], transform: Callable[[Frame], T]) -> dict[int, T]:
        wanted = validate_indices(sorted(set(indices)), total=self._total())
        return {index: transform(self._frame(index)) for index in wanted}

    def select(
        self, choose: Callable[[int], Sequence[int]], transform: Callable[[Frame], T]
    ) -> tuple[int, dict[int, T]]:
        return self._total(), self.pick(choose(self._total()), transform)

    def stream(
        self, transform: Callable[[Frame], T], wanted: Wanted = every_frame, since: float | None = None
    ) -> Iterator[tuple[float | None, T]]:
        for index in range(self._total()):
            choice = wanted(None)
            if choice is None:
                return
            if choice:
                yield None, transform(self._frame(index))

    @property
    def promised_frames(self) -> int | None:
        return self._total()


class ImageFolder(_Counted):
    """A folder of images in natural order, or one image; only the chosen files are read. Sizes may differ."""

    channel_order: ChannelOrder = "bgr"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        path = Path(folder)
        self.paths = [path] if path.is_file() else list_images(path)

    def _total(self) -> int:
        return len(self.paths)

    def _frame(self, index: int) -> Frame:
        return read_bgr(self.paths[index])


class FrameList(_Counted):
    """Frames in memory: an array or a list; not copied."""

    def __init__(self, frames: Sequence[Frame] | Frame, channel_order: ChannelOrder = "rgb") -> None:
        self.frames = frames
        self.channel_order = channel_order

    def _total(self) -> int:
        return len(self.frames)

    def _frame(self, index: int) -> Frame:
        return self.frames[index]


def check_frame(frame: Any, name: str = "the frame") -> Frame:
    """Return `frame` as an array if it is (H, W, 3) uint8 with at least one pixel.

    Anything that NumPy reads as such an array is taken, an RGB PIL image for one.

    Raises
    ------
    VideoError
        With the shape and dtype found, and a hint for the usual mistakes.
    """
    if isinstance(frame, str | bytes | os.PathLike):
        raise VideoError(
            f"{name} is a name ({os.fsdecode(frame)!r:.80}), not a picture: pass the folder of "
            "the images, read them "
            "with read_image, or pass the videos one by one"
        )
    array = np.asarray(frame)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size > 0:
        return array
    raise VideoError(f"{name} has shape {array.shape} and dtype {array.dtype}; {_EXPECTED}{_hint(array)}")


def _hint(array: NDArray[Any]) -> str:
    if array.size == 0:
        return ": it has no pixels"
    if array.ndim == 3 and array.shape[0] == 3:
        return ": move the channels last, frame.transpose(1, 2, 0)"
    if array.ndim == 2:
        return ": repeat a grey frame, np.stack([grey] * 3, axis=-1)"
    if array.ndim == 3 and array.shape[2] == 4:
        return ": drop alpha, frame[..., :3]"
    if array.dtype.kind == "f":
        return ": scale to 0..255 and convert, (frame * 255).round().astype(np.uint8) for values in 0..1"
    return ""


def check_clip(frames: NDArray[Any]) -> Frame:
    """Return `frames` if it is (T, H, W, 3) uint8 with at least one frame.

    Raises
    ------
    VideoError
        With the shape and dtype found.
    """
    if frames.ndim == 3:
        raise VideoError(
            f"got one array of shape {frames.shape}; expected a clip (T, H, W, 3): add an axis, frames[None]"
        )
    if frames.ndim != 4:
        raise VideoError(
            f"got an array of shape {frames.shape}; expected a clip of shape (T, H, W, 3), uint8"
        )
    if frames.shape[0] == 0:
        raise VideoError("the clip has no frames: expected an array of shape (T, H, W, 3) with T at least 1")
    check_frame(frames[0], f"the clip of shape {frames.shape}: each frame")
    return frames


def _is_picture(path: Path) -> bool:
    """Whether this is a folder or one image."""
    return path.is_dir() or (path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def as_frames(
    source: Any, channel_order: ChannelOrder = "rgb", *, decoder: str | None = None, once: bool = False
) -> FrameSource:
    """Give uniform access to frames.

    Parameters
    ----------
    source
        The path of a video file, of a folder of images or of one image, `-` for a video on standard input,
        its address (http, https), its bytes or a file object opened in binary; a (T, H, W, 3) uint8 array, or
        an iterable of (H, W, 3) uint8 frames of any sizes. An iterable is read to its end and its frames are
        kept, because their number decides which are used. A `FrameSource` is returned unchanged.
    channel_order
        "rgb" or "bgr" (what cv2 reads): of arrays and iterables. Files know their own.
    decoder
        Of videos: "pyav" or "opencv"; None: what QORA_VISION_DECODER names in the environment, else "pyav".
    once
        Whether one call of `stream` is all that will be made. Then a pipe, an address or a file object that
        cannot seek is read as its frames are needed, not to its end first.

    Raises
    ------
    OSError
        If a path does not exist or cannot be read.
    VideoError
        If the source holds no frames, cannot be opened, or has a wrong shape or dtype.
    ValueError
        If channel_order is neither "rgb" nor "bgr".
    """
    if channel_order not in get_args(ChannelOrder):
        raise ValueError(f'channel_order must be "rgb" or "bgr", got {channel_order!r}')
    if isinstance(source, FrameSource):
        return source
    if isinstance(source, int) and not isinstance(source, bool):
        raise VideoError(f"cannot read frames from int; if camera {source} was meant: {CAMERA_HINT}")
    if is_capture(source) or is_video_object(source):
        if isinstance(source, str | os.PathLike) and os.fspath(source) and _is_picture(Path(source)):
            return ImageFolder(source)
        return VideoFile(source, decoder=decoder, once=once)
    if isinstance(source, np.ndarray):
        return FrameList(check_clip(source), channel_order)
    try:
        items = list(source)
    except TypeError:
        raise VideoError(
            f"cannot read frames from {type(source).__name__}: expected a path, a (T, H, W, 3) uint8 array "
            "or an iterable of (H, W, 3) uint8 frames"
        ) from None
    if not items:
        raise VideoError("the iterable gave no frames: at least 1 is needed")
    return FrameList([check_frame(item, f"frame {i}") for i, item in enumerate(items)], channel_order)

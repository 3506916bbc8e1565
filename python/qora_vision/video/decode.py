"""Reading videos, one frame at a time. Statements of the container, such as frame counts, are not trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import VideoError
from qora_vision.video.clock import Clock
from qora_vision.video.decoders import Decoder, decoder_name, open_decoder
from qora_vision.video.decoders.numbering import LONG, visit
from qora_vision.video.origins import find_origin
from qora_vision.video.sampling import validate_indices

T = TypeVar("T")


# Called with the time stamp of each frame, in order: whether it is wanted; None: neither it nor a later one.
Wanted: TypeAlias = Callable[[float | None], bool | None]


def every_frame(_: float | None) -> bool:
    """Want each frame of a stream."""
    return True


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video, after decoding all of it.

    Attributes
    ----------
    width, height
        Pixels of the returned frames, after rotation.
    fps
        Nominal frames per second that the file states; None if there is no usable value.
    frame_count
        Number of frames that decode.
    rotation
        Degrees clockwise (0, 90, 180, 270) of the container's tag; already applied to the frames.
    codec
        FFmpeg's name, such as "h264"; empty if unknown.
    duration
        Seconds from the first frame's time stamp to the end of the last frame, None if there are neither
        stamps nor a rate.
    mirrored
        Whether the tag also mirrors the picture left to right, after rotating it; already applied.
    """

    width: int
    height: int
    fps: float | None
    frame_count: int
    rotation: int
    codec: str
    duration: float | None
    mirrored: bool = False


class VideoReader:
    """Frames of one video; a context manager.

    Frames are numbered in display order from 0, and turned and mirrored as the file says. A pass decodes from
    the start: frames before a wanted one are decoded but not converted to pixels, and a pass stops at the
    last wanted frame. Few frames of a long video are sought where that gives the same frames (docs/video.md
    says where). Not for use by several threads at once.

    Parameters
    ----------
    path
        A video file, `-` for standard input, an address (http, https), the bytes of a file, or a file object
        opened in binary. What can be read only once (pipes, addresses) is read to its end first, into a
        temporary file.
    threads
        Decoder threads. With 1, the default, damaged files too decode the same way every time; more threads
        are faster on large frames, but FFmpeg's concealment of damage then depends on their timing.
    decoder
        "pyav" or "opencv"; None: what the environment variable QORA_VISION_DECODER names, else "pyav".

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If the path is not a file.
    OSError
        If it cannot be read.
    VideoError
        If it cannot be opened as a video; the message gives the likely reason.
    """

    def __init__(self, path: Any, *, threads: int = 1, decoder: str | None = None) -> None:
        self._threads = threads
        self._name = decoder_name(decoder)
        self._origin = find_origin(path)
        self.path = self._origin.path or Path(self._origin.label)
        self._decoder: Decoder | None = self._open()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. Safe to call twice; a later call that needs the file opens it again."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    @property
    def promised_frames(self) -> int | None:
        """The container's own frame count, None if absurd. A hint: too high or too low in many files."""
        return self._peek().promised_frames

    @property
    def fps(self) -> float | None:
        """Nominal frames per second by the file, None if it says nothing usable."""
        return self._peek().fps

    @property
    def has_stamps(self) -> bool:
        """Whether frames carry time stamps; those of raw streams (.h264) do not."""
        return self._peek().has_stamps

    @property
    def start(self) -> float | None:
        """Time stamp at which the container starts, with sound or picture; None if unknown."""
        return self._peek().start

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec, such as "h264"; empty if unknown."""
        return self._peek().codec

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
        count, height, width, end = 0, 0, 0, 0.0
        codec, rotation, mirrored = "", 0, False
        fps: float | None = None
        clock: Clock | None = None
        for index, decoder in self._grabs():
            if index == 0:
                codec, fps = decoder.codec, decoder.fps
                height, width = decoder.retrieve().shape[:2]
                rotation, mirrored = decoder.orientation().rotation, decoder.orientation().mirrored
                clock = Clock(1 / fps) if fps else None
            if clock is not None:
                end = clock.tick(decoder.seconds()) + clock.nominal
            count = index + 1
        duration = end if clock is not None else None
        return VideoInfo(width, height, fps, count, rotation, codec, duration, mirrored)

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
        frames = self.pick(wanted, lambda frame: np.ascontiguousarray(frame[..., ::-1]))
        shapes = sorted({frame.shape[:2] for frame in frames.values()})
        if len(shapes) > 1:
            raise VideoError(
                f"{self._origin.label}: the frame size changes within the clip ({shapes}): read "
                "them one by one"
            )
        return np.stack([np.asarray(frames[index], dtype=np.uint8) for index in wanted])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield every frame as (H, W, 3) uint8 RGB, one at a time."""
        for _, decoder in self._grabs():
            yield np.ascontiguousarray(decoder.retrieve()[..., ::-1])

    def stream(
        self,
        transform: Callable[[NDArray[np.uint8]], T],
        wanted: Wanted = every_frame,
        since: float | None = None,
    ) -> Iterator[tuple[float | None, T]]:
        """Apply `transform` to every wanted frame; yields its time stamp in seconds with the result.

        `transform` gets what it gets in `pick`. Stamps are the container's: exact where there are any, None
        where there are none, and equal or falling in damaged files. Frames before the one that is on the
        screen at the stamp `since` may be left out: they are not decoded where that is exact, and pays.

        Raises
        ------
        VideoError
            If not one frame decodes.
        """
        for _, decoder in self._grabs(since):
            stamp = decoder.seconds()
            choice = wanted(stamp)
            if choice is None:
                return
            if choice:
                yield stamp, transform(decoder.retrieve())

    def pick(self, indices: Iterable[int], transform: Callable[[NDArray[np.uint8]], T]) -> dict[int, T]:
        """Apply `transform` to the frames of these numbers, as they come, and keep the results by number.

        `transform` gets (H, W, 3) uint8 BGR, and must neither keep it nor write to it.

        Raises
        ------
        VideoError
            If a number is past the end, or no frame decodes.
        """
        wanted = set(indices)
        found = self._seek(lambda _: list(wanted), transform, last=max(wanted))
        if found is not None:
            return found[1]
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
        results, not the clip. Of a long clip, packets are counted instead, and the chosen frames are sought.

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
        found = self._seek(choose, transform, last=None)
        if found is not None:
            return found
        guess = set(choose(hint)) if hint else set()
        kept, count = self._pass(guess, transform, last=None)
        wanted = set(choose(count))
        kept = {index: value for index, value in kept.items() if index in wanted}
        missing = wanted - kept.keys()
        if missing:
            kept.update(self.pick(missing, transform))
        return count, kept

    def _seek(
        self,
        choose: Callable[[int], Sequence[int]],
        transform: Callable[[NDArray[np.uint8]], T],
        last: int | None,
    ) -> tuple[int, dict[int, T]] | None:
        """Do what `select` does by seeking; None where that is not exact, or not much faster than a pass.

        `last` is the frame up to which a pass would go, None: the end.
        """
        if (self.promised_frames or 0) < LONG or (last is not None and last < LONG):
            return None
        decoder = self._take()
        try:
            numbering = decoder.number_frames()
        finally:
            decoder.close()
        if numbering is None or numbering.total <= (last or 0):
            return None
        wanted = set(choose(numbering.total))
        if not numbering.pays(wanted, last):
            return None
        decoder = self._take()
        try:
            kept = {number: transform(decoder.retrieve()) for number in visit(decoder, numbering, wanted)}
        finally:
            decoder.close()
        return (numbering.total, kept) if len(kept) == len(wanted) else None

    def _pass(
        self, wanted: set[int], transform: Callable[[NDArray[np.uint8]], T], last: int | None
    ) -> tuple[dict[int, T], int]:
        """Decode once up to frame `last` (None: the end): results by number, and the frames seen."""
        kept: dict[int, T] = {}
        count = 0
        for index, decoder in self._grabs():
            count = index + 1
            if index in wanted:
                kept[index] = transform(decoder.retrieve())
            if index == last:
                break
        return kept, count

    def _sought(self, since: float | None) -> Decoder:
        """Return a decoder that has the frame at a time stamp before it; at the start where seeking fails."""
        if since is None or (self.promised_frames or 0) < LONG:
            return self._take()
        decoder = self._take()
        tick = decoder.tick
        try:
            numbering = decoder.number_frames()
        finally:
            decoder.close()
        if numbering is None or not numbering.total or not tick:
            return self._take()
        number = max(0, int(np.searchsorted(numbering.shown * tick, since, side="right")) - 1)
        start = numbering.start_for(number)
        if number < LONG or start is None:
            return self._take()
        decoder = self._take()
        place, key = start
        found = decoder.seek(key, place) and decoder.grab() and decoder.is_sound(key.shown, key=True)
        # Once more to the same place: that frame is the first one of the pass.
        if found and decoder.seek(key, place):
            return decoder
        decoder.close()
        return self._take()

    def _grabs(self, since: float | None = None) -> Iterator[tuple[int, Decoder]]:
        """Yield (index, decoder) after each decoded frame of a fresh pass; refuse a video without any.

        The pass begins at the start, or at some frame before the time stamp `since`.
        """
        decoder = self._sought(since)
        try:
            index = 0
            while decoder.grab():
                yield index, decoder
                index += 1
            if index == 0:
                raise VideoError(decoder.no_frames())
        finally:
            decoder.close()

    def _peek(self) -> Decoder:
        if self._decoder is None:
            self._decoder = self._open()
        return self._decoder

    def _take(self) -> Decoder:
        decoder = self._peek()
        self._decoder = None  # a decoder serves one pass
        return decoder

    def _open(self) -> Decoder:
        return open_decoder(self._origin, self._threads, self._name)

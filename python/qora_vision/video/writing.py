"""Writing video files with OpenCV: at a constant rate, and with the errors that OpenCV does not report."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import VideoError
from qora_vision.video._opencv import load_opencv, quiet
from qora_vision.video.decode import VideoReader

Frame = NDArray[np.uint8]
TimedFrames = Iterable[tuple[float, Frame]]

# GIF counts time in hundredths of a second, and is held in memory while it is encoded.
_GIF_DELAY_MS = 80
_GIF_SECONDS = 40
_GIF_WIDTH = 480
_FASTEST = 120.0
# A larger step between two time stamps is treated as damage, not as a frame that lasts so long.
_LONGEST_FRAME = 10.0


def write_frames(path: Path, frames: TimedFrames, fps: float, duration: float) -> None:
    """Write frames as a video file of constant rate.

    Parameters
    ----------
    path
        A new file. The extension, one of `WRITERS`, decides the format.
    frames
        (seconds, (H, W, 3) uint8 BGR), times increasing from 0. A frame lasts until the next one. All frames
        get the size of the first one, rounded down to even numbers.
    fps
        Rate of the file, where the format does not set its own.
    duration
        Duration of all frames in seconds; if it is too long for the format, it is refused before any work.

    Raises
    ------
    ValueError
        If a GIF would be too long.
    VideoError
        If OpenCV cannot write this format.
    OSError
        If the file cannot be written.
    """
    write = WRITERS[path.suffix.lower()]
    if write is _write_gif and duration > _GIF_SECONDS:
        raise ValueError(f"a GIF of {duration:.0f} s would be huge (the limit is {_GIF_SECONDS} s): use .mp4")
    path.open("xb").close()  # raises the system's error for an unwritable path; OpenCV reports none
    with quiet():
        if _is_safe(path):
            write(path, frames, min(fps, _FASTEST))
            return
        with tempfile.TemporaryDirectory(prefix="qora-vision-") as folder:
            plain = Path(folder) / f"video{path.suffix.lower()}"
            write(plain, frames, min(fps, _FASTEST))
            shutil.copyfile(plain, path)


def _is_safe(path: Path) -> bool:
    """Whether OpenCV accepts this name: one that is not UTF-8 would end the process."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _at_rate(frames: TimedFrames, fps: float) -> Iterator[Frame]:
    """Repeat and drop frames to get a constant rate; give all the same even size."""
    cv2 = load_opencv()
    size: tuple[int, int] | None = None
    written = 0
    for seconds, frame in frames:
        if size is None:
            size = (frame.shape[1] & ~1 or 1, frame.shape[0] & ~1 or 1)
        due = min(round(seconds * fps), written + round(_LONGEST_FRAME * fps))
        if due < written:
            continue
        if frame.shape[1] - size[0] in (0, 1) and frame.shape[0] - size[1] in (0, 1):
            fitted = np.ascontiguousarray(frame[: size[1], : size[0]])
        else:
            fitted = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        for _ in range(due + 1 - written):
            yield fitted
        written = due + 1


def _write_with(codec: str) -> Callable[[Path, TimedFrames, float], None]:
    def write(path: Path, frames: TimedFrames, fps: float) -> None:
        cv2 = load_opencv()
        writer = cv2.VideoWriter()
        written = 0
        try:
            for frame in _at_rate(frames, fps):
                if not written:
                    size = (frame.shape[1], frame.shape[0])
                    fourcc = cv2.VideoWriter.fourcc(*codec)
                    if not writer.open(str(path.absolute()), fourcc, fps, size):
                        raise VideoError(
                            f"OpenCV {cv2.__version__} cannot write {path.suffix} with the codec {codec} and "
                            f"frames of {size[0]} x {size[1]}; try .avi"
                        )
                writer.write(frame)
                written += 1
        finally:
            writer.release()
        _check_written(path, written)

    return write


def _check_written(path: Path, written: int) -> None:
    """Check that the file is complete, which `VideoWriter` does not report."""
    try:
        with VideoReader(path) as reader:
            found = reader.promised_frames or 0
    except VideoError:
        found = 0
    if found < written:
        raise OSError(errno.EIO, f"{found} of {written} frames reached the file; is the disk full?")


def _write_gif(path: Path, frames: TimedFrames, fps: float) -> None:
    cv2 = load_opencv()
    if not hasattr(cv2, "imwriteanimation") or not cv2.haveImageWriter(path.name):
        raise VideoError(
            f"OpenCV {cv2.__version__} cannot write GIF: install opencv-python 4.12 or later, or use .mp4"
        )
    animation = cv2.Animation()
    kept = []
    for frame in _at_rate(frames, 1000 / _GIF_DELAY_MS):
        height, width = frame.shape[:2]
        if width > _GIF_WIDTH:
            size = (_GIF_WIDTH, max(1, round(height * _GIF_WIDTH / width)))
            frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        kept.append(frame)
    animation.frames = kept
    animation.durations = [_GIF_DELAY_MS] * len(kept)
    if not cv2.imwriteanimation(str(path.absolute()), animation):
        raise OSError(errno.EIO, "the GIF could not be written; is the disk full?")


# What writes a file, by its extension. WebM is missing: OpenCV writes it, but complains on the terminal.
WRITERS: dict[str, Callable[[Path, TimedFrames, float], None]] = {
    ".mp4": _write_with("mp4v"),
    ".m4v": _write_with("mp4v"),
    ".mov": _write_with("mp4v"),
    ".mkv": _write_with("mp4v"),
    ".avi": _write_with("MJPG"),
    ".gif": _write_gif,
}

"""Sources of a video's bytes: a file, a pipe, an address, bytes, or a file object.

Each becomes an `Origin`, which can be read from its start as often as needed. What can be read only once, a
pipe or an address, is kept in a temporary file (`spool`). No C or C++ library gets a file name: files are
opened here, so neither the encoding of a name nor a pattern such as %02d in it matters.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from qora_vision.errors import VideoError
from qora_vision.video.placed import PlacedReader
from qora_vision.video.spool import Spool

_SILENCE_SECONDS = 30.0
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")
_LIVE_SCHEMES = {"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp", "mms", "mmsh", "rist", "whep"}
_TEXT_LISTS = {".m3u8", ".mpd"}

CAMERA_HINT = (
    "live sources are not supported yet; give classify_windows a generator that yields what "
    "cv2.VideoCapture(...).read() returns, with channel_order='bgr' (docs/video.md shows one)"
)


class Origin:
    """A video's bytes, readable from the start as often as needed.

    Attributes
    ----------
    label
        Its name in messages.
    path
        Of a regular file, else None.
    """

    def __init__(self, label: str, opener: Callable[[], BinaryIO], path: Path | None = None) -> None:
        self.label = label
        self.path = path
        self._opener = opener

    @property
    def suffix(self) -> str:
        """The extension, as far as it can help to tell the format: letters and digits alone."""
        suffix = Path(self.label).suffix.lower()
        return suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else ""

    def open(self) -> BinaryIO:
        """Open it at its start."""
        return self._opener()

    def head(self, count: int) -> bytes:
        """Return its first bytes."""
        with self.open() as file:
            return file.read(count)


class _Window(PlacedReader):
    """What a shared file holds from some position on."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        super().__init__()
        self._file, self._start = file, start

    def _length(self) -> int:
        return self._file.seek(0, os.SEEK_END) - self._start

    def _bytes_at(self, place: int, size: int) -> bytes:
        self._file.seek(self._start + place)
        return self._file.read(size)


def is_video_object(source: object) -> bool:
    """Whether this is a path, an address, bytes or a file object: what `find_origin` takes."""
    return isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | Origin) or (
        callable(getattr(source, "read", None)) and not is_capture(source)
    )


def is_capture(source: object) -> bool:
    """Whether this is a cv2.VideoCapture, without importing cv2."""
    return type(source).__module__.partition(".")[0] == "cv2" and hasattr(source, "retrieve")


def find_origin(source: Any, *, once: bool = False) -> Origin:
    """Find the bytes of a video.

    Parameters
    ----------
    source
        A path, `-` for standard input, an address (http, https), bytes, or a file object opened in binary.
    once
        Whether one pass is all that will be made. Then what can be read only once is read as it is needed,
        not to its end first.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file, or it is a folder.
    OSError
        If it cannot be read.
    VideoError
        If it is something else: an empty name, a camera, a live stream, a pipe through which nothing comes.
    """
    if isinstance(source, Origin):
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return Origin(f"got bytes ({len(data)} of them)", lambda: io.BytesIO(data))
    if not isinstance(source, str | os.PathLike):
        return _from_file_object(source, once)
    name = os.fspath(source)
    if not isinstance(name, str):
        name = os.fsdecode(name)
    if not name:
        raise VideoError("the name of the source is empty: expected a video file or a folder of images")
    if name == "-" and isinstance(source, str):
        return _from_standard_input(once)
    scheme = _SCHEME.match(name)
    if scheme and not Path(name).exists():
        return _from_address(name, scheme.group(1).lower(), once)
    return _from_path(Path(name), once)


def _from_path(path: Path, once: bool) -> Origin:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.name.isdecimal() and str(path) == path.name:
            raise VideoError(f"no file is called {path}; if camera {path} was meant: {CAMERA_HINT}") from None
        if str(path).startswith("/dev/video"):
            raise VideoError(f"there is no camera {path}; and {CAMERA_HINT}") from None
        raise FileNotFoundError(f"no such video file: {path}") from None
    except ValueError:  # a NUL in the name
        raise FileNotFoundError(f"no such video file: {str(path)!r}") from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder; a video file was expected")
    if stat.S_ISREG(mode):
        return Origin(str(path), lambda: path.open("rb"), path)
    if stat.S_ISFIFO(mode):
        pipe = _open_pipe(path)
        return _spool(pipe, str(path), once, pipe.close)
    if stat.S_ISCHR(mode) and str(path).startswith("/dev/video"):
        raise VideoError(f"{path} is a camera: {CAMERA_HINT}")
    raise VideoError(f"{path} is a device or a socket; expected a video file, a folder of images or a pipe")


def _from_standard_input(once: bool) -> Origin:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise VideoError("- means standard input, and nothing is piped into it: expected a video file there")
    return _spool(_StandardInput(stream), "standard input", once)


class _StandardInput:
    """Standard input. All but its first bytes are read past the buffer.

    The buffer has a lock, and Python aborts at its exit where a thread that waits for bytes holds that.
    """

    def __init__(self, stream: Any) -> None:
        self._takes = [getattr(stream, "raw", stream).read, stream.read1]

    def read(self, size: int) -> bytes:
        take = self._takes.pop() if len(self._takes) > 1 else self._takes[0]
        data: bytes = take(size)
        return data


def _from_file_object(source: Any, once: bool) -> Origin:
    if is_capture(source):
        raise VideoError(f"got a cv2.VideoCapture; pass the file's path. Of a camera: {CAMERA_HINT}")
    label = getattr(source, "name", None)
    label = label if isinstance(label, str) else f"the {type(source).__name__}"
    if isinstance(source, io.TextIOBase):
        raise VideoError(f"{label} is opened as text: open it with mode 'rb'")
    try:
        start = source.tell() if source.seekable() else None
    except (AttributeError, OSError, ValueError):
        start = None
    if start is None:
        return _spool(source, label, once)
    return Origin(label, lambda: cast(BinaryIO, _Window(source, start)))


def _from_address(name: str, scheme: str, once: bool) -> Origin:
    if scheme in _LIVE_SCHEMES:
        raise VideoError(f"{name} is a live stream: {CAMERA_HINT}")
    if not name[len(scheme) :].startswith("://"):
        raise VideoError(f"{name} has lost a slash, as addresses do in pathlib.Path: pass it as a str")
    if scheme not in ("http", "https"):
        raise VideoError(f"cannot read from {scheme}:// ({name}): download the video, and pass the file")
    import http.client
    import urllib.error
    import urllib.request

    if Path(name.partition("?")[0]).suffix.lower() in _TEXT_LISTS:
        raise VideoError(f"{name} is a playlist of a stream, not a video: download the video itself")
    try:
        answer = urllib.request.urlopen(name, timeout=_SILENCE_SECONDS)
    except urllib.error.HTTPError as error:
        raise OSError(f"cannot read {name}: the server says {error.code} {error.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _unreachable(name, error) from None
    except ValueError as error:
        raise VideoError(f"{name} is no address: {error}") from None
    return _spool(_Answer(answer, name), name, once, answer.close)


def _unreachable(name: str, error: Exception) -> OSError:
    reason = getattr(error, "reason", None) or error
    return OSError(f"cannot read {name}: {reason}; check the address and the network")


class _Answer:
    """What a server sends; an end before the promised one is an error."""

    def __init__(self, answer: Any, name: str) -> None:
        promised = answer.headers.get("Content-Length") or ""
        self._promised = int(promised) if promised.isdecimal() else 0
        self._answer, self._name, self._count = answer, name, 0

    def read(self, size: int) -> bytes:
        import http.client

        try:
            chunk: bytes = self._answer.read1(size)
        except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise _unreachable(self._name, error) from None
        self._count += len(chunk)
        if not chunk and self._count < self._promised:
            raise OSError(
                f"cannot read {self._name}: the connection ended after {self._count} of {self._promised} "
                "bytes"
            )
        return chunk


def _open_pipe(path: Path) -> BinaryIO:
    """Open a named pipe; give up after a time if no process writes into it."""
    import select

    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if not select.select([descriptor], [], [], _SILENCE_SECONDS)[0]:
            raise VideoError(
                f"nothing came through the pipe {path} within {_SILENCE_SECONDS:.0f} s: expected a video; "
                "start what writes into it, or save the video to a file"
            )
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise


def _spool(stream: Any, label: str, once: bool, closing: Callable[[], object] | None = None) -> Origin:
    """Make an origin of what can be read only once; it is closed with the origin."""
    spool = Spool(stream, label, once, closing)
    origin = Origin(label, spool.open)
    # Not at the exit of Python: a thread may still wait for bytes, and closing would wait for that thread.
    weakref.finalize(origin, spool.close).atexit = False
    return origin

"""Decoding with PyAV, that is with FFmpeg's libraries."""

from __future__ import annotations

import importlib
import math
from array import array
from collections import deque
from itertools import chain
from typing import Any

import numpy as np

from qora_vision.errors import VideoError
from qora_vision.video.decoders.base import Decoder, Frame
from qora_vision.video.decoders.colours import BT601, conversion
from qora_vision.video.decoders.nal_units import is_idr
from qora_vision.video.decoders.numbering import KeyPacket, Numbering
from qora_vision.video.decoders.orientation import UPRIGHT, Orientation
from qora_vision.video.encryption import is_encrypted_mp4
from qora_vision.video.origins import Origin

try:
    # Its types differ from version to version, so that none would fit them all.
    av: Any = importlib.import_module("av")
    _reformatters: Any = importlib.import_module("av.video.reformatter")
    _side_data: Any = importlib.import_module("av.sidedata.sidedata")
except ImportError as problem:
    raise VideoError(f"PyAV cannot be loaded ({problem}): pip install av") from None

av.logging.set_level(None)  # what matters becomes an exception

_LARGEST_COUNT = 2**31
# Titles in any encoding must not be an error. From 19 on they never are, and there is no such argument.
_METADATA = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
_BUFFER = 1 << 17
_REENCODE = "ffmpeg -i {name} -c:v libx264 -pix_fmt yuv420p -an reencoded.mp4"
# Ticks of a second in times of a container (AV_TIME_BASE).
_TIME_BASE = 1_000_000
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS
_COVER = 0x400 | 0x800  # AV_DISPOSITION_ATTACHED_PIC, AV_DISPOSITION_TIMED_THUMBNAILS
_DEFAULT = 0x1  # AV_DISPOSITION_DEFAULT
# Names of decoders that differ from their codec's.
_CODECS = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}
# Where a packet is a frame and a key frame needs nothing before it, and where FFmpeg seeks by an index.
_NUMBERED_CODECS = {"h264", "hevc", "vp9", "av1", "mjpeg", "prores"}
_NUMBERED_CONTAINERS = ("mov", "matroska")


class _Named:
    """A file object for PyAV, under a name that FFmpeg cannot take for a pattern or a protocol.

    FFmpeg treats a read error as the end of the file, so the first error is stored here, and ends the file.
    """

    def __init__(self, file: Any, suffix: str) -> None:
        self.name = f"video{suffix}"
        self.tell = file.tell
        self.failure: BaseException | None = None
        self._read, self._seek = file.read, file.seek
        self.seekable = file.seekable

    def read(self, size: int) -> bytes:
        if self.failure is not None:
            return b""
        try:
            return bytes(self._read(size))
        except BaseException as error:
            # Not raised here: FFmpeg would try again, and PyAV prints what it cannot raise, such as a Ctrl-C.
            self.failure = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return int(self._seek(offset, whence))
        except (OSError, ValueError):
            return -1  # a damaged file sends FFmpeg to places before its start
        except BaseException as error:
            self.failure = error
            return -1

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False


class PyavDecoder(Decoder):
    """See `Decoder`; `origin` is opened anew for each."""

    def __init__(self, origin: Origin, threads: int = 1) -> None:
        self._origin = origin
        self._frame: Any = None
        self._previous: Any = None
        self._deinterlacer: Any = None
        self._ready: deque[Any] = deque()
        self._index = -1
        self._ended = False
        self._container: Any = None
        self._reformatter = _reformatters.VideoReformatter()
        self._file = origin.open()
        self._named = _Named(self._file, origin.suffix)
        try:
            self._container = self._open_container()
            self._stream = self._find_stream()
            self._stream.thread_type = "AUTO"
            self._stream.codec_context.thread_count = threads
            self._describe()
            self._packets = self._container.demux(self._stream)
        except BaseException:
            self.close()
            raise

    def _open_container(self) -> Any:
        try:
            return av.open(self._named, mode="r", buffer_size=_BUFFER, **_METADATA)
        except av.error.FFmpegError as error:
            self._check_machine(error)
            raise VideoError(self._cannot_open()) from None

    def _check_machine(self, error: Exception | None = None) -> None:
        """Raise errors of the machine (memory, disk, network), as opposed to faults of the video."""
        if isinstance(error, MemoryError):
            raise MemoryError(f"{self._origin.label}: out of memory while decoding") from None
        if self._named.failure is not None:
            raise self._named.failure

    def _find_stream(self) -> Any:
        streams = list(self._container.streams.video)
        moving = [stream for stream in streams if not _disposition(stream) & _COVER]
        if not moving:
            raise VideoError(self._no_video(bool(streams)))
        # The one that the file marks as its default, else the first.
        chosen = next((stream for stream in moving if _disposition(stream) & _DEFAULT), moving[0])
        context = chosen.codec_context
        if context is None:
            raise VideoError(
                f"{self._origin.label}: this build of FFmpeg (PyAV {av.__version__}) does not support the "
                f"codec of the video; {self._again()}"
            )
        if "mp4" in self._container.format.name:
            with self._origin.open() as file:
                if is_encrypted_mp4(file):
                    raise VideoError(self._encrypted())
        return chosen

    def _describe(self) -> None:
        stream, context = self._stream, self._stream.codec_context
        self.codec = _CODECS.get(context.name, context.name)
        self.has_stamps = not int(self._container.format.flags) & _NO_TIMESTAMPS
        self.tick = None if self._stream.time_base is None else float(self._stream.time_base)
        start = self._container.start_time
        self.start = None if start is None or not self.has_stamps else start / _TIME_BASE
        # A raw stream has the rate that the codec itself states; that of the container is invented.
        stated = stream.average_rate or stream.guessed_rate
        rate = stated if self.has_stamps else context.framerate
        self.fps = float(rate) if rate and math.isfinite(rate) and rate > 0 else None
        self._tick = float(stream.time_base) if stream.time_base else None
        self.promised_frames = self._count_hint()

    def _count_hint(self) -> int | None:
        count = float(self._stream.frames or 0)
        if count < 1 and self.fps and self.has_stamps:
            seconds = 0.0
            if self._container.duration:
                seconds = self._container.duration / 1e6
            elif self._stream.duration and self._tick:
                seconds = self._stream.duration * self._tick
            count = math.floor(seconds * self.fps + 0.5)
        return int(count) if 1 <= count < _LARGEST_COUNT else None

    def grab(self) -> bool:
        """Decode the next frame; what cannot be decoded is left out."""
        while not self._ready:
            if self._ended:
                self._frame = None
                return False
            self._feed()
        frame = self._ready.popleft()
        self._previous = self._frame if frame.interlaced_frame else None
        self._frame = frame
        self._index += 1
        return True

    def _feed(self) -> None:
        """Decode one packet."""
        self._check_machine()
        try:
            packet = next(self._packets, None)
        except av.error.FFmpegError as error:
            self._check_machine(error)
            packet = None  # the file is damaged or cut off here
        if packet is not None and packet.size == 0:  # demux() says so at the end
            packet = None
        if packet is not None and self._index < 0 and _is_encrypted(packet):
            raise VideoError(self._encrypted())
        try:
            if packet is None:
                self._ended = True
                self._check_machine()
                self._ready.extend(self._stream.decode(None))
            else:
                self._ready.extend(packet.decode())
        except EOFError:
            pass
        except av.error.FFmpegError as error:
            self._check_machine(error)

    def number_frames(self) -> Numbering | None:
        """For MP4, MOV, Matroska and WebM with codecs whose packets are frames."""
        container = self._container.format.name
        if self.codec not in _NUMBERED_CODECS or not any(each in container for each in _NUMBERED_CONTAINERS):
            return None
        extradata = bytes(self._stream.codec_context.extradata or b"") if self.codec == "h264" else None
        times, keys = array("q"), {}
        try:
            for packet in self._packets:
                if packet.size == 0:
                    break
                if packet.is_discard and not times:
                    continue
                shown = packet.pts
                if packet.is_corrupt or packet.is_discard or shown is None:
                    return None
                if packet.is_keyframe and (extradata is None or is_idr(bytes(packet), extradata)):
                    keys[len(times)] = KeyPacket(shown, shown if packet.dts is None else packet.dts)
                times.append(shown)
        except av.error.FFmpegError as error:
            self._check_machine(error)
            return None
        self._check_machine()
        return Numbering(times, keys)

    def seek(self, key: KeyPacket, number: int) -> bool:
        """By presentation time, and where that leads elsewhere by decoding time."""
        self._ready.clear()
        self._frame = None
        self._ended = False
        self._index = number - 1
        for stamp in dict.fromkeys((key.shown, key.read)):
            try:
                self._container.seek(stamp, stream=self._stream)
                packets = self._container.demux(self._stream)
                first = next(packets, None)
            except av.error.FFmpegError as error:
                self._check_machine(error)
                return False
            if first is not None and first.size and first.pts == key.shown:
                self._packets = chain([first], packets)
                return True
        return False

    def is_sound(self, shown: int, key: bool) -> bool:
        """Fields of an interlaced frame depend on its neighbours, so such frames are not."""
        frame = self._frame
        whole = not (frame.is_corrupt or frame.interlaced_frame)
        return whole and frame.pts == shown and (bool(frame.key_frame) or not key)

    def seconds(self) -> float | None:
        """Exact to the container's own tick."""
        if self._frame is None or self._frame.pts is None or not self.has_stamps:
            return None
        base = self._frame.time_base or self._stream.time_base
        return float(self._frame.pts * base) if base else None

    def orientation(self) -> Orientation:
        """As the display matrix says."""
        # Not `frame.side_data`: the frame keeps that, and that the frame, until the garbage collector comes.
        matrix = _side_data.SideDataContainer(self._frame).get(_side_data.Type.DISPLAYMATRIX)
        return UPRIGHT if matrix is None else Orientation.from_matrix(bytes(matrix))

    @property
    def interlaced(self) -> bool:
        """Whether the frame that was grabbed last consists of two fields."""
        return bool(self._frame.interlaced_frame)

    def _whole_picture(self) -> Any:
        if self._deinterlacer is None:
            from qora_vision.video.decoders.deinterlacing import Deinterlacer

            self._deinterlacer = Deinterlacer()
        while not self._ready and not self._ended:
            self._feed()
        following = self._ready[0] if self._ready else None
        return self._deinterlacer.apply(self._previous, self._frame, following)

    def check_colours(self) -> None:
        """Raise VideoError if the frame that was grabbed last has a matrix that FFmpeg does not convert."""
        self._colours()

    @property
    def is_bt601(self) -> bool:
        """Whether the frame that was grabbed last has BT.601's matrix, by its tag or by default."""
        return self._colours().get("src_colorspace", BT601) == BT601

    def _colours(self) -> dict[str, int]:
        where = f"{self._origin.label}: frame {self._index}"
        return conversion(self._frame, self._stream.codec_context, where, av.__version__)

    def retrieve(self) -> Frame:
        """Convert by the frame's own colour tags; of an interlaced frame, its first field."""
        colours = self._colours()
        frame = self._whole_picture() if self.interlaced else self._frame
        try:
            picture = self._reformatter.reformat(frame, format="bgr24", interpolation="BICUBIC", **colours)
        except av.error.FFmpegError as error:
            raise VideoError(
                f"{self._origin.label}: frame {self._index} decodes but cannot be converted from "
                f"{frame.format.name} to 8-bit colour ({error.strerror}); {self._again()}"
            ) from None
        plane = picture.planes[0]
        shape, strides = (picture.height, picture.width, 3), (plane.line_size, 3, 1)
        pixels = np.ndarray(shape, np.uint8, plane, 0, strides)
        pixels.flags.writeable = False  # it may be a picture that others are decoded from
        return self.orientation().apply(pixels)

    def close(self) -> None:
        """Close container and file."""
        self._ready.clear()
        self._frame = self._previous = self._deinterlacer = None
        self._packets = iter(())
        if self._container is not None:
            self._container.close()
            self._container = None
        self._file.close()

    # --- what to say ---------------------------------------------------------------------------------

    def _again(self) -> str:
        name = self._origin.path.name if self._origin.path else "VIDEO"
        return f"re-encode it: {_REENCODE.format(name=name)}"

    def _cannot_open(self) -> str:
        return why_not(self._origin, f"PyAV {av.__version__}")

    def _encrypted(self) -> str:
        return (
            f"{self._origin.label}: the video is encrypted; expected one without copy protection: decrypt it "
            "with its key, or take another copy"
        )

    def _no_video(self, cover: bool) -> str:
        label = self._origin.label
        sound = [stream.codec_context for stream in self._container.streams.audio]
        names = ", ".join(sorted({context.name for context in sound if context is not None}))
        if cover:
            return (
                f"{label}: no video, only {'sound and ' if sound else ''}a cover picture; a video file was "
                "expected"
            )
        if sound:
            return f"{label}: holds sound only ({names or 'of an unknown codec'}); a video file was expected"
        return (
            f"{label}: holds no video stream; the file is damaged, incomplete or of another kind: "
            "copy or download it again"
        )

    def no_frames(self) -> str:
        """Say why not one frame decodes."""
        return (
            f"{self._origin.label}: the header promises {self.codec} video, but no frame decodes: "
            "the file is "
            "damaged, incomplete or encrypted; copy or download it again"
        )


def _is_encrypted(packet: Any) -> bool:
    """Whether a packet is encrypted; versions of PyAV that do not know say no."""
    return hasattr(packet, "has_sidedata") and bool(packet.has_sidedata("encryption_info"))


def _disposition(stream: Any) -> int:
    value = stream.disposition
    return int(getattr(value, "value", value) or 0)


def why_not(origin: Origin, decoder: str) -> str:
    """Say what a file that no decoder opens looks like, and what to do."""
    head = origin.head(64)
    if not head:
        return f"{origin.label} is empty (0 bytes): a video file was expected"
    if head.startswith(b"version https://git-lfs"):
        return f"{origin.label} is a Git LFS pointer, not the video itself: fetch it with `git lfs pull`"
    name = origin.path.name if origin.path else "VIDEO"
    return (
        f"cannot open {origin.label} as a video: {decoder} does not read this container, or it is damaged or "
        "cut off (an MP4 that lost the index at its end cannot be opened); check the file or re-encode the "
        f"original: {_REENCODE.format(name=name)}"
    )

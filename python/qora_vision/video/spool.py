"""What can be read only once: kept in a temporary file, as far as it has been read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from qora_vision.errors import VideoError
from qora_vision.video.placed import PlacedReader

# What comes through a pipe or from an address and is larger than this is taken for endless.
LARGEST_SPOOL = 8 << 30
# Of what is read in one pass from start to end, no more than this is kept.
SEQUENTIAL_SPOOL = 64 << 20
_CHUNK = 1 << 20
_PACKET = 188  # bytes of a packet of an MPEG transport stream, which begins with 0x47
# Matroska and WebM, FLV, MPEG program streams.
_STREAMED = (b"\x1aE\xdf\xa3", b"FLV", b"\x00\x00\x01\xba")


class Spool:
    """A stream of bytes that can be read again from the start.

    Parameters
    ----------
    stream
        A file object, read when its bytes are asked for.
    label
        What to call it in messages.
    once
        Whether one pass from start to end is all that will be made, if the container allows that. Then only
        the first bytes are kept, and the stream may be endless.
    closing
        Called when nothing more will be read.
    """

    def __init__(
        self, stream: Any, label: str, once: bool = False, closing: Callable[[], object] | None = None
    ) -> None:
        self._take = getattr(stream, "read1", None) or stream.read
        self._label = label
        self._closing = closing
        self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="qora-vision-"))  # noqa: SIM115
        self._length = self._kept = 0
        self._tail, self._tail_start = b"", 0  # the latest bytes, where they are not kept
        self._ended = False
        self.sequential = False
        try:
            if once:
                self.sequential = _is_streamed(self.read(0, 2 * _PACKET))
            else:
                self.fill()
        except BaseException:
            self.close()
            raise

    def fill(self) -> int:
        """Read to the end; return the length."""
        while not self._ended:
            self._pull()
        return self._length

    def read(self, place: int, size: int) -> bytes:
        """Return `size` bytes from a place on, or up to the end; when read in one pass, those that are there.

        Raises
        ------
        OSError
            If the place is no longer kept, or the stream cannot be read.
        VideoError
            If the stream gives no bytes, or does not end.
        """
        enough = place + (1 if self.sequential else size)
        while self._length < enough and not self._ended:
            self._pull()
        if place < self._kept:
            self._file.seek(place)
            return self._file.read(size)
        if self._tail_start <= place:
            return self._tail[place - self._tail_start :][:size]
        raise OSError(f"{self._label} is read once and its start is not kept: save the video to a file")

    def _pull(self) -> None:
        chunk = self._take(_CHUNK)
        if isinstance(chunk, str):
            raise VideoError(f"{self._label} gives text: open it in binary, with mode 'rb'")
        if not chunk:
            self._ended = True
            self._close_stream()
            return
        if self.sequential and self._length + len(chunk) > SEQUENTIAL_SPOOL:
            self._tail, self._tail_start = bytes(chunk), self._length
        else:
            self._file.seek(self._length)
            self._kept += self._file.write(chunk)
        self._length += len(chunk)
        if not self.sequential and self._length > LARGEST_SPOOL:
            raise VideoError(
                f"{self._label}: more than {LARGEST_SPOOL >> 30} GiB came, and no end; live sources are not "
                "supported yet: save the video to a file"
            )

    def _close_stream(self) -> None:
        closing, self._closing = self._closing, None
        if closing is not None:
            closing()

    def close(self) -> None:
        """Let go of the stream and of what is kept."""
        self._file.close()
        self._close_stream()

    def open(self) -> BinaryIO:
        """Open it at its start; closing that closes nothing here."""
        return cast(BinaryIO, _Pass(self))


class _Pass(PlacedReader):
    """One reader of a spool."""

    def __init__(self, spool: Spool) -> None:
        super().__init__()
        self._spool = spool

    def seekable(self) -> bool:
        return not self._spool.sequential

    def _length(self) -> int:
        return self._spool.fill()

    def _bytes_at(self, place: int, size: int) -> bytes:
        return self._spool.read(place, self._spool.fill() - place if size < 0 else size)


def _is_streamed(head: bytes) -> bool:
    """Whether a container is read from start to end without going back, as its first bytes tell."""
    transport = head[:1] == b"G" and head[_PACKET : _PACKET + 1] == b"G"
    return head.startswith(_STREAMED) or transport

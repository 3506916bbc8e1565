"""Detect encrypted MP4 files: decoders do not report encryption, and some return noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

# Sample entries of encrypted video: common encryption (ISO/IEC 23001-7), and Apple's FairPlay.
_ENCRYPTED = {b"encv", b"drmi"}
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
_MOST_BOXES = 10_000
_END = 1 << 62  # the length of a pipe is known only at its end


def is_encrypted_mp4(file: BinaryIO) -> bool:
    """Look at the sample descriptions of an MP4 or MOV file; anything else is not encrypted."""
    described = 0
    for count, (kind, start, end) in enumerate(_boxes(file, 0, _END)):
        if count > _MOST_BOXES or (described and start >= described):
            return False
        if kind == b"moov":
            described = end
        if kind == b"stsd":
            file.seek(start)
            entries = file.read(min(end - start, 4096))
            if entries[12:16] in _ENCRYPTED:  # after version, count, and the size of the first entry
                return True
    return False


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, first and last byte of what is in each box, going into those that hold others."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind, body = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if length == 1:
            length, body = int.from_bytes(head[8:16], "big"), start + 16
        elif length == 0:
            length = end - start
        if length < 8:
            return
        stop = min(end, start + length)
        yield kind, body, stop
        if kind in _CONTAINERS:
            yield from _boxes(file, body, stop)
        start += length

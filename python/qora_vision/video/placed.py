"""A readable file object with a position of its own in bytes that others read, too."""

from __future__ import annotations

import io
import os
from abc import abstractmethod


class PlacedReader(io.RawIOBase):
    """Keeps the position; a subclass has the bytes. Closing it closes nothing that it reads."""

    def __init__(self) -> None:
        self._place = 0

    @abstractmethod
    def _length(self) -> int:
        """Return how many bytes there are; may read them all."""

    @abstractmethod
    def _bytes_at(self, place: int, size: int) -> bytes:
        """Return at most `size` bytes from a position on; size -1: all."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True; a subclass may know better."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, and return the new position."""
        if whence == os.SEEK_CUR:
            offset += self._place
        elif whence == os.SEEK_END:
            offset += self._length()
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence {whence} is not supported")
        self._place = max(0, offset)
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes; -1: all that are left."""
        data = self._bytes_at(self._place, size)
        self._place += len(data)
        return data

"""Read-only memory mapping of a whole file, and zero-copy arrays over it."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class MappedFile:
    """A file mapped into memory, read-only; arrays taken from it keep the mapping alive.

    The mapping follows the file, not its name. If a rename replaces the file, the mapping keeps the old
    content. If the file is truncated in place, the next access kills the process, as with every mapped file.

    Parameters
    ----------
    path
        A regular file.

    Raises
    ------
    OSError
        If the file is missing, unreadable, a directory or not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # Opening a pipe would wait for ever.
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(code, "expected a regular file", str(path))
        with path.open("rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            self.buffer: mmap.mmap | bytes = (
                mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ) if self.size else b""
            )

    def array(self, offset: int, dtype: npt.DTypeLike, shape: Sequence[int]) -> npt.NDArray[Any]:
        """Return a read-only C-ordered view of `shape` and `dtype` that starts at byte `offset`.

        Raises
        ------
        ValueError
            If the view would leave the file, or NumPy has no array of that shape.
        """
        if 0 in shape:
            empty = np.empty(shape, dtype)
            empty.flags.writeable = False
            return empty
        try:
            return np.ndarray(shape, dtype, self.buffer, offset)
        except (TypeError, OverflowError) as error:  # "buffer is too small" is a TypeError.
            raise ValueError(str(error)) from error

    def release(self, offset: int, nbytes: int) -> None:
        """Release the pages that hold these bytes; the next access reads them from the disk again."""
        if nbytes > 0 and isinstance(self.buffer, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            start = offset - offset % mmap.PAGESIZE
            self.buffer.madvise(mmap.MADV_DONTNEED, start, offset + nbytes - start)

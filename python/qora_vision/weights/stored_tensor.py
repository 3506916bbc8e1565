"""Tensors of a checkpoint in a mapped file: read on request, and released afterwards."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from qora_vision.errors import CheckpointError, listed, reason
from qora_vision.files.mapped import MappedFile
from qora_vision.weights.safetensors_file import DTYPES


class Storage:
    """A block of bytes in a mapped file that one or several tensors share.

    Parameters
    ----------
    file, offset, stored_nbytes
        Position and number of the bytes, as stored.
    nbytes
        Number of unpacked bytes; differs from `stored_nbytes` only if `deflated`.
    crc32
        CRC-32 of the unpacked bytes, checked at first use; None if there is none.
    deflated
        Whether the bytes are compressed (raw DEFLATE).

    Raises
    ------
    CheckpointError
        If the bytes are not all inside the file.
    """

    def __init__(
        self,
        file: MappedFile,
        offset: int,
        stored_nbytes: int,
        nbytes: int,
        *,
        crc32: int | None = None,
        deflated: bool = False,
    ) -> None:
        if offset < 0 or stored_nbytes < 0 or offset + stored_nbytes > file.size:
            raise CheckpointError("data is expected beyond the end of the file (truncated?)")
        if not deflated and stored_nbytes != nbytes:
            raise CheckpointError(
                f"an uncompressed part has {stored_nbytes} stored and {nbytes} unpacked bytes: expected "
                "equal sizes (damaged?)"
            )
        self.file = file
        self.nbytes = nbytes
        self._offset = offset
        self._stored_nbytes = stored_nbytes
        self._crc32 = crc32
        self._deflated = deflated
        # Unpacked bytes stay until each tensor in this storage has been released.
        self._unpacked: npt.NDArray[np.uint8] | None = None
        self._users = 0
        self._released: set[int] = set()

    def add_user(self) -> int:
        """Register one more tensor in this storage; return its number for `release`."""
        self._users += 1
        return self._users

    def start(self, most: int) -> bytes:
        """Return the first bytes, at most `most`, without reading the rest or the checksum.

        Raises
        ------
        CheckpointError
            If they cannot be unpacked.
        """
        stored = self.file.array(self._offset, np.uint8, (self._stored_nbytes,))
        if not self._deflated:
            return stored[:most].tobytes()
        return _unpack(stored.data, min(most, self.nbytes))

    def load(self) -> npt.NDArray[np.uint8]:
        """Return the bytes: a read-only view of the file, or an unpacked copy if they are compressed.

        Raises
        ------
        CheckpointError
            If they do not match their checksum or cannot be unpacked.
        """
        if self._unpacked is not None:
            return self._unpacked
        data = self.file.array(self._offset, np.uint8, (self._stored_nbytes,))
        if self._deflated:
            data = np.frombuffer(_inflate(data.data, self.nbytes), np.uint8)
        if self._crc32 is not None and zlib.crc32(data.data) != self._crc32:
            raise CheckpointError("its data is damaged (the checksum differs): download it again")
        self._crc32 = None  # Checked once: this process does not write to the mapping.
        if self._deflated:
            self._unpacked = data
        return data

    def release(self, user: int = 0) -> None:
        """Release the pages of these bytes; with the last of several tensors, also the unpacked copy."""
        self._released.add(user)
        if len(self._released) >= self._users:
            self._unpacked = None
            self._released.clear()
        self.file.release(self._offset, self._stored_nbytes)


class StoredTensor:
    """A tensor inside a `Storage`.

    Parameters
    ----------
    storage
        Holds its values.
    dtype
        Name of the stored type in safetensors, for example `"F32"` or `"BF16"`.
    shape
        Its shape.
    strides
        Steps between neighbours, in values, one for each dimension; None for C order.
    offset
        Position of its first value in the storage, in values.
    """

    def __init__(
        self,
        storage: Storage,
        dtype: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        offset: int = 0,
    ) -> None:
        self.storage = storage
        self.dtype = dtype
        self.shape = shape
        self._strides = strides
        self._offset = offset
        self._user = storage.add_user()

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    def release(self) -> None:
        """Release the memory pages that hold the values."""
        self.storage.release(self._user)

    def read(self) -> npt.NDArray[Any]:
        """Return the values: a read-only view of the file where possible; bfloat16 becomes float32 (exactly).

        Raises
        ------
        CheckpointError
            If NumPy lacks the type, or the data is damaged or too short for such a tensor.
        """
        if self.dtype not in DTYPES:
            raise CheckpointError(
                f"the type {listed([self.dtype])} is not supported: expected {', '.join(DTYPES)}"
            )
        try:
            values = self._view(DTYPES[self.dtype])
        except (ValueError, OverflowError) as error:
            raise CheckpointError(reason(error)) from error
        if self.dtype == "BF16":
            wide = values.astype(np.uint32)
            wide <<= 16
            return wide.view(np.float32)
        if self.dtype == "BOOL":
            return np.asarray(values != 0)
        return values

    def check_bounds(self) -> None:
        """Check that every value lies inside the storage, without reading any.

        Raises
        ------
        CheckpointError
            If a value lies outside.
        """
        if 0 in self.shape:
            return
        strides = self._strides_in_values()
        last = self._offset + sum((n - 1) * step for n, step in zip(self.shape, strides, strict=True))
        if self._offset < 0 or min(strides, default=0) < 0 or last >= self._available():
            raise CheckpointError("its shape and strides reach beyond its data")

    def _strides_in_values(self) -> tuple[int, ...]:
        return _c_strides(self.shape) if self._strides is None else self._strides

    def _available(self) -> int:
        return self.storage.nbytes // DTYPES[self.dtype].itemsize

    def _view(self, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return the values as stored, aligned for their type."""
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        self.check_bounds()
        count, available = math.prod(self.shape), self._available()
        if count > available:
            # With strides of 0, a few bytes could describe a tensor of any size.
            raise CheckpointError("it repeats its values (an expanded tensor): save it with .contiguous()")
        values = self.storage.load()[: available * dtype.itemsize].view(dtype)[self._offset :]
        strides = self._strides_in_values()
        if strides == _c_strides(self.shape):
            values = values[:count].reshape(self.shape)
        else:
            steps = [step * dtype.itemsize for step in strides]
            values = as_strided(values, self.shape, steps, writeable=False)
        return values if values.flags.aligned else values.copy()


class PiecewiseTensor(StoredTensor):
    """A tensor that is stored in several flat pieces.

    Parameters
    ----------
    parts
        The pieces in order, at least one, all of the same type.
    shape
        Shape of the whole.
    """

    def __init__(self, parts: Sequence[StoredTensor], shape: tuple[int, ...]) -> None:
        super().__init__(parts[0].storage, parts[0].dtype, shape)
        self._parts = tuple(parts)

    def release(self) -> None:
        """Release the memory pages that hold the pieces."""
        for part in self._parts:
            part.release()

    def read(self) -> npt.NDArray[Any]:
        """Return the values, concatenated in memory; raises like `StoredTensor.read`."""
        return np.concatenate([part.read().ravel() for part in self._parts]).reshape(self.shape)


def _c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in values, of a C-ordered array."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _unpack(data: memoryview, most: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, max(most, 1))  # 0 would mean no limit.
    except (zlib.error, OverflowError) as error:
        raise CheckpointError(f"its compressed data is damaged: {reason(error)}") from error


def _inflate(data: memoryview, nbytes: int) -> bytes:
    unpacked = _unpack(data, nbytes + 1)  # One byte more than allowed, to detect an excess.
    if len(unpacked) != nbytes:
        raise CheckpointError(f"its compressed data does not unpack to the stated {nbytes} bytes: damaged")
    return unpacked

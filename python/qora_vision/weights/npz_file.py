"""Archives of `numpy.savez`: each member is a header and an array."""

from __future__ import annotations

import io
import math
import tokenize
from typing import IO

import numpy as np
from numpy.lib import format as npy

from qora_vision.errors import CheckpointError, listed, reason, shown
from qora_vision.files.mapped import MappedFile
from qora_vision.weights.stored_tensor import StoredTensor
from qora_vision.weights.zip_members import list_members, member_storage

_DTYPES = {"<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "<i4": "I32", "|u1": "U8"}
# NumPy refuses headers of more than 10 000 characters.
_MAX_HEADER = 1 << 14
# Exceptions that NumPy raises for wrong headers, which it parses as Python literals.
_HEADER_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    RecursionError,
    MemoryError,
    SyntaxError,
    EOFError,
    tokenize.TokenError,
)


def read_npz_file(file: MappedFile) -> dict[str, StoredTensor]:
    """Return the arrays of an archive by name. Members may be stored or deflated; nothing is unpickled.

    Raises
    ------
    CheckpointError
        If the file is not such an archive, is damaged, or has an array that does not hold numbers.
    """
    members = list_members(file)
    arrays = {name: member for name, member in members.items() if name.endswith(".npy")}
    if not arrays or len(arrays) != len(members):
        raise CheckpointError(
            "it is a zip archive, but not one of numpy.savez (.npy members and nothing else)"
        )
    tensors = {}
    for name, member in arrays.items():
        try:
            storage = member_storage(file, member)
            stream = io.BytesIO(storage.start(_MAX_HEADER))
            shape, fortran, dtype = _read_header(stream)
            begin = stream.tell()
        except _HEADER_ERRORS as error:
            raise CheckpointError(f"{shown(name)} is damaged: {reason(error)}") from error
        if dtype.str not in _DTYPES:
            raise CheckpointError(
                f"{shown(name)} is of type {_shown_type(dtype)}: expected one of {', '.join(_DTYPES)}"
            )
        strides = _fortran_strides(shape) if fortran else None
        # NumPy pads headers so that the values are aligned.
        tensor = StoredTensor(storage, _DTYPES[dtype.str], shape, strides, begin // dtype.itemsize)
        if begin % dtype.itemsize or storage.nbytes != begin + tensor.nbytes:
            raise CheckpointError(
                f"{shown(name)} has {storage.nbytes - begin} bytes, which do not make an array of "
                f"{_shown_type(dtype)} {shown(shape)}"
            )
        tensors[name.removesuffix(".npy")] = tensor
    return tensors


def _shown_type(dtype: np.dtype[np.generic]) -> str:
    return listed([str(dtype)])


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    if version == (2, 0):
        return npy.read_array_header_2_0(stream)
    raise CheckpointError(f"version {version} of the array format is not supported: expected 1.0 or 2.0")


def _fortran_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[:axis]) for axis in range(len(shape)))

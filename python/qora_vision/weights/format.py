"""The `.qora-vision` file: one model with all that running it takes (docs/format.md is its specification).

A safetensors file whose metadata says what the tensors are. Every byte of it is under a checksum: SHA-256
over the header, CRC-32 over each tensor. This module knows no model: it stores what it is given.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt

from qora_vision.engine.tensors import KINDS, QuantizedTensor, Tensor
from qora_vision.errors import ModelFileError, listed, shown
from qora_vision.files.atomic import replace_file
from qora_vision.files.mapped import MappedFile
from qora_vision.weights.format_header import (
    ALIGNMENT,
    FORMAT_NAME,
    FORMAT_VERSION,
    SCALES_SUFFIX,
    ModelDescription,
    TensorInfo,
    build_header,
    parse_model_header,
)
from qora_vision.weights.safetensors_file import DTYPES, METADATA_KEY

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "ModelDescription",
    "ModelFile",
    "ModelHeader",
    "TensorInfo",
    "read_header",
    "read_model",
    "write_model",
]

# Bytes that are looked at twice while they are in the cache.
_CHUNK = 1 << 18
_HALF_INFINITY, _HALF_SIGN = 0x7C00, 0x8000


@dataclass(frozen=True)
class ModelFile(ModelDescription):
    """The contents of a `.qora-vision` file.

    Attributes
    ----------
    tensors
        Name to float32 or float16 array, or `QuantizedTensor`. When read from a file the arrays are read-only
        views of the mapped file, which stays mapped as long as one of them lives.
    mapped
        That file, if it was read from one.
    """

    tensors: Mapping[str, Tensor]
    mapped: MappedFile | None = field(default=None, repr=False, compare=False)

    def let_go(self) -> None:
        """Give back the memory of the mapped file's pages; they are read again when a tensor is."""
        if self.mapped is not None:
            self.mapped.release(0, self.mapped.size)


@dataclass(frozen=True)
class ModelHeader(ModelDescription):
    """A model file without its weights; `file_size` is in bytes."""

    format_version: int
    file_size: int
    tensors: Mapping[str, TensorInfo]

    def bytes_by_kind(self) -> dict[str, int]:
        """Return how many bytes the tensors of each kind take, largest first."""
        sizes: dict[str, int] = {}
        for info in self.tensors.values():
            sizes[info.kind] = sizes.get(info.kind, 0) + info.nbytes
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def write_model(path: str | Path, model: ModelFile) -> None:
    """Write a model as a `.qora-vision` file, all of it or nothing.

    The tensors may be views of the very file that is being replaced, except on Windows, which does not
    replace a file that is mapped: save under another name there.

    Parameters
    ----------
    path
        Where to write. A file already there is replaced only once the new one is whole and on disk.
    model
        What to write.

    Raises
    ------
    ModelFileError
        If the model holds something that the format cannot.
    OSError
        If the file cannot be written; what was at `path` is unchanged.
    """
    stored = _stored_arrays(model.tensors)
    # Sizes divisible by 64 first, then by 32, ...: every tensor is aligned for its type without padding
    # between.
    stored = dict(sorted(stored.items(), key=lambda item: -_size_alignment(item[1].nbytes)))
    quantized = {
        name: TensorInfo(tensor.kind, tensor.shape, tensor.nbytes)
        for name, tensor in model.tensors.items()
        if isinstance(tensor, QuantizedTensor)
    }
    header = build_header(
        model, stored, quantized, {name: _checksum(array) for name, array in stored.items()}
    )
    with replace_file(Path(path)) as file:
        file.write(header)
        for array in stored.values():
            file.write(_bytes_of(array))


def read_model(path: str | Path, *, verify: bool = True, threads: int = 1) -> ModelFile:
    """Open a `.qora-vision` file; the tensors are views of the mapped file, nothing is copied.

    Parameters
    ----------
    path
        The file.
    verify
        Check every tensor against its checksum and for NaN and infinity, which reads the whole file once. The
        header is always checked.
    threads
        How many check tensors side by side, at least 1.

    Raises
    ------
    ModelFileError
        If it is no such file, damaged, written in a newer version of the format, or holds NaN or infinity.
    OSError
        If it is missing or unreadable.
    """
    file = MappedFile(Path(path))
    with _naming(file.path):
        header = parse_model_header(file.buffer)
        arrays = {
            name: file.array(entry.offset, DTYPES[entry.dtype], entry.shape)
            for name, entry in header.entries.items()
        }
        if verify:
            _verify(arrays, header.checksums, threads)
        tensors: dict[str, Tensor] = {}
        for name, info in header.tensors.items():
            if info.kind in KINDS:
                scales = arrays[name + SCALES_SUFFIX]
                tensors[name] = QuantizedTensor(info.kind, info.shape, arrays[name], scales)
            else:
                tensors[name] = arrays[name]
    return ModelFile(**vars(header.description), tensors=tensors, mapped=file)


def read_header(path: str | Path) -> ModelHeader:
    """Read what a `.qora-vision` file says about its model without touching the weights.

    Raises
    ------
    ModelFileError
        If it is no such file, its header is damaged, it is truncated, or of a newer version of the format.
    OSError
        If it is missing or unreadable.
    """
    file = MappedFile(Path(path))
    with _naming(file.path):
        header = parse_model_header(file.buffer)
    return ModelHeader(
        **vars(header.description),
        format_version=header.version,
        file_size=file.size,
        tensors=header.tensors,
    )


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with a file into a `ModelFileError` that names it."""
    try:
        yield
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _stored_arrays(tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    """Split quantised tensors into values and scales; everything C-ordered and little-endian."""
    stored: dict[str, npt.NDArray[Any]] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or name == METADATA_KEY:
            raise ModelFileError(f"a tensor cannot have the name {shown(name)}")
        if isinstance(tensor, QuantizedTensor):
            parts = {name: tensor.data, name + SCALES_SUFFIX: tensor.scales}
        elif tensor.dtype in (np.float32, np.float16):
            parts = {name: tensor}
        else:
            raise ModelFileError(
                f"tensor {shown(name)} is {tensor.dtype}: expected float32, float16 or q4, q8"
            )
        if not stored.keys().isdisjoint(parts):
            raise ModelFileError(f"two tensors would be stored under the same name ({listed(parts)})")
        for part, array in parts.items():
            stored[part] = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return stored


def _size_alignment(nbytes: int) -> int:
    """Return the largest power of two, at most 64, that divides a size; 64 for an empty tensor."""
    return min(nbytes & -nbytes, ALIGNMENT) if nbytes else ALIGNMENT


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _checksum(array: npt.NDArray[Any]) -> str:
    return f"crc32:{zlib.crc32(_bytes_of(array)):08x}"


def _verify(arrays: Mapping[str, npt.NDArray[Any]], checksums: Mapping[str, str], threads: int) -> None:
    """Compare checksums, and refuse numbers that are none: a file can be whole and wrong all the same."""
    sound: set[str] = set()
    finite: set[str] = set()

    def check(names: Sequence[str]) -> None:
        for name in names:
            checksum, is_finite = _inspect(arrays[name])
            if checksum == checksums[name]:
                sound.add(name)
            if is_finite:
                finite.add(name)

    # Threads run side by side in zlib; many would wait for memory. Each gets as many of the large tensors.
    count = min(threads, 8)
    by_size = sorted(arrays, key=lambda name: arrays[name].nbytes)
    helpers = [Thread(target=check, args=(by_size[i::count],)) for i in range(1, count)]
    for helper in helpers:
        helper.start()
    check(by_size[::count])
    for helper in helpers:
        helper.join()
    damaged = [name for name in arrays if name not in sound]
    if damaged:
        raise ModelFileError(
            f"damaged tensors (checksums differ): {listed(damaged, 5)}; download or convert the model again"
        )
    wrong = [name for name in arrays if name not in finite]
    if wrong:
        raise ModelFileError(
            f"tensors that hold NaN or infinity: {listed(wrong, 5)}; expected numbers: convert the model "
            "again from sound weights"
        )


def _inspect(array: npt.NDArray[Any]) -> tuple[str, bool]:
    """Return an array's checksum, and whether all its floating-point numbers are finite, in one pass."""
    flat = array.reshape(-1)
    step = _CHUNK // array.itemsize
    checksum, is_finite = 0, True
    for begin in range(0, flat.size, step):
        part = flat[begin : begin + step]
        checksum = zlib.crc32(part.view(np.uint8).data, checksum)
        is_finite = is_finite and _all_finite(part)
    return f"crc32:{checksum:08x}", is_finite


def _all_finite(part: npt.NDArray[Any]) -> bool:
    if part.dtype == np.float16:
        # NumPy's own test takes ten times as long. All bits of the exponent set: as signed numbers the
        # largest if positive, as unsigned ones if negative.
        positive, negative = int(part.view(np.int16).max()), int(part.view(np.uint16).max())
        return positive < _HALF_INFINITY and negative < _HALF_SIGN + _HALF_INFINITY
    return part.dtype.kind != "f" or bool(np.isfinite(part).all())

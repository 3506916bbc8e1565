"""The `.qora-vision` file: one model with all that running it takes (docs/format.md is its specification).

A safetensors file whose metadata says what the tensors are. Every byte of it is under a checksum: SHA-256
over the header, CRC-32 over each tensor. This module knows no model: it stores what it is given.
"""

from __future__ import annotations

import contextlib
import zlib
from abc import abstractmethod
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
    PART_PREFIX,
    PARTS,
    SCALES_SUFFIX,
    ModelDescription,
    NetworkDescription,
    Scoring,
    StoredArray,
    TensorInfo,
    build_header,
    parse_model_header,
    stored_arrays,
    to_json,
)
from qora_vision.weights.safetensors_file import DTYPES, METADATA_KEY, parse_json

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "ModelDescription",
    "ModelFile",
    "ModelHeader",
    "NetworkDescription",
    "Scoring",
    "TensorInfo",
    "TensorStream",
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
    parts
        Some of `PARTS`, as JSON values.
    mapped
        The file that this was read from, if there is one.
    """

    tensors: Mapping[str, Tensor]
    parts: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    mapped: MappedFile | None = field(default=None, repr=False, compare=False)

    def let_go(self) -> None:
        """Give back the memory of the mapped file's pages; they are read again when a tensor is."""
        if self.mapped is not None:
            self.mapped.release(0, self.mapped.size)


class TensorStream(Mapping[str, Tensor]):
    """Tensors that are made when they are asked for: what writes them need not hold one as a whole."""

    @abstractmethod
    def info(self, name: str) -> TensorInfo:
        """Say how a tensor will be stored, without making it."""

    @abstractmethod
    def row_blocks(self, name: str) -> Iterator[Tensor]:
        """Make a tensor, some of its rows (first axis) at a time, in order."""

    @abstractmethod
    def report(self, done: int) -> None:
        """Take note that so many tensors have been written."""


class _Held(TensorStream):
    """Tensors that are in memory."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def info(self, name: str) -> TensorInfo:
        tensor = self._tensors[name]
        if isinstance(tensor, QuantizedTensor):
            return TensorInfo(tensor.kind, tensor.shape, tensor.nbytes)
        if tensor.dtype not in (np.float32, np.float16):
            raise ModelFileError(
                f"tensor {shown(name)} is {tensor.dtype}: expected float32, float16 or q4, q8"
            )
        return TensorInfo("f32" if tensor.dtype == np.float32 else "f16", tensor.shape, tensor.nbytes)

    def row_blocks(self, name: str) -> Iterator[Tensor]:
        yield self._tensors[name]

    def report(self, done: int) -> None:
        pass


@dataclass(frozen=True)
class ModelHeader(ModelDescription):
    """A model file without its weights; `file_size` is in bytes."""

    format_version: int
    file_size: int
    tensors: Mapping[str, TensorInfo]
    parts: tuple[str, ...] = ()

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
    tensors = model.tensors if isinstance(model.tensors, TensorStream) else _Held(model.tensors)
    infos = {name: tensors.info(name) for name in tensors}
    parts = {PART_PREFIX + name: _part_bytes(name, value) for name, value in model.parts.items()}
    stored = _layout(infos, parts)
    quantized = {name: info for name, info in infos.items() if info.kind in KINDS}
    checksums = dict.fromkeys(stored, 0)

    def header() -> bytes:
        return build_header(
            model, stored, quantized, {name: _text_of(crc) for name, crc in checksums.items()}
        )

    # The header holds the checksums of what follows it, so it is written last; its length is known before.
    places, place = {}, len(header())
    for name, array in stored.items():
        places[name] = place
        place += array.nbytes
    with replace_file(Path(path)) as file:

        def write(name: str, array: npt.NDArray[Any]) -> None:
            data = _bytes_of(np.asarray(array, stored[name].dtype, order="C"))
            file.seek(places[name])
            file.write(data)
            places[name] += len(data)
            checksums[name] = zlib.crc32(data, checksums[name])

        for done, name in enumerate(infos):
            tensors.report(done)
            for block in tensors.row_blocks(name):
                if isinstance(block, QuantizedTensor):
                    write(name, block.data)
                    write(name + SCALES_SUFFIX, block.scales)
                else:
                    write(name, block)
        tensors.report(len(infos))
        for name, data in parts.items():
            write(name, np.frombuffer(data, np.uint8))
        file.seek(0)
        file.write(header())


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
        parts = {name: parse_json(bytes(arrays[PART_PREFIX + name])) for name in header.parts}
    return ModelFile(**vars(header.description), tensors=tensors, parts=parts, mapped=file)


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
        parts=header.parts,
    )


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with a file into a `ModelFileError` that names it."""
    try:
        yield
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _layout(infos: Mapping[str, TensorInfo], parts: Mapping[str, bytes]) -> dict[str, StoredArray]:
    """Return all arrays of a file in their order; quantised tensors are split into values and scales."""
    stored: dict[str, StoredArray] = {}
    for name, info in infos.items():
        if not isinstance(name, str) or name == METADATA_KEY:
            raise ModelFileError(f"a tensor cannot have the name {shown(name)}")
        arrays = stored_arrays(name, info.kind, info.shape)
        if not stored.keys().isdisjoint(arrays):
            raise ModelFileError(f"two tensors would be stored under the same name ({listed(arrays)})")
        stored |= arrays
    for name, data in parts.items():
        if name in stored:
            raise ModelFileError(f"a tensor cannot have the name {name!r}: that of a part")
        stored[name] = StoredArray(np.dtype(np.uint8), (len(data),))
    # Sizes divisible by 64 first, then by 32, ...: every array is aligned for its type without padding
    # between.
    return dict(sorted(stored.items(), key=lambda item: -_size_alignment(item[1].nbytes)))


def _part_bytes(name: str, value: Any) -> bytes:
    if name not in PARTS:
        raise ModelFileError(f"a model file has no part {name!r}: expected one of {', '.join(PARTS)}")
    return to_json(name, value).encode()


def _size_alignment(nbytes: int) -> int:
    """Return the largest power of two, at most 64, that divides a size; 64 for an empty tensor."""
    return min(nbytes & -nbytes, ALIGNMENT) if nbytes else ALIGNMENT


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _text_of(crc: int) -> str:
    return f"crc32:{crc:08x}"


def _checksum(array: npt.NDArray[Any]) -> str:
    return _text_of(zlib.crc32(_bytes_of(array)))


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

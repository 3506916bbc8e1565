"""The `.qora-vision` file: one model with everything needed to run it. docs/format.md is its specification.

It is a safetensors file whose metadata describes the tensors. Checksums cover every byte: SHA-256 over the
header, CRC-32 over each tensor. This module knows no model.
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

# Bytes for which checksum and finiteness are checked while they are in the cache.
_CHUNK = 1 << 18
_HALF_INFINITY, _HALF_SIGN = 0x7C00, 0x8000


@dataclass(frozen=True)
class ModelFile(ModelDescription):
    """The contents of a `.qora-vision` file.

    Attributes
    ----------
    tensors
        Name -> float32 or float16 array, or `QuantizedTensor`. When read from a file, the arrays are
        read-only views of the mapped file, which stays mapped as long as one of them exists.
    parts
        Some of `PARTS`, as JSON values.
    mapped
        The file that this was read from, if there is one.
    """

    tensors: Mapping[str, Tensor]
    parts: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    mapped: MappedFile | None = field(default=None, repr=False, compare=False)

    def let_go(self) -> None:
        """Release the pages of the mapped file; the next access to a tensor reads them again."""
        if self.mapped is not None:
            self.mapped.release(0, self.mapped.size)


class TensorStream(Mapping[str, Tensor]):
    """Tensors that are computed on request, so that the writer never needs a whole one in memory."""

    @abstractmethod
    def info(self, name: str) -> TensorInfo:
        """Describe how a tensor will be stored, without computing it."""

    @abstractmethod
    def row_blocks(self, name: str) -> Iterator[Tensor]:
        """Compute a tensor, some of its rows (first axis) at a time, in order."""

    @abstractmethod
    def report(self, done: int) -> None:
        """Report progress: `done` tensors have been written."""


class _TensorsInMemory(TensorStream):
    """Tensors that are in memory already."""

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
    """Write a model as a `.qora-vision` file, completely or not at all.

    The tensors may be views of the file that is replaced. Windows does not replace a mapped file: save under
    another name there.

    Parameters
    ----------
    path
        The file to write. An existing file is replaced only when the new one is complete and on disk.
    model
        The model to write.

    Raises
    ------
    ModelFileError
        If the format cannot hold the model.
    OSError
        If the file cannot be written; an existing file at `path` is unchanged.
    """
    tensors = model.tensors if isinstance(model.tensors, TensorStream) else _TensorsInMemory(model.tensors)
    infos = {name: tensors.info(name) for name in tensors}
    parts = {PART_PREFIX + name: _part_bytes(name, value) for name, value in model.parts.items()}
    stored = _layout(infos, parts)
    quantized = {name: info for name, info in infos.items() if info.kind in KINDS}
    checksums = dict.fromkeys(stored, 0)

    def header() -> bytes:
        return build_header(
            model, stored, quantized, {name: _text_of(crc) for name, crc in checksums.items()}
        )

    # The header holds the checksums of the tensors, so it is written last. Its length is known before.
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
        Number of threads that check tensors, at least 1.

    Raises
    ------
    ModelFileError
        If it is not a `.qora-vision` file, damaged, of a newer version, or holds NaN or infinity.
    OSError
        If it is missing or unreadable.
    """
    file = MappedFile(Path(path))
    with _name_file_in_errors(file.path):
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
    """Read the description of a model in a `.qora-vision` file, without the weights.

    Raises
    ------
    ModelFileError
        If it is not a `.qora-vision` file, its header is damaged, it is truncated, or of a newer version.
    OSError
        If it is missing or unreadable.
    """
    file = MappedFile(Path(path))
    with _name_file_in_errors(file.path):
        header = parse_model_header(file.buffer)
    return ModelHeader(
        **vars(header.description),
        format_version=header.version,
        file_size=file.size,
        tensors=header.tensors,
        parts=header.parts,
    )


@contextlib.contextmanager
def _name_file_in_errors(path: Path) -> Iterator[None]:
    """Turn any `ValueError` of the block into a `ModelFileError` that names the file."""
    try:
        yield
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _layout(infos: Mapping[str, TensorInfo], parts: Mapping[str, bytes]) -> dict[str, StoredArray]:
    """Return all arrays of a file in their order; quantised tensors are split into values and scales."""
    stored: dict[str, StoredArray] = {}
    for name, info in infos.items():
        if not isinstance(name, str) or name == METADATA_KEY:
            raise ModelFileError(f"a tensor cannot be named {shown(name)}: expected another string")
        arrays = stored_arrays(name, info.kind, info.shape)
        if not stored.keys().isdisjoint(arrays):
            raise ModelFileError(f"two tensors would be stored under the same name ({listed(arrays)})")
        stored |= arrays
    for name, data in parts.items():
        if name in stored:
            raise ModelFileError(f"a tensor cannot be named {name!r}: a part of the file has this name")
        stored[name] = StoredArray(np.dtype(np.uint8), (len(data),))
    # Sizes divisible by 64 come first, then by 32, and so on: every array is aligned for its type without
    # padding.
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
    """Compare checksums, and refuse NaN and infinity: a file with right checksums can still hold them."""
    sound: set[str] = set()
    finite: set[str] = set()

    def check(names: Sequence[str]) -> None:
        for name in names:
            checksum, is_finite = _inspect(arrays[name])
            if checksum == checksums[name]:
                sound.add(name)
            if is_finite:
                finite.add(name)

    # zlib releases the GIL, so threads run in parallel; more than 8 would wait for memory. Tensors are dealt
    # out by size, so each thread gets as many large ones.
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
            f"tensors that hold NaN or infinity: {listed(wrong, 5)}; expected finite numbers: convert the "
            "model again from correct weights"
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
        # NumPy's own test takes ten times as long. A half with all exponent bits set is the largest as a
        # signed integer if it is positive, and as an unsigned integer if it is negative.
        positive, negative = int(part.view(np.int16).max()), int(part.view(np.uint16).max())
        return positive < _HALF_INFINITY and negative < _HALF_SIGN + _HALF_INFINITY
    return part.dtype.kind != "f" or bool(np.isfinite(part).all())

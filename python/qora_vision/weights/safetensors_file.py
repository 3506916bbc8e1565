"""The safetensors container: parse and check its header without copying any tensor.

Layout (https://huggingface.co/docs/safetensors): 8 bytes with the header's length, little-endian; the header,
a JSON object; then the tensors, which must fill the rest of the file without a gap or an overlap.
"""

from __future__ import annotations

import json
import math
import mmap
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from qora_vision.errors import reason, shown

METADATA_KEY = "__metadata__"
# The limit of the reference implementation.
MAX_HEADER_BYTES = 100_000_000
MAX_DIMENSIONS = 32

# Types that NumPy can hold; bfloat16 is held as its bits.
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("u1"),
}


class ContainerError(ValueError):
    """The bytes are not a valid safetensors file; the message says why, without the file's name."""


@dataclass(frozen=True)
class Entry:
    """One tensor: the name of its type, its shape, and the position and number of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    """A checked header: `raw` is the length field and the JSON text, byte for byte."""

    raw: bytes
    metadata: dict[str, str]
    entries: dict[str, Entry]


def parse_json(text: bytes) -> Any:
    """Parse strict JSON: UTF-8, no duplicate name in an object, no NaN or infinity.

    Raises
    ------
    ValueError
        If the text is anything else, or nested too deeply.
    """
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_header(buffer: mmap.mmap | bytes) -> Header:
    """Read the header of a whole file held in `buffer` and check it against the file's size.

    Raises
    ------
    ContainerError
        If this is not a safetensors file, or a damaged or truncated one.
    """
    size = len(buffer)
    if size < 10:
        raise ContainerError(f"it has {size} bytes, too few for a safetensors file (truncated?)")
    start = bytes(buffer[:10])
    if start[:4] == b"PK\x03\x04" or start[:2] == b"\x80\x02":
        raise ContainerError("this is a PyTorch checkpoint, not a safetensors file")
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or length > MAX_HEADER_BYTES:
        raise ContainerError("it does not start like a safetensors file (another kind of file, or damaged)")
    if length > size - 8:
        raise ContainerError(
            f"its header should have {length} bytes, but only {size - 8} follow (truncated?)"
        )
    raw = bytes(buffer[: 8 + length])
    try:
        fields = parse_json(raw[8:])
    except ValueError as error:
        raise ContainerError(f"the header is not valid JSON: {reason(error)}") from error
    metadata = fields.pop(METADATA_KEY, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ContainerError("the header's metadata does not map names to strings")
    entries = {name: _entry(name, value, 8 + length) for name, value in fields.items()}
    _check_layout(entries, 8 + length, size)
    return Header(raw, metadata, entries)


def _entry(name: str, value: Any, base: int) -> Entry:
    """Check one row of the header's table; offsets become positions in the file."""
    try:
        dtype, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise ContainerError(
            f"the header's entry for {shown(name)} lacks dtype, shape or data_offsets"
        ) from error
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in [*shape, begin, end]):
        raise ContainerError(f"the header's entry for {shown(name)} has a wrong shape or offset")
    if not isinstance(dtype, str) or len(shape) > MAX_DIMENSIONS:
        raise ContainerError(f"the header's entry for {shown(name)} has a wrong dtype or too many dimensions")
    if dtype in DTYPES and math.prod(shape) * DTYPES[dtype].itemsize != end - begin:
        raise ContainerError(
            f"tensor {shown(name)} has {shown(end - begin)} bytes, which is not "
            f"{dtype} of shape {shown(tuple(shape))}"
        )
    return Entry(dtype, tuple(shape), base + begin, end - begin)


def _check_layout(entries: dict[str, Entry], begin: int, size: int) -> None:
    """Check that the tensors cover the bytes from `begin` to `size` exactly once."""
    position = begin
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if entry.offset != position or entry.nbytes < 0:
            raise ContainerError(f"tensor {shown(name)} overlaps another one or leaves a gap before it")
        position += entry.nbytes
    if position > size:
        raise ContainerError(f"it is truncated: {position} bytes expected, {size} found")
    if position < size:
        raise ContainerError(f"it is {size - position} bytes longer than its header says")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {shown(name)} appears twice")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {shown(text)} is too large for float64")
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not allowed")

"""Checkpoints of flax: the msgpack of a train state, of which only the parameters are read.

Source: `flax.serialization` (arrays are msgpack extensions whose payload is again msgpack: shape, name of the
type, bytes in C order; arrays above 1 GiB are maps of pieces) and
https://github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qora_vision.errors import CheckpointError, listed, reason, shown
from qora_vision.files.mapped import MappedFile
from qora_vision.weights.safetensors_file import MAX_DIMENSIONS
from qora_vision.weights.stored_tensor import PiecewiseTensor, Storage, StoredTensor

# Paths of the parameters in scenic's files: a bare optimizer (one level deeper before Linen), a train state.
PARAMETER_PATHS = (
    ("optimizer", "target", "params"),
    ("optimizer", "target"),
    ("params", "params"),
    ("params",),
)

_CHUNKED = "__msgpack_chunked_array__"
_MAX_DEPTH = 64
# The longest accepted name: the path of an array repeats the names of all maps around it.
_MAX_NAME = 1024
_ARRAY, _SCALAR = 1, 3  # extension types; 2 is a complex number
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


@dataclass(frozen=True)
class _Extension:
    """A msgpack extension: its type, and the position of its payload in the file."""

    kind: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class _Bytes:
    """Binary data: its position in the file."""

    offset: int
    nbytes: int


def read_flax_file(file: MappedFile) -> dict[str, StoredTensor]:
    """Return the parameters of a checkpoint by their paths, such as "output_projection/kernel".

    Optimiser state, random state and counters are not parameters and left out.

    Raises
    ------
    CheckpointError
        If the file is not msgpack, is damaged or truncated, or holds no parameters at `PARAMETER_PATHS`.
    """
    reader = _Reader(file, 0, file.size)
    try:
        tree = reader.value()
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise CheckpointError(f"not a msgpack of flax, or damaged: {reason(error)}") from error
    if not reader.at_end() or not isinstance(tree, dict):
        raise CheckpointError(
            "not a msgpack of flax: expected one map, the train state, and nothing after it"
        )
    for path in PARAMETER_PATHS:
        node: Any = tree
        for name in path:
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict) and node:
            return dict(_parameters(file, node, ""))
    found = listed(tree, 8) or "nothing"
    raise CheckpointError(f"no parameters at optimizer/target or params; the file holds {found}")


def _parameters(file: MappedFile, node: dict[Any, Any], prefix: str) -> Iterator[tuple[str, StoredTensor]]:
    for name, value in node.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and _CHUNKED in value:
            yield path, _chunked(file, value, path)
        elif isinstance(value, dict):
            yield from _parameters(file, value, f"{path}/")
        elif isinstance(value, _Extension) and value.kind in (_ARRAY, _SCALAR):
            yield path, _array(file, value, path)
        elif value is not None:
            raise CheckpointError(f"{shown(path)} is not an array")


def _array(file: MappedFile, extension: _Extension, path: str) -> StoredTensor:
    reader = _Reader(file, extension.offset, extension.offset + extension.nbytes)
    value = reader.value()
    match value:
        case [list(shape), str() | _Bytes() as dtype, _Bytes() as data] if (
            all(type(n) is int and n >= 0 for n in shape) and len(shape) <= MAX_DIMENSIONS
        ):
            name = dtype if isinstance(dtype, str) else reader.text(dtype)
        case _:
            raise CheckpointError(f"{shown(path)}: expected an array as [shape, type, bytes]")
    if name not in _DTYPES:
        raise CheckpointError(
            f"{shown(path)}: the type {shown(name)} is not supported: expected {', '.join(_DTYPES)}"
        )
    tensor = StoredTensor(Storage(file, data.offset, data.nbytes, data.nbytes), _DTYPES[name], tuple(shape))
    if tensor.nbytes != data.nbytes:
        raise CheckpointError(
            f"{shown(path)} has {data.nbytes} bytes, which is not {name} of shape {shown(tuple(shape))}"
        )
    return tensor


def _chunked(file: MappedFile, value: dict[Any, Any], path: str) -> StoredTensor:
    """Describe an array that is stored in flat pieces."""
    pieces, sizes = _numbered(value.get("chunks")), _numbered(value.get("shape"))
    if pieces is None or sizes is None:
        raise CheckpointError(f"{shown(path)}: expected an array in numbered pieces, with a numbered shape")
    if not pieces or not all(isinstance(piece, _Extension) and piece.kind == _ARRAY for piece in pieces):
        raise CheckpointError(f"{shown(path)}: one of its pieces is not an array")
    parts = [_array(file, piece, f"{path}[{i}]") for i, piece in enumerate(pieces)]
    if (
        len(sizes) > MAX_DIMENSIONS
        or not all(type(n) is int and n >= 0 for n in sizes)
        or math.prod(sizes) != sum(math.prod(part.shape) for part in parts)
    ):
        raise CheckpointError(
            f"{shown(path)}: its pieces do not form an array of shape {shown(tuple(sizes))}"
        )
    if len({part.dtype for part in parts}) > 1:
        raise CheckpointError(f"{shown(path)}: its pieces are of different types")
    return PiecewiseTensor(parts, tuple(sizes))


def _numbered(node: Any) -> list[Any] | None:
    """Return the values of {"0": value, "1": value, ...} in order, None if it is anything else."""
    if not isinstance(node, dict) or node.keys() != {str(i) for i in range(len(node))}:
        return None
    return [node[str(i)] for i in range(len(node))]


class _Reader:
    """A msgpack decoder over a mapped file. It records the positions of binary data and does not read it."""

    def __init__(self, file: MappedFile, at: int, end: int) -> None:
        self._file = file
        self._at = at
        self._end = end

    def at_end(self) -> bool:
        return self._at == self._end

    def text(self, part: _Bytes) -> str:
        return bytes(self._file.buffer[part.offset : part.offset + part.nbytes]).decode("utf-8")

    def value(self, depth: int = 0) -> Any:
        """Decode the next value."""
        if depth > _MAX_DEPTH:
            raise CheckpointError("nested too deeply for a checkpoint")
        code = self._number("B")
        if code <= 0x7F or code >= 0xE0:
            return code if code <= 0x7F else code - 256
        if code <= 0x8F:
            return self._map(code & 15, depth)
        if code <= 0x9F:
            return self._list(code & 15, depth)
        if code <= 0xBF:
            return self.text(self._skip(code & 31))
        if code in _NUMBERS:
            return self._number(_NUMBERS[code])
        match code:
            case 0xC0:
                return None
            case 0xC2 | 0xC3:
                return code == 0xC3
            case 0xC4 | 0xC5 | 0xC6:
                return self._skip(self._number("BHI"[code - 0xC4]))
            case 0xC7 | 0xC8 | 0xC9:
                return self._extension(self._number("BHI"[code - 0xC7]))
            case 0xD4 | 0xD5 | 0xD6 | 0xD7 | 0xD8:
                return self._extension(1 << (code - 0xD4))
            case 0xD9 | 0xDA | 0xDB:
                return self.text(self._skip(self._number("BHI"[code - 0xD9])))
            case 0xDC | 0xDD:
                return self._list(self._number("HI"[code - 0xDC]), depth)
            case 0xDE | 0xDF:
                return self._map(self._number("HI"[code - 0xDE]), depth)
        raise CheckpointError(
            f"not a msgpack of flax, or damaged: unknown code {code:#x} at byte {self._at - 1}"
        )

    def _number(self, form: str) -> Any:
        size = struct.calcsize(form)
        part = self._skip(size)
        (number,) = struct.unpack(f">{form}", self._file.buffer[part.offset : part.offset + size])
        return number

    def _skip(self, nbytes: int) -> _Bytes:
        if nbytes > self._end - self._at:
            raise CheckpointError("truncated: a value reaches beyond the end")
        part = _Bytes(self._at, nbytes)
        self._at += nbytes
        return part

    def _extension(self, nbytes: int) -> _Extension:
        kind = self._number("b")
        part = self._skip(nbytes)
        return _Extension(kind, part.offset, part.nbytes)

    def _list(self, count: int, depth: int) -> list[Any]:
        return [self.value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for _ in range(count):
            name = self.value(depth + 1)
            if not isinstance(name, str | int) or name in result:
                raise CheckpointError(
                    f"a map of the file has the key {shown(name)} twice, or a key that is no name: damaged"
                )
            if isinstance(name, str) and len(name) > _MAX_NAME:
                raise CheckpointError(
                    f"a map of the file has a name of {len(name)} characters: expected at most {_MAX_NAME}"
                )
            result[name] = self.value(depth + 1)
        return result


_NUMBERS = {
    0xCA: "f",
    0xCB: "d",
    0xCC: "B",
    0xCD: "H",
    0xCE: "I",
    0xCF: "Q",
    0xD0: "b",
    0xD1: "h",
    0xD2: "i",
    0xD3: "q",
}

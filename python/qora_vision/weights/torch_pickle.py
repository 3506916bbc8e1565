"""A pickle reader that can build state dicts of tensors and nothing else.

A general unpickler calls any function that a file names. This reader is an interpreter of its own for the few
instructions that `torch.save` writes, and refuses all others. It knows only the names in `_GLOBALS`;
"calling" one of them makes a plain record. Any other name, and any object made with it, becomes a placeholder
(`Dropped`), which is an error only where a tensor is expected. Nothing is ever imported or executed. The
file's size bounds the time and memory of every instruction.
"""

from __future__ import annotations

import enum
import mmap
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qora_vision.errors import CheckpointError, shown

# Tensors cannot have more in the NumPy versions that the package supports.
_MAX_DIMENSIONS = 32
_MAX_NAME = 256
_MAX_ARGUMENTS = 16
# The complete state of a training run has about 100 000. Each leaves at most about 130 bytes in memory.
_MAX_INSTRUCTIONS = 4_000_000


@dataclass(frozen=True)
class StorageType:
    """A typed storage class of PyTorch; `dtype` is its name in safetensors."""

    dtype: str


@dataclass(frozen=True)
class StorageRecord:
    """A storage that a pickle refers to: `numel` values of type `dtype`, found under `key`."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class TensorRecord:
    """A tensor that a pickle describes, not yet checked; offset and strides are in values."""

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Dropped:
    """A placeholder for an object that is not a weight, such as the arguments of a training run.

    `name` is the class or function that made it; `of_tensor` says whether it was given a tensor's data.
    """

    name: str
    of_tensor: bool = False


class _Function(enum.Enum):
    ORDERED_DICT = enum.auto()
    DEFAULT_DICT = enum.auto()
    REBUILD_TENSOR = enum.auto()
    REBUILD_PARAMETER = enum.auto()


_GLOBALS: dict[tuple[str, str], _Function | StorageType] = {
    ("collections", "OrderedDict"): _Function.ORDERED_DICT,
    ("collections", "defaultdict"): _Function.DEFAULT_DICT,
    ("torch._utils", "_rebuild_tensor_v2"): _Function.REBUILD_TENSOR,
    ("torch._utils", "_rebuild_parameter"): _Function.REBUILD_PARAMETER,
    ("torch", "DoubleStorage"): StorageType("F64"),
    ("torch", "FloatStorage"): StorageType("F32"),
    ("torch", "HalfStorage"): StorageType("F16"),
    ("torch", "BFloat16Storage"): StorageType("BF16"),
    ("torch", "LongStorage"): StorageType("I64"),
    ("torch", "IntStorage"): StorageType("I32"),
    ("torch", "ShortStorage"): StorageType("I16"),
    ("torch", "CharStorage"): StorageType("I8"),
    ("torch", "ByteStorage"): StorageType("U8"),
    ("torch", "BoolStorage"): StorageType("BOOL"),
}


def load_pickle(data: bytes | mmap.mmap, start: int = 0) -> tuple[Any, int]:
    """Read the pickle that begins at byte `start`; return its value and the position after it.

    The value consists of None, numbers, strings, tuples, lists, dicts and the records above.

    Raises
    ------
    CheckpointError
        If the pickle holds instructions that `torch.save` does not write, or is damaged.
    """
    machine = _Machine(data, start)
    try:
        return machine.run(), machine.position
    except CheckpointError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise CheckpointError(f"its pickle is damaged near byte {machine.position}") from error


class _Machine:
    """The state of the interpreter: a stack, the marks in it, and the memo."""

    def __init__(self, data: bytes | mmap.mmap, start: int) -> None:
        self.data = data
        self.position = start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(_MAX_INSTRUCTIONS):
            code = self.take(1)
            if code == b".":
                return self.stack.pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise CheckpointError(
                    f"its pickle has the instruction {shown(code)} at byte {self.position - 1}, which "
                    "torch.save does not write: refused (another kind of file, or damaged)"
                )
            instruction(self)
        raise CheckpointError(
            f"its pickle has more than {_MAX_INSTRUCTIONS} instructions, far more than weights need: refused"
        )

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes of the pickle."""
        chunk = self.data[self.position : self.position + count]
        if len(chunk) != count:
            raise CheckpointError("its pickle is truncated")
        self.position += count
        return chunk

    def skip(self, count: int) -> None:
        self.take(count)

    def number(self, layout: str) -> int:
        (value,) = struct.unpack(layout, self.take(struct.calcsize(layout)))
        return int(value)

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + _MAX_NAME)
        if end < 0:
            raise CheckpointError("its pickle is damaged: a name does not end")
        return self.take(end + 1 - self.position)[:-1].decode("utf-8")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type | tuple[type, ...]) -> Any:
        """Return the value on top of the stack, which must be a container of that kind."""
        if not isinstance(self.stack[-1], kind):
            first = kind[0] if isinstance(kind, tuple) else kind
            raise CheckpointError(f"its pickle changes something that is not a {first.__name__}")
        return self.stack[-1]

    def push_tuple(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise CheckpointError("its pickle is damaged: a tuple lacks elements")
        self.stack[-count:] = [items]

    def push_global(self, module: str, name: str) -> None:
        self.push(_GLOBALS.get((module, name)) or Dropped(f"{module}.{name}"))

    def set_items(self, items: list[Any]) -> None:
        target = self.top((dict, Dropped))
        if isinstance(target, Dropped):
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Strings and integers only: hashing a nested tuple can take unlimited time.
            if isinstance(key, (str, int)):
                target[key] = value
            elif isinstance(value, TensorRecord):
                raise CheckpointError("its pickle has a dict whose keys are neither strings nor integers")

    def call(self) -> None:
        arguments = self.stack.pop()
        function = self.stack.pop()
        if not isinstance(function, _Function | Dropped) or not isinstance(arguments, tuple):
            raise CheckpointError("its pickle calls something that is not a function")
        if isinstance(function, Dropped):
            self.push(Dropped(function.name, function.of_tensor or _has_data(arguments)))
        elif function in (_Function.ORDERED_DICT, _Function.DEFAULT_DICT):
            if arguments and function is _Function.ORDERED_DICT:
                raise CheckpointError("its pickle makes an OrderedDict in an unknown way")
            self.push(OrderedDict())
        elif function is _Function.REBUILD_TENSOR:
            self.push(_tensor_record(arguments))
        else:
            if not arguments or not isinstance(arguments[0], TensorRecord | Dropped):
                raise CheckpointError("its pickle makes a parameter of something that is not a tensor")
            self.push(arguments[0])

    def build(self) -> None:
        """Drop the attributes of an OrderedDict (version numbers of modules) or of a placeholder."""
        self.stack.pop()
        if not isinstance(self.stack[-1], Dropped):
            self.top(OrderedDict)

    def make(self) -> None:
        """Make an object without calling its initialiser: allowed for placeholders only."""
        if not isinstance(self.stack[-2], Dropped):
            raise CheckpointError("its pickle makes an object that is not a tensor")
        self.call()


def _has_data(arguments: tuple[Any, ...]) -> bool:
    """Whether a call is given a tensor or its storage, itself or in a tuple or list of its arguments."""
    # Only a bounded part: many calls can share one long list.
    arguments = arguments[:_MAX_ARGUMENTS]
    inner = [item for part in arguments if isinstance(part, tuple | list) for item in part[:_MAX_ARGUMENTS]]
    return any(
        isinstance(item, TensorRecord | StorageRecord) or (isinstance(item, Dropped) and item.of_tensor)
        for item in (*arguments, *inner)
    )


def _tensor_record(arguments: tuple[Any, ...]) -> TensorRecord | Dropped:
    """Check storage, offset, shape, strides, requires_grad, hooks and, optionally, a dict of flags."""
    storage, offset, shape, strides = arguments[:4]
    if isinstance(storage, Dropped):
        return Dropped(storage.name, of_tensor=True)
    if not isinstance(storage, StorageRecord) or not _are_sizes((offset,)):
        raise CheckpointError("its pickle has a tensor without proper storage")
    if not _are_sizes(shape) or not _are_sizes(strides) or len(shape) != len(strides):
        raise CheckpointError("its pickle has a tensor whose shape or strides are not lists of sizes")
    if len(arguments) > 6 and arguments[6]:
        raise CheckpointError("its pickle has a lazily conjugated or negated tensor: not supported")
    return TensorRecord(storage, offset, shape, strides)


def _storage_record(identifier: Any) -> StorageRecord | Dropped:
    """Check the word "storage", type, key, device, number of values and, in old files, a view."""
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise CheckpointError("its pickle refers to an outside object that is not a storage")
    kind, key, numel = identifier[1], identifier[2], identifier[4]
    if isinstance(kind, Dropped):
        return Dropped(kind.name, of_tensor=True)
    if not isinstance(kind, StorageType) or not isinstance(key, str) or not _are_sizes((numel,)):
        raise CheckpointError("its pickle has a damaged reference to a storage")
    if len(identifier) == 6 and identifier[5] is not None:
        raise CheckpointError(
            "it holds views of storages, as a very old PyTorch saved them: save it again with a newer one"
        )
    return StorageRecord(key, kind.dtype, numel)


def _are_sizes(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) <= _MAX_DIMENSIONS
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )


def _get(layout: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.memo[machine.number(layout)])


def _put(layout: str) -> Callable[[_Machine], None]:
    def instruction(machine: _Machine) -> None:
        machine.memo[machine.number(layout)] = machine.stack[-1]

    return instruction


def _text(layout: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.take(machine.number(layout)).decode("utf-8"))


def _bytes(layout: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.take(machine.number(layout)))


def _integer(layout: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.number(layout))


def _constant(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(value)


def _memorise(machine: _Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _long(machine: _Machine) -> None:
    machine.push(int.from_bytes(machine.take(machine.number("<B")), "little", signed=True))


def _float(machine: _Machine) -> None:
    machine.push(struct.unpack(">d", machine.take(8))[0])


def _stack_global(machine: _Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise CheckpointError("its pickle refers to something without a name")
    machine.push_global(module[:_MAX_NAME], name[:_MAX_NAME])


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    _add(machine, [value])


def _append_all(machine: _Machine) -> None:
    _add(machine, machine.pop_to_mark())


def _add(machine: _Machine, values: list[Any]) -> None:
    target = machine.top((list, Dropped))
    if isinstance(target, list):
        target.extend(values)


def _frozen_set(machine: _Machine) -> None:
    machine.pop_to_mark()
    machine.push(Dropped("frozenset"))


def _make_with_names(machine: _Machine) -> None:
    machine.stack.pop()  # arguments by name, in a dict
    machine.make()


def _set_item(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


# What torch.save writes with pickle protocols 2 to 5.
_INSTRUCTIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": lambda machine: machine.skip(1),  # the protocol's number
    b"\x95": lambda machine: machine.skip(8),  # the length of a frame: a hint
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"K": _integer("<B"),
    b"M": _integer("<H"),
    b"J": _integer("<i"),
    b"\x8a": _long,
    b"G": _float,
    b"X": _text("<I"),
    b"\x8c": _text("<B"),
    b"U": _text("<B"),  # strings of Python 2
    b"C": _bytes("<B"),
    b"B": _bytes("<I"),
    b"\x8e": _bytes("<Q"),
    b"\x96": _bytes("<Q"),
    b"\x8f": lambda machine: machine.push(Dropped("set")),
    b"\x90": _append_all,
    b"\x91": _frozen_set,
    b"\x92": _make_with_names,
    b"}": lambda machine: machine.push({}),
    b"]": lambda machine: machine.push([]),
    b")": _constant(()),
    b"(": lambda machine: machine.marks.append(len(machine.stack)),
    b"t": lambda machine: machine.push(tuple(machine.pop_to_mark())),
    b"\x85": lambda machine: machine.push_tuple(1),
    b"\x86": lambda machine: machine.push_tuple(2),
    b"\x87": lambda machine: machine.push_tuple(3),
    b"a": _append,
    b"e": _append_all,
    b"s": _set_item,
    b"u": lambda machine: machine.set_items(machine.pop_to_mark()),
    b"q": _put("<B"),
    b"r": _put("<I"),
    b"h": _get("<B"),
    b"j": _get("<I"),
    b"\x94": _memorise,
    b"c": lambda machine: machine.push_global(machine.line(), machine.line()),
    b"\x93": _stack_global,
    b"Q": lambda machine: machine.push(_storage_record(machine.stack.pop())),
    b"R": lambda machine: machine.call(),
    b"\x81": lambda machine: machine.make(),
    b"b": lambda machine: machine.build(),
}

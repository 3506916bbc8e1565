"""Files of `torch.save`, read without PyTorch: zip archives, and the plain files from before 1.6."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from qora_vision.errors import CheckpointError, listed, shown
from qora_vision.files.mapped import MappedFile
from qora_vision.weights.safetensors_file import DTYPES
from qora_vision.weights.stored_tensor import Storage, StoredTensor
from qora_vision.weights.torch_pickle import Dropped, StorageRecord, TensorRecord, load_pickle
from qora_vision.weights.zip_members import check_unpacked_size, list_members, member_storage

# Names under which training scripts save the state dict, in the order in which they are tried. Averages of
# the weights over training ("ema") come last: they are used only if there are no others, as the authors do.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "model_ema",
    "state_dict_ema",
    "ema",
)

_MAX_DEPTH = 8
# A pickle may unpack to this many bytes beyond the limit that its compressed size sets.
_MAX_SMALL_PICKLE = 1 << 16
_MAX_BYTE_ORDER = 16
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001


def read_torch_file(file: MappedFile) -> dict[str, StoredTensor]:
    """Find the tensors of a state dict in a file of `torch.save`; nothing in the file is executed.

    A dict that holds the state dict under one of the names in `WRAPPERS` is unwrapped, repeatedly. Values of
    the state dict that are not tensors are left out.

    Raises
    ------
    CheckpointError
        If it is not a file of `torch.save`, damaged, or its pickle does not hold a state dict of tensors.
    """
    if file.buffer[:4] == b"PK\x03\x04":
        value, storages = _read_zip(file)
    else:
        value, storages = _read_legacy(file)
    return {name: _stored_tensor(name, record, storages) for name, record in _find_state_dict(value).items()}


def _stored_tensor(name: str, record: TensorRecord, storages: Mapping[str, Storage]) -> StoredTensor:
    source = record.storage
    storage = storages.get(source.key)
    if storage is None:
        raise CheckpointError(f"the data of tensor {shown(name)} is missing in the file")
    if storage.nbytes != source.numel * DTYPES[source.dtype].itemsize:
        raise CheckpointError(
            f"tensor {shown(name)} has {storage.nbytes} bytes of data, which are not {source.numel} values"
        )
    tensor = StoredTensor(storage, source.dtype, record.shape, record.strides, record.offset)
    try:
        tensor.check_bounds()
    except CheckpointError as error:
        raise CheckpointError(f"tensor {shown(name)}: {error}") from error
    return tensor


def _find_state_dict(value: Any) -> dict[str, TensorRecord]:
    for _ in range(_MAX_DEPTH):
        if not isinstance(value, dict):
            what = listed([value.name]) if isinstance(value, Dropped) else type(value).__name__
            raise CheckpointError(
                f"it holds a {what} where a dict of tensors was expected; nothing was executed. If you trust "
                "the file, load it with PyTorch and save the state dict alone, preferably as safetensors"
            )
        inner = next((value[name] for name in WRAPPERS if isinstance(value.get(name), dict)), None)
        if inner is None:
            break
        value = inner
    else:
        raise CheckpointError("its dicts are nested too deeply")
    tensors = {name: item for name, item in value.items() if isinstance(item, TensorRecord)}
    for name, item in value.items():
        if isinstance(item, Dropped) and item.of_tensor:
            raise CheckpointError(
                f"tensor {shown(name)} needs {listed([item.name])}, which is not supported: nothing was "
                "executed. If you trust the file, load it with PyTorch and save plain tensors"
            )
    if not tensors:
        names = ", ".join(shown(name) for name in islice(value, 8)) or "nothing"
        raise CheckpointError(f"it holds no tensors at its top or under {', '.join(WRAPPERS)}, only {names}")
    for name in tensors:
        if not isinstance(name, str):
            raise CheckpointError(f"it has a tensor under {shown(name)}: names must be strings")
    return tensors


def _read_zip(file: MappedFile) -> tuple[Any, Mapping[str, Storage]]:
    """Return the unpickled value and the storages by their keys."""
    by_name = list_members(file)
    pickles = [name for name in by_name if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("it is a zip archive, but not one of torch.save (no data.pkl in it)")
    folder = pickles[0].removesuffix("data.pkl")
    if folder + "byteorder" in by_name:
        member = member_storage(file, by_name[folder + "byteorder"])
        order = member.load().tobytes() if member.nbytes <= _MAX_BYTE_ORDER else member.start(_MAX_BYTE_ORDER)
        if order != b"little":
            raise CheckpointError(f"its byte order is {shown(order)}: only b'little' is supported")
    check_unpacked_size(by_name[pickles[0]], _MAX_SMALL_PICKLE)
    value, _ = load_pickle(member_storage(file, by_name[pickles[0]]).load().tobytes())
    prefix = folder + "data/"
    storages = {
        name.removeprefix(prefix): member_storage(file, member)
        for name, member in by_name.items()
        if name.startswith(prefix)
    }
    return value, storages


def _read_legacy(file: MappedFile) -> tuple[Any, Mapping[str, Storage]]:
    """Read the pickles (magic number, version, machine, value, keys), and locate the storages after them."""
    magic, position = load_pickle(file.buffer)
    if magic != _LEGACY_MAGIC:
        raise CheckpointError("it is a pickle, but not one of torch.save")
    version, position = load_pickle(file.buffer, position)
    machine, position = load_pickle(file.buffer, position)
    if version != _LEGACY_VERSION or not isinstance(machine, dict):
        raise CheckpointError(f"its version is {shown(version)}: expected {_LEGACY_VERSION}")
    if machine.get("little_endian") is not True:
        raise CheckpointError("its byte order is big-endian: only little-endian files are supported")
    value, position = load_pickle(file.buffer, position)
    keys, position = load_pickle(file.buffer, position)
    records = _storage_records(value)
    if not isinstance(keys, list):
        raise CheckpointError("its list of storages is damaged")
    storages: dict[str, Storage] = {}
    for key in keys:
        record = records.get(key) if isinstance(key, str) else None
        if record is None:
            raise CheckpointError(f"it holds data under {shown(key)} that no tensor refers to: damaged?")
        numel = int.from_bytes(file.buffer[position : position + 8], "little")
        if numel != record.numel:
            raise CheckpointError(f"a storage has {numel} values, not {record.numel} (damaged or truncated)")
        nbytes = numel * DTYPES[record.dtype].itemsize
        storages[key] = Storage(file, position + 8, nbytes, nbytes)
        position += 8 + nbytes
    return value, storages


def _storage_records(value: Any) -> dict[str, StorageRecord]:
    """Collect every storage that a value refers to, at any depth."""
    records: dict[str, StorageRecord] = {}
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, TensorRecord):
            item = item.storage
        if isinstance(item, StorageRecord):
            records[item.key] = item
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)
    return records

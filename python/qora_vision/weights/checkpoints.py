"""Published checkpoints, read lazily: safetensors, `torch.save` files, flax msgpack, NumPy archives."""

from __future__ import annotations

import json
from collections.abc import Iterator, KeysView, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from qora_vision.errors import CheckpointError, listed, reason, shown
from qora_vision.files.mapped import MappedFile
from qora_vision.weights.flax_file import read_flax_file
from qora_vision.weights.npz_file import read_npz_file
from qora_vision.weights.safetensors_file import parse_header, parse_json
from qora_vision.weights.stored_tensor import Storage, StoredTensor
from qora_vision.weights.torch_files import read_torch_file

# Scenic gives its checkpoints this name, without a suffix.
FLAX_NAME = "checkpoint"
# The files that a directory is searched for, in this order.
FILE_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    FLAX_NAME,
)
FLAX_SUFFIXES = (".msgpack",)
NUMPY_SUFFIXES = (".npz",)
TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".pyth", ".ckpt")

# Prefixes that wrappers put before every name: torch.compile, DataParallel, Lightning, mmaction.
WRAPPER_PREFIXES = ("_orig_mod.", "module.", "model.", "net.", "backbone.")

_MAX_JSON = 100_000_000
_MAX_FILE_NAME = 200


class Checkpoint:
    """The tensors of a checkpoint by name; values stay in the mapped files until they are read.

    Attributes
    ----------
    path
        The file or index that was opened.
    """

    def __init__(self, path: Path, tensors: Mapping[str, StoredTensor]) -> None:
        self.path = path
        self._tensors = dict(tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def keys(self) -> KeysView[str]:
        """Return the names of all tensors."""
        return self._tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; `CheckpointError` if there is none of that name."""
        return self._find(name).shape

    def dtype(self, name: str) -> str:
        """Return the stored type by its name in safetensors ("F32", "BF16", ...); raises like `shape`."""
        return self._find(name).dtype

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return the values of a tensor.

        Returns
        -------
        array
            Of the stored type, except that bfloat16 becomes float32 (exactly). A read-only view of the mapped
            file where possible; strides may be any.

        Raises
        ------
        CheckpointError
            If there is no such tensor, its data is damaged, or NumPy has no such type.
        """
        tensor = self._find(name)
        try:
            return tensor.read()
        except CheckpointError as error:
            raise CheckpointError(f"{tensor.storage.file.path}: tensor {shown(name)}: {error}") from error

    def release(self, name: str) -> None:
        """Release the memory pages of a tensor, to keep the peak low; it can be read again."""
        self._find(name).release()

    def without_prefixes(self, prefixes: Sequence[str]) -> Checkpoint:
        """Return the same tensors under their names without prefixes; a name may have several.

        Parameters
        ----------
        prefixes
            The prefixes of one model, removed in addition to `WRAPPER_PREFIXES`.

        Raises
        ------
        CheckpointError
            If two tensors would have one name.
        """
        prefixes = (*WRAPPER_PREFIXES, *prefixes)
        tensors: dict[str, StoredTensor] = {}
        for name, tensor in self._tensors.items():
            plain = name
            while prefix := next((item for item in prefixes if plain.startswith(item)), None):
                plain = plain.removeprefix(prefix)
            if plain in tensors:
                raise CheckpointError(
                    f"{self.path}: it has {shown(plain)} twice, under different prefixes "
                    f"(of {', '.join(prefixes)})"
                )
            tensors[plain] = tensor
        return Checkpoint(self.path, tensors)

    def with_prefix(self, prefix: str) -> Checkpoint:
        """Return the same tensors under their names with a prefix."""
        return Checkpoint(self.path, {prefix + name: tensor for name, tensor in self._tensors.items()})

    def _find(self, name: str) -> StoredTensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise CheckpointError(f"{self.path}: there is no tensor {shown(name)}") from None


def is_checkpoint_file(path: Path) -> bool:
    """Whether a path names a single file of an original implementation: by its suffix, or scenic's name."""
    return path.is_file() and is_checkpoint_name(path.name)


def is_checkpoint_name(name: str) -> bool:
    """Whether a file of this name can be a checkpoint of an original implementation."""
    return name == FLAX_NAME or name.endswith((*TORCH_SUFFIXES, *FLAX_SUFFIXES, *NUMPY_SUFFIXES))


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint: a directory, a single file, or the index of a sharded one.

    Parameters
    ----------
    path
        A directory that holds one of `FILE_NAMES` (the first that exists is used), or else a single
        file of `torch.save`, flax or NumPy, in this order; a `.safetensors` file; a `.bin`, `.pt`, `.pth`,
        `.pyth` or `.ckpt` file of `torch.save`; a `.msgpack` file of flax, which may also be called
        `checkpoint`; an `.npz` file of NumPy; or an
        `.index.json` file beside its shards. Only the tensors that the index lists are read.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, or one that is damaged, incomplete or refused (see `read_torch_file`).
    OSError
        If the path is missing or unreadable.
    """
    path = Path(path)
    if path.is_dir():
        path = _find_file(path)
    if path.name.endswith(".index.json"):
        return Checkpoint(path, _open_shards(path))
    return Checkpoint(path, _open_file(path))


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object such as `config.json`.

    Raises
    ------
    CheckpointError
        If the file is not UTF-8, not JSON, or its top is not an object.
    OSError
        If it is missing or unreadable.
    """
    path = Path(path)
    if path.stat().st_size > _MAX_JSON:
        raise CheckpointError(
            f"{path}: too large for a JSON file of a checkpoint (at most {_MAX_JSON} bytes)"
        )
    try:
        value = json.loads(path.read_text("utf-8-sig"))
    except RecursionError as error:
        raise CheckpointError(f"{path}: unusable JSON: it is nested too deeply") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON: {reason(error)}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _find_file(directory: Path) -> Path:
    for name in FILE_NAMES:
        if (directory / name).exists():
            return directory / name
    for suffixes in (TORCH_SUFFIXES, FLAX_SUFFIXES, NUMPY_SUFFIXES):
        originals = [entry for entry in directory.iterdir() if entry.suffix in suffixes]
        if len(originals) == 1:
            return originals[0]
    present = sorted(entry.name for entry in directory.iterdir())
    found = listed(present, 8) or "nothing"
    raise CheckpointError(f"{directory}: found none of {', '.join(FILE_NAMES)}; the directory holds {found}")


def _open_file(path: Path) -> dict[str, StoredTensor]:
    """Open one file by its suffix."""
    is_flax = path.suffix in FLAX_SUFFIXES or path.name == FLAX_NAME
    suffixes = (".safetensors", *TORCH_SUFFIXES, *NUMPY_SUFFIXES)
    if path.suffix not in suffixes and not is_flax and path.exists():
        known = ", ".join((".index.json", *FLAX_SUFFIXES, *suffixes))
        raise CheckpointError(f"{path}: the name is not that of a checkpoint file: expected one of {known}")
    file = MappedFile(path)
    try:
        if file.buffer[:16] == b"version https://":
            raise CheckpointError("only a Git LFS pointer, not the weights: fetch them with `git lfs pull`")
        if is_flax:
            return read_flax_file(file)
        if path.suffix in NUMPY_SUFFIXES:
            return read_npz_file(file)
        return _read_safetensors(file) if path.suffix == ".safetensors" else read_torch_file(file)
    except ValueError as error:
        raise CheckpointError(f"{path}: not a usable checkpoint: {error}") from error


def _read_safetensors(file: MappedFile) -> dict[str, StoredTensor]:
    entries = parse_header(file.buffer).entries
    return {
        name: StoredTensor(Storage(file, entry.offset, entry.nbytes, entry.nbytes), entry.dtype, entry.shape)
        for name, entry in entries.items()
    }


def _open_shards(index: Path) -> dict[str, StoredTensor]:
    """Open every shard of an index; one error lists all missing shards, another all missing tensors."""
    try:
        content = parse_json(index.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{index}: not valid JSON: {reason(error)}") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not all(_is_plain_name(name) for name in weight_map.values()):
        raise CheckpointError(f"{index}: its weight_map does not map tensors to names of files in its folder")
    shards = sorted(set(weight_map.values()))
    missing = [name for name in shards if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(f"{index}: missing shards: {listed(missing)}; download the checkpoint again")
    opened = {name: _open_file(index.parent / name) for name in shards}
    absent = [
        f"{listed([name])} (in {listed([shard])})"
        for name, shard in weight_map.items()
        if name not in opened[shard]
    ]
    if absent:
        raise CheckpointError(f"{index}: tensors listed but not in their shards: {listed(absent)}")
    return {name: opened[shard][name] for name, shard in weight_map.items()}


def _is_plain_name(name: Any) -> bool:
    """Whether it names a file in the same directory: an index must not point outside of it."""
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_FILE_NAME:
        return False
    return name not in (".", "..") and not set(name) & set("/\\:\0") and name.isprintable()

"""The header of a `.qora-vision` file: its contents, building and checking it (docs/format.md)."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeGuard, TypeVar, get_args

import numpy as np

from qora_vision.engine.tensors import GROUP_SIZE, KINDS
from qora_vision.errors import ModelFileError, listed, reason, shown
from qora_vision.weights.safetensors_file import (
    DTYPES,
    METADATA_KEY,
    ContainerError,
    Entry,
    Header,
    parse_header,
    parse_json,
)

FORMAT_NAME = "qora-vision"
# The newest version that this package reads. A file is written in the oldest version that can express it.
FORMAT_VERSION = 2
QUANTIZATIONS = ("q4", "q8", "f16", "f32")
# What users do with a model: classify clips, compare embeddings, generate text.
TASKS = ("classify", "embed", "generate")
# Parts that a model file may hold beside its networks: JSON values, stored as UTF-8 text under a checksum.
PARTS = ("tokenizer", "chat_template", "generation", "scheduler")
SCALES_SUFFIX = ".scales"
# Prefix of the name of a part's entry.
PART_PREFIX = "part/"
# Tensors begin at multiples of this many bytes as far as their sizes allow; the first tensor always does.
ALIGNMENT = 64

# Kind, type of the values, type of the scales.
_QUANTIZED_TYPES = (("q4", "U8", "F16"), ("q8", "I8", "F16"))
# A header starts with these bytes, then 64 hexadecimal digits: the SHA-256 of length field and header, with
# zeros in place of these digits.
_DIGEST_PREFIX = f'{{"{METADATA_KEY}":{{"header_sha256":"'.encode()
_DIGEST_START = 8 + len(_DIGEST_PREFIX)
_DIGEST_DIGITS = 64

# How logits become scores; `qora_vision.Prediction` defines each.
Scoring: TypeAlias = Literal["softmax", "sigmoid", "identity"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class NetworkDescription:
    """One of several networks of a model file: its architecture's name, and its config."""

    architecture: str
    config: dict[str, Any]


@dataclass(frozen=True)
class ModelDescription:
    """The description of a model in its file: everything but the weights.

    Attributes
    ----------
    architecture
        Name of the model family, for example `"vivit"`.
    config, preprocessing, provenance
        Objects that JSON can hold (names are strings, no NaN); tuples are read back as lists. `preprocessing`
        is None for a model that takes no pictures. `provenance` is the origin of the weights: source,
        revision, licence, the version that wrote the file.
    labels
        Names of the classes in the order of the logits, or None.
    quantization
        `"q4"`, `"q8"`, `"f16"` or `"f32"`: the type of the large weights.
    task
        One of `TASKS`: what users do with the model.
    scoring
        How logits become scores.
    networks
        Networks beside the one that `architecture` and `config` describe, by name. The names of their tensors
        begin with `name/`.
    """

    architecture: str
    config: dict[str, Any]
    preprocessing: dict[str, Any] | None
    labels: list[str] | None
    quantization: str
    provenance: dict[str, Any]
    task: str = field(default="classify", kw_only=True)
    scoring: Scoring = field(default="softmax", kw_only=True)
    networks: Mapping[str, NetworkDescription] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class StoredArray:
    """An array in the file: little-endian values of `dtype` in C order."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a model file: `kind` is "f32", "f16", "q4" or "q8"; `nbytes` includes the scales."""

    kind: str
    shape: tuple[int, ...]
    nbytes: int

    @classmethod
    def of(cls, kind: str, shape: tuple[int, ...]) -> TensorInfo:
        """Describe a tensor that is not yet written."""
        return cls(kind, shape, sum(array.nbytes for array in stored_arrays("", kind, shape).values()))


def stored_arrays(name: str, kind: str, shape: tuple[int, ...]) -> dict[str, StoredArray]:
    """Return the arrays in which a tensor is stored: one, or values and scales of a quantised tensor."""
    if kind not in KINDS:
        return {name: StoredArray(np.dtype("<f4" if kind == "f32" else "<f2"), shape)}
    groups = -(-math.prod(shape[1:]) // GROUP_SIZE)
    values = StoredArray(np.dtype(np.uint8), (shape[0], groups * GROUP_SIZE // 2))
    if kind == "q8":
        values = StoredArray(np.dtype(np.int8), (shape[0], groups * GROUP_SIZE))
    return {name: values, name + SCALES_SUFFIX: StoredArray(np.dtype("<f2"), (shape[0], groups))}


@dataclass(frozen=True)
class ParsedHeader:
    """The contents of the header of a `.qora-vision` file."""

    version: int
    description: ModelDescription
    entries: Mapping[str, Entry]
    tensors: Mapping[str, TensorInfo]
    checksums: Mapping[str, str]
    parts: tuple[str, ...]


def build_header(
    description: ModelDescription,
    stored: Mapping[str, StoredArray],
    quantized: Mapping[str, TensorInfo],
    checksums: Mapping[str, str],
) -> bytes:
    """Return length field and header, digest included, padded so that the tensors start at a multiple of 64.

    Parameters
    ----------
    description
        Describes the model.
    stored
        Arrays in the order in which they follow the header.
    quantized
        Kind and logical shape of each quantised tensor.
    checksums
        Checksum of each array of `stored`. All have the same length, so the length of the header does not
        depend on them.

    Raises
    ------
    ModelFileError
        If JSON cannot hold the description.
    """
    _check_description(description)
    kinds = {name: {"kind": info.kind, "shape": info.shape} for name, info in quantized.items()}
    metadata = {
        "header_sha256": "0" * _DIGEST_DIGITS,
        "format": FORMAT_NAME,
        "format_version": "1",
        "architecture": description.architecture,
        "config": to_json("config", description.config),
        "preprocessing": to_json("preprocessing", description.preprocessing),
        "labels": to_json("labels", description.labels),
        "quantization": description.quantization,
        "provenance": to_json("provenance", description.provenance),
        "quantized_tensors": to_json("quantized tensors", kinds),
        "checksums": to_json("checksums", checksums),
    }
    parts = [name.removeprefix(PART_PREFIX) for name in stored if name.startswith(PART_PREFIX)]
    if _needs_version_2(description, parts):
        networks = {name: vars(network) for name, network in description.networks.items()}
        metadata |= {
            "format_version": "2",
            "task": description.task,
            "scoring": description.scoring,
            "networks": to_json("networks", networks),
            "parts": to_json("parts", parts),
        }
    fields: dict[str, Any] = {METADATA_KEY: metadata}
    offset = 0
    names = {dtype: name for name, dtype in DTYPES.items() if name not in ("BF16", "BOOL")}
    for name, array in stored.items():
        end = offset + array.nbytes
        fields[name] = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    text = to_json("tensor names", fields).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    raw = len(text).to_bytes(8, "little") + text
    return raw[:_DIGEST_START] + _header_digest(raw) + raw[_DIGEST_START + _DIGEST_DIGITS :]


def _needs_version_2(description: ModelDescription, parts: Sequence[str]) -> bool:
    """Whether a reader of version 1 would misread the model."""
    usual = description.task == "classify" and description.scoring == "softmax"
    return bool(parts or description.networks) or description.preprocessing is None or not usual


def _check_description(model: ModelDescription) -> None:
    """Refuse a description that would differ after it is written and read back."""
    if not isinstance(model.architecture, str) or not model.architecture:
        raise ModelFileError(f"architecture must be a name, got {shown(model.architecture)}")
    if model.quantization not in QUANTIZATIONS:
        raise ModelFileError(
            f"quantization is {shown(model.quantization)}: expected one of {', '.join(QUANTIZATIONS)}"
        )
    if model.labels is not None and not _is_list_of_names(model.labels):
        raise ModelFileError("labels must be a list of strings, or None")
    for what, value, choices in (("task", model.task, TASKS), ("scoring", model.scoring, get_args(Scoring))):
        if value not in choices:
            raise ModelFileError(f"{what} is {value!r}: expected one of {', '.join(choices)}")
    objects = {what: getattr(model, what) for what in ("config", "preprocessing", "provenance")}
    if model.preprocessing is None:
        del objects["preprocessing"]
    for name, network in model.networks.items():
        if not name or "/" in name or f"{name}/" == PART_PREFIX:
            raise ModelFileError(
                f"a network cannot be named {name!r}: expected a name without '/', not 'part'"
            )
        objects[f"config of {name}"] = network.config
    for what, value in objects.items():
        if not isinstance(value, dict):
            raise ModelFileError(f"{what} must be a dictionary, but it is {type(value).__name__}")
        _check_names(what, value)
    for name, value in model.provenance.items():
        if not isinstance(value, str | int | float | None):
            raise ModelFileError(
                f"provenance cannot be stored: {listed([name])} must be a text or a number, "
                f"got {shown(value)}"
            )


def _check_names(what: str, value: Any) -> None:
    """Refuse names that are not strings: JSON would silently turn the name 1 into "1"."""
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise ModelFileError(f"{what} has the name {shown(name)}: names must be strings")
            _check_names(what, item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_names(what, item)


def _is_list_of_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def to_json(what: str, value: Any) -> str:
    """Return a value as compact JSON; `ModelFileError` that names it if JSON cannot hold it."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{what} cannot be stored as JSON: {reason(error)}") from error
    return text


def _header_digest(raw: bytes) -> bytes:
    """SHA-256 of length field and header with zeros for the digest, as lower-case hexadecimal digits."""
    blank = raw[:_DIGEST_START] + b"0" * _DIGEST_DIGITS + raw[_DIGEST_START + _DIGEST_DIGITS :]
    return hashlib.sha256(blank).hexdigest().encode()


def parse_model_header(buffer: mmap.mmap | bytes) -> ParsedHeader:
    """Check and read the header of a whole file held in `buffer`.

    Raises
    ------
    ModelFileError
        If it is not a `.qora-vision` file, damaged, truncated or of a newer version; the message does not
        name the file.
    """
    try:
        header = parse_header(buffer)
    except ContainerError as error:
        raise ModelFileError(f"not a usable .qora-vision file: {error}") from error
    version = _check_format(header)
    metadata = header.metadata
    description = ModelDescription(
        architecture=_text(metadata, "architecture"),
        config=_json(metadata, "config", dict),
        preprocessing=_preprocessing(metadata, version),
        labels=_labels(metadata),
        quantization=_text(metadata, "quantization"),
        provenance=_json(metadata, "provenance", dict),
        **(_version_2_fields(metadata) if version >= 2 else {}),
    )
    _check_description(description)
    parts = _parts(metadata) if version >= 2 else ()
    checksums = _json(metadata, "checksums", dict)
    if checksums.keys() != header.entries.keys():
        raise ModelFileError("checksums and tensors do not have the same names")
    if not all(isinstance(value, str) for value in checksums.values()):
        raise ModelFileError("the header's checksums must be texts: 'crc32:' and 8 hexadecimal digits")
    stored_parts = {PART_PREFIX + name for name in parts}
    if missing := stored_parts - header.entries.keys():
        raise ModelFileError(f"missing parts: {listed(sorted(missing))}")
    weights = {name: entry for name, entry in header.entries.items() if name not in stored_parts}
    tensors = _tensor_infos(weights, _json(metadata, "quantized_tensors", dict))
    return ParsedHeader(version, description, header.entries, tensors, checksums, parts)


def _check_format(header: Header) -> int:
    """Check name, version and digest of the header; return the version."""
    if header.metadata.get("format") != FORMAT_NAME:
        raise ModelFileError(
            "this is an ordinary safetensors file, not a .qora-vision file (or its header is damaged); "
            "convert the checkpoint with `qora-vision convert`"
        )
    text = _text(header.metadata, "format_version")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ModelFileError(f"format_version {shown(text)} is not a number; the header is damaged")
    if int(text) > FORMAT_VERSION:
        raise ModelFileError(
            f"its format_version is {text}, but this version of qora-vision reads up to {FORMAT_VERSION}: "
            "upgrade qora-vision (or the header is damaged)"
        )
    digest = header.raw[_DIGEST_START : _DIGEST_START + _DIGEST_DIGITS]
    if not header.raw.startswith(_DIGEST_PREFIX, 8) or digest != _header_digest(header.raw):
        raise ModelFileError(
            "the header is damaged (its checksum differs): download or convert the model again"
        )
    return int(text)


def _tensor_infos(entries: Mapping[str, Entry], quantized: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Describe each tensor; the two entries of a quantised tensor become one."""
    infos: dict[str, TensorInfo] = {}
    scales_names = {name + SCALES_SUFFIX for name in quantized}
    for name, entry in entries.items():
        if name in quantized:
            infos[name] = _quantized_info(name, quantized[name], entry, entries.get(name + SCALES_SUFFIX))
        elif name in scales_names:
            continue
        elif entry.dtype in ("F32", "F16"):
            infos[name] = TensorInfo(entry.dtype.lower(), entry.shape, entry.nbytes)
        else:
            raise ModelFileError(
                f"tensor {shown(name)} has the type {listed([entry.dtype])}, which the format does not allow"
            )
    if not infos.keys() >= quantized.keys():
        raise ModelFileError(f"missing tensors: {listed(sorted(quantized.keys() - infos.keys()))}")
    return infos


def _quantized_info(name: str, claim: Any, values: Entry, scales: Entry | None) -> TensorInfo:
    """Compare the metadata of a quantised tensor with its two entries."""
    kind = claim.get("kind") if isinstance(claim, dict) else None
    shape = claim.get("shape") if isinstance(claim, dict) else None
    if scales is None or (kind, values.dtype, scales.dtype) not in _QUANTIZED_TYPES:
        raise ModelFileError(f"the quantised tensor {shown(name)} lacks an entry or has a wrong type")
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise ModelFileError(f"the quantised tensor {shown(name)} has a wrong shape")
    return TensorInfo(str(kind), tuple(shape), values.nbytes + scales.nbytes)


def _text(metadata: Mapping[str, str], name: str) -> str:
    if name not in metadata:
        raise ModelFileError(f"the header has no {shown(name)}")
    return metadata[name]


def _json(metadata: Mapping[str, str], name: str, kind: type[_T]) -> _T:
    try:
        value = parse_json(_text(metadata, name).encode())
    except ValueError as error:
        raise ModelFileError(f"the header's {shown(name)} is wrong: {reason(error)}") from error
    if not isinstance(value, kind):
        raise ModelFileError(f"the header's {shown(name)} should be of type {kind.__name__}")
    return value


def _labels(metadata: Mapping[str, str]) -> list[str] | None:
    labels = _json(metadata, "labels", object)
    if labels is None or _is_list_of_names(labels):
        return labels
    raise ModelFileError("the header's 'labels' should be a list of strings or null")


def _preprocessing(metadata: Mapping[str, str], version: int) -> dict[str, Any] | None:
    if version >= 2 and metadata.get("preprocessing") == "null":
        return None
    return _json(metadata, "preprocessing", dict)


def _version_2_fields(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Read the fields that version 2 adds to version 1."""
    choices = {"task": TASKS, "scoring": get_args(Scoring)}
    for name, known in choices.items():
        if _text(metadata, name) not in known:
            raise ModelFileError(f"the header's {name!r} is none of {', '.join(known)}")
    networks = {}
    for name, fields in _json(metadata, "networks", dict).items():
        if not isinstance(fields, dict) or fields.keys() != {"architecture", "config"}:
            raise ModelFileError("the header's 'networks' should give each an architecture and a config")
        if not isinstance(fields["architecture"], str) or not isinstance(fields["config"], dict):
            raise ModelFileError("the header's 'networks' should give each an architecture and a config")
        networks[name] = NetworkDescription(**fields)
    return {**{name: metadata[name] for name in choices}, "networks": networks}


def _parts(metadata: Mapping[str, str]) -> tuple[str, ...]:
    names = _json(metadata, "parts", list)
    if not all(isinstance(name, str) and name in PARTS for name in names):
        raise ModelFileError(f"the header's 'parts' should be some of {', '.join(PARTS)}")
    return tuple(names)

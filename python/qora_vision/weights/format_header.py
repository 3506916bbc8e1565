"""The header of a `.qora-vision` file: what it says, how it is built, how it is checked (docs/format.md)."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

import numpy.typing as npt

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
FORMAT_VERSION = 1
QUANTIZATIONS = ("q4", "q8", "f16", "f32")
SCALES_SUFFIX = ".scales"
# Tensors begin at multiples of this (bytes) as far as their sizes allow; the first one always does.
ALIGNMENT = 64

# Kind, type of the values, type of the scales.
_QUANTIZED_TYPES = (("q4", "U8", "F16"), ("q8", "I8", "F16"))
# A header starts with these bytes, then 64 hexadecimal digits: SHA-256 of length field and header with zeros
# there.
_DIGEST_PREFIX = f'{{"{METADATA_KEY}":{{"header_sha256":"'.encode()
_DIGEST_START = 8 + len(_DIGEST_PREFIX)
_DIGEST_DIGITS = 64

_T = TypeVar("_T")


@dataclass(frozen=True)
class ModelDescription:
    """What a model file says about its model, beside the weights.

    Attributes
    ----------
    architecture
        Name of the model family, for example `"vivit"`.
    config, preprocessing, provenance
        Objects that JSON can hold (names are strings, no NaN); tuples come back as lists. `provenance` says
        where the weights come from: source, revision, licence, the version that wrote the file.
    labels
        Names of the classes in the order of the logits, or None.
    quantization
        `"q4"`, `"q8"`, `"f16"` or `"f32"`: what the large weights are stored as.
    """

    architecture: str
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    labels: list[str] | None
    quantization: str
    provenance: dict[str, Any]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a model file: `kind` is "f32", "f16", "q4" or "q8"; `nbytes` includes the scales."""

    kind: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class ParsedHeader:
    """Everything that the header of a `.qora-vision` file says."""

    version: int
    description: ModelDescription
    entries: Mapping[str, Entry]
    tensors: Mapping[str, TensorInfo]
    checksums: Mapping[str, str]


def build_header(
    description: ModelDescription,
    stored: Mapping[str, npt.NDArray[Any]],
    quantized: Mapping[str, TensorInfo],
    checksums: Mapping[str, str],
) -> bytes:
    """Return length field and header, digest included, padded so that the tensors start at a multiple of 64.

    Parameters
    ----------
    description
        What to say about the model.
    stored
        Arrays in the order in which they follow the header.
    quantized
        Kind and logical shape of each quantised tensor.
    checksums
        Checksum of each array of `stored`.

    Raises
    ------
    ModelFileError
        If the description holds something that JSON cannot.
    """
    _check_description(description)
    kinds = {name: {"kind": info.kind, "shape": info.shape} for name, info in quantized.items()}
    metadata = {
        "header_sha256": "0" * _DIGEST_DIGITS,
        "format": FORMAT_NAME,
        "format_version": str(FORMAT_VERSION),
        "architecture": description.architecture,
        "config": _to_json("config", description.config),
        "preprocessing": _to_json("preprocessing", description.preprocessing),
        "labels": _to_json("labels", description.labels),
        "quantization": description.quantization,
        "provenance": _to_json("provenance", description.provenance),
        "quantized_tensors": _to_json("quantized tensors", kinds),
        "checksums": _to_json("checksums", checksums),
    }
    fields: dict[str, Any] = {METADATA_KEY: metadata}
    offset = 0
    names = {dtype: name for name, dtype in DTYPES.items() if name not in ("BF16", "BOOL")}
    for name, array in stored.items():
        end = offset + array.nbytes
        fields[name] = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    text = _to_json("tensor names", fields).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    raw = len(text).to_bytes(8, "little") + text
    return raw[:_DIGEST_START] + _header_digest(raw) + raw[_DIGEST_START + _DIGEST_DIGITS :]


def _check_description(model: ModelDescription) -> None:
    """Refuse what would come back different from what was given."""
    if not isinstance(model.architecture, str) or not model.architecture:
        raise ModelFileError("architecture must be a name")
    if model.quantization not in QUANTIZATIONS:
        raise ModelFileError(
            f"quantization is {shown(model.quantization)}: expected one of {', '.join(QUANTIZATIONS)}"
        )
    if model.labels is not None and not _is_list_of_names(model.labels):
        raise ModelFileError("labels must be a list of strings, or None")
    for what in ("config", "preprocessing", "provenance"):
        value = getattr(model, what)
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
    """JSON would turn the name 1 into "1" without a word."""
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


def _to_json(what: str, value: Any) -> str:
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
    """Check the header of a whole file held in `buffer` and read everything that it says.

    Raises
    ------
    ModelFileError
        If it is no `.qora-vision` file, damaged, truncated or of a newer version; the message does not name
        the file.
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
        preprocessing=_json(metadata, "preprocessing", dict),
        labels=_labels(metadata),
        quantization=_text(metadata, "quantization"),
        provenance=_json(metadata, "provenance", dict),
    )
    _check_description(description)
    checksums = _json(metadata, "checksums", dict)
    if checksums.keys() != header.entries.keys():
        raise ModelFileError("checksums and tensors do not have the same names")
    if not all(isinstance(value, str) for value in checksums.values()):
        raise ModelFileError("the header's checksums should be texts: crc32: and 8 digits")
    tensors = _tensor_infos(header.entries, _json(metadata, "quantized_tensors", dict))
    return ParsedHeader(version, description, header.entries, tensors, checksums)


def _check_format(header: Header) -> int:
    """Check name, version and digest of the header; return the version."""
    if header.metadata.get("format") != FORMAT_NAME:
        raise ModelFileError(
            "this is an ordinary safetensors file, not a .qora-vision file (or its header is damaged); "
            "convert a checkpoint first with `qora-vision convert`"
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
    """Join the two entries of each quantised tensor."""
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
    """Check what the metadata claims about a quantised tensor against its two entries."""
    kind = claim.get("kind") if isinstance(claim, dict) else None
    shape = claim.get("shape") if isinstance(claim, dict) else None
    if scales is None or (kind, values.dtype, scales.dtype) not in _QUANTIZED_TYPES:
        raise ModelFileError(f"the quantised tensor {shown(name)} is incomplete or of a wrong type")
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

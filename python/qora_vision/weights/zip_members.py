"""Members of a zip archive as blocks of bytes in a mapped file."""

from __future__ import annotations

import struct
import zipfile
import zlib

from qora_vision.errors import CheckpointError, listed, reason, shown
from qora_vision.files.mapped import MappedFile
from qora_vision.weights.stored_tensor import Storage

# DEFLATE can expand one byte to a thousand. Weights, apart from zeros, shrink by only a tenth.
_MAX_RATIO = 32
_MAX_EXTRA = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
# Exceptions that the standard library raises for damaged archives.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,
    LookupError,
    OSError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)


def list_members(file: MappedFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an archive by name.

    Raises
    ------
    CheckpointError
        If the archive is damaged, two members have the same name, or they would unpack to more than
        `_MAX_RATIO` times the file's size plus 1 MiB.
    """
    try:
        with zipfile.ZipFile(file.path) as archive:
            members = archive.infolist()
    except _ZIP_ERRORS as error:
        raise CheckpointError(f"it is a damaged or truncated zip archive: {reason(error)}") from error
    by_name = {member.filename: member for member in members}
    if len(by_name) != len(members):
        raise CheckpointError("its zip archive has two members of the same name")
    if sum(member.compress_size for member in members) > file.size:
        raise CheckpointError("its zip archive has members that overlap or reach beyond its end: damaged")
    unpacked, most = sum(member.file_size for member in members), _MAX_RATIO * file.size + _MAX_EXTRA
    if unpacked > most:
        raise CheckpointError(
            f"its zip archive of {file.size} bytes would unpack to {unpacked} bytes: at most {most} are "
            "accepted, far more than weights need; if the file is right, save it without compression"
        )
    return by_name


def check_unpacked_size(member: zipfile.ZipInfo, extra: int) -> None:
    """Raise `CheckpointError` if a member unpacks to more than 32 times its stored size plus `extra`."""
    if member.file_size > _MAX_RATIO * member.compress_size + extra:
        raise CheckpointError(
            f"its {listed([member.filename])} would unpack from {member.compress_size} bytes to "
            f"{member.file_size} bytes: at most {_MAX_RATIO * member.compress_size + extra} are accepted"
        )


def member_storage(file: MappedFile, member: zipfile.ZipInfo) -> Storage:
    """Locate the data of a member. A checksum of 0 means that PyTorch was told to compute none.

    Raises
    ------
    CheckpointError
        If its header is not at its place, or it is encrypted or compressed by anything but DEFLATE.
    """
    start = member.header_offset
    header = bytes(file.buffer[start : start + _LOCAL_HEADER.size]) if start >= 0 else b""
    if len(header) != _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise CheckpointError(f"the zip archive is damaged: no {shown(member.filename)} at its stated place")
    if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CheckpointError(f"{shown(member.filename)} is encrypted or compressed in an unknown way")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    return Storage(
        file,
        start + _LOCAL_HEADER.size + name_length + extra_length,
        member.compress_size,
        member.file_size,
        crc32=member.CRC or None,
        deflated=member.compress_type == zipfile.ZIP_DEFLATED,
    )

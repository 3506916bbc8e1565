"""What a packet of H.264 begins with."""

from __future__ import annotations

import re

_IDR, _LAST_SLICE = 5, 5
_START_CODE = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)


def is_idr(packet: bytes, extradata: bytes) -> bool:
    """Whether the first slice of a packet says that nothing after it refers to anything before it.

    Containers also call pictures key frames after which a decoder only recovers (open groups of pictures,
    gradual refresh).

    Parameters
    ----------
    packet
        One access unit of H.264 (ITU-T H.264, 7.3.1): with start codes, or with lengths as in MP4.
    extradata
        Of the stream; it says which of the two (ISO/IEC 14496-15, AVCDecoderConfigurationRecord).
    """
    if extradata[:1] != b"\x01" or len(extradata) < 5:
        kinds = [match[1][0] & 31 for match in _START_CODE.finditer(packet)]
    else:
        kinds = _kinds_by_length(packet, (extradata[4] & 3) + 1)
    return next((kind for kind in kinds if 1 <= kind <= _LAST_SLICE), 0) == _IDR


def _kinds_by_length(packet: bytes, width: int) -> list[int]:
    kinds, place = [], 0
    while place + width < len(packet):
        kinds.append(packet[place + width] & 31)
        place += width + int.from_bytes(packet[place : place + width], "big")
    return kinds

"""How the colours of a frame are converted, by its own tags."""

from __future__ import annotations

from typing import Any

from qora_vision.errors import VideoError

# FFmpeg's numbers of the colour matrices that it converts (AVCOL_SPC_*), and swscale's numbers of them.
# Unspecified and reserved ones are BT.601, as FFmpeg has it.
BT601, _BT709 = 5, 1
_MATRICES = {1: 1, 2: BT601, 3: BT601, 4: 4, 5: BT601, 6: BT601, 7: 7, 9: 9}
_MATRIX_NAMES = {
    0: "RGB (of a picture that is none)",
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "SMPTE ST 2085",
    12: "chroma-derived",
    13: "chroma-derived with constant luminance",
    14: "ICtCp",
    15: "IPT",
    16: "YCgCo-R",
    17: "YCgCo-R",
}
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_HIGH_RANGE = {16: "PQ", 18: "HLG"}  # AVCOL_TRC_SMPTE2084, AVCOL_TRC_ARIB_STD_B67
_BT2020_PRIMARIES = 9
# PyAV 17 takes the arguments too, and its FFmpeg leaves the curve as it is.
_FIRST_WITH_TONES = 18


def conversion(frame: Any, context: Any, where: str, version: str) -> dict[str, int]:
    """Return arguments of `reformat` that mean the same in every version of PyAV.

    Before version 17 it looks at them only where source and destination differ, and takes any range but 0
    for the full one. Of RGB pictures the destination's matrix means nothing.

    Parameters
    ----------
    frame, context
        A frame of PyAV, and the codec context that it comes from.
    where
        What to call the frame in messages.
    version
        Of PyAV.

    Raises
    ------
    VideoError
        If FFmpeg, or this version of PyAV, does not convert such colours.
    """
    layout = frame.format
    if layout.is_rgb or layout.has_palette:
        return {}
    number = int(frame.colorspace)
    matrix = _MATRICES.get(number)
    if len(layout.components) < 3:  # grey has a range, but no colours
        matrix = matrix or BT601
    if matrix is None:
        raise VideoError(
            f"{where} has the colour matrix {_MATRIX_NAMES.get(number, f'number {number}')}, which FFmpeg "
            "does not convert; expected BT.601, BT.709 or BT.2020: export the video as BT.709 with the "
            "program that made it"
        )
    full = layout.name.startswith("yuvj") or int(frame.color_range) == _FULL_RANGE
    return {
        **_tone(frame, context, where, version),
        "src_colorspace": matrix,
        "dst_colorspace": BT601 if matrix != BT601 else _BT709,
        "src_color_range": _FULL_RANGE if full else 0,
    }


def _tone(frame: Any, context: Any, where: str, version: str) -> dict[str, int]:
    """Arguments that bring high dynamic range and wide colours to those of BT.709."""
    curve = int(getattr(frame, "color_trc", None) or context.color_trc or 0)
    primaries = int(getattr(frame, "color_primaries", None) or context.color_primaries or 0)
    if curve not in _HIGH_RANGE and primaries != _BT2020_PRIMARIES:
        return {}
    if int(version.partition(".")[0]) >= _FIRST_WITH_TONES:
        return {"dst_color_trc": _BT709, "dst_color_primaries": _BT709}
    if curve not in _HIGH_RANGE:
        return {}
    raise VideoError(
        f"{where} has a high dynamic range ({_HIGH_RANGE[curve]}), which PyAV {version} cannot reduce: "
        "install av 18 or later (Python 3.11 or later), or export the video as BT.709"
    )

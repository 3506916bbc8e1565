"""Decoders of video files: PyAV, the default, and OpenCV for comparison.

`QORA_VISION_DECODER`, or an argument `decoder`, selects one. Each is imported at first use.
"""

from __future__ import annotations

import os

from qora_vision.errors import VideoError
from qora_vision.video.decoders.base import Decoder
from qora_vision.video.origins import Origin

DECODERS = ("pyav", "opencv")
VARIABLE = "QORA_VISION_DECODER"


def decoder_name(chosen: str | None = None) -> str:
    """Return the name of the decoder to use: the chosen one, else the environment's, else "pyav".

    Raises
    ------
    VideoError
        If there is no such decoder.
    """
    name = chosen if chosen is not None else os.environ.get(VARIABLE) or DECODERS[0]
    if name not in DECODERS:
        said = "decoder" if chosen is not None else VARIABLE
        raise VideoError(f"{said} must be one of {', '.join(DECODERS)}, got {name!r}")
    return name


def open_decoder(origin: Origin, threads: int = 1, name: str | None = None) -> Decoder:
    """Open a video for one pass over its frames.

    Raises
    ------
    VideoError
        If it cannot be opened, or the decoder cannot be loaded.
    OSError
        If it cannot be read.
    """
    if decoder_name(name) == "opencv":
        from qora_vision.video.decoders.opencv import OpencvDecoder

        return OpencvDecoder(origin, threads)
    from qora_vision.video.decoders.pyav import PyavDecoder

    return PyavDecoder(origin, threads)


__all__ = ["DECODERS", "VARIABLE", "Decoder", "decoder_name", "open_decoder"]

"""Typed calls into the native frame operations: antialiased resize and the pixel value table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qora_vision import _core

Resample = Literal["bilinear", "bicubic"]
ResizeRule = Literal["pil", "torchvision", "plain"]
RESAMPLES: tuple[str, ...] = get_args(Resample)
RESIZE_RULES: tuple[str, ...] = get_args(ResizeRule)


def resize(
    frames: NDArray[np.uint8],
    size: tuple[int, int],
    *,
    resample: Resample = "bilinear",
    rule: ResizeRule = "pil",
    crop: tuple[int, int, int, int] | None = None,
    num_threads: int = 0,
) -> NDArray[np.uint8]:
    """Resize frames; the result does not depend on the number of threads, and the GIL is released.

    Parameters
    ----------
    frames
        (H, W, 3) or (T, H, W, 3) uint8; copied only if not C-contiguous.
    size
        Height and width in pixels of the whole output.
    resample
        "bilinear" or "bicubic" (a = -0.5).
    rule
        "pil": bit for bit `PIL.Image.resize` of Pillow 13 (earlier ones order the two passes otherwise when
        the height loses more than twice the pixels that the width loses). "torchvision": bit for bit torch's
        `interpolate(..., antialias=True)` on uint8 (x86 with AVX2 and arm64). "plain": two taps without
        antialias and a round to even as in torchvision's float path; up to 1 off where torch's fused
        arithmetic meets a tie.
    crop
        (top, left, height, width) in output pixels: only these are computed. Equal to resizing and then
        cropping.
    num_threads
        0: the process default.

    Returns
    -------
    uint8 of shape (..., height, width, 3).

    Raises
    ------
    ValueError
        For a wrong shape, dtype, size, filter or rule, or a crop outside the output.
    """
    contiguous = np.ascontiguousarray(frames)
    return _core.resize_u8(contiguous, size[0], size[1], resample, rule, crop, num_threads)


def lookup(
    parts: Sequence[NDArray[np.uint8]],
    table: NDArray[np.float32],
    out: NDArray[np.float32],
    *,
    reverse_channels: bool = False,
    num_threads: int = 0,
) -> None:
    """Write ``out[t, c, y, x] = table[c, frame[y, x, c]]``: scaled, normalised, transposed in one pass.

    Parameters
    ----------
    parts
        The frames, in order: (n, H, W, 3) uint8, each row contiguous (a crop of a contiguous array will do).
    table
        (3, 256) float32: the value of each byte in each output channel.
    out
        (T, 3, H, W) float32, C-contiguous, written in full.
    reverse_channels
        Read channel 2 - c of the frames: BGR frames become RGB planes.
    num_threads
        0: the process default.

    Raises
    ------
    ValueError
        For a wrong shape, dtype or layout.
    """
    _core.lookup_u8(parts, table, out, reverse_channels, num_threads)

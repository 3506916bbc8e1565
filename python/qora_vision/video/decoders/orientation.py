"""Display matrices: how a coded picture is turned and mirrored before it is shown."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A matrix further than this from a multiple of 90 degrees is not applied.
_TILT = 0.1


@dataclass(frozen=True)
class Orientation:
    """Swap rows and columns if `transposed`, then reverse columns and rows as told."""

    transposed: bool = False
    flip_columns: bool = False
    flip_rows: bool = False

    @classmethod
    def from_matrix(cls, data: bytes) -> Orientation:
        """Read a display matrix as FFmpeg stores it: nine 32-bit integers a b u c d v x y w.

        A pixel (x, y) is shown at (a x + c y, b x + d y). A rotation that is not a multiple of 90 degrees is
        ignored.
        """
        if len(data) < 36:
            return UPRIGHT
        a, b, _, c, d = struct.unpack("=5i", data[:20])
        large = max(abs(a), abs(d)), max(abs(b), abs(c))
        if max(large) == 0 or min(large) > _TILT * max(large):
            return UPRIGHT
        if large[1] > large[0]:
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged, after the rotation."""
        return self.transposed ^ self.flip_columns ^ self.flip_rows

    @property
    def rotation(self) -> int:
        """Degrees clockwise by which the picture is turned, before it is mirrored left to right if it is."""
        columns = self.flip_columns ^ self.mirrored
        if self.transposed:
            return 90 if columns else 270
        return 180 if columns else 0

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a (H, W, 3) frame upright: a copy, or the frame itself if it is upright already."""
        if self == UPRIGHT:
            return frame
        # One element a pixel: NumPy moves those several times faster than rows of three.
        pixels = frame.view("V3")[..., 0]
        if self.transposed:
            pixels = pixels.T
        if self.flip_columns:
            pixels = pixels[:, ::-1]
        if self.flip_rows:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)[..., None].view(np.uint8)


UPRIGHT = Orientation()

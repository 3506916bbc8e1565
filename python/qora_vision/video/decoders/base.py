"""The interface of a decoder: one pass over the frames of one video."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from qora_vision.video.decoders.orientation import Orientation

Frame = NDArray[np.uint8]


class Decoder(ABC):
    """One pass over the frames of one video, in display order.

    Attributes
    ----------
    codec
        FFmpeg's name of the codec, such as "h264"; empty if unknown.
    fps
        Nominal frames per second, None if the file says nothing usable.
    promised_frames
        The container's own frame count, None if absent or absurd.
    has_stamps
        Whether frames carry time stamps. Raw streams (.h264) do not.
    """

    codec: str
    fps: float | None
    promised_frames: int | None
    has_stamps: bool

    @abstractmethod
    def grab(self) -> bool:
        """Decode the next frame; False after the last one."""

    @abstractmethod
    def seconds(self) -> float | None:
        """Return the presentation time of the frame that was grabbed last, None if it has none."""

    @abstractmethod
    def orientation(self) -> Orientation:
        """Return the orientation that `retrieve` applies to the frame that was grabbed last."""

    @abstractmethod
    def retrieve(self, buffer: Frame | None = None) -> Frame:
        """Convert the frame that was grabbed last to upright (H, W, 3) uint8 BGR.

        Parameters
        ----------
        buffer
            An earlier result to write into, if the size has stayed the same.

        Raises
        ------
        VideoError
            If its colours cannot be converted.
        """

    @abstractmethod
    def no_frames(self) -> str:
        """Say why not one frame decoded, and what to do."""

    @abstractmethod
    def close(self) -> None:
        """Close the file. May be called twice."""

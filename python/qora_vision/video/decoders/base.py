"""The interface of a decoder: one pass over the frames of one video."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from qora_vision.video.decoders.numbering import KeyPacket, Numbering
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
    start
        Time stamp at which the container starts, with sound or picture: time 0 of players. None if unknown.
    tick
        Seconds of a tick of the stream, which `Numbering.shown` counts in.
    """

    codec: str
    fps: float | None
    promised_frames: int | None
    has_stamps: bool
    start: float | None = None
    tick: float | None = None

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
    def retrieve(self) -> Frame:
        """Convert the frame that was grabbed last to upright (H, W, 3) uint8 BGR, not to be written to.

        Raises
        ------
        VideoError
            If its colours cannot be converted.
        """

    def number_frames(self) -> Numbering | None:
        """Count by packets, without decoding, which spends a fresh decoder; None where that may be wrong."""
        return None

    def seek(self, key: KeyPacket, number: int) -> bool:
        """Go to a key packet, whose frame of this number comes next; False if that cannot be."""
        return False

    def is_sound(self, shown: int, key: bool) -> bool:
        """Whether the last frame has this time, is whole, and is a key frame if it must be."""
        return False

    @abstractmethod
    def no_frames(self) -> str:
        """Say why not one frame decoded, and what to do."""

    @abstractmethod
    def close(self) -> None:
        """Close the file. May be called twice."""

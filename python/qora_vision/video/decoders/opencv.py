"""Decoding with OpenCV, for comparison with PyAV. Frames that OpenCV converts wrongly are refused.

From 4.13 on, `retrieve` returns True and uninitialised memory for interlaced frames and for colour matrices
that FFmpeg does not convert. Before 4.13, BT.709 and BT.2020 are converted as BT.601. All versions apply
display matrices with a reflection wrongly. OpenCV does not report any of this. PyAV therefore reads the file
in parallel, without converting anything, and describes each frame.
"""

from __future__ import annotations

import math

import numpy as np

from qora_vision.errors import VideoError
from qora_vision.video._opencv import load_opencv, quiet
from qora_vision.video.decoders.base import Decoder, Frame
from qora_vision.video.decoders.orientation import Orientation
from qora_vision.video.decoders.pyav import PyavDecoder, why_not
from qora_vision.video.origins import Origin

_TRUE_COLOURS = (4, 13)


class OpencvDecoder(Decoder):
    """See `Decoder`. Reads files alone, and only those whose name OpenCV can take."""

    def __init__(self, origin: Origin, threads: int = 1) -> None:
        cv2 = load_opencv()
        self._cv2 = cv2
        self._origin = origin
        self._version = tuple(int(part) for part in cv2.__version__.split(".")[:2])
        if origin.path is None:
            raise VideoError(f"{origin.label}: the decoder opencv reads files only; use the decoder pyav")
        # An absolute path, so that FFmpeg cannot take a file name for a protocol.
        name = str(origin.path.absolute())
        try:
            name.encode()
        except UnicodeEncodeError:
            raise VideoError(
                f"{origin.label}: OpenCV cannot open a name that is not UTF-8; rename the file or "
                "use the decoder "
                "pyav"
            ) from None
        if "%" in origin.path.name:
            raise VideoError(
                f"{origin.label}: OpenCV takes % in a name for a pattern; rename the file or use "
                "the decoder pyav"
            )
        self._facts = PyavDecoder(origin, threads)
        self._capture = None
        try:
            with quiet():
                if cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
                    options = [cv2.CAP_PROP_N_THREADS, threads]
                    self._capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, options)
                else:
                    self._capture = cv2.VideoCapture(name)
            if not self._capture.isOpened():
                raise VideoError(why_not(origin, f"OpenCV {cv2.__version__}"))
        except BaseException:
            self.close()
            raise
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self.codec = self._facts.codec
        self.fps = self._facts.fps
        self.has_stamps = self._facts.has_stamps
        self.promised_frames = self._facts.promised_frames
        self._index = -1

    def grab(self) -> bool:
        """Decode the next frame with both."""
        capture = self._capture
        if capture is None:
            return False
        try:
            grabbed = bool(capture.grab())
        except self._cv2.error:
            grabbed = False
        known = self._facts.grab()
        self._index += 1
        if grabbed and not known:
            raise VideoError(
                f"{self._origin.label}: OpenCV {self._cv2.__version__} finds a frame "
                f"{self._index} that PyAV does "
                "not: the file is damaged; use the decoder pyav"
            )
        return grabbed

    def seconds(self) -> float | None:
        """As OpenCV says, which is wrong for some last frames."""
        if not self.has_stamps or self._capture is None:
            return None
        stamp = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000.0
        return stamp if math.isfinite(stamp) else None

    def orientation(self) -> Orientation:
        """As the display matrix says; OpenCV's own turning is switched off."""
        return self._facts.orientation()

    def retrieve(self) -> Frame:
        """Convert the frame, after a check that OpenCV converts such frames correctly."""
        self._refuse_garbage()
        assert self._capture is not None
        ok, frame = self._capture.retrieve()
        if not ok or frame is None or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise VideoError(
                f"{self._origin.label}: frame {self._index} decodes but OpenCV cannot convert it "
                "to 8-bit colour; "
                "use the decoder pyav"
            )
        return self.orientation().apply(np.asarray(frame, np.uint8))

    def _refuse_garbage(self) -> None:
        where = f"{self._origin.label}: frame {self._index}"
        if self._facts.interlaced:
            raise VideoError(
                f"{where} is interlaced, which OpenCV {self._cv2.__version__} may turn into garbage; use the "
                "decoder pyav"
            )
        self._facts.check_colours()
        if self._version < _TRUE_COLOURS and not self._facts.is_bt601:
            raise VideoError(
                f"{where}: OpenCV {self._cv2.__version__} converts all colours as BT.601, and "
                "these are not; use "
                "the decoder pyav, or OpenCV 4.13 or later"
            )

    def no_frames(self) -> str:
        """Say why not one frame decodes."""
        return (
            f"{self._origin.label}: no frame decodes; the codec {self.codec or 'unknown'} may not "
            "be supported by "
            f"OpenCV {self._cv2.__version__}; use the decoder pyav"
        )

    def close(self) -> None:
        """Close the file in both decoders."""
        self._facts.close()
        if self._capture is not None:
            self._capture.release()
            self._capture = None

"""OpenCV, imported at first use, with its messages silenced.

It reads and writes pictures, writes videos and draws; PyAV decodes videos. A machine on which OpenCV cannot
be loaded therefore still classifies videos. Only a function that needs OpenCV raises an error, which says
what to install.

FFmpeg prints a message for every damaged packet, and OpenCV for every file that it cannot open. The package
raises exceptions instead, so both are silenced: FFmpeg by an environment variable that OpenCV reads when it
opens its first video (a value of the user is kept), OpenCV's own log only inside `quiet`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qora_vision.errors import VideoError

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET

# The error of the first attempt to import OpenCV: later attempts would fail with another one.
_failure = ""
_lock = threading.Lock()
_depth = 0
_level_outside = 0


def load_opencv() -> Any:
    """Return the module cv2, of whichever build is installed (plain, headless, contrib).

    Raises
    ------
    VideoError
        If it cannot be imported; the message says what to install.
    """
    global _failure
    if _failure:
        raise VideoError(_failure)
    try:
        import cv2
    except ImportError as error:
        reason = str(error).splitlines()[0] if str(error) else "no reason given"
        if isinstance(error, ModuleNotFoundError) and error.name == "cv2":
            todo = "pip install opencv-python-headless"
        else:
            todo = (
                "install the system's packages libgl1 and libglib2.0-0, or replace opencv-python by "
                "opencv-python-headless, which needs neither"
            )
        _failure = f"OpenCV cannot be loaded ({reason}): {todo}"
        raise VideoError(_failure) from None
    return cv2


@contextmanager
def quiet() -> Iterator[None]:
    """Silence OpenCV's log inside the block; may be nested and used by several threads at once."""
    global _depth, _level_outside
    cv2 = load_opencv()
    # Up to 4.12 the functions lie in cv2 itself, from 5.0 on in cv2.utils.logging alone; 4.13 has both.
    log = getattr(cv2.utils, "logging", cv2)
    with _lock:
        if _depth == 0:
            _level_outside = log.getLogLevel()
            log.setLogLevel(0)  # LOG_LEVEL_SILENT
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                log.setLogLevel(_level_outside)


__all__ = ["load_opencv", "quiet"]

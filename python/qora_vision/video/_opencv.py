"""OpenCV, imported once and kept quiet.

FFmpeg reports every damaged packet on the terminal, and OpenCV every file that it cannot open. The package
turns what matters into exceptions, so both are silenced: FFmpeg by an environment variable that OpenCV reads
when it opens its first video (a value set by the user is respected), OpenCV's own log only while `quiet`
lasts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET

import cv2

_lock = threading.Lock()
_depth = 0
_level_outside = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Silence OpenCV's log inside the block; may be nested and used by several threads at once."""
    global _depth, _level_outside
    with _lock:
        if _depth == 0:
            _level_outside = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                cv2.utils.logging.setLogLevel(_level_outside)


__all__ = ["cv2", "quiet"]

"""What some builds of the libraries cannot do."""

from __future__ import annotations

import cv2
import pytest

WRITES_GIF = hasattr(cv2, "imwriteanimation") and cv2.haveImageWriter("a.gif")
needs_gif = pytest.mark.skipif(not WRITES_GIF, reason=f"OpenCV {cv2.__version__} cannot write GIF, 4.12 can")


def marked(suffix: str) -> object:
    """A suffix as a parameter, skipped where it is .gif and OpenCV cannot write that."""
    return pytest.param(suffix, marks=needs_gif) if suffix.endswith(".gif") else suffix

"""Increasing times of frames, from time stamps that may be absent or wrong."""

from __future__ import annotations

import math


class Clock:
    """Makes times that start at 0 and increase, from time stamps that may be absent or wrong."""

    def __init__(self, nominal: float) -> None:
        self.nominal = nominal
        self._offset: float | None = None
        self._last = -nominal

    def tick(self, stamp: float | None) -> float:
        """Return the seconds of the next frame."""
        expected = self._last + self.nominal
        seconds = expected
        if stamp is not None and math.isfinite(stamp):
            if self._offset is None:
                self._offset = stamp - expected
            if stamp - self._offset > self._last:
                seconds = stamp - self._offset
        self._last = seconds
        return seconds

"""Increasing times of frames, from time stamps that may be absent or wrong; numbers that may be none."""

from __future__ import annotations

import math
from numbers import Real
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a real number that a float can hold, of Python or NumPy; bool is none."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


class Clock:
    """Makes times that rise, of stamps that may be absent or absurd.

    Parameters
    ----------
    nominal
        Seconds of a frame without a stamp.
    origin
        The stamp of time 0. None: that of the first frame.
    """

    def __init__(self, nominal: float, origin: float | None = None) -> None:
        self.nominal = nominal
        self._offset = origin
        self._last = -nominal

    def tick(self, stamp: float | None) -> float:
        """Return the seconds of the next frame."""
        expected = self._last + self.nominal
        seconds = expected
        if stamp is not None and math.isfinite(stamp):
            if self._offset is None:
                self._offset = stamp - expected
            elapsed = stamp - self._offset
            if elapsed > self._last and elapsed >= 0:
                seconds = elapsed
        self._last = seconds
        return seconds

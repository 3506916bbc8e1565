"""The classes of the camera-motion model, and what a mirror or a reversed film does to each.

The names are camera-centric: the camera pans right = the scene moves left in the picture; it tilts up = the
scene moves down; it rolls clockwise, seen from behind the camera = the picture turns counterclockwise.
"""

from __future__ import annotations

LABELS = (
    "static",
    "pan left",
    "pan right",
    "tilt up",
    "tilt down",
    "zoom in",
    "zoom out",
    "roll clockwise",
    "roll counterclockwise",
    "shake",
    "cut",
)
INDEX = {label: number for number, label in enumerate(LABELS)}

_PAN = ("pan left", "pan right")
_TILT = ("tilt up", "tilt down")
_ZOOM = ("zoom in", "zoom out")
_ROLL = ("roll clockwise", "roll counterclockwise")


def _swapped(*pairs: tuple[str, str]) -> tuple[int, ...]:
    table = list(range(len(LABELS)))
    for one, other in pairs:
        table[INDEX[one]], table[INDEX[other]] = INDEX[other], INDEX[one]
    return tuple(table)


# Number of a class after the change, at the number of the class before it.
MIRRORED_LEFT_RIGHT = _swapped(_PAN, _ROLL)
MIRRORED_UP_DOWN = _swapped(_TILT, _ROLL)
REVERSED_IN_TIME = _swapped(_PAN, _TILT, _ZOOM, _ROLL)
# Rows become columns: what moved left moves up. The camera that panned right now tilts down.
TRANSPOSED = _swapped(("pan left", "tilt up"), ("pan right", "tilt down"), _ROLL)

"""Frames by number without decoding those before them: the numbering that the packets of a file give.

A file promises which packets are key frames and when frames are shown, and such promises are not believed.
Frames are numbered by all packets, decoding starts only where nothing before a key frame is shown after it,
and every frame that is decoded must have the time that its number says. Where anything differs the caller
decodes all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from qora_vision.video.decoders.base import Decoder

# Of fewer frames than this, a pass over all costs little.
LONG = 1000
# Seeking must save this part of a pass at least; what is not decoded cannot be checked.
_SAVING = 0.5


@dataclass(frozen=True)
class KeyPacket:
    """A packet where a file says that decoding can start.

    Attributes
    ----------
    shown
        Presentation time of its frame, in ticks of the stream.
    read
        Decoding time, or `shown` where there is none.
    """

    shown: int
    read: int


class Numbering:
    """Frames numbered in display order, and where decoding may start.

    Parameters
    ----------
    shown
        Presentation times of all packets, one for each frame, in the order of decoding.
    keys
        Key packets by their place in that order.
    """

    def __init__(self, shown: Sequence[int], keys: Mapping[int, KeyPacket]) -> None:
        order = np.asarray(shown, np.int64)
        self.shown = np.sort(order)
        if 0 not in keys or bool((self.shown[1:] == self.shown[:-1]).any()):
            self.shown = self.shown[:0]
            return
        # At such a place, exactly what is decoded before is shown before.
        closed = (order == self.shown) & (np.maximum.accumulate(order) == order)
        self._keys = {place: key for place, key in sorted(keys.items()) if closed[place]}
        self._places = list(self._keys)

    @property
    def total(self) -> int:
        """How many frames there are; 0 if they cannot be numbered."""
        return len(self.shown)

    def start_for(self, number: int) -> tuple[int, KeyPacket] | None:
        """Return the last place at or before a frame where decoding may start, with its packet."""
        place = bisect_right(self._places, number) - 1
        if place < 0:
            return None
        found = self._places[place]
        return found, self._keys[found]

    def pays(self, wanted: Iterable[int], last: int | None = None) -> bool:
        """Whether seeking to these frames saves enough of a pass up to frame `last` (None: over all)."""
        decoded, position = 0, -1
        for number in sorted(set(wanted)):
            start = self.start_for(number)
            if start is None:
                return False
            decoded += number - max(position, start[0] - 1)
            position = number
        full = self.total if last is None else last + 1
        return decoded <= (1 - _SAVING) * full


def visit(decoder: Decoder, numbering: Numbering, wanted: Iterable[int]) -> Iterator[int]:
    """Decode to each wanted frame, and yield its number when it is the one that was grabbed last.

    Ends early where the file is not what its packets say.

    Parameters
    ----------
    decoder
        Of the same video, fresh.
    numbering
        By `Decoder.number_frames`.
    wanted
        Frame numbers below `numbering.total`.
    """
    position = -1
    for number in sorted(set(wanted)):
        start = numbering.start_for(number)
        if start is None:
            return
        place, key = start
        if place > position + 1:
            if not decoder.seek(key, place):
                return
            position = place - 1
        while position < number:
            if not decoder.grab():
                return
            position += 1
            if not decoder.is_sound(int(numbering.shown[position]), key=position == place):
                return
        yield number

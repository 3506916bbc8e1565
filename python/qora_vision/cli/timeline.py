"""A timeline in the terminal: a line for each segment, with a bar for each of its windows."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

import qora_vision

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "._-=+*%#"
_ELLIPSIS, _ASCII_ELLIPSIS = "…", "~"
_SHORTEST_LABEL = 6
_SHORTEST_BAR = 4
_PERCENT_WIDTH = 5
# Cyan, yellow, green, magenta, blue, red: bars of one label have one colour.
_COLORS = (36, 33, 32, 35, 34, 31)


class Timeline:
    """Prints segments on stdout, as wide as the terminal, with colours on a terminal only.

    Bars are ASCII where the encoding lacks block characters. `NO_COLOR` (https://no-color.org), `TERM=dumb`
    and `COLUMNS` are respected.

    Parameters
    ----------
    labels
        Every possible label.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        self._width = shutil.get_terminal_size().columns
        self._label_width = max(len(label) for label in labels)
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or os.name == "nt"
        self._colored = sys.stdout.isatty() and not plain
        unicode = _can_print(_BLOCKS + _ELLIPSIS)
        self._blocks = _BLOCKS if unicode else _ASCII_BLOCKS
        self._ellipsis = _ELLIPSIS if unicode else _ASCII_ELLIPSIS

    def show(self, segment: qora_vision.Segment) -> None:
        """Print the line of one segment and flush it."""
        times = f"{_clock(segment.start):>7} - {_clock(segment.end):>7}  "
        room = self._width - len(times) - 2 - _PERCENT_WIDTH
        label_width = min(self._label_width, max(_SHORTEST_LABEL, room - 2 - _SHORTEST_BAR))
        label = segment.label
        if len(label) > label_width:
            label = label[: label_width - 1] + self._ellipsis
        line = f"{times}{label:<{label_width}}  {100 * segment.score:3.0f} %"
        bar = self._bar(segment.scores, room - label_width - 2)
        if bar and self._colored:
            color = _COLORS[self._labels.index(segment.label) % len(_COLORS)]
            bar = f"\033[{color}m{bar}\033[0m"
        print(f"{line}  {bar}".rstrip(), flush=True)

    def _bar(self, scores: Sequence[float], room: int) -> str:
        """Make a block for each window, as high as its score; neighbours share one where there is no room."""
        if room < min(_SHORTEST_BAR, len(scores)):
            return ""
        count = min(room, len(scores))
        groups = [scores[i * len(scores) // count : (i + 1) * len(scores) // count] for i in range(count)]
        steps = len(self._blocks)
        heights = [min(steps - 1, int(steps * sum(group) / len(group))) for group in groups]
        return "".join(self._blocks[height] for height in heights)


def _clock(seconds: float) -> str:
    """Format a time as minutes:seconds, with tenths."""
    tenths = round(10 * seconds)
    return f"{tenths // 600}:{tenths // 10 % 60:02}.{tenths % 10}"


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True

"""First step of the console script, outside the package, whose import loads NumPy and OpenCV.

Ctrl-C while they load then ends as it does later: on one line, with status 130.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

_INTERRUPTED = 130


def main() -> int:
    """Load the package and run the command line of this process; returns its exit status.

    A request to end (SIGTERM) ends like Ctrl-C, so that no temporary file stays, but with status 143.
    """
    ended: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        from qora_vision.cli import main as run

        status = run()
    except KeyboardInterrupt:
        print("qora-vision: interrupted", file=sys.stderr)
        status = _INTERRUPTED
    return 128 + ended[0] if ended and status == _INTERRUPTED else status

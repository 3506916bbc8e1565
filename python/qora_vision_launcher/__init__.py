"""First step of the console script, outside the package, whose import loads NumPy and OpenCV.

Ctrl-C while they load then ends as it does later: on one line, with status 130.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Load the package and run the command line of this process; returns its exit status."""
    try:
        from qora_vision.cli import main as run
    except KeyboardInterrupt:
        print("qora-vision: interrupted", file=sys.stderr)
        return 130
    return run()

"""The console script `qora-vision`: one module per verb, over the public API of the package alone."""

from qora_vision.cli.app import main

__all__ = ["main"]

"""The console script `qora-vision`: one module for each verb (subcommand).

It may import the public API, `qora_vision`, and no other room.
"""

from qora_vision.cli.app import main

__all__ = ["main"]

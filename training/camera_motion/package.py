"""Make the file that ships: ``python -m training.camera_motion.package CHECKPOINT FILE``.

`qora-vision convert --calibrate` with windows of the training set, and with one difference: a checkpoint
folder cannot say which frames of a video to take, and for camera motion it matters. The file says: every
second frame around the middle.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from qora_vision.loading.calibration import calibrate
from qora_vision.loading.options import LoadOptions
from qora_vision.loading.resolve import load_network
from qora_vision.video import as_frames
from qora_vision.weights.format import write_model
from training.camera_motion.data import sample

STRIDE = 2
# Windows of the training set to calibrate on, of every class as many.
WINDOWS = 264


def main() -> None:
    """Read the command line, quantise, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="Hugging Face folder")
    parser.add_argument("file", type=Path, help=".qora-vision file to write")
    args = parser.parse_args()
    windows = [as_frames(sample("train", number).clip, "rgb") for number in range(WINDOWS)]
    loaded = calibrate(load_network(args.checkpoint, LoadOptions("f32")), windows, LoadOptions("q4"))
    rule = replace(loaded.preprocessing, sampling="dense", stride=STRIDE)
    write_model(args.file, replace(loaded.file, preprocessing=rule.to_dict()))
    print(f"{args.file}: {args.file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

"""`qora-vision convert`: convert a checkpoint to a .qora-vision file."""

from __future__ import annotations

import argparse
from pathlib import Path

import qora_vision
from qora_vision.cli.options import Verbs, add_conversion_options, add_json_option, new_parser
from qora_vision.cli.output import format_bytes, print_json
from qora_vision.cli.progress import Progress

DESCRIPTION = """\
Convert a checkpoint into one .qora-vision file: quantised weights with config,
preprocessing, labels, origin and checksums. One file serves every CPU.
"""

EPILOG = """\
examples:
  qora-vision convert path/to/vivit-b-16x2-kinetics400 -o vivit.qora-vision
  qora-vision convert path/to/checkpoint -o vivit-f16.qora-vision --weights f16 --labels names.txt
  qora-vision convert path/to/checkpoint -o vivit.qora-vision --calibrate clips/*.mp4

An existing file is replaced only after the new one is complete on disk.
"""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs, "convert", summary="write a .qora-vision file", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument(
        "source",
        metavar="SRC",
        help="checkpoint directory or file, OWNER/NAME on the Hugging Face hub, address of an original "
        "checkpoint, or .qora-vision file",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--calibrate",
        metavar="CLIP",
        nargs="+",
        help="calibrate q4 or q8 weights: round them so that the outputs of layers change little on these "
        "videos or folders of images. Give a dozen or more like those the model will see; takes minutes",
    )
    add_json_option(parser, "a summary of the file as a JSON object")
    add_conversion_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Convert, and print what was written."""
    with Progress() as progress:
        model = qora_vision.convert(
            arguments.source,
            arguments.output,
            weights=arguments.weights,
            value_range=arguments.value_range,
            labels=arguments.labels,
            calibrate=arguments.calibrate,
            progress=progress,
        )
    if arguments.json:
        print_json(
            {
                "output": str(arguments.output),
                "architecture": model.architecture,
                "weights": model.quantization,
                "calibration": model.provenance.get("calibration"),
                "file_size": model.file_size,
            }
        )
    else:
        size = format_bytes(model.file_size)
        print(f"{arguments.output}: {model.architecture}, {model.quantization} weights, {size}")
    return 0

"""`qora-vision info`: what a .qora-vision file holds."""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import qora_vision
from qora_vision.cli.options import Verbs, add_json_option, new_parser
from qora_vision.cli.output import count_of, format_bytes, print_fields, print_json

DESCRIPTION = """\
Show what a .qora-vision file holds: architecture and config, preprocessing,
labels, size by precision, origin. The weights themselves are not read.
"""

EPILOG = """\
examples:
  qora-vision info vivit.qora-vision
  qora-vision info vivit.qora-vision --json | jq .preprocessing
"""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs, "info", summary="show what a .qora-vision file holds", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("file", metavar="FILE", type=Path, help=".qora-vision file")
    add_json_option(parser, "everything, with every label and tensor, as a JSON object")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the header and print it."""
    model = qora_vision.read_info(arguments.file)
    if arguments.json:
        print_json(
            {
                "file": str(arguments.file),
                "file_size": model.file_size,
                "architecture": model.architecture,
                "config": model.config,
                "preprocessing": model.preprocessing,
                "labels": model.labels,
                "quantization": model.quantization,
                "provenance": model.provenance,
                "tensors": {
                    name: {"kind": kind, "shape": shape, "nbytes": nbytes}
                    for name, (kind, shape, nbytes) in model.tensors.items()
                },
            }
        )
        return 0
    print_fields(
        [
            ("File", f"{arguments.file}, {format_bytes(model.file_size)}"),
            ("Architecture", model.architecture),
            ("Weights", f"{model.quantization}\n{_sizes(model.tensors)}"),
            ("Labels", _labels(model.labels)),
            ("Config", _lines(model.config)),
            ("Preprocessing", _lines(model.preprocessing)),
            ("Provenance", _lines(model.provenance)),
        ]
    )
    return 0


def _sizes(tensors: Mapping[str, tuple[str, tuple[int, ...], int]]) -> str:
    """Sum up each precision on a line: bytes, tensors, values."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for kind, shape, nbytes in tensors.values():
        for index, amount in enumerate((nbytes, 1, math.prod(shape))):
            totals[kind][index] += amount
    return "\n".join(
        f"{kind:<4} {format_bytes(nbytes):>10}, {count_of(count, 'tensor')}, {values / 1e6:.2f} M values"
        for kind, (nbytes, count, values) in sorted(totals.items(), key=lambda item: -item[1][0])
    )


def _labels(labels: list[str] | None) -> str:
    """Give their number, and a few of them."""
    if not labels:
        return "none"
    shown = ", ".join(labels[:3])
    return f"{len(labels)}: {shown}" + (", ..." if len(labels) > 3 else "")


def _lines(values: Mapping[str, Any]) -> str:
    """Give each entry a line, names aligned."""
    width = max((len(name) for name in values), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in values.items()) or "none"

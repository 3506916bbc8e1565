"""`qora-vision info`: the contents of a .qora-vision file."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any

import qora_vision
from qora_vision.cli.options import Verbs, add_json_option, new_parser
from qora_vision.cli.output import count_of, format_bytes, print_fields, print_json

DESCRIPTION = """\
Show the contents of a .qora-vision file or a bundled model: architecture and
config, preprocessing, labels, size by precision, origin. The weights are not
read. Without FILE: list the bundled models.
"""

EPILOG = """\
examples:
  qora-vision info
  qora-vision info camera-motion
  qora-vision info vivit.qora-vision
  qora-vision info vivit.qora-vision --json | jq .preprocessing
"""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs, "info", summary="show a .qora-vision file's contents", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help=".qora-vision file, or name of a bundled model"
    )
    add_json_option(parser, "everything, with every label and tensor, as a JSON object")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the header and print it, or list the bundled models."""
    if arguments.file is None:
        _list_bundled(arguments.json)
        return 0
    try:
        model = qora_vision.read_info(arguments.file)
    except IsADirectoryError:
        raise IsADirectoryError(
            f"{arguments.file} is a folder: info shows a .qora-vision file; of a checkpoint, `qora-vision "
            f"convert {arguments.file} -o FILE` makes one"
        ) from None
    if arguments.json:
        print_json(
            {
                "file": arguments.file,
                "file_size": model.file_size,
                "format_version": model.format_version,
                "task": model.task,
                "scoring": model.scoring,
                "architecture": model.architecture,
                "config": model.config,
                "preprocessing": model.preprocessing,
                "labels": model.labels,
                "quantization": model.quantization,
                "provenance": model.provenance,
                "tensors": {
                    name: {"kind": tensor.kind, "shape": tensor.shape, "nbytes": tensor.nbytes}
                    for name, tensor in model.tensors.items()
                },
            }
        )
        return 0
    print_fields(
        [
            ("File", f"{arguments.file}, {format_bytes(model.file_size)}"),
            ("Task", model.task),
            ("Architecture", model.architecture),
            ("Weights", f"{model.quantization}\n{_sizes(model)}"),
            ("Labels", _labels(model.labels)),
            *([("Scores", model.scoring)] if model.task == "classify" else []),
            ("Config", _lines(model.config)),
            ("Preprocessing", _lines(model.preprocessing)),
            ("Provenance", _lines(model.provenance)),
        ]
    )
    return 0


def _list_bundled(as_json: bool) -> None:
    """List the models in the package."""
    models = [(model.name, str(model.path), model.info()) for model in qora_vision.list_bundled()]
    if as_json:
        fields = [
            {"name": name, "file": path, "file_size": info.file_size, "labels": info.labels}
            for name, path, info in models
        ]
        print_json({"bundled": fields})
        return
    for name, _, info in models:
        labels = count_of(len(info.labels or ()), "label")
        print(f"{name}  {info.architecture}, {info.quantization}, {format_bytes(info.file_size)}, {labels}")
    if not models:
        print("no model is bundled with this installation")


def _sizes(model: qora_vision.ModelInfo) -> str:
    """Give the totals of each precision on a line: bytes, tensors, values."""
    lines = []
    for kind, nbytes in model.bytes_by_kind().items():
        shapes = [tensor.shape for tensor in model.tensors.values() if tensor.kind == kind]
        values = sum(math.prod(shape) for shape in shapes)
        lines.append(
            f"{kind:<4} {format_bytes(nbytes):>10}  {count_of(len(shapes), 'tensor')}, {values:,} values"
        )
    return "\n".join(lines)


def _labels(labels: list[str] | None) -> str:
    """Give the number of labels, and the first few."""
    if not labels:
        return "none"
    shown = ", ".join(labels[:3])
    return f"{len(labels)}: {shown}" + (", ..." if len(labels) > 3 else "")


def _lines(values: Mapping[str, Any] | None) -> str:
    """Give each entry a line, names aligned."""
    if not values:
        return "none"
    width = max(len(name) for name in values)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in values.items())

"""Options that several verbs share, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, get_args

import qora_vision

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

WEIGHTS = get_args(qora_vision.Weights)
COMPUTE = get_args(qora_vision.Compute)


# The model of `classify`, `segments` and `demo` when none is named.
DEFAULT_MODEL = "camera-motion"


class UsageError(Exception):
    """A command line that argparse accepts but whose options contradict each other: exit status 2."""


def new_parser(
    verbs: Verbs, name: str, *, summary: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    """Add the parser of one verb; the epilog is printed as written."""
    return verbs.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_conversion_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for reading a checkpoint: precision, value range, labels."""
    group = parser.add_argument_group("reading a checkpoint (fixed in a .qora-vision file)")
    group.add_argument(
        "--weights",
        choices=WEIGHTS,
        help="precision of the weights in memory: 4-bit, 8-bit, half or single (default: q4)",
    )
    group.add_argument(
        "--value-range",
        choices=get_args(qora_vision.ValueRange),
        help="range of pixel values: the one that the model was trained with (original), or the one that the "
        "checkpoint's preprocessor_config.json computes (hf) (default: original)",
    )
    group.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for running a model: arithmetic and threads."""
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--compute",
        choices=COMPUTE,
        default="auto",
        help="arithmetic: the fastest that this CPU has (auto), the same with 8-bit attention (int8: faster, "
        "coarser), bfloat16 (bf16), or float32 throughout (exact) (default: %(default)s)",
    )
    group.add_argument(
        "--threads", metavar="N", type=positive_int, help="threads (default: one for each CPU)"
    )


def load_classifier(name: str, **how: Any) -> qora_vision.VideoClassifier:
    """Load a model with `qora_vision.load`; raises `TaskError` if it has no classes."""
    model = qora_vision.load(name, **how)
    if isinstance(model, qora_vision.Encoder):
        model.classify()
    return model


def load_model(
    name: str, arguments: argparse.Namespace, progress: Callable[[int, int, str], None]
) -> qora_vision.VideoClassifier:
    """Load a classifier with the options of conversion and engine."""
    return load_classifier(
        name,
        weights=arguments.weights,
        compute=arguments.compute,
        threads=arguments.threads,
        value_range=arguments.value_range,
        labels=arguments.labels,
        progress=progress,
    )


def add_json_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help=f"print {what} on stdout, for programs")


def default_model() -> str:
    """Return the name of the model to use where none is named.

    Raises
    ------
    UsageError
        If this installation lacks it.
    """
    if DEFAULT_MODEL not in [model.name for model in qora_vision.list_bundled()]:
        raise UsageError(
            f"no model: this installation has no bundled {DEFAULT_MODEL}; give --model a .qora-vision file "
            "(`qora-vision convert` writes one), a checkpoint directory, or OWNER/NAME on Hugging Face"
        )
    return DEFAULT_MODEL


def is_pipe(source: str) -> bool:
    """Whether a source is standard input or a pipe, which can be read only once."""
    return source == "-" or Path(source).is_fifo()


def positive_int(text: str) -> int:
    """Parse an integer of at least one."""
    number = int(text) if text.strip().isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return number


def positive_float(text: str) -> float:
    """Parse a number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return number


def view_counts(text: str) -> tuple[int, int]:
    """Parse `4x3`: temporal and spatial views."""
    temporal, _, spatial = text.partition("x")
    if not temporal.isdecimal() or int(temporal) < 1 or spatial not in ("1", "3"):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not TxS with T temporal and S spatial views, S being 1 or 3; for example 4x3"
        )
    return int(temporal), int(spatial)

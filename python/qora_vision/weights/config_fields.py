"""Reading the fields of a Hugging Face config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from qora_vision.engine.ops import Activation
from qora_vision.errors import CheckpointError, shown
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.format import Scoring

_T = TypeVar("_T")
_TOO_LARGE = 2**31

# The variants of the tanh form agree to 2e-7; "gelu" is the definition with erf.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def count_blocks(checkpoint: Checkpoint, prefix: str = "blocks.") -> int:
    """Return how many blocks a checkpoint with names like `blocks.3.norm1.weight` has."""
    pattern = re.compile(re.escape(prefix) + r"(\d{1,4})\.")
    numbers = [int(match[1]) for name in checkpoint if (match := pattern.match(name))]
    return max(numbers, default=-1) + 1


def read_field(fields: Mapping[str, Any], name: str, kind: type[_T], default: _T) -> _T:
    """Return a field of config.json, or its default where it is missing or null.

    Raises
    ------
    CheckpointError
        If it is of another type (integers are accepted as floats), or not between 0 and 2**31.
    """
    value = fields.get(name)
    if value is None:
        return default
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise CheckpointError(f"config.json: {name} must be of type {kind.__name__}, got {shown(value)}")
    if kind in (int, float) and not 0 < cast(float, value) < _TOO_LARGE:
        what = "a positive integer" if kind is int else "a positive number"
        raise CheckpointError(f"config.json: {name} must be {what} below 2**31, got {shown(value)}")
    return cast(_T, value)


def read_size(fields: Mapping[str, Any], name: str, default: int) -> tuple[int, int]:
    """Return (height, width) from a field that holds one number or both; `CheckpointError` otherwise."""
    value = fields.get(name)
    if isinstance(value, list) and len(value) == 2:
        if not all(type(side) is int and 0 < side < _TOO_LARGE for side in value):
            raise CheckpointError(f"config.json: {name} must be 2 positive integers, got {shown(value)}")
        height, width = value
        return height, width
    side = read_field(fields, name, int, default)
    return side, side


def activation_of(name: str) -> Activation:
    """Return our name of `hidden_act`; `CheckpointError` if we do not support it."""
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"config.json: hidden_act must be one of {', '.join(ACTIVATIONS)}, got {shown(name)}"
        )
    return ACTIVATIONS[name]


def labels_of(fields: Mapping[str, Any]) -> list[str] | None:
    """Return the class names of config.json; None if there are none, or only LABEL_0, LABEL_1, ...

    Raises
    ------
    CheckpointError
        If `id2label` does not map 0 to n - 1 to texts.
    """
    names = fields.get("id2label")
    if names is None:
        return None
    try:
        labels = names_in_order(names)
    except ValueError as error:
        raise CheckpointError(f"config.json: id2label: {error}") from error
    return None if labels == [f"LABEL_{i}" for i in range(len(labels))] else labels


def scoring_of(fields: Mapping[str, Any]) -> Scoring:
    """Return how logits become scores, from `problem_type`, as transformers' pipelines do.

    Raises
    ------
    CheckpointError
        If transformers does not have this `problem_type`.
    """
    kinds: dict[str, Scoring] = {
        "single_label_classification": "softmax",
        "multi_label_classification": "sigmoid",
        "regression": "identity",
    }
    problem = read_field(fields, "problem_type", str, "single_label_classification")
    if problem not in kinds:
        known = ", ".join(kinds)
        raise CheckpointError(f"config.json: problem_type must be one of {known}, got {problem!r}")
    return kinds[problem]


def names_in_order(names: Any) -> list[str]:
    """Return the values of {"0": name, "1": name, ...}; `ValueError` if it is anything else."""
    if not isinstance(names, dict) or names.keys() != {str(i) for i in range(len(names))}:
        raise ValueError("expected an object that maps 0, 1, ... without gaps to class names")
    labels = [names[str(i)] for i in range(len(names))]
    wrong = [label for label in labels if not isinstance(label, str) or not _is_text(label)]
    if wrong:
        raise ValueError(f"expected texts as class names, got {shown(wrong[0])}")
    return labels


def _is_text(name: str) -> bool:
    """Whether a name is valid Unicode: JSON can contain lone surrogates, which cannot be written."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

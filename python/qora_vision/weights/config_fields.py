"""Reading the fields of config.json, as checkpoints of Hugging Face have it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from qora_vision.engine.ops import Activation
from qora_vision.errors import CheckpointError
from qora_vision.weights.checkpoints import Checkpoint

_T = TypeVar("_T")

# Spellings of the tanh form agree to 2e-7; "gelu" is the definition with erf.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def count_blocks(checkpoint: Checkpoint) -> int:
    """Return how many blocks a checkpoint with names like `blocks.3.norm1.weight` has."""
    numbers = [int(match[1]) for name in checkpoint if (match := re.match(r"blocks\.(\d{1,4})\.", name))]
    return max(numbers, default=-1) + 1


def read_field(fields: Mapping[str, Any], name: str, kind: type[_T], default: _T) -> _T:
    """Return a field of config.json, or its default where it is missing or null.

    Raises
    ------
    CheckpointError
        If it is of another type; integers pass for floats.
    """
    value = fields.get(name)
    if value is None:
        return default
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise CheckpointError(f"config.json: {name} must be of type {kind.__name__}, got {value!r}")
    return cast(_T, value)


def read_size(fields: Mapping[str, Any], name: str, default: int) -> tuple[int, int]:
    """Return (height, width) from a field that holds one number or both; `CheckpointError` otherwise."""
    value = fields.get(name)
    if isinstance(value, list) and len(value) == 2:
        height, width = value
        return height, width
    side = read_field(fields, name, int, default)
    return side, side


def activation_of(name: str) -> Activation:
    """Return our name of `hidden_act`; `CheckpointError` if it is none that we compute."""
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"config.json: hidden_act must be one of {', '.join(ACTIVATIONS)}, got {name!r}"
        )
    return ACTIVATIONS[name]


def labels_of(fields: Mapping[str, Any]) -> list[str] | None:
    """Return the class names of config.json, None where there are none or just LABEL_0, LABEL_1, ...

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


def names_in_order(names: Any) -> list[str]:
    """Return the values of {"0": name, "1": name, ...}; `ValueError` if it is anything else."""
    if not isinstance(names, dict) or names.keys() != {str(i) for i in range(len(names))}:
        raise ValueError("expected an object that maps 0, 1, ... without gaps to class names")
    labels = [names[str(i)] for i in range(len(names))]
    if not all(isinstance(label, str) for label in labels):
        raise ValueError("a class name is no text")
    return labels

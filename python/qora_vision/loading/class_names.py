"""Names of a checkpoint's classes: its own, given ones, or those of the data set that it mentions."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from qora_vision.errors import CheckpointError, QoraVisionWarning, listed, reason
from qora_vision.weights.config_fields import labels_of, names_in_order

_MAX_CARD = 1 << 20
# Number of classes -> the likely data set, the file of its class names in `assets`, and a pattern that finds
# it in the name or card of a checkpoint. torchvision names its Swin files after their architecture only.
DATA_SETS = {
    400: ("Kinetics-400", "kinetics400.txt", r"kinetics|k400|^swin3d_[tsb]-"),
    600: ("Kinetics-600", "kinetics600.txt", r"kinetics|k600"),
    174: ("Something-Something V2", "something_something_v2.txt", r"something|ssv2|ss?th?v2"),
}


class WrongNamesError(CheckpointError):
    """Names of classes in a checkpoint that are damaged, or too few or many: a caller may give others."""


def assumed_names(
    count: int, source: Path, fields: Mapping[str, Any]
) -> tuple[list[str] | None, dict[str, str]]:
    """Return names for classes without any, and what to note of them; warn of what is assumed."""
    if count not in DATA_SETS:
        return None, {}
    name, file_name, words = DATA_SETS[count]
    labels, origin = None, {}
    message = f"its {count} classes have no names, and nothing says that they are those of {name}"
    if _mentions(source, fields, words):
        labels = asset_labels(file_name)
        origin = {"labels": f"{name}, assumed of {count} classes without names"}
        message = f"its {count} classes have no names: those of {name} are assumed"
    warnings.warn(f"{source}: {message}; labels= sets other names", QoraVisionWarning, stacklevel=2)
    return labels, origin


def names_of(fields: Mapping[str, Any], count: int, source: Path) -> list[str] | None:
    """Return the class names of config.json, if they are as many as the classes."""
    help_ = "labels= (--labels) gives names in place of these"
    try:
        labels = labels_of(fields)
    except CheckpointError as error:
        raise WrongNamesError(f"{source}: {error}; {help_}") from error
    if labels is not None and len(labels) != count:
        raise WrongNamesError(
            f"{source}: config.json names {len(labels)} classes, the classifier has {count}; {help_}"
        )
    return labels


def _mentions(source: Path, fields: Mapping[str, Any], words: str) -> bool:
    """Whether a checkpoint's path, its name in config.json or its model card mentions a data set."""
    path = source.resolve()
    # In the hub's cache, a parent folder has the model's name.
    texts = [path.name, *(part for part in path.parts if part.startswith("models--")), own_name(fields)]
    card = source / "README.md" if source.is_dir() else None
    if card is not None and card.is_file():
        with card.open("rb") as file:
            texts.append(file.read(_MAX_CARD).decode("utf-8", "replace"))
    return re.search(words, " ".join(texts), re.IGNORECASE) is not None


def own_name(fields: Mapping[str, Any]) -> str:
    """Return what a checkpoint calls itself, empty if it does not."""
    name = fields.get("_name_or_path")
    return listed([name]) if isinstance(name, str) and name else ""


def read_labels(labels: str | Path | Sequence[str], count: int) -> list[str]:
    """Return class names: a sequence, a text file with one a line, or JSON (a list, or index -> name).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        Unless there are `count` of them, all texts.
    """
    if isinstance(labels, str | Path):
        origin, names = str(labels), _read_names(Path(labels))
    else:
        origin, names = "labels", list(labels)
    if len(names) != count or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{origin}: expected {count} class names (texts), got {len(names)} values")
    return names


def _read_names(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix != ".json":
            return [line.strip() for line in text.splitlines() if line.strip()]
        values = json.loads(text)
        return values if isinstance(values, list) else names_in_order(values)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected class names, one a line or (.json) as JSON: {reason(error)}"
        ) from error


def asset_labels(file_name: str) -> list[str]:
    """Return the class names of a data set in the order of its published models."""
    text = resources.files("qora_vision").joinpath("assets", file_name).read_text(encoding="utf-8")
    return text.splitlines()

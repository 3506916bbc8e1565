"""Class names: those of a data set, and those that a user gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from qora_vision.loading.model import LoadedModel
from qora_vision.weights.config_fields import names_in_order

# Number of classes -> the data set it gives away, and the file of its class names in `assets`.
DATA_SETS = {
    400: ("Kinetics-400", "kinetics400.txt"),
    600: ("Kinetics-600", "kinetics600.txt"),
    174: ("Something-Something V2", "something_something_v2.txt"),
}


def with_labels(model: LoadedModel, labels: str | Path | Sequence[str] | None) -> LoadedModel:
    """Return the model with other class names, where there are any; raises like `read_labels`."""
    if labels is None:
        return model
    return replace(model, file=replace(model.file, labels=read_labels(labels, model.config.num_classes)))


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
    except ValueError as error:
        raise ValueError(f"{path}: expected class names, one a line or (.json) as JSON: {error}") from error


def asset_labels(file_name: str) -> list[str]:
    """Return the class names of a data set in the order of its published models."""
    text = resources.files("qora_vision").joinpath("assets", file_name).read_text(encoding="utf-8")
    return text.splitlines()

"""Options of loading a model, as one value that every reader gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Weights: TypeAlias = Literal["q4", "q8", "f16", "f32"]
ValueRange: TypeAlias = Literal["original", "hf"]
# Called with (done, total, what): the steps done, their number, and the name of the work.
Progress: TypeAlias = Callable[[int, int, str], None]


@dataclass(frozen=True)
class LoadOptions:
    """Options of loading a model; `qora_vision.load` documents the fields.

    Precision and value range are fixed in a `.qora-vision` file, for which only None is always valid. For a
    checkpoint, None means "q4" and "original". `labels_given`: the caller replaces the names of the classes,
    so wrong names in a checkpoint are no error.

    Raises
    ------
    ValueError
        If a field has a value that is not one of its choices.
    """

    weights: Weights | None = None
    value_range: ValueRange | None = None
    threads: int | None = None
    progress: Progress | None = None
    labels_given: bool = False

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("weights", self.weights, get_args(Weights)),
            ("value_range", self.value_range, get_args(ValueRange)),
        ):
            if value is not None and value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")

    @property
    def checkpoint_weights(self) -> Weights:
        """Precision that a checkpoint is converted to."""
        return self.weights or "q4"

    @property
    def checkpoint_value_range(self) -> ValueRange:
        """Pixel values of a checkpoint's preprocessing."""
        return self.value_range or "original"

    @property
    def is_quantised(self) -> bool:
        """Whether a checkpoint's weights become integers."""
        return self.checkpoint_weights in ("q4", "q8")

    def report(self, done: int, total: int, what: str) -> None:
        """Report progress to the caller, if it asked for it."""
        if self.progress is not None:
            self.progress(done, total, what)

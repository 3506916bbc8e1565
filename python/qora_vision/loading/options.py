"""How a model is to be loaded, as one value that goes all the way from `load` to the reader of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Weights: TypeAlias = Literal["q4", "q8", "f16", "f32"]
ValueRange: TypeAlias = Literal["original", "hf"]
# Called with how much is done, of how much, and what is being done.
Progress: TypeAlias = Callable[[int, int, str], None]


@dataclass(frozen=True)
class LoadOptions:
    """How a model is to be loaded; `qora_vision.load` documents the fields.

    A `.qora-vision` file has precision and value range decided: for it, None is the only choice that always
    fits. For a checkpoint, None means "q4" and "original". `labels_given`: the caller replaces the names of
    the classes, so that wrong ones in a checkpoint do not matter.

    Raises
    ------
    ValueError
        If a field is none of its choices.
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
        """Tell the caller how far the work has come, if it wants to know."""
        if self.progress is not None:
            self.progress(done, total, what)

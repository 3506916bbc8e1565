"""What a classification gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import ModelFileError


@dataclass(frozen=True)
class Prediction:
    """The best classes of a clip, and what they were read from. Iterating gives (label, score), best first.

    Attributes
    ----------
    labels
        k class names.
    scores
        (k,) float32: their softmax probabilities.
    indices
        (k,) int64: their class indices.
    logits
        (num_classes,) float32, averaged over views.
    embedding
        (hidden,) float32: what feeds the classifier head, averaged over views.
    timings
        Seconds: "preprocess" (decoding, resizing, normalising) and "forward".
    """

    labels: list[str]
    scores: NDArray[np.float32]
    indices: NDArray[np.int64]
    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    timings: dict[str, float]

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return zip(self.labels, self.scores.tolist(), strict=True)

    def __len__(self) -> int:
        return len(self.labels)

    def to_dict(self) -> dict[str, Any]:
        """Return the classes and timings as JSON values; logits and embedding are left out."""
        classes = [
            {"label": label, "index": index, "score": score}
            for label, index, score in zip(
                self.labels, self.indices.tolist(), self.scores.tolist(), strict=True
            )
        ]
        return {"predictions": classes, "timings": dict(self.timings)}


class Window(NamedTuple):
    """What was seen in one window of a video.

    Attributes
    ----------
    start, end
        Seconds from the first frame of the video.
    prediction
        The window's classes.
    """

    start: float
    end: float
    prediction: Prediction


def check_top_k(top_k: int, num_classes: int) -> None:
    """Raise `ValueError` unless 1 <= top_k <= num_classes."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= num_classes:
        raise ValueError(f"top_k must be from 1 to the {num_classes} classes, got {top_k!r}")


def best_classes(
    logits: NDArray[np.float32],
    embedding: NDArray[np.float32],
    labels: list[str],
    top_k: int,
    timings: dict[str, float],
) -> Prediction:
    """Pick the `top_k` classes of largest logit; ties go to the smaller index.

    Raises
    ------
    ModelFileError
        If a logit is no number: weights that are finite, but out of all proportion, give such.
    """
    if not np.isfinite(logits).all():
        raise ModelFileError(
            "the model computes NaN or infinity, expected numbers: its weights are out of proportion; "
            "convert it again from sound weights"
        )
    order = np.argsort(-logits, kind="stable")[:top_k]
    shifted = np.exp(logits.astype(np.float64) - float(logits.max()))
    scores = (shifted / shifted.sum()).astype(np.float32)
    return Prediction([labels[i] for i in order], scores[order], order, logits, embedding, timings)

"""The result of a classification: the best classes of a clip; and how logits become scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import ModelFileError
from qora_vision.weights.format import Scoring


@dataclass(frozen=True)
class Prediction:
    """The best classes of a clip, with its logits. Iterating gives (label, score), best first.

    Attributes
    ----------
    labels
        k class names.
    scores
        (k,) float32: their logits, converted by `scoring`.
    indices
        (k,) int64: their class indices.
    logits
        (num_classes,) float32, averaged over views.
    embedding
        (hidden,) float32: the input of the classifier head, averaged over views.
    timings
        Seconds: "preprocess" (decoding, resizing, normalising) and "forward".
    scoring
        "softmax": classes exclude each other, and all scores add up to 1. "sigmoid": each class is true or
        not by itself (multi-label). "identity": the score is the logit (regression).
    """

    labels: list[str]
    scores: NDArray[np.float32]
    indices: NDArray[np.int64]
    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    timings: dict[str, float]
    scoring: Scoring = "softmax"

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
        result: dict[str, Any] = {"predictions": classes, "timings": dict(self.timings)}
        return result if self.scoring == "softmax" else {**result, "scoring": self.scoring}


class Window(NamedTuple):
    """The classes of one window of a video.

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


@dataclass(frozen=True)
class Classes:
    """The classes of a model: labels and scoring of its logits.

    Attributes
    ----------
    labels
        A name for each logit.
    scoring
        How logits become scores; see `Prediction`.
    """

    labels: list[str]
    scoring: Scoring = "softmax"

    def check_top_k(self, top_k: int) -> None:
        """Raise `ValueError` unless 1 <= top_k <= the number of classes."""
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= len(self.labels):
            raise ValueError(f"top_k must be from 1 to the {len(self.labels)} classes, got {top_k!r}")

    def scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the score of each class, (num_classes,) float32.

        Raises
        ------
        ModelFileError
            If a logit is NaN or infinite, as weights that are finite but far too large give.
        """
        if not np.isfinite(logits).all():
            raise ModelFileError(
                "the model computes NaN or infinity, expected finite logits: its weights are too large or "
                "damaged; convert it again from correct weights"
            )
        return scores_of(logits, self.scoring)

    def best(
        self,
        logits: NDArray[np.float32],
        embedding: NDArray[np.float32],
        top_k: int,
        timings: dict[str, float],
        min_score: float | None = None,
    ) -> Prediction:
        """Pick the `top_k` classes of largest logit, of those with a score of at least `min_score`.

        Of equal logits the smaller index comes first. Raises as `scores` does.
        """
        scores = self.scores(logits)
        order = np.argsort(-logits, kind="stable")[:top_k]
        if min_score is not None:
            order = order[scores[order] >= min_score]
        names = [self.labels[i] for i in order]
        return Prediction(names, scores[order], order, logits, embedding, timings, self.scoring)


def scores_of(logits: NDArray[np.float32], scoring: Scoring) -> NDArray[np.float32]:
    """Return the scores of (num_classes,) logits, computed in float64; see `Prediction`."""
    if scoring == "identity":
        return logits.copy()
    wide = logits.astype(np.float64)
    if scoring == "sigmoid":
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * wide), np.float32)
    shifted = np.exp(wide - float(logits.max()))
    return np.asarray(shifted / shifted.sum(), np.float32)

"""Measure how far two models, or two precisions of one model, agree on clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qora_vision.tasks.classify import VideoClassifier
from qora_vision.tasks.frames import Frames
from qora_vision.tasks.prediction import Classes, Prediction
from qora_vision.video import as_frames


@dataclass(frozen=True)
class ClipComparison:
    """The results of two models on one clip.

    Attributes
    ----------
    a, b
        Their predictions. Logits of b are in the order of a's labels.
    """

    a: Prediction
    b: Prediction

    @property
    def max_difference(self) -> float:
        """Largest absolute difference between two logits of one class."""
        return float(np.abs(self._difference()).max())

    @property
    def mean_difference(self) -> float:
        """Mean absolute difference between the logits."""
        return float(np.abs(self._difference()).mean())

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the logits, 1 if they are proportional; 1 if both are all zero."""
        a, b = self.a.logits.astype(np.float64), self.b.logits.astype(np.float64)
        lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / lengths if lengths else float(np.array_equal(a, b))

    @property
    def same_label(self) -> bool:
        """Whether the best classes are the same."""
        return bool(self.a.indices[0] == self.b.indices[0])

    @property
    def overlap(self) -> float:
        """Share of a's best classes that are among b's best, in any order: 0 to 1."""
        return len(set(self.a.indices.tolist()) & set(self.b.indices.tolist())) / len(self.a)

    def to_dict(self) -> dict[str, Any]:
        """Return predictions and numbers as JSON values."""
        return {
            "a": self.a.to_dict()["predictions"],
            "b": self.b.to_dict()["predictions"],
            "max_difference": self.max_difference,
            "mean_difference": self.mean_difference,
            "cosine": self.cosine,
            "same_label": self.same_label,
            "overlap": self.overlap,
        }

    def _difference(self) -> NDArray[np.float64]:
        return self.a.logits.astype(np.float64) - self.b.logits


@dataclass(frozen=True)
class Comparison:
    """The results of two models on at least one clip, in the order of the clips."""

    clips: tuple[ClipComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the totals as JSON values: counts, means, and the worst of each number."""
        return {
            "clips": len(self.clips),
            "same_label": sum(clip.same_label for clip in self.clips),
            "overlap": float(np.mean([clip.overlap for clip in self.clips])),
            "max_difference": max(clip.max_difference for clip in self.clips),
            "mean_difference": float(np.mean([clip.mean_difference for clip in self.clips])),
            "min_cosine": min(clip.cosine for clip in self.clips),
        }


def compare(a: VideoClassifier, b: VideoClassifier, clips: Iterable[Frames], top_k: int = 5) -> Comparison:
    """Run two models on the same clips and measure how far they agree.

    Each model reads a clip as in `classify`: with its own sampling rule, at its own size. If both rules are
    the same, the clip is decoded once.

    Parameters
    ----------
    a, b
        Two models, or one model at two precisions or in two kinds of arithmetic.
    clips
        What `VideoClassifier.classify` takes, at least one.
    top_k
        Number of best classes that are compared, 1 to all.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If the models have different numbers of classes, an argument is invalid, or there are no clips.
    VideoError, OSError
        If a clip cannot be used.
    """
    order = class_order(a, b)
    ranked_a = Classes(a.labels, a.scoring)
    ranked_b = Classes([b.labels[index] for index in order], b.scoring)
    ranked_a.check_top_k(top_k)
    results = []
    for clip in clips:
        source: Any = as_frames(clip)  # once: a pipe cannot be read again
        pixels = a.preprocess(source)
        ours = a.forward(pixels)[0]
        theirs = b.forward(pixels if a.preprocessing == b.preprocessing else b.preprocess(source))[0][order]
        results.append(ClipComparison(_ranked(ranked_a, ours, top_k), _ranked(ranked_b, theirs, top_k)))
    if not results:
        raise ValueError("there are no clips to compare on")
    return Comparison(tuple(results))


def class_order(a: VideoClassifier, b: VideoClassifier) -> list[int]:
    """Return which class of b belongs to each class of a.

    If both models have the same names, in any order, classes are matched by name. Otherwise they are matched
    by index, because a model may have no names, or other spellings.

    Raises
    ------
    ValueError
        If the numbers of classes differ, or a model has no classes (`TaskError`).
    """
    for model in (a, b):
        if not isinstance(model, VideoClassifier):
            raise model.no_classes("be compared by its classes")
    if len(a.labels) != len(b.labels):
        raise ValueError(
            f"the models cannot be compared: one has {len(a.labels)} classes ({a.labels[0]}, ...), the other "
            f"{len(b.labels)} ({b.labels[0]}, ...)"
        )
    places = {label: index for index, label in enumerate(b.labels)}
    if len(places) == len(b.labels) and places.keys() == set(a.labels):
        return [places[label] for label in a.labels]
    return list(range(len(a.labels)))


def _ranked(classes: Classes, logits: NDArray[np.float32], top_k: int) -> Prediction:
    return classes.best(logits, np.empty(0, np.float32), top_k, {})

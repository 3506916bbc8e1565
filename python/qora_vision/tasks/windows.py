"""Classify each position of a window that slides over a video."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qora_vision.tasks.clips import ClipNetwork
from qora_vision.tasks.frames import Frames, WindowChoice
from qora_vision.tasks.prediction import Classes, Window
from qora_vision.video import ClipWindow


class ScoredWindow(NamedTuple):
    """The scores of all classes in one window.

    Attributes
    ----------
    start, end
        Seconds.
    scores
        (num_classes,) float32.
    """

    start: float
    end: float
    scores: NDArray[np.float32]


def classify_windows(
    clips: ClipNetwork, classes: Classes, frames: Frames, top_k: int, choice: WindowChoice
) -> Iterator[Window]:
    """Classify each window; `VideoClassifier.classify_windows` documents it."""
    classes.check_top_k(top_k)
    # Not a generator function, so that a wrong argument is an error at the call.
    return _classify_each(clips, classes, choice.windows(frames, clips.preprocessing, clips.threads), top_k)


def score_windows(
    clips: ClipNetwork, classes: Classes, windows: Iterator[ClipWindow]
) -> Iterator[ScoredWindow]:
    """Yield the scores of all classes in each window."""
    for window, out in clips.run_each(windows):
        yield ScoredWindow(window.start, window.end, classes.scores(out.logits[0]))


def _classify_each(
    clips: ClipNetwork, classes: Classes, windows: Iterator[ClipWindow], top_k: int
) -> Iterator[Window]:
    for window, out in clips.run_each(windows):
        prediction = classes.best(out.logits[0], out.embeddings[0], top_k, out.timings)
        yield Window(window.start, window.end, prediction)

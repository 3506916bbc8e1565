"""From the scores of windows to segments: which label holds from when to when.

Windows overlap, so where one label ends and the next begins is a convention: half way between the middles of
the two windows. `SegmentRule` says when a label holds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from qora_vision.loading.options import Progress
from qora_vision.tasks.ahead import read_ahead
from qora_vision.tasks.clips import ClipNetwork
from qora_vision.tasks.frames import Frames, WindowChoice
from qora_vision.tasks.prediction import Classes, Window
from qora_vision.tasks.windows import ScoredWindow, score_windows
from qora_vision.timeline.segment import Segment
from qora_vision.video import ClipWindow, FrameSource, as_frames, comes_one_by_one, is_number

# A label of a multi-label model holds from half on, as in training, and until it falls below this part of it.
_MULTI_LABEL_SCORE = 0.5
_RELEASE = 0.8


Timed: TypeAlias = ScoredWindow | Window
WindowT = TypeVar("WindowT", ScoredWindow, Window)
LabelT = TypeVar("LabelT", int, str)


@dataclass(frozen=True)
class SegmentRule:
    """When a label holds; `VideoClassifier.segments` documents the fields.

    Raises
    ------
    ValueError
        If a field is no number, or out of its range.
    """

    min_score: float | None = None
    release: float | None = None
    min_length: float = 0.0
    smooth: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_score", "release"):
            value = getattr(self, name)
            if value is not None and not is_number(value):
                raise ValueError(f"{name} must be a number or None, got {value!r}")
        for name in ("min_length", "smooth"):
            value = getattr(self, name)
            if not (is_number(value) and value >= 0):
                raise ValueError(f"{name} must be seconds, 0 or more, got {value!r}")
        if self.release is not None and (self.min_score is None or self.release > self.min_score):
            raise ValueError(
                f"release must be at most min_score, got {self.release!r} and {self.min_score!r}: a label "
                "begins at min_score and ends below release"
            )

    def thresholds(self, overlapping: bool) -> tuple[float, float]:
        """Return from which score on a label holds, and below which it ends."""
        if self.min_score is None:
            return (_MULTI_LABEL_SCORE, _RELEASE * _MULTI_LABEL_SCORE) if overlapping else (-math.inf,) * 2
        return self.min_score, _RELEASE * self.min_score if self.release is None else self.release


def video_segments(
    clips: ClipNetwork,
    classes: Classes,
    frames: Frames,
    choice: WindowChoice,
    rule: SegmentRule,
    progress: Progress | None = None,
) -> Iterator[Segment]:
    """Return the segments of a video; `VideoClassifier.segments` documents it.

    A file is decoded and prepared in a thread, while the network runs.
    """
    if comes_one_by_one(frames):
        windows = choice.windows(frames, clips.preprocessing, clips.threads)
    else:
        source = as_frames(frames, choice.channel_order, once=True)
        windows = read_ahead(partial(choice.windows, source, clips.preprocessing, clips.threads))
        windows = _reporting(windows, source, choice.fps, progress)
    scored = score_windows(clips, classes, windows)
    return find_segments(scored, classes.labels, rule, overlapping=classes.scoring == "sigmoid")


def _reporting(
    windows: Iterator[ClipWindow], source: FrameSource, fps: float | None, progress: Progress | None
) -> Iterator[ClipWindow]:
    """Report the seconds that windows have reached, as far as the length of the video is known."""
    frames, rate = source.promised_frames, source.rate(fps)
    for window in windows:
        yield window
        if progress is not None and frames and rate:
            total = max(1, round(frames / rate))
            progress(min(round(window.end), total), total, "seconds of video")


def find_segments(
    windows: Iterable[ScoredWindow], labels: list[str], rule: SegmentRule, overlapping: bool
) -> Iterator[Segment]:
    """Say from when to when each label holds.

    Parameters
    ----------
    windows
        In order of time.
    labels
        Of the scores.
    rule
        When a label holds.
    overlapping
        Whether each label holds or not by itself (multi-label), or the best one alone.

    Yields
    ------
    Segment
        In the order in which they end, each as soon as that is known. The scores are those of its windows,
        not smoothed.
    """
    smoothed = _smoothed(windows, rule.smooth)
    if overlapping:
        return _by_label(smoothed, labels, rule)
    runs = _runs(_best_labels(smoothed, rule))
    if rule.min_length:
        runs = _without_short(runs, rule.min_length)
    return (_segment(run, run.label, labels) for run in runs if run.label is not None)


def _middle(window: Timed) -> float:
    return (window.start + window.end) / 2


class _Smoothed(NamedTuple):
    """A window, and its scores averaged with those of its neighbours."""

    window: ScoredWindow
    scores: NDArray[np.float64]


def _smoothed(windows: Iterable[ScoredWindow], seconds: float) -> Iterator[_Smoothed]:
    """Average the scores of windows whose middles are at most half of `seconds` away."""
    half = seconds / 2
    near: deque[ScoredWindow] = deque()  # every window that is near the one to come next, or later
    waiting: deque[ScoredWindow] = deque()

    def ready(window: ScoredWindow) -> _Smoothed:
        while _middle(near[0]) < _middle(window) - half:
            near.popleft()
        scores = [each.scores for each in near if _middle(each) <= _middle(window) + half]
        return _Smoothed(window, np.mean(scores, axis=0, dtype=np.float64))

    for window in windows:
        near.append(window)
        waiting.append(window)
        # With no smoothing a window is ready at once, else when one comes that is too far away.
        while waiting and (not half or _middle(waiting[0]) + half < _middle(window)):
            yield ready(waiting.popleft())
    while waiting:
        yield ready(waiting.popleft())


@dataclass
class _Run(Generic[WindowT, LabelT]):
    """Neighbouring windows with one label; None: no label is good enough."""

    label: LabelT | None
    start: float
    end: float
    windows: list[WindowT] = field(default_factory=list)

    @property
    def length(self) -> float:
        return self.end - self.start


def _runs(labelled: Iterable[tuple[WindowT, LabelT | None]]) -> Iterator[_Run[WindowT, LabelT]]:
    """Join neighbouring windows with the same label."""
    run: _Run[WindowT, LabelT] | None = None
    for window, label in labelled:
        if run is None:
            run = _Run(label, window.start, window.end)
        elif label != run.label:
            run.end = _border(run.windows[-1], window)
            yield run
            run = _Run(label, run.end, window.end)
        run.windows.append(window)
        run.end = window.end
    if run is not None:
        yield run


def _border(before: Timed, after: Timed) -> float:
    return (_middle(before) + _middle(after)) / 2


def _best_labels(
    windows: Iterable[_Smoothed], rule: SegmentRule
) -> Iterator[tuple[ScoredWindow, int | None]]:
    begin, release = rule.thresholds(overlapping=False)
    current: int | None = None
    for window, scores in windows:
        best = int(np.argmax(scores))
        current = best if scores[best] >= (release if best == current else begin) else None
        yield window, current


def _segment(run: _Run[ScoredWindow, int], label: int, labels: list[str]) -> Segment:
    return Segment(run.start, run.end, labels[label], tuple(float(w.scores[label]) for w in run.windows))


def _without_short(
    runs: Iterable[_Run[WindowT, LabelT]], min_length: float
) -> Iterator[_Run[WindowT, LabelT]]:
    """Give the time of runs that are too short to the run before; at the beginning, to the one after."""
    held: _Run[WindowT, LabelT] | None = None
    leading: list[_Run[WindowT, LabelT]] = []
    for run in runs:
        if run.length < min_length:
            if held is None:
                leading.append(run)
            else:
                held.windows += run.windows
                held.end = run.end
            continue
        if leading:
            run.start = leading[0].start
            run.windows = [window for each in leading for window in each.windows] + run.windows
            leading = []
        if held is not None and held.label == run.label:
            held.windows += run.windows
            held.end = run.end
            continue
        if held is not None:
            yield held
        held = run
    if held is not None:
        yield held


def _by_label(windows: Iterable[_Smoothed], labels: list[str], rule: SegmentRule) -> Iterator[Segment]:
    begin, release = rule.thresholds(overlapping=True)
    active: dict[int, _Run[ScoredWindow, int]] = {}
    last: ScoredWindow | None = None

    def ended(label: int, end: float) -> Iterator[Segment]:
        run = active.pop(label)
        run.end = end
        if run.length >= rule.min_length:
            yield _segment(run, label, labels)

    for window, scores in windows:
        border = window.start if last is None else _border(last, window)
        for label in [label for label in active if scores[label] < release]:
            yield from ended(label, border)
        for label in np.flatnonzero(scores >= begin).tolist():
            active.setdefault(label, _Run(label, border, border))
        for run in active.values():
            run.windows.append(window)
        last = window
    if last is not None:
        for label in list(active):
            yield from ended(label, last.end)


def join_windows(windows: Iterable[Window]) -> Iterator[Segment]:
    """Join neighbours with the same best label, each segment as soon as another label ends it.

    Parameters
    ----------
    windows
        In order of time, as `VideoClassifier.classify_windows` yields them.

    Yields
    ------
    Segment
    """
    for run in _runs((window, window.prediction.labels[0]) for window in windows):
        scores = tuple(float(window.prediction.scores[0]) for window in run.windows)
        assert run.label is not None
        yield Segment(run.start, run.end, run.label, scores)

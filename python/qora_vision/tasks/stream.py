"""Frame by frame: a causal model names what it has seen so far after each frame, at the cost of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from qora_vision.models.base import CausalModel
from qora_vision.tasks.classifier import Frames, VideoClassifier
from qora_vision.tasks.prediction import Window, best_classes, check_top_k
from qora_vision.video.windows import ClipWindow, SlidingWindow, iter_windows


def stream(
    classifier: VideoClassifier,
    frames: Frames,
    top_k: int = 5,
    channel_order: Literal["rgb", "bgr"] = "rgb",
    *,
    stride: int | None = None,
    reset_every: int | None = None,
    fps: float | None = None,
) -> Iterator[Window]:
    """Classify a video as it goes on; memory does not grow with its length.

    After frame k the prediction is exactly what `forward` gives for a clip of the first k frames.

    Parameters
    ----------
    classifier
        Of a causal architecture: "trecvit".
    frames, top_k, channel_order, fps
        As in `VideoClassifier.classify_windows`; an iterable may be endless, a camera for instance.
    stride
        Look at every `stride`-th frame; None: the model's own.
    reset_every
        Start anew after so many frames that were looked at. None: after as many as a clip of the model's
        training had; 0: never, and what is reported is then the mean over all that was seen.

    Yields
    ------
    Window
        (start, end, prediction) for each frame: from the last reset to the end of the frame, in seconds.

    Raises
    ------
    ValueError
        If the model is not causal, or an argument is invalid.
    VideoError, OSError
        As `VideoClassifier.classify` does.
    """
    network = classifier.network
    if not isinstance(network, CausalModel):
        raise ValueError(
            f"{classifier.architecture} looks at whole clips and cannot go frame by frame; classify_windows "
            "slides clips over a video, and TRecViT streams"
        )
    check_top_k(top_k, len(classifier.labels))
    for name, value, least in (("stride", stride, 1), ("reset_every", reset_every, 0)):
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(f"{name} must be a whole number of frames, at least {least}, got {value!r}")
    one_frame = replace(classifier.preprocessing, num_frames=1)
    window = SlidingWindow(
        one_frame,
        stride=1,
        hop=classifier.preprocessing.stride if stride is None else stride,
        channel_order=channel_order,
    )
    length = classifier.num_frames if reset_every is None else reset_every
    return _stream(classifier, network, iter_windows(frames, window, fps=fps), length, top_k)


def _stream(
    classifier: VideoClassifier,
    network: CausalModel,
    windows: Iterator[ClipWindow],
    length: int,
    top_k: int,
) -> Iterator[Window]:
    state: Any = None
    seen, start = 0, 0.0
    for window in windows:
        if state is None or (length and seen == length):
            state, seen, start = network.new_state(), 0, window.start
        output = network.step(window.clip, state)
        seen += 1
        prediction = best_classes(output.logits, output.embedding, classifier.labels, top_k, {})
        yield Window(start, window.end, prediction)

"""Frame by frame: a causal model classifies all frames so far after each frame, at the cost of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qora_vision.models.base import CausalModel
from qora_vision.tasks.clips import ClipNetwork
from qora_vision.tasks.frames import ChannelOrder, Frames, WindowChoice
from qora_vision.tasks.prediction import Classes, Window
from qora_vision.video import ClipWindow

if TYPE_CHECKING:
    from qora_vision.tasks.classify import VideoClassifier


def stream(
    classifier: VideoClassifier,
    frames: Frames,
    top_k: int = 5,
    channel_order: ChannelOrder = "rgb",
    *,
    stride: int | None = None,
    reset_every: int | None = None,
    fps: float | None = None,
) -> Iterator[Window]:
    """Classify a video after each frame; memory does not grow with its length.

    After frame k the prediction is exactly what `forward` gives for a clip of the first k frames.

    Parameters
    ----------
    classifier
        Of a causal architecture: "trecvit".
    frames, top_k, channel_order, fps
        As in `VideoClassifier.classify_windows`; an iterable may be endless, a camera for instance.
    stride
        Read every `stride`-th frame; None: the model's own stride.
    reset_every
        Reset the state after so many frames that were read. None: after as many as a training clip of the
        model had. 0: never; a prediction then averages over all frames since the start.

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
    return classifier.stream(frames, top_k, channel_order, stride=stride, reset_every=reset_every, fps=fps)


def stream_frames(
    clips: ClipNetwork,
    classes: Classes,
    frames: Frames,
    top_k: int,
    choice: WindowChoice,
    reset_every: int | None,
) -> Iterator[Window]:
    """Yield a window after each frame; `stream` documents it."""
    network = clips.network
    if not isinstance(network, CausalModel):
        raise ValueError(
            f"{clips.architecture} looks at whole clips and cannot run frame by frame: use classify_windows, "
            "which slides a window over the video, or a causal model such as TRecViT"
        )
    classes.check_top_k(top_k)
    for name, value, least in (("stride", choice.stride, 1), ("reset_every", reset_every, 0)):
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(f"{name} must be a whole number of frames, at least {least}, got {value!r}")
    one_frame = replace(clips.preprocessing, num_frames=1)
    # A window of one frame, which moves by the stride.
    hop = clips.preprocessing.stride if choice.stride is None else choice.stride
    windows = replace(choice, stride=1, hop=hop).windows(frames, one_frame, 0)
    length = clips.config.num_frames if reset_every is None else reset_every
    return _step_each(network, classes, windows, length, top_k)


def _step_each(
    network: CausalModel, classes: Classes, windows: Iterator[ClipWindow], length: int, top_k: int
) -> Iterator[Window]:
    state: Any = None
    seen, start = 0, 0.0
    for window in windows:
        if state is None or (length and seen == length):
            state, seen, start = network.new_state(), 0, window.start
        output = network.step(window.clip, state)
        seen += 1
        yield Window(start, window.end, classes.best(output.logits, output.embedding, top_k, {}))

"""`VideoClassifier`: classify clips, windows and segments of videos."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.loading.model import LoadedModel
from qora_vision.loading.options import Progress
from qora_vision.tasks.frames import ChannelOrder, FrameChoice, Frames, Sampling, WindowChoice
from qora_vision.tasks.model import ClipModel
from qora_vision.tasks.prediction import Classes, Prediction, Window
from qora_vision.tasks.segments import SegmentRule, video_segments
from qora_vision.tasks.stream import stream_frames
from qora_vision.tasks.windows import classify_windows
from qora_vision.timeline.segment import Segment
from qora_vision.video import is_number
from qora_vision.weights.format import Scoring


class VideoClassifier(ClipModel):
    """A model with a classifier and its labels; see `ClipModel` for what it shares with encoders.

    Attributes
    ----------
    labels
        Class names, or "class 0", "class 1", ... if the model has none.
    scoring
        How logits become scores: "softmax", "sigmoid" (multi-label) or "identity"; see `Prediction`.
    """

    def __init__(self, model: LoadedModel, engine: Engine) -> None:
        super().__init__(model, engine)
        names = model.file.labels or (f"class {i}" for i in range(model.config.num_classes or 0))
        self.labels: list[str] = list(names)
        self.scoring: Scoring = model.file.scoring
        self._classes = Classes(self.labels, self.scoring)

    def __repr__(self) -> str:
        return (
            f"<VideoClassifier {self.architecture}: {len(self.labels)} classes, {self.num_frames} frames, "
            f"{self.quantization}, compute={self.compute!r}, isa={self.isa!r}>"
        )

    def classify(
        self,
        frames: Frames,
        top_k: int = 5,
        channel_order: ChannelOrder = "rgb",
        *,
        sampling: Sampling | None = None,
        stride: int | None = None,
        views: tuple[int, int] = (1, 1),
        min_score: float | None = None,
        progress: Progress | None = None,
    ) -> Prediction:
        """Classify a video.

        Parameters
        ----------
        frames
            A path to a video or to a folder of images, a (T, H, W, 3) uint8 array, or an iterable of
            (H, W, 3) uint8 frames. `num_frames` of them are chosen by the sampling rule.
        top_k
            Number of classes, 1 to all.
        channel_order
            Of arrays: "rgb", or "bgr" for what cv2 reads.
        sampling
            "uniform": spread over the whole video. "dense": every `stride`-th frame around the middle.
            "segments": one from each of `num_frames` equal parts. Or `num_frames` frame numbers. None: the
            model's own rule.
        stride
            For "dense"; None: the model's own.
        views
            (temporal, spatial) views whose logits are averaged: (4, 3) is the test protocol of ViViT
            (Arnab et al. 2021, section 4.1). Spatial is 1 (centre crop) or 3.
        min_score
            Leave out classes with a lower score. 0.5 is the usual threshold of a multi-label model (`scoring`
            is "sigmoid"). The prediction may then be empty. None: keep all `top_k`.
        progress
            Called with (done, total, what) as views are computed.

        Returns
        -------
        Prediction

        Raises
        ------
        VideoError
            If the video is missing frames, damaged, of an unsupported codec, or an array of the wrong kind.
        ValueError
            If another argument is invalid.
        FileNotFoundError
            If there is nothing at the path.
        """
        self._classes.check_top_k(top_k)
        if min_score is not None and not is_number(min_score):
            raise ValueError(f"min_score must be a number or None, got {min_score!r}")
        choice = FrameChoice(channel_order, sampling, stride, views)
        out = self._clips.run_on(frames, choice, progress)
        logits, embedding = out.logits.mean(axis=0), out.embeddings.mean(axis=0)
        return self._classes.best(logits, embedding, top_k, out.timings, min_score)

    def classify_windows(
        self,
        frames: Frames,
        top_k: int = 5,
        channel_order: ChannelOrder = "rgb",
        *,
        stride: int | None = None,
        hop: int | None = None,
        fps: float | None = None,
    ) -> Iterator[Window]:
        """Slide a window over a video and classify each position as soon as it is complete.

        The video is decoded once, and memory holds the resized frames of one window, whatever its length.
        `qora_vision.join_windows` makes segments of the result.

        Parameters
        ----------
        frames
            What `classify` takes. An iterable is read frame by frame and not held: it may be endless.
        top_k, channel_order
            As in `classify`.
        stride
            Step between the frames of a window; None: the model's own. A window spans
            ``(num_frames - 1) * stride + 1`` frames.
        hop
            Step between windows, in frames; None: half a window. A last window covers what is left at the
            end; a video shorter than one window is one window, over which the model's frames are spread.
        fps
            Frames per second of folders, arrays and iterables, which carry no time; None: 25.

        Yields
        ------
        Window
            (start, end, prediction), times in seconds from the first frame.

        Raises
        ------
        VideoError, OSError, ValueError
            As `classify` does.
        """
        choice = WindowChoice(channel_order, stride, hop, fps)
        return classify_windows(self._clips, self._classes, frames, top_k, choice)

    def segments(
        self,
        frames: Frames,
        channel_order: ChannelOrder = "rgb",
        *,
        window: float | None = None,
        hop: float | None = None,
        start: float = 0.0,
        end: float | None = None,
        min_score: float | None = None,
        release: float | None = None,
        min_length: float = 0.0,
        smooth: float = 0.0,
        fps: float | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Segment]:
        """Yield the segments of a video: from when to when each label holds.

        A window slides over the video. Of a model with one label at a time ("softmax"), neighbouring windows
        with the same best label make a segment; segments do not overlap. Of a multi-label model ("sigmoid")
        each label has segments of its own, which may overlap. A border lies half way between the middles of
        the two windows. The video is decoded once, a file in a thread of its own; memory does not grow with
        its length.

        Parameters
        ----------
        frames, channel_order
            As in `classify_windows`.
        window
            Seconds of a window; None: the model's own frames and stride.
        hop
            Seconds between the starts of windows; None: half a window.
        start, end
            Seconds of the video between which it is looked at; None: its end.
        min_score
            Score from which on a label holds; windows where none does are in no segment. None: any, and 0.5
            for a multi-label model.
        release
            Score below which a label that holds ends, at most `min_score`; None: 0.8 times `min_score`.
        min_length
            Seconds. Time of a shorter segment goes to the segment before it, or after it at the beginning of
            the video; a shorter gap likewise. Shorter segments of a multi-label model are left out.
        smooth
            Seconds over which the scores of windows are averaged, around each window; 0: they are not.
        fps
            Frames per second of folders, arrays and iterables, which carry no time; None: 25.
        progress
            Called with (done, total, what): seconds of the video, if its length is known.

        Yields
        ------
        Segment
            In the order in which they end, each as soon as its end is known.

        Raises
        ------
        VideoError, OSError, ValueError
            As `classify_windows` does.
        """
        choice = WindowChoice(channel_order, fps=fps, seconds=(window, hop), between=(start, end))
        rule = SegmentRule(min_score, release, min_length, smooth)
        return video_segments(self._clips, self._classes, frames, choice, rule, progress)

    def stream(
        self,
        frames: Frames,
        top_k: int = 5,
        channel_order: ChannelOrder = "rgb",
        *,
        stride: int | None = None,
        reset_every: int | None = None,
        fps: float | None = None,
    ) -> Iterator[Window]:
        """Classify a video frame by frame, with a causal model; `qora_vision.stream` documents it."""
        choice = WindowChoice(channel_order, stride=stride, fps=fps)
        return stream_frames(self._clips, self._classes, frames, top_k, choice, reset_every)

    def embed(
        self,
        frames: Frames,
        channel_order: ChannelOrder = "rgb",
        *,
        sampling: Sampling | None = None,
        stride: int | None = None,
        views: tuple[int, int] = (1, 1),
    ) -> FloatArray:
        """Return the classifier head's input, (hidden,) float32; arguments and errors: see `classify`."""
        choice = FrameChoice(channel_order, sampling, stride, views)
        return np.asarray(self._clips.run_on(frames, choice).embeddings.mean(axis=0))

    def forward(self, pixel_values: FloatArray) -> FloatArray:
        """Run the network on preprocessed clips.

        Parameters
        ----------
        pixel_values
            (B, T, C, H, W) float32, finite.

        Returns
        -------
        (B, num_classes) float32 logits.

        Raises
        ------
        VideoError
            If shape or dtype is wrong, or a value is NaN or infinite.
        """
        return self._clips.run(pixel_values)[0]

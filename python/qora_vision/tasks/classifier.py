"""`load()` and `VideoClassifier`: the package's front door."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qora_vision.engine.ops import Compute, Engine
from qora_vision.errors import VideoError
from qora_vision.loading.calibration import calibrate as calibrate_model
from qora_vision.loading.fetching import load_source
from qora_vision.loading.models import (
    LoadedModel,
    Progress,
    ValueRange,
    Weights,
    check_choices,
    with_labels,
)
from qora_vision.models.base import Config, Model
from qora_vision.models.registry import ARCHITECTURES
from qora_vision.tasks.prediction import Prediction, Window, best_classes, check_top_k
from qora_vision.video import (
    ClipWindow,
    FrameSource,
    Preprocessing,
    SlidingWindow,
    as_frames,
    iter_windows,
    load_clips,
)
from qora_vision.weights.format import write_model

FloatArray = NDArray[np.float32]
# A video file or a folder of images, a (T, H, W, 3) uint8 array, or (H, W, 3) uint8 frames one by one.
Frames = str | PathLike[str] | NDArray[np.uint8] | Iterable[NDArray[np.uint8]]
# A rule, or frame numbers.
Sampling = Literal["uniform", "dense", "segments"] | Sequence[int]


def load(
    src: str | PathLike[str],
    *,
    weights: Weights | None = None,
    compute: Compute = "auto",
    threads: int | None = None,
    value_range: ValueRange | None = None,
    labels: str | PathLike[str] | Sequence[str] | None = None,
    calibrate: Sequence[Frames] | None = None,
    progress: Progress | None = None,
) -> VideoClassifier:
    """Load a video classifier.

    Parameters
    ----------
    src
        The name of a bundled model, such as "camera-motion" (`list_bundled` has them all); a `.qora-vision`
        file; a Hugging Face checkpoint directory: `config.json`, optionally
        `preprocessor_config.json`, and weights as safetensors or `pytorch_model.bin`, one file or shards; or,
        where there is no such path, a model of the Hugging Face hub as "owner/name" or "owner/name@revision".
        Or the https:// address of an original checkpoint, with "#sha256=..." behind it to pin its content.
        Both are downloaded once, and their quantised form is kept in a cache.
    weights
        Precision to store a checkpoint's weights in: "q4" (the default), "q8", "f16" or "f32". A
        `.qora-vision` file and a bundled model keep their own.
    compute
        "auto": the fastest arithmetic this CPU has (int8 against quantised weights, bf16, int16 or float32).
        "int8": attention in 8 bits too: faster and coarser. "bf16": bf16 operands with float32 sums. "exact":
        float32 throughout.
    threads
        Threads of this model; None: whatever `set_num_threads` says.
    value_range
        Pixel values of a ViViT checkpoint: "original" (the default), [-1, 1] as the weights were trained, or
        "hf", what the Hugging Face processor computes ([-3, 1] as published). docs/video.md says more.
    labels
        Class names in place of the model's own: a sequence, or a file (one a line, or JSON).
    calibrate
        Clips, each as `VideoClassifier.classify` takes them, on whose activations the quantised weights of a
        checkpoint are rounded (GPTQ): a dozen of the kind that the model is for. The file and the speed are
        those of plain rounding; loading takes minutes. docs/quantisation.md says what it gains.
    progress
        Called with (done, total, what) while weights are quantised.

    Returns
    -------
    VideoClassifier

    Raises
    ------
    FileNotFoundError, OSError
        If `src` does not exist or cannot be read.
    DownloadError
        If a model of the hub cannot be fetched (an `OSError`).
    CheckpointError, ModelFileError
        If it is damaged, incomplete or of an unsupported architecture; both are `ValueError`s.
    VideoError
        If a clip to calibrate on cannot be read.
    IsaError
        If `QORA_VISION_ISA` names an instruction set that this CPU lacks.
    ValueError
        If an argument is invalid.
    """
    engine = Engine(compute, threads=threads)
    check_choices(weights, value_range)
    # What is wrong with a clip's path shows before any work.
    sources = None if calibrate is None else _clips_of(calibrate)
    names = labels if isinstance(labels, Sequence | None) else Path(labels)
    model = load_source(
        src,
        weights=weights if sources is None else "f32",
        value_range=value_range,
        threads=threads or 0,
        progress=progress,
        named=names is not None,
    )
    model = with_labels(model, names)
    if sources is not None:
        model = calibrate_model(model, weights or "q4", sources, threads=threads, progress=progress)
    return VideoClassifier(model, engine)


def _clips_of(calibrate: Sequence[Frames]) -> list[FrameSource]:
    if isinstance(calibrate, str | PathLike | np.ndarray):
        raise ValueError("calibrate must be a sequence of clips, not a single one")
    return [as_frames(frames, "rgb") for frames in calibrate]


def list_models() -> list[dict[str, str]]:
    """Return the architectures that can be loaded: `name`, `title` and `hf_model_type` of each."""
    fields = ("name", "title", "hf_model_type")
    return [{field: getattr(entry, field) for field in fields} for entry in ARCHITECTURES]


class VideoClassifier:
    """A model with its labels and preprocessing. Make one with `load`; it may be used from several threads.

    Attributes
    ----------
    config
        Shape of the network, a frozen dataclass.
    labels
        Class names, or the generic "class 0", "class 1", ... where the model has none.
    num_frames
        Frames of a clip.
    architecture, quantization, provenance
        What the model file says of itself.
    preprocessing
        How frames are chosen and prepared.
    compute, isa
        Arithmetic and instruction set in use.
    """

    def __init__(self, model: LoadedModel, engine: Engine) -> None:
        self._file = model.file
        self._engine = engine
        self._model = model.architecture.build(model.config, model.file.tensors, engine)
        model.file.let_go()  # the model has packed its own
        self.config: Config = model.config
        self.preprocessing: Preprocessing = model.preprocessing
        self.architecture: str = model.architecture.name
        self.quantization: str = model.file.quantization
        self.provenance: dict[str, Any] = dict(model.file.provenance)
        names = model.file.labels or (f"class {i}" for i in range(model.config.num_classes))
        self.labels: list[str] = list(names)
        self.num_frames: int = model.config.num_frames
        self.compute: str = engine.compute
        self.isa: str = engine.isa

    def __repr__(self) -> str:
        return (
            f"<VideoClassifier {self.architecture}: {len(self.labels)} classes, {self.num_frames} frames, "
            f"{self.quantization}, compute={self.compute!r}, isa={self.isa!r}>"
        )

    @property
    def network(self) -> Model:
        """The network itself: `forward` of a clip, and `step` where it is causal."""
        return self._model

    @property
    def weights_nbytes(self) -> int:
        """Bytes of the weights as they lie in memory, packed for the kernels."""
        return self._model.nbytes

    def classify(
        self,
        frames: Frames,
        top_k: int = 5,
        channel_order: Literal["rgb", "bgr"] = "rgb",
        *,
        sampling: Sampling | None = None,
        stride: int | None = None,
        views: tuple[int, int] = (1, 1),
        progress: Progress | None = None,
    ) -> Prediction:
        """Name the actions of a video.

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
        check_top_k(top_k, len(self.labels))
        started = time.perf_counter()
        clips = self.preprocess(frames, channel_order, sampling=sampling, stride=stride, views=views)
        prepared = time.perf_counter()
        logits, embedding = self._run(clips, progress)
        timings = {"preprocess": prepared - started, "forward": time.perf_counter() - prepared}
        return best_classes(logits.mean(axis=0), embedding.mean(axis=0), self.labels, top_k, timings)

    def classify_windows(
        self,
        frames: Frames,
        top_k: int = 5,
        channel_order: Literal["rgb", "bgr"] = "rgb",
        *,
        stride: int | None = None,
        hop: int | None = None,
        fps: float | None = None,
    ) -> Iterator[Window]:
        """Slide a window over a video and name what each shows, as soon as it is complete.

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
        check_top_k(top_k, len(self.labels))
        window = SlidingWindow(
            self.preprocessing,
            stride=stride,
            hop=hop,
            channel_order=channel_order,
            num_threads=self._engine.threads or 0,
        )
        # A generator would find a wrong argument at the first window; this way it is found here.
        return self._classify_each(iter_windows(frames, window, fps=fps), top_k)

    def _classify_each(self, windows: Iterator[ClipWindow], top_k: int) -> Iterator[Window]:
        while True:
            started = time.perf_counter()
            window = next(windows, None)
            if window is None:
                return
            prepared = time.perf_counter()
            logits, embedding = self._run(window.clip[None])
            timings = {"preprocess": prepared - started, "forward": time.perf_counter() - prepared}
            prediction = best_classes(logits[0], embedding[0], self.labels, top_k, timings)
            yield Window(window.start, window.end, prediction)

    def embed(
        self,
        frames: Frames,
        channel_order: Literal["rgb", "bgr"] = "rgb",
        *,
        sampling: Sampling | None = None,
        stride: int | None = None,
        views: tuple[int, int] = (1, 1),
    ) -> FloatArray:
        """Return what feeds the classifier head, (hidden,) float32; arguments and errors: see `classify`."""
        clips = self.preprocess(frames, channel_order, sampling=sampling, stride=stride, views=views)
        embeddings = self._run(clips)[1]
        return np.asarray(embeddings.mean(axis=0))

    def preprocess(
        self,
        frames: Frames,
        channel_order: Literal["rgb", "bgr"] = "rgb",
        *,
        sampling: Sampling | None = None,
        stride: int | None = None,
        views: tuple[int, int] = (1, 1),
    ) -> FloatArray:
        """Return exactly what `classify` feeds `forward`: (views, T, C, H, W) float32, by default one view.

        Arguments and errors: see `classify`.
        """
        rule = self.preprocessing if stride is None else replace(self.preprocessing, stride=stride)
        indices: Sequence[int] | None = None
        if isinstance(sampling, str):
            rule = replace(rule, sampling=sampling)
        elif sampling is not None:
            indices = sampling
        source = as_frames(frames, channel_order)
        return load_clips(source, rule, indices=indices, views=views, num_threads=self._engine.threads or 0)

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
        return self._run(pixel_values)[0]

    def save(self, path: str | PathLike[str]) -> None:
        """Write a `.qora-vision` file, all of it or nothing: an older file of that name survives any failure.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        write_model(Path(path), self._file)

    def _run(
        self, pixel_values: FloatArray, progress: Progress | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Return logits and embeddings of clips."""
        expected = self.config.clip_shape
        if not isinstance(pixel_values, np.ndarray) or pixel_values.dtype != np.float32:
            got = getattr(pixel_values, "dtype", type(pixel_values).__name__)
            raise VideoError(
                f"pixel_values must be a float32 array, got {got}; preprocess() makes them from frames"
            )
        if pixel_values.ndim != 5 or pixel_values.shape[1:] != expected or not len(pixel_values):
            raise VideoError(
                f"pixel_values must be (B, T, C, H, W) = (B, {', '.join(map(str, expected))}) with B >= 1, "
                f"got {pixel_values.shape}"
            )
        outputs = []
        for done, clip in enumerate(map(np.ascontiguousarray, pixel_values)):
            if progress is not None:
                progress(done, len(pixel_values), "views")
            if not self._engine.all_finite(clip):
                raise VideoError("pixel_values hold NaN or infinity")
            outputs.append(self._model.forward(clip))
        return np.stack([o.logits for o in outputs]), np.stack([o.embedding for o in outputs])

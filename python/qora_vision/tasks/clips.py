"""A network of clips together with its preprocessing and its engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.errors import VideoError
from qora_vision.loading.options import Progress
from qora_vision.models.base import ClipConfig, Model, Output
from qora_vision.tasks.frames import FrameChoice, Frames
from qora_vision.video import ClipWindow, Preprocessing


@dataclass(frozen=True)
class Outputs:
    """The results of a network on clips.

    Attributes
    ----------
    logits
        (clips, num_classes) float32; no columns where there is no classifier.
    embeddings
        (clips, embed_dim) float32.
    timings
        Seconds: "preprocess" (decoding, resizing, normalising) and "forward".
    """

    logits: FloatArray
    embeddings: FloatArray
    timings: dict[str, float]


@dataclass(frozen=True)
class ClipNetwork:
    """A network of clips, ready to run on frames.

    Attributes
    ----------
    architecture
        Name of the network's family.
    network, config
        The network with its weights, and its shape.
    preprocessing
        How frames are chosen and prepared by default.
    engine
        Runs the ops of the network.
    """

    architecture: str
    network: Model
    config: ClipConfig
    preprocessing: Preprocessing
    engine: Engine

    @property
    def threads(self) -> int:
        """Threads to prepare frames with; 0: the process default."""
        return self.engine.threads or 0

    def prepare(self, frames: Frames, choice: FrameChoice) -> FloatArray:
        """Return (views, T, C, H, W) float32 clips of a source; raises as `FrameChoice.clips` does."""
        return choice.clips(frames, self.preprocessing, self.threads)

    def run_on(self, frames: Frames, choice: FrameChoice, progress: Progress | None = None) -> Outputs:
        """Prepare a source and run the network on each view; raises as `prepare` does."""
        started = time.perf_counter()
        clips = self.prepare(frames, choice)
        return self._timed(clips, started, progress)

    def run_each(self, windows: Iterator[ClipWindow]) -> Iterator[tuple[ClipWindow, Outputs]]:
        """Run the network on each window; the time until a window arrives counts as preprocessing."""
        while True:
            started = time.perf_counter()
            window = next(windows, None)
            if window is None:
                return
            yield window, self._timed(window.clip[None], started)

    def run(
        self, pixel_values: FloatArray, progress: Progress | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Run the network as `outputs` does; return logits and embeddings, a row a clip."""
        results = [(out.logits, out.embedding) for out in self.outputs(pixel_values, progress)]
        logits, embeddings = zip(*results, strict=True)
        return np.stack(logits), np.stack(embeddings)

    def outputs(self, pixel_values: FloatArray, progress: Progress | None = None) -> Iterator[Output]:
        """Run the network on each of (B, T, C, H, W) float32 clips.

        Raises
        ------
        VideoError
            If shape or dtype is wrong, or a value is NaN or infinite.
        """
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
        for done, clip in enumerate(map(np.ascontiguousarray, pixel_values)):
            if progress is not None:
                progress(done, len(pixel_values), "views")
            if not self.engine.all_finite(clip):
                raise VideoError("pixel_values hold NaN or infinity")
            yield self.network.forward(clip)

    def _timed(self, clips: FloatArray, started: float, progress: Progress | None = None) -> Outputs:
        prepared = time.perf_counter()
        logits, embeddings = self.run(clips, progress)
        timings = {"preprocess": prepared - started, "forward": time.perf_counter() - prepared}
        return Outputs(logits, embeddings, timings)

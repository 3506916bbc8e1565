"""`Encoder`: compute embedding vectors of videos."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, NoReturn

import numpy as np

from qora_vision.engine.ops import FloatArray
from qora_vision.errors import ModelFileError
from qora_vision.tasks.frames import ChannelOrder, FrameChoice, Frames, Sampling
from qora_vision.tasks.model import ClipModel


class Encoder(ClipModel):
    """A model without a classifier. It computes embedding vectors of videos; see `ClipModel`."""

    def __repr__(self) -> str:
        return (
            f"<Encoder {self.architecture}: {self.config.embed_dim} channels, {self.num_frames} frames, "
            f"{self.quantization}, compute={self.compute!r}, isa={self.isa!r}>"
        )

    def embed(
        self,
        source: Frames | list[Any] | tuple[Any, ...],
        channel_order: ChannelOrder = "rgb",
        *,
        sampling: Sampling | None = None,
        stride: int | None = None,
        views: tuple[int, int] = (1, 1),
    ) -> FloatArray:
        """Return unit vectors: the more alike two videos are, the larger is the product of their vectors.

        The vector of a video is the mean of its tokens, averaged over views and scaled to length 1.

        Parameters
        ----------
        source
            What `VideoClassifier.classify` takes: one vector. Or a list or tuple of such sources, at least
            one: a vector for each. A list of (H, W, 3) arrays is one clip.
        channel_order, sampling, stride, views
            As in `VideoClassifier.classify`.

        Returns
        -------
        (embed_dim,) float32, or (n, embed_dim) of a list of n sources.

        Raises
        ------
        VideoError, OSError, ValueError
            As `VideoClassifier.classify` does.
        """
        choice = FrameChoice(channel_order, sampling, stride, views)
        if isinstance(source, list | tuple) and _are_sources(source):
            return np.stack([self._unit_vector(item, choice) for item in source])
        return self._unit_vector(source, choice)

    def forward(self, pixel_values: FloatArray) -> FloatArray:
        """Run the network on preprocessed clips.

        Parameters
        ----------
        pixel_values
            (B, T, C, H, W) float32, finite; `preprocess` makes them.

        Returns
        -------
        (B, tokens, embed_dim) float32: `last_hidden_state` of the reference implementation.

        Raises
        ------
        VideoError
            If shape or dtype is wrong, or a value is NaN or infinite.
        """
        return np.stack([out.tokens for out in self._clips.outputs(pixel_values) if out.tokens is not None])

    def classify(self, *_: object, **__: object) -> NoReturn:
        """Raise `TaskError`: an encoder has no classes."""
        raise self.no_classes("classify")

    def classify_windows(self, *_: object, **__: object) -> NoReturn:
        """Raise `TaskError`: an encoder has no classes."""
        raise self.no_classes("classify windows")

    def segments(self, *_: object, **__: object) -> NoReturn:
        """Raise `TaskError`: an encoder has no classes."""
        raise self.no_classes("name segments")

    def stream(self, *_: object, **__: object) -> NoReturn:
        """Raise `TaskError`: an encoder has no classes."""
        raise self.no_classes("name what a stream shows")

    def _unit_vector(self, source: Frames, choice: FrameChoice) -> FloatArray:
        vector = self._clips.run_on(source, choice).embeddings.mean(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(vector))
        if not 0 < length < np.inf:
            raise ModelFileError(
                f"the model computes an embedding of length {length}, expected a positive number: its "
                "weights are out of proportion; convert it again from sound weights"
            )
        return np.asarray(vector / length, np.float32)


def _are_sources(items: Sequence[Any]) -> bool:
    """Whether a list holds sources, and not the frames of one clip."""
    return any(
        isinstance(item, str | bytes | PathLike) or hasattr(item, "read") or np.ndim(item) == 4
        for item in items
    )

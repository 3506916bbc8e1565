"""The base class of `VideoClassifier` and `Encoder`: everything that does not depend on the task."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.errors import TaskError, shown
from qora_vision.loading.model import LoadedModel
from qora_vision.models.base import ClipConfig, Model
from qora_vision.tasks.clips import ClipNetwork
from qora_vision.tasks.frames import ChannelOrder, FrameChoice, Frames, Sampling
from qora_vision.video import Preprocessing
from qora_vision.weights.format import write_model


class ClipModel:
    """A model of clips with its preprocessing. Make one with `load`; it may be used from several threads.

    Attributes
    ----------
    config
        Shape of the network, a frozen dataclass.
    num_frames
        Frames of a clip.
    architecture, quantization, provenance
        Fields of the model file.
    preprocessing
        How frames are chosen and prepared.
    compute, isa
        Arithmetic and instruction set in use.
    """

    def __init__(self, model: LoadedModel, engine: Engine) -> None:
        self._file = model.file
        network = model.architecture.build(model.config, model.file.tensors, engine)
        model.file.let_go()  # the network has packed its own weights
        self._clips = ClipNetwork(model.architecture.name, network, model.config, model.preprocessing, engine)
        self.config: ClipConfig = model.config
        self.preprocessing: Preprocessing = model.preprocessing
        self.architecture: str = model.architecture.name
        self.quantization: str = model.file.quantization
        self.provenance: dict[str, Any] = dict(model.file.provenance)
        self.num_frames: int = model.config.num_frames
        self.compute: str = engine.compute
        self.isa: str = engine.isa

    @property
    def network(self) -> Model:
        """The network itself: `forward` of a clip, and `step` where it is causal."""
        return self._clips.network

    @property
    def weights_nbytes(self) -> int:
        """Bytes of the weights in memory, packed for the kernels."""
        return self._clips.network.nbytes

    def preprocess(
        self,
        frames: Frames,
        channel_order: ChannelOrder = "rgb",
        *,
        sampling: Sampling | None = None,
        stride: int | None = None,
        views: tuple[int, int] = (1, 1),
    ) -> FloatArray:
        """Return the input of the network: (views, T, C, H, W) float32, by default one view.

        Arguments and errors: see `VideoClassifier.classify`.
        """
        return self._clips.prepare(frames, FrameChoice(channel_order, sampling, stride, views))

    def no_classes(self, what: str) -> TaskError:
        """Return the error of an operation `what` that needs classes, which this model lacks."""
        name = self.provenance.get("source", "this model")
        return TaskError(
            f"{shown(name)} cannot {what}: it is an encoder ({self.architecture}) without classes; embed() "
            "returns its vectors; to get names, load a checkpoint that was trained as a classifier"
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write a `.qora-vision` file, completely or not at all: after a failure an older file is unchanged.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        write_model(Path(path), self._file)

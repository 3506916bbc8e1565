"""`load()`: make a `VideoClassifier` from a model's name, path or address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np

from qora_vision.engine.ops import Compute, Engine
from qora_vision.errors import shown
from qora_vision.loading.calibration import calibrate as calibrate_model
from qora_vision.loading.checkpoint import held
from qora_vision.loading.model import LoadedModel, with_labels
from qora_vision.loading.options import LoadOptions, Progress, ValueRange, Weights
from qora_vision.loading.resolve import load_network
from qora_vision.models.registry import ARCHITECTURES
from qora_vision.tasks.classify import VideoClassifier
from qora_vision.tasks.embed import Encoder
from qora_vision.tasks.frames import Frames
from qora_vision.video import FrameSource, as_frames

Labels: TypeAlias = str | PathLike[str] | Sequence[str] | None
# What users hold, by the task that the file names.
_TASKS: Mapping[str, type[VideoClassifier | Encoder]] = {"classify": VideoClassifier, "embed": Encoder}


def load(
    src: str | PathLike[str],
    *,
    weights: Weights | None = None,
    compute: Compute = "auto",
    threads: int | None = None,
    value_range: ValueRange | None = None,
    labels: Labels = None,
    calibrate: Sequence[Frames] | None = None,
    progress: Progress | None = None,
) -> VideoClassifier | Encoder:
    """Load a model of videos: a classifier, or an encoder where it has no classes.

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
        Threads of this model; None: the number of `set_num_threads`.
    value_range
        Pixel values of a ViViT checkpoint: "original" (the default), [-1, 1] as the weights were trained, or
        "hf", what the Hugging Face processor computes ([-3, 1] as published). docs/video.md says more.
    labels
        Class names in place of the model's own: a sequence, or a file (one a line, or JSON).
    calibrate
        Clips, each as `VideoClassifier.classify` takes them, on whose activations the quantised weights of a
        checkpoint are rounded (GPTQ): a dozen or more like those that the model will see. The file has the
        size and speed of plain rounding; loading takes minutes. docs/quantisation.md has measurements.
    progress
        Called with (done, total, what) while weights are quantised.

    Returns
    -------
    VideoClassifier
        If the model has classes.
    Encoder
        If it has none: a checkpoint of an encoder alone, or of pre-training.

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
    options = LoadOptions(weights, value_range, threads, progress, labels_given=labels is not None)
    model = held(find_model(src, options, labels, calibrate), options)
    return _TASKS[model.file.task](model, engine)


def find_model(
    src: str | PathLike[str], options: LoadOptions, labels: Labels, calibrate: Sequence[Frames] | None
) -> LoadedModel:
    """Return a model as the arguments of `load` say; weights of a checkpoint are still to be converted."""
    # A wrong path of a clip is an error before any work.
    clips = None if calibrate is None else _clips_of(calibrate)
    if not isinstance(labels, Sequence | PathLike | None):
        raise ValueError(f"labels must be a list of names, or the path of a file, got {shown(labels)}")
    names = Path(labels) if isinstance(labels, PathLike) else labels
    if clips is None:
        return with_labels(load_network(src, options), names)
    exact = with_labels(load_network(src, replace(options, weights="f32")), names)
    return calibrate_model(exact, clips, options)


def _clips_of(calibrate: Sequence[Frames]) -> list[FrameSource]:
    if isinstance(calibrate, str | bytes | PathLike | np.ndarray) or not isinstance(calibrate, Iterable):
        raise ValueError(f"calibrate must be a sequence of clips, not a single one, got {shown(calibrate)}")
    return [as_frames(frames, "rgb") for frames in calibrate]


def list_models() -> list[dict[str, str]]:
    """Return the architectures that can be loaded: `name`, `title` and `hf_model_type` of each."""
    fields = ("name", "title", "hf_model_type")
    return [{field: getattr(entry, field) for field in fields} for entry in ARCHITECTURES]

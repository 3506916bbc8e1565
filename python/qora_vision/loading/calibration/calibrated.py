"""From a model with its weights as floats, and some clips, to the same model quantised for such clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qora_vision.engine.tensors import Tensor
from qora_vision.errors import CheckpointError
from qora_vision.loading.calibration.observing import NamedTensors, ObservingEngine
from qora_vision.loading.calibration.rounding import quantize_for_inputs
from qora_vision.loading.conversion import Progress, Weights, store
from qora_vision.loading.models import LoadedModel
from qora_vision.video import FrameSource, load_clips


def calibrate(
    model: LoadedModel,
    weights: Weights,
    clips: Sequence[FrameSource],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Quantise a model so that its layers' outputs on the given clips change little.

    The model runs over each clip in float32, with the frames that it would classify, all layers being
    observed; then each weight is rounded for the inputs that it was seen to get (`quantize_for_inputs`).

    Parameters
    ----------
    model
        Its weights are float32.
    weights
        "q4" or "q8".
    clips
        From `qora_vision.video.as_frames`; a handful is enough, but of the kind that the model is for.
    threads
        As of `Engine`.
    progress
        Called with (done, total, what).

    Raises
    ------
    VideoError
        If a clip cannot be read.
    CheckpointError
        If a weight is too large for its stored form, or makes the network overflow.
    ValueError
        If there is no clip, the weights to make are not quantised ones, or those of the model are already.
    """
    if weights not in ("q4", "q8"):
        raise ValueError(f"calibrating decides how weights are quantised, to q4 or q8, but not to {weights}")
    if not clips:
        raise ValueError("calibrating needs at least one clip")
    if model.file.quantization != "f32":
        raise ValueError(
            f"calibrating needs the original weights, but these are {model.file.quantization} already"
        )
    grams = _observe(model, clips, threads, progress)
    tensors = _round(model, weights, grams, threads or 0, progress)
    provenance = {**model.file.provenance, "calibration": f"GPTQ, {len(clips)} clips"}
    file = replace(model.file, quantization=weights, provenance=provenance, tensors=tensors)
    return replace(model, file=file)


def _observe(
    model: LoadedModel, clips: Sequence[FrameSource], threads: int | None, progress: Progress | None
) -> dict[str, NDArray[np.float32]]:
    named = NamedTensors(model.file.tensors)
    engine = ObservingEngine(named, threads=threads)
    network = model.architecture.build(model.config, named, engine)
    for done, clip in enumerate(clips):
        if progress is not None:
            progress(done, len(clips), "observing clips")
        network.forward(load_clips(clip, model.preprocessing, num_threads=threads or 0)[0])
    return engine.grams()


def _round(
    model: LoadedModel,
    weights: Weights,
    grams: Mapping[str, NDArray[np.float32]],
    threads: int,
    progress: Progress | None,
) -> dict[str, Tensor]:
    specs = model.config.tensor_specs()
    result: dict[str, Tensor] = {}
    for name, spec in specs.items():
        if progress is not None:
            progress(len(result), len(specs), "rounding weights")
        tensor = np.asarray(model.file.tensors[name])
        try:
            if spec.storage == "weight" and name in grams:
                result[name] = quantize_for_inputs(tensor, grams[name], weights, threads)
            else:
                result[name] = store(tensor, spec, weights, threads)
        except ValueError as error:
            raise CheckpointError(f"tensor {name!r}: {error}") from error
    if progress is not None:
        progress(len(specs), len(specs), "rounding weights")
    return result

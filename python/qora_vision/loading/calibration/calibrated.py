"""Quantise a float model for inputs like those of the given clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qora_vision.engine.tensors import Tensor
from qora_vision.errors import CheckpointError
from qora_vision.loading.calibration.observing import NamedTensors, ObservingEngine
from qora_vision.loading.calibration.rounding import quantize_for_inputs
from qora_vision.loading.conversion import store
from qora_vision.loading.model import LoadedModel
from qora_vision.loading.options import LoadOptions
from qora_vision.video import FrameSource, load_clips


def calibrate(model: LoadedModel, clips: Sequence[FrameSource], options: LoadOptions) -> LoadedModel:
    """Quantise a model so that its layers' outputs on the given clips change little.

    The model runs over each clip in float32, with the frames that it would classify, and the inputs of all
    layers are recorded. Then each weight is rounded for the inputs of its layer (`quantize_for_inputs`).

    Parameters
    ----------
    model
        A model with float32 weights.
    clips
        From `qora_vision.video.as_frames`: a few, like those that the model will classify.
    options
        Its precision is the target, "q4" or "q8".

    Raises
    ------
    VideoError
        If a clip cannot be read.
    CheckpointError
        If a weight is too large for its stored form, or makes the network overflow.
    ValueError
        If there is no clip, the target is not q4 or q8, or the model is already quantised.
    """
    weights = options.checkpoint_weights
    if not options.is_quantised:
        raise ValueError(f"calibration is for q4 and q8 weights, got {weights}: leave the clips out")
    if not clips:
        raise ValueError("calibration needs at least one clip, got none")
    if model.file.quantization != "f32":
        raise ValueError(
            f"calibration needs the original float weights, but these are already {model.file.quantization}: "
            "calibrate when you convert the checkpoint"
        )
    grams = _observe(model, clips, options)
    tensors = _round(model, grams, options)
    provenance = {**model.file.provenance, "calibration": f"GPTQ, {len(clips)} clips"}
    file = replace(model.file, quantization=weights, provenance=provenance, tensors=tensors)
    return replace(model, file=file)


def _observe(
    model: LoadedModel, clips: Sequence[FrameSource], options: LoadOptions
) -> dict[str, NDArray[np.float32]]:
    named = NamedTensors(model.file.tensors)
    engine = ObservingEngine(named, threads=options.threads)
    network = model.architecture.build(model.config, named, engine)
    for done, clip in enumerate(clips):
        options.report(done, len(clips), "observing clips")
        network.forward(load_clips(clip, model.preprocessing, num_threads=options.threads or 0)[0])
    return engine.grams()


def _round(
    model: LoadedModel, grams: Mapping[str, NDArray[np.float32]], options: LoadOptions
) -> dict[str, Tensor]:
    weights, threads = options.checkpoint_weights, options.threads or 0
    specs = model.config.tensor_specs()
    result: dict[str, Tensor] = {}
    for name, spec in specs.items():
        options.report(len(result), len(specs), "rounding weights")
        tensor = np.asarray(model.file.tensors[name])
        try:
            if spec.storage == "weight" and name in grams:
                result[name] = quantize_for_inputs(tensor, grams[name], weights, threads)
            else:
                result[name] = store(tensor, spec, weights, threads)
        except ValueError as error:
            raise CheckpointError(f"tensor {name!r}: {error}") from error
    options.report(len(specs), len(specs), "rounding weights")
    return result

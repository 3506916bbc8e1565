"""OpenVINO's CPU plugin: float32, bf16, int8 after NNCF's calibration, 4-bit weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.runtimes import Unavailable, is_current
from benchmarks.runtimes.pytorch import logits_module

PACKAGES = ("openvino", "nncf", "torch", "transformers")
HELD = "ONEDNN_MAX_CPU_ISA"
# Name -> stored graph and precision of what is not quantised.
CONFIGURATIONS = {
    "fp32": ("fp32", "f32"),
    "bf16": ("fp32", "bf16"),
    "int8 (NNCF) + f32": ("int8", "f32"),
    "int8 (NNCF) + bf16": ("int8", "bf16"),
    "int4 weights + f32": ("int4", "f32"),
    "int4 weights + bf16": ("int4", "bf16"),
}
# Clips that NNCF calibrates with; the model's weights are random, so more would teach nothing.
CALIBRATION_CLIPS = 4


def environment(threads: int, isa: str | None) -> dict[str, str]:
    """Return the variable that limits oneDNN, which the plugin uses, to an instruction set."""
    return {"ONEDNN_MAX_CPU_ISA": isa.upper()} if isa else {}


def _path(checkpoint: Path, kind: str) -> Path:
    return checkpoint / f"openvino-{kind}" / "model.xml"


def _convert(checkpoint: Path, pixels: np.ndarray) -> Path:
    """Write the float32 graph and return its path."""
    import openvino
    import torch

    path = _path(checkpoint, "fp32")
    if is_current(path, checkpoint):
        return path
    model = logits_module(checkpoint)
    with torch.inference_mode():
        graph = openvino.convert_model(
            model, example_input=torch.from_numpy(pixels), input=[list(pixels.shape)]
        )
    openvino.save_model(graph, path, compress_to_fp16=False)
    return path


def prepare(checkpoint: Path, configuration: str, pixels: np.ndarray) -> None:
    """Write the graph that the configuration runs."""
    _check_precision(CONFIGURATIONS[configuration][1])
    plain, path = _convert(checkpoint, pixels), _path(checkpoint, CONFIGURATIONS[configuration][0])
    if path == plain or is_current(path, checkpoint):
        return
    import nncf
    import openvino

    graph = openvino.Core().read_model(plain)
    if path == _path(checkpoint, "int8"):
        clips = [np.roll(pixels, shift, axis=-1) for shift in range(CALIBRATION_CLIPS)]
        graph = nncf.quantize(
            graph, nncf.Dataset(clips), subset_size=len(clips), model_type=nncf.ModelType.TRANSFORMER
        )
    else:
        graph = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT4_SYM, ratio=1.0, group_size=32)
    openvino.save_model(graph, path, compress_to_fp16=False)


def _check_precision(precision: str) -> None:
    import openvino

    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in able:
        raise Unavailable("OpenVINO finds no bf16 instructions in this CPU")


def load(checkpoint: Path, configuration: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the forward pass."""
    import openvino

    kind, precision = CONFIGURATIONS[configuration]
    _check_precision(precision)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = openvino.Core().compile_model(_path(checkpoint, kind), "CPU", settings).create_infer_request()
    return lambda pixels: request.infer([pixels])[0]

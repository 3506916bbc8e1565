"""ONNX Runtime's CPU provider: float32, and int8 weights with activations quantised as they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.runtimes import is_current
from benchmarks.runtimes.pytorch import logits_module

PACKAGES = ("onnxruntime", "onnx", "torch", "transformers")
HELD = ""
CONFIGURATIONS = {"fp32": "fp32", "int8 dynamic": "int8"}


def environment(threads: int, isa: str | None) -> dict[str, str]:
    """Return no variables: threads are an option of the session, the instruction set cannot be limited."""
    return {}


def _path(checkpoint: Path, kind: str) -> Path:
    return checkpoint / f"onnx-{kind}" / "model.onnx"


def export(checkpoint: Path, pixels: np.ndarray) -> Path:
    """Write the float32 graph with PyTorch's exporter and return its path."""
    import torch

    path = _path(checkpoint, "fp32")
    if is_current(path, checkpoint):
        return path
    model = logits_module(checkpoint)
    path.parent.mkdir(exist_ok=True)
    with torch.inference_mode():
        torch.onnx.export(
            model,
            (torch.from_numpy(pixels),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["pixels"],
            output_names=["logits"],
        )
    return path


def prepare(checkpoint: Path, configuration: str, pixels: np.ndarray) -> None:
    """Write the graph that the configuration runs."""
    plain = export(checkpoint, pixels)
    path = _path(checkpoint, CONFIGURATIONS[configuration])
    if path == plain or is_current(path, checkpoint):
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path.parent.mkdir(exist_ok=True)
    quantize_dynamic(
        plain, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
    )


def load(checkpoint: Path, configuration: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the forward pass."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    path = _path(checkpoint, CONFIGURATIONS[configuration])
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["logits"], {"pixels": pixels})[0]

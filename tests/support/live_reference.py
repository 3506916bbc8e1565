"""Helpers of live comparisons with Hugging Face transformers, on random weights.

Weights are drawn by `randomise` of tools/make_goldens.py: outputs of every layer have about the variance of
its inputs, and attention scores a deviation of two, so that tokens differ in weight as they do after
training. The initial values of transformers would be too easy: positions, CLS and biases are zero,
attention is nearly even.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from model_bounds import MARGIN, WEIGHT_NOISE, cosine, distance, engine_noise, model_error
from numpy.typing import NDArray
from paths import ROOT

import qora_vision
from qora_vision.engine.ops import Engine
from qora_vision.engine.tensors import QuantizedTensor
from qora_vision.loading.checkpoint import import_checkpoint
from qora_vision.loading.options import LoadOptions
from qora_vision.tasks.classify import VideoClassifier


@cache
def maker() -> ModuleType:
    """tools/make_goldens.py; needs PyTorch and transformers."""
    tools = str(ROOT / "tools")
    if tools not in sys.path:
        sys.path.append(tools)
    return import_module("make_goldens")


def random_model(name: str, fields: dict[str, Any], seed: int) -> Any:
    import torch

    model = maker().make_model(name, fields)
    maker().randomise(model, torch.Generator().manual_seed(seed))
    return model


def random_clips(config: Any, batch: int, seed: int) -> NDArray[np.float32]:
    """Normal values: as many below -1 and above 1 as in a picture of hard contrast."""
    shape = (batch, *maker().clip_shape(config))
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def reference_logits(model: Any, clips: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(clips)).logits.numpy()


def close(got: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """The promise for exact: 1e-4 of the largest logit."""
    return bool(np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max())


def is_exact(source: Path, clips: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """Whether a checkpoint in float32 gives the reference's logits."""
    return close(qora_vision.load(source, weights="f32", compute="exact").forward(clips), expected)


def keeps_its_promises_at_full_size(name: str, fields: dict[str, Any], directory: Path) -> None:
    """Exact logits are the reference's; 4 bits under `auto` stay within the noise of their formats."""
    model = random_model(name, fields, 30)
    clip = random_clips(model.config, 1, 31)
    expected = reference_logits(model, clip)[0]
    model.save_pretrained(directory)
    del model
    keeps_its_promises(directory, clip, expected)


def keeps_its_promises(source: Path, clip: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """The same of a checkpoint, a (1, T, C, H, W) clip and the logits (classes,) of the reference."""
    assert close(qora_vision.load(source, weights="f32", compute="exact").forward(clip)[0], expected)

    quantized = import_checkpoint(source, LoadOptions("q4"))
    fast = VideoClassifier(quantized, Engine("auto")).forward(clip)[0]
    # Against their own weights in float32: what the fast arithmetic costs.
    tensors = {
        name: tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor
        for name, tensor in quantized.file.tensors.items()
    }
    dequantized = quantized.architecture.build(quantized.config, tensors, Engine("exact"))
    exact = dequantized.forward(clip[0]).logits
    assert cosine(fast, exact) >= 0.9995
    noise = model_error(quantized.config, *engine_noise(Engine("auto"), "q4"))
    assert distance(fast, exact) < MARGIN * noise
    # Against the reference: what four bits cost.
    assert distance(exact, expected) < MARGIN * model_error(quantized.config, WEIGHT_NOISE["q4"])

"""Golden cases of scenic's ViViT: weights and outputs of the authors' own modules at tiny sizes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jax_golden import golden
from numpy.typing import NDArray

from qora_vision.conversion import CheckpointTensors, find_sources
from qora_vision.models.base import Config
from qora_vision.ops import Engine
from qora_vision.weights.checkpoints import Checkpoint, open_checkpoint

# The authors' float32 logits differ from those of a float64 forward by 1.4e-6, the residual stream at
# magnitude 10 by 8e-5; a wrong order of axes, heads or attention moves the logits by 0.2 or more.
LOGITS, STREAM = 1e-5, 2e-4


class ScenicCase:
    """One file: `clips` (B, T, C, H, W), outputs `out`, and the parameters as a checkpoint."""

    def __init__(self, name: str, folder: Path) -> None:
        with np.load(golden(f"vivit_{name}.npz")) as archive:
            arrays = dict(archive)
        parameters = {key.removeprefix("params/"): value for key, value in arrays.items() if "params/" in key}
        self.path = folder / f"{name}.npz"
        np.savez(self.path, **parameters)
        self.checkpoint: Checkpoint = open_checkpoint(self.path)
        self.out = {key.removeprefix("out/"): value for key, value in arrays.items() if "out/" in key}
        self.clips = np.ascontiguousarray(arrays["input"].transpose(0, 1, 4, 2, 3))


def build(
    model: type[Any],
    convert: ModuleType,
    config: Config,
    checkpoint: Checkpoint,
    *,
    weights: str = "f32",
    engine: Engine | None = None,
) -> Any:
    """Make a network of a checkpoint."""
    specs = config.tensor_specs()
    sources = find_sources(convert, specs, checkpoint, checkpoint.path)
    tensors = CheckpointTensors(checkpoint, specs, sources, weights, 0)
    return model(config, tensors, engine or Engine("exact"))


def run(model: Any, clip: NDArray) -> tuple[Any, dict[int, NDArray]]:
    """The output of a clip and what each block gave."""
    seen: dict[int, NDArray] = {}
    output = model.forward(np.ascontiguousarray(clip), on_block=lambda i, x: seen.update({i: x.copy()}))
    return output, seen


def assert_close(got: NDArray, expected: NDArray, limit: float) -> None:
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=0, atol=limit)

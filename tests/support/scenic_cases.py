"""Golden cases of scenic's ViViT: weights and outputs of the authors' own modules at tiny sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jax_golden import golden
from numpy.typing import NDArray

from qora_vision.engine.ops import Engine
from qora_vision.loading.conversion import CheckpointTensors, candidates_of, find_sources
from qora_vision.loading.options import LoadOptions
from qora_vision.models.base import ClipConfig
from qora_vision.weights.checkpoints import Checkpoint, open_checkpoint
from qora_vision.weights.maps import CheckpointMap

# The authors' float32 logits differ from those of a float64 forward by 1.4e-6, the residual stream at
# magnitude 10 by 8e-5; a wrong order of axes, heads or attention moves the logits by 0.2 or more.
LOGITS, STREAM = 1e-5, 2e-4
# Of the config of every case, in our words.
SIZES: dict[str, Any] = {
    "num_classes": 5,
    "num_frames": 6,
    "image_size": (32, 24),
    "tubelet_size": (2, 8, 8),
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 4,
    "mlp_dim": 64,
}


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
    checkpoint_map: CheckpointMap[Any],
    config: ClipConfig,
    checkpoint: Checkpoint,
    *,
    weights: str = "f32",
    engine: Engine | None = None,
) -> Any:
    """Make a network of a checkpoint."""
    specs = config.tensor_specs()
    sources = find_sources(checkpoint_map, specs, checkpoint, checkpoint.path)
    tensors = CheckpointTensors(checkpoint, specs, sources, LoadOptions(weights))
    return model(config).with_weights(tensors, engine or Engine("exact"))


def run(model: Any, clip: NDArray) -> tuple[Any, dict[int, NDArray]]:
    """The output of a clip and what each block gave."""
    seen: dict[int, NDArray] = {}
    output = model.forward(np.ascontiguousarray(clip), on_block=lambda i, x: seen.update({i: x.copy()}))
    return output, seen


def assert_close(got: NDArray, expected: NDArray, limit: float) -> None:
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=0, atol=limit)


def random_parameters(checkpoint_map: CheckpointMap[Any], config: ClipConfig) -> dict[str, NDArray]:
    """Parameters of a network as flax lays them out, with one head; by the last candidate of each name."""
    rng = np.random.default_rng(3)
    return {
        candidates_of(checkpoint_map, ours)[-1].names[0]: _flax_values(
            ours, rng.standard_normal(spec.shape).astype(np.float32) / 8
        )
        for ours, spec in config.tensor_specs().items()
    }


def _flax_values(ours: str, values: np.ndarray) -> np.ndarray:
    """Lay a tensor of ours out as flax does, with one head."""
    if ours == "embed.weight":
        return values.transpose(2, 3, 4, 1, 0)
    if ours.endswith(("cls_token", "pos_embed")):
        return values.reshape(1, -1, values.shape[-1])
    head = any(f".{part}.{name}." in ours for part in ("attn", "time") for name in "qkv")
    if values.ndim == 1:
        return values[None] if head else values
    kernel = values.T
    if head:
        return kernel[:, None]
    return kernel[None] if ours.endswith((".attn.proj.weight", ".time.proj.weight")) else kernel

"""Write the small `.qora-vision` file that every later version of the package must be able to read.

Run it once for each new format version and commit the result; a committed file is never written again:

    PYTHONPATH=python python tools/make_format_fixture.py tests/data/v1.qora-vision
"""

import sys
from pathlib import Path

import numpy as np

from qora_vision.engine.tensors import QuantizedTensor
from qora_vision.weights.format import ModelFile, write_model


def fixture_model() -> ModelFile:
    """Return a model with one tensor of every kind that the format has; all values follow a rule."""
    nibble = np.arange(32, dtype=np.uint8) % np.uint8(16)
    q4 = QuantizedTensor(
        "q4",
        (3, 2, 20),
        np.tile(nibble | (np.uint8(15) - nibble) << np.uint8(4), (3, 1)),
        np.array([[0.5, 0.25], [1.0, 2.0], [-0.125, 4.0]], np.float16),
    )
    q8 = QuantizedTensor(
        "q8",
        (2, 32),
        (np.arange(64) * 4 - 127).astype(np.int8).reshape(2, 32),
        np.array([[0.5], [0.0625]], np.float16),
    )
    return ModelFile(
        architecture="vivit",
        config={"embed_dim": 32, "tubelet_size": [2, 16, 16], "layer_norm_eps": 1e-6},
        preprocessing={"num_frames": 32, "mean": [0.5, 0.5, 0.5]},
        labels=["riding a bike", 'playing "go"', "日本語"],
        quantization="q4",
        provenance={"source": "made by hand", "licence": "Apache-2.0"},
        tensors={
            "block.fc1.weight": q4,
            "block.fc2.weight": q8,
            "block.fc1.bias": np.arange(3, dtype=np.float32) / 4,
            "positions": np.arange(6, dtype=np.float16).reshape(1, 2, 3) / np.float16(8),
            "temperature": np.array(1.5, np.float32),
            "empty": np.zeros((0, 4), np.float32),
        },
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if target.exists():
        sys.exit(f"{target} exists: a released fixture is never written again")
    write_model(target, fixture_model())

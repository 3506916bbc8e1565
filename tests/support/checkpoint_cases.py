"""Helpers of the tests of checkpoints: the values in the committed files, and comparisons with them."""

import numpy as np

from qora_vision.weights.checkpoints import open_checkpoint

BASE = np.arange(24, dtype=np.float32)
# The rules of tools/make_torch_fixtures.py.
EXPECTED = {
    "f32": BASE.reshape(2, 3, 4) / 8,
    "f16": (BASE / 8).astype(np.float16),
    "bf16": BASE / 8,
    "f64": BASE.astype(np.float64) / 3,
    "i64": np.arange(5, dtype=np.int64) - 2**40,
    "i32": np.arange(5, dtype=np.int32) - 2,
    "i16": np.arange(5, dtype=np.int16) - 2,
    "i8": np.arange(5, dtype=np.int8) - 2,
    "u8": np.arange(5, dtype=np.uint8) + 250,
    "bool": np.arange(5) % 2 == 0,
    "transposed": BASE.reshape(4, 6).T,
    "shared.slice": BASE[5:17].reshape(3, 4)[:, 1:3],
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "parameter": BASE[:3],
}


def assert_holds(checkpoint, expected):
    assert sorted(checkpoint) == sorted(expected) and len(checkpoint) == len(expected)
    for name, values in expected.items():
        assert name in checkpoint and checkpoint.shape(name) == values.shape
        np.testing.assert_array_equal(checkpoint.read(name), values, strict=True)


def read_all(path):
    """Copies of all tensors; the file is unmapped on return, so that any system lets it be written again."""
    checkpoint = open_checkpoint(path)
    return {name: np.array(checkpoint.read(name)) for name in checkpoint}

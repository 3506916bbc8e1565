"""Archives of NumPy as checkpoints: every layout that NumPy writes, and damage as errors."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from qora_vision.errors import CheckpointError
from qora_vision.weights.checkpoints import open_checkpoint

ARRAYS = {
    "tokenizer/cls": np.arange(5, dtype=np.float32).reshape(1, 1, 5),
    "encoder/a/kernel": np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32),
    "half": np.linspace(0, 1, 7, dtype=np.float16),
    "double": np.float64(3.5),
    "fortran": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "empty": np.zeros((0, 3), np.float32),
    "counter": np.array([1, 2], np.int64),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "deflated"])
def test_arrays_are_read_to_the_bit(tmp_path: Path, save) -> None:
    save(tmp_path / "x.npz", **ARRAYS)
    opened = open_checkpoint(tmp_path / "x.npz")
    assert set(opened) == set(ARRAYS)
    for name, value in ARRAYS.items():
        assert opened.shape(name) == np.shape(value)
        np.testing.assert_array_equal(opened.read(name), value)
        opened.release(name)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "deflated"])
def test_damage_is_an_error(tmp_path: Path, save) -> None:
    """Each member is under its CRC: a flipped bit of the values is seen when they are read."""
    path = tmp_path / "x.npz"
    save(path, a=np.arange(600, dtype=np.float32), b=np.arange(50, dtype=np.float32))
    data = path.read_bytes()
    expected = {name: open_checkpoint(path).read(name).copy() for name in ("a", "b")}
    for position in range(0, len(data), max(1, len(data) // 150)):
        damaged = bytearray(data)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        try:
            opened = open_checkpoint(path)
            for name in opened:
                if name in expected:
                    np.testing.assert_array_equal(opened.read(name), expected[name])
        except CheckpointError as error:
            assert str(path) in str(error)
    for size in range(0, len(data), len(data) // 30):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            open_checkpoint(path)


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match=r"'a\.npy' is of type object"):
        open_checkpoint(path)
    np.savez(path, a=np.zeros(3, ">f4"))
    with pytest.raises(CheckpointError, match=r"'a\.npy' is of type >f4"):
        open_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"not one of numpy\.savez"):
        open_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x09\x00" + bytes(100))
    with pytest.raises(CheckpointError, match=r"version \(9, 0\)"):
        open_checkpoint(path)
    header = (
        b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }".ljust(117)
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header + b"\n" + bytes(8))
    with pytest.raises(CheckpointError, match="has 8 bytes, which do not make an array of float32"):
        open_checkpoint(path)

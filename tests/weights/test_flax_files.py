"""Checkpoints of flax: what scenic's own code wrote is read to the bit; damage of any kind is an error."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from paths import SHARED

from qora_vision.errors import CheckpointError
from qora_vision.weights.checkpoints import open_checkpoint

GOLDEN = SHARED / "golden" / "jax"

pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="needs the reference outputs in ../shared/data")

PAIRS = [
    ("vivit_m2_checkpoint_optimizer_target.msgpack", "vivit_m2_factorized_encoder.npz"),
    ("vivit_m1_checkpoint_params_chunked.msgpack", "vivit_m1_spacetime.npz"),
]


def pack(value: object) -> bytes:
    """A few forms of msgpack, enough for hand-made files."""
    match value:
        case dict():
            items = b"".join(pack(key) + pack(each) for key, each in value.items())
            return bytes([0x80 | len(value)]) + items
        case list():
            return bytes([0x90 | len(value)]) + b"".join(map(pack, value))
        case str():
            return bytes([0xA0 | len(value)]) + value.encode()
        case int():
            return bytes([value])
        case bytes():
            return b"\xc4" + bytes([len(value)]) + value
        case np.ndarray():
            payload = pack([list(value.shape), value.dtype.name, value.tobytes()])
            return b"\xc7" + bytes([len(payload)]) + b"\x01" + payload
    raise TypeError(value)


def write(path: Path, value: object) -> Path:
    path.write_bytes(value if isinstance(value, bytes) else pack(value))
    return path


@pytest.mark.parametrize(("checkpoint", "values"), PAIRS)
def test_parameters_of_both_layouts(checkpoint: str, values: str) -> None:
    """Parameters alone, and the right ones: the momenta beside them are zeros of the same shapes."""
    opened = open_checkpoint(GOLDEN / checkpoint)
    with np.load(GOLDEN / values) as archive:
        expected = {
            name.removeprefix("params/"): archive[name] for name in archive if name.startswith("params/")
        }
    assert set(opened) == set(expected)
    for name, value in expected.items():
        assert opened.shape(name) == value.shape
        assert opened.dtype(name) == "F32"
        np.testing.assert_array_equal(opened.read(name), value)
        opened.release(name)
        np.testing.assert_array_equal(opened.read(name), value, err_msg="after letting go")


def test_the_name_that_scenic_gives(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    target.write_bytes((GOLDEN / PAIRS[0][0]).read_bytes())
    assert "cls_SpatialTransformer" in open_checkpoint(target)


def test_one_level_deeper(tmp_path: Path) -> None:
    weights = np.arange(3, dtype=np.float32)
    tree = {"optimizer": {"target": {"params": {"a": weights}}, "state": {"step": 1}}}
    opened = open_checkpoint(write(tmp_path / "x.msgpack", tree))
    np.testing.assert_array_equal(opened.read("a"), weights)


@pytest.mark.parametrize("name", [pair[0] for pair in PAIRS])
def test_cut_short_anywhere(name: str, tmp_path: Path) -> None:
    data = (GOLDEN / name).read_bytes()
    for size in [*range(1, 200, 7), *range(200, len(data), len(data) // 40), len(data) - 1]:
        with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
            open_checkpoint(write(tmp_path / "cut.msgpack", data[:size]))


def test_damaged_bytes_are_errors_or_leave_the_structure_whole(tmp_path: Path) -> None:
    """Flax has no checksums: a byte inside the values goes unseen, one of the structure must not crash."""
    data = bytearray((GOLDEN / PAIRS[1][0]).read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 300):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        try:
            opened = open_checkpoint(write(tmp_path / "damaged.msgpack", bytes(damaged)))
            for each in opened:
                opened.read(each)
        except CheckpointError:
            pass


FLOATS = np.zeros(4, np.float32)
PIECES = {"__msgpack_chunked_array__": 1, "shape": {"0": 8}, "chunks": {"0": FLOATS, "1": FLOATS}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (b"\x93\x01\x02\x03", "expected one map"),
        (pack({"params": {"a": FLOATS}}) + b"\x01", "nothing after it"),
        ({"weights": {"a": FLOATS}}, "no parameters at .* the file holds weights"),
        ({"params": {"a": 3}}, "'a' is not an array"),
        (b"\xc1", "unknown code 0xc1"),
        (b"\x91" * 100 + b"\x01", "nested too deeply"),
        (b"\xdf\xff\xff\xff\xff", "truncated"),
        (b"\x82\xa1a\x01\xa1a\x02", "twice"),
        ({"params": {"a": {**PIECES, "shape": {"0": 7}}}}, "do not form an array of shape"),
        ({"params": {"a": {**PIECES, "chunks": {"1": FLOATS}}}}, "numbered pieces"),
        ({"params": {"a": {**PIECES, "chunks": {"0": 1}}}}, "one of its pieces is not an array"),
        (
            {"params": {"a": {**PIECES, "chunks": {"0": FLOATS, "1": FLOATS.astype(np.int32)}}}},
            "of different types",
        ),
        ({"params": {"a": FLOATS.astype(np.complex64)}}, "'complex64' is not supported"),
        (b"\x81\xa6params\x81\xa1a\xc7\x0c\x01\x93\x91\x05\xa7float32\xc4", "truncated"),
        (
            b"\x81\xa6params\x81\xa1a\xc7\x11\x01\x93\x91\x05\xa7float32\xc4\x04\0\0\0\0",
            "4 bytes, which is not",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, tree: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(write(tmp_path / "bad.msgpack", tree))


def test_pieces_are_put_together(tmp_path: Path) -> None:
    first, second = np.arange(4, dtype=np.float32), np.arange(4, 8, dtype=np.float32)
    tree = {"params": {"a": {**PIECES, "shape": {"0": 2, "1": 4}, "chunks": {"0": first, "1": second}}}}
    opened = open_checkpoint(write(tmp_path / "pieces.msgpack", tree))
    np.testing.assert_array_equal(opened.read("a"), np.arange(8, dtype=np.float32).reshape(2, 4))

"""Checkpoints: every type and layout is read correctly, and an error names the fault of a file."""

import json
import os
import pickle
import random

import numpy as np
import pytest
import safetensors.numpy
from checkpoint_cases import BASE, EXPECTED, assert_holds, read_all
from paths import DATA

from qora_vision.errors import CheckpointError
from qora_vision.weights.checkpoints import open_checkpoint, read_json


def write_safetensors(path, tensors):
    """Write without the library: `tensors` maps names to (type, shape, bytes)."""
    table, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    header = json.dumps(table).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)


# safetensors


def test_safetensors(tmp_path):
    tensors = {name: np.ascontiguousarray(values) for name, values in EXPECTED.items() if name != "scalar"}
    tensors["scalar"] = EXPECTED["scalar"]
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
        checkpoint = open_checkpoint(path)
        assert checkpoint.path == tmp_path / "model.safetensors"
        assert_holds(checkpoint, tensors)
    view = checkpoint.read("f32")
    assert not view.flags.owndata and not view.flags.writeable
    checkpoint.release("f32")
    np.testing.assert_array_equal(view, EXPECTED["f32"])


def test_bfloat16_is_widened_exactly_and_odd_offsets_are_aligned(tmp_path):
    bits = np.array([0x3F80, 0xC049, 0x0001, 0x7F80, 0x8000], "<u2")
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"odd": ("U8", [3], b"abc"), "x": ("BF16", [5], bits.tobytes())})
    checkpoint = open_checkpoint(path)
    assert checkpoint.dtype("x") == "BF16"
    values = checkpoint.read("x")
    np.testing.assert_array_equal(values.view(np.uint32), bits.astype(np.uint32) << 16, strict=True)
    path = tmp_path / "y.safetensors"
    write_safetensors(path, {"odd": ("U8", [3], b"abc"), "x": ("F32", [2], np.float32([1, 2]).tobytes())})
    values = open_checkpoint(path).read("x")  # a copy, at an odd offset in the file
    assert values.flags.aligned and values.tolist() == [1, 2]


def test_a_type_without_support_is_named_when_it_is_read(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", {"a": ("F8_E4M3", [2], b"12"), "b": ("U8", [1], b"3")})
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    assert checkpoint.read("b").tolist() == [ord("3")]
    with pytest.raises(CheckpointError, match=r"x\.safetensors.*'a'.*F8_E4M3 is not supported"):
        checkpoint.read("a")
    with pytest.raises(CheckpointError, match="no tensor 'c'"):
        checkpoint.shape("c")


def safetensors_bytes(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes, too few"),
        (b"PK\x03\x04" + bytes(20), "PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", "Git LFS pointer"),
        (safetensors_bytes({"x": entry()}, bytes(8), length=2**63), "does not start like a safetensors"),
        (safetensors_bytes({"x": entry()}, bytes(8), length=99_999_999), "should have 99999999 bytes"),
        (safetensors_bytes(b'{"x": 1'), "not valid JSON"),
        (safetensors_bytes(b"{\xff\xff}"), "not valid JSON"),
        (safetensors_bytes(b'{"a":' * 50_000), "nested too deeply"),
        (safetensors_bytes(b'{"x":' + b"9" * 10_000 + b"}"), "not valid JSON"),
        (safetensors_bytes({"x": 1}), "lacks dtype"),
        (safetensors_bytes({"x": entry(shape=[-2])}, bytes(8)), "wrong shape"),
        (safetensors_bytes({"x": entry(shape=[True, 2])}, bytes(8)), "wrong shape"),
        (safetensors_bytes({"x": entry(shape=[1] * 40 + [2])}, bytes(8)), "too many dimensions"),
        (safetensors_bytes({"x": entry(shape=[3])}, bytes(8)), "8 bytes, which is not F32 of shape"),
        (safetensors_bytes({"x": entry(offsets=[8, 16])}, bytes(16)), "gap"),
        (safetensors_bytes({"x": entry(), "y": entry(offsets=[4, 12])}, bytes(12)), "overlaps"),
        (safetensors_bytes({"x": entry()}, bytes(7)), "truncated: "),
        (safetensors_bytes({"x": entry()}, bytes(9)), "1 bytes longer"),
        (
            safetensors_bytes(b'{"x":%b,"x":%b}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
            "appears twice",
        ),
        (safetensors_bytes({"__metadata__": {"a": 1}}), "metadata"),
        (safetensors_bytes({"x": entry(shape=[0, 2**62], offsets=[0, 0])}), None),
    ],
)
def test_damaged_safetensors(tmp_path, content, message):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    if message is None:  # Only NumPy has no such array.
        with pytest.raises(CheckpointError, match="'x'"):
            open_checkpoint(path).read("x")
    else:
        with pytest.raises(CheckpointError, match=rf"m\.safetensors.*{message}"):
            open_checkpoint(path)


def test_what_we_accept_the_reference_accepts(tmp_path):
    """Damage the header at random: our parser must not be laxer than the one of the safetensors package."""
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"a": BASE.reshape(4, 6), "b": BASE[:5].astype(np.float16)}, path)
    whole = path.read_bytes()
    rng = random.Random(3)
    accepted = 0
    for _ in range(1500):
        changed = bytearray(whole)
        changed[rng.randrange(8 + int.from_bytes(whole[:8], "little"))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            arrays = read_all(path)
        except CheckpointError:
            continue
        accepted += 1
        assert len(safetensors.numpy.load_file(path)) == len(arrays)
    assert accepted > 5  # a changed name, for example


# shards


@pytest.fixture
def sharded(tmp_path):
    safetensors.numpy.save_file({"a": BASE, "b": BASE[:2]}, tmp_path / "model-1.safetensors")
    safetensors.numpy.save_file({"c": BASE[:3], "extra": BASE}, tmp_path / "model-2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    weight_map = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def change_map(index, **changes):
    content = json.loads(index.read_text())
    content["weight_map"].update(changes)
    index.write_text(json.dumps(content))


def test_shards(sharded):
    for path in (sharded, sharded.parent):
        assert_holds(open_checkpoint(path), {"a": BASE, "b": BASE[:2], "c": BASE[:3]})


def test_shards_of_torch_files(tmp_path):
    (tmp_path / "one.bin").write_bytes((DATA / "torch_zip.bin").read_bytes())
    (tmp_path / "two.bin").write_bytes((DATA / "torch_module.bin").read_bytes())
    weight_map = {"f32": "one.bin", "weight": "two.bin"}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    expected = {"f32": EXPECTED["f32"], "weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    assert_holds(open_checkpoint(tmp_path), expected)


def test_missing_shards_are_all_named(sharded):
    change_map(sharded, d="model-3.safetensors", e="model-4.safetensors")
    with pytest.raises(CheckpointError, match=r"missing shards: model-3\.safetensors, model-4\.safetensors"):
        open_checkpoint(sharded)


def test_tensors_missing_in_their_shards_are_all_named(sharded):
    change_map(sharded, d="model-1.safetensors", c="model-1.safetensors")
    with pytest.raises(
        CheckpointError, match=r"c \(in model-1\.safetensors\), d \(in model-1\.safetensors\)"
    ):
        open_checkpoint(sharded)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a\\b", "C:x", "..", "", 5, None])
def test_an_index_must_stay_in_its_directory(sharded, name):
    change_map(sharded, a=name)
    with pytest.raises(CheckpointError, match="files in its folder"):
        open_checkpoint(sharded)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not valid JSON"), ("[]", "weight_map"), ('{"weight_map": []}', "weight_map")]
)
def test_damaged_index(sharded, text, message):
    sharded.write_text(text)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(sharded)


def test_a_damaged_shard_is_named(sharded):
    shard = sharded.parent / "model-2.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model-2\.safetensors.*truncated"):
        open_checkpoint(sharded)


# what is there


def test_safetensors_come_first(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes((DATA / "torch_module.bin").read_bytes())
    assert sorted(open_checkpoint(tmp_path)) == ["bias", "weight"]
    safetensors.numpy.save_file({"x": BASE}, tmp_path / "model.safetensors")
    assert sorted(open_checkpoint(tmp_path)) == ["x"]


def test_a_directory_without_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors, .*the directory holds nothing"):
        open_checkpoint(tmp_path)
    (tmp_path / "tf_model.h5").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"the directory holds tf_model\.h5"):
        open_checkpoint(tmp_path)


def test_missing_and_unknown_files(tmp_path):
    for name in ("nowhere", "nowhere.bin", "nowhere.safetensors", "nowhere.index.json"):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            open_checkpoint(tmp_path / name)
    (tmp_path / "x.txt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"x\.txt: the name is not that of a checkpoint file"):
        open_checkpoint(tmp_path / "x.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.bin")
    with pytest.raises(OSError, match="regular file"):
        open_checkpoint(tmp_path / "x.bin")


def test_read_json(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, 2.5, "\xc3\xbc"]}')
    assert read_json(path) == {"a": [1, 2.5, "ü"]}
    for content, message in (
        (b"{", r"config\.json: not valid JSON.*line 1"),
        (b"\xff", "not valid JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (b"[" * 100_000, "nested too deeply"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            read_json(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nowhere.json")


def test_any_other_pickle_is_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(pickle.dumps({"a": 1}, 2))
    with pytest.raises(CheckpointError, match=r"not one of torch\.save"):
        open_checkpoint(tmp_path / "x.bin")

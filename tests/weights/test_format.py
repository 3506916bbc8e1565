"""The `.qora-vision` file: what is written is read back, and every damaged file is refused."""

import contextlib
import dataclasses
import hashlib
import json
import random
import zlib

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from paths import DATA

from qora_vision.engine.tensors import QuantizedTensor
from qora_vision.errors import ModelFileError
from qora_vision.weights import format_header
from qora_vision.weights.format import ModelFile, read_header, read_model, write_model


def make_q4(rng, shape=(6, 3, 30)):
    padded = -(-int(np.prod(shape[1:])) // 32) * 32
    data = rng.integers(0, 256, (shape[0], padded // 2), dtype=np.uint8)
    return QuantizedTensor("q4", shape, data, rng.random((shape[0], padded // 32)).astype(np.float16))


@pytest.fixture
def model():
    rng = np.random.default_rng(7)
    q8 = QuantizedTensor(
        "q8", (5, 64), rng.integers(-127, 128, (5, 64), dtype=np.int8), rng.random((5, 2)).astype(np.float16)
    )
    return ModelFile(
        architecture="vivit",
        config={"embed_dim": 64, "tubelet_size": [2, 16, 16], "nested": {"eps": 1e-6, "none": None}},
        preprocessing={"num_frames": 32, "resample": "bilinear"},
        labels=["a", "b ü", "\N{VIDEO CAMERA}"],
        quantization="q4",
        provenance={"source": "x/y", "revision": "abc", "licence": "Apache-2.0"},
        tensors={
            "patch.weight": make_q4(rng),
            "head.weight": q8,
            "head.bias": rng.standard_normal(7).astype(np.float32),
            "positions": rng.standard_normal((1, 5, 3)).astype(np.float16),
            "scalar": np.array(2.5, np.float32),
            "empty": np.zeros((3, 0), np.float16),
        },
    )


@pytest.fixture
def path(tmp_path, model):
    target = tmp_path / "model.qora-vision"
    write_model(target, model)
    return target


def assert_same(left, right):
    for field in ("architecture", "config", "preprocessing", "labels", "quantization", "provenance"):
        assert getattr(left, field) == getattr(right, field)
    assert left.tensors.keys() == right.tensors.keys()
    for name, a in left.tensors.items():
        b = right.tensors[name]
        assert type(a) is type(b)
        if isinstance(a, QuantizedTensor):
            assert (a.kind, a.shape) == (b.kind, b.shape)
            np.testing.assert_array_equal(a.data, b.data, strict=True)
            np.testing.assert_array_equal(a.scales, b.scales, strict=True)
        else:
            np.testing.assert_array_equal(a, b, strict=True)


def test_round_trip(path, model):
    assert_same(read_model(path), model)
    assert_same(read_model(str(path), verify=False), model)


def test_header_alone(path, model):
    header = read_header(path)
    assert (header.format_version, header.file_size) == (1, path.stat().st_size)
    assert (header.config, header.labels) == (model.config, model.labels)
    assert {name: (info.kind, info.shape) for name, info in header.tensors.items()} == {
        "patch.weight": ("q4", (6, 3, 30)),
        "head.weight": ("q8", (5, 64)),
        "head.bias": ("f32", (7,)),
        "positions": ("f16", (1, 5, 3)),
        "scalar": ("f32", ()),
        "empty": ("f16", (3, 0)),
    }
    assert header.bytes_by_kind() == {"q8": 5 * 64 + 20, "q4": 6 * 48 + 36, "f32": 32, "f16": 30}
    assert list(header.bytes_by_kind()) == ["q8", "q4", "f32", "f16"]


def test_arrays_are_read_only_aligned_views_of_the_file(path):
    tensors = read_model(path).tensors
    arrays = [
        tensors["patch.weight"].data,
        tensors["patch.weight"].scales,
        *map(tensors.get, ["head.bias", "scalar"]),
    ]
    for array in arrays:
        assert array.flags.aligned and array.flags.c_contiguous and not array.flags.writeable
        assert not array.flags.owndata
    assert tensors["head.weight"].data.ctypes.data % 64 == 0  # 320 bytes: a multiple of 64


def test_is_a_valid_safetensors_file(path, model):
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata()["format"] == "qora-vision"
        assert json.loads(file.metadata()["config"]) == model.config
        np.testing.assert_array_equal(file.get_tensor("patch.weight"), model.tensors["patch.weight"].data)
        np.testing.assert_array_equal(
            file.get_tensor("patch.weight.scales"), model.tensors["patch.weight"].scales
        )
        np.testing.assert_array_equal(file.get_tensor("positions"), model.tensors["positions"])


def test_strided_arrays_are_written_in_their_logical_order(tmp_path, model):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    tensors = {"t": base.T, "s": base[::2, ::3]}
    write_model(tmp_path / "m", dataclasses.replace(model, tensors=tensors))
    assert_same(read_model(tmp_path / "m"), dataclasses.replace(model, tensors=tensors))


def test_no_labels_and_no_tensors(tmp_path, model):
    empty = dataclasses.replace(model, labels=None, tensors={})
    write_model(tmp_path / "m", empty)
    assert_same(read_model(tmp_path / "m"), empty)


def test_the_file_is_the_same_for_the_same_model(path, model, tmp_path):
    write_model(tmp_path / "again", model)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_version_1_loads_for_ever():
    model = read_model(DATA / "v1.qora-vision")
    assert model.architecture == "vivit" and model.quantization == "q4"
    assert model.config == {"embed_dim": 32, "tubelet_size": [2, 16, 16], "layer_norm_eps": 1e-6}
    assert model.preprocessing == {"num_frames": 32, "mean": [0.5, 0.5, 0.5]}
    assert model.labels == ["riding a bike", 'playing "go"', "日本語"]
    assert model.provenance == {"source": "made by hand", "licence": "Apache-2.0"}
    q4 = model.tensors["block.fc1.weight"].dequantize()
    # Byte j of a row holds j % 16 in its low nibble and 15 - j % 16 in the high one.
    values = np.stack([np.arange(32) % 16 - 8, 7 - np.arange(32) % 16], axis=1).reshape(-1)
    scales = np.array([[0.5, 0.25], [1.0, 2.0], [-0.125, 4.0]]).repeat(32, axis=1)
    np.testing.assert_array_equal(
        q4, (scales * values)[:, :40].reshape(3, 2, 20).astype(np.float32), strict=True
    )
    q8 = model.tensors["block.fc2.weight"].dequantize()
    expected = (np.arange(64) * 4.0 - 127).reshape(2, 32)
    expected[1] -= 256 * (expected[1] > 127)
    np.testing.assert_array_equal(
        q8, expected.astype(np.float32) * np.float32([[0.5], [0.0625]]), strict=True
    )
    np.testing.assert_array_equal(model.tensors["block.fc1.bias"], np.float32([0, 0.25, 0.5]), strict=True)
    np.testing.assert_array_equal(model.tensors["positions"], np.arange(6).reshape(1, 2, 3) / np.float16(8))
    assert model.tensors["temperature"].shape == () and model.tensors["temperature"] == 1.5
    assert model.tensors["empty"].shape == (0, 4)


def test_checksums_are_as_documented():
    """Computed here from the words of docs/format.md alone."""
    raw = (DATA / "v1.qora-vision").read_bytes()
    start = 8 + len('{"__metadata__":{"header_sha256":"')
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    blank = raw[:start] + b"0" * 64 + raw[start + 64 : end]
    assert end % 64 == 0
    assert header["__metadata__"]["header_sha256"] == hashlib.sha256(blank).hexdigest()
    checksums = json.loads(header.pop("__metadata__")["checksums"])
    for name, entry in header.items():
        begin, stop = entry["data_offsets"]
        assert checksums.pop(name) == f"crc32:{zlib.crc32(raw[end + begin : end + stop]):08x}"
    assert not checksums


# damage


def test_truncated_at_every_percent(path, tmp_path):
    whole = path.read_bytes()
    cut = tmp_path / "cut"
    for percent in range(100):
        cut.write_bytes(whole[: len(whole) * percent // 100])
        for read in (read_model, read_header):
            with pytest.raises(ModelFileError, match="cut"):
                read(cut)
    cut.write_bytes(whole[:-1])
    with pytest.raises(ModelFileError, match="truncated"):
        read_model(cut, verify=False)
    cut.write_bytes(whole + b"\0")
    with pytest.raises(ModelFileError, match="1 bytes longer"):
        read_model(cut, verify=False)


def test_every_flipped_bit_is_found(path, tmp_path):
    """One random bit of every byte of the header (its padding too), two of every byte of the data."""
    whole = path.read_bytes()
    data_start = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(1)
    flips = [(position, rng.randrange(8)) for position in range(data_start)]
    flips += [
        (position, bit) for position in range(data_start, len(whole)) for bit in (0, rng.randrange(1, 8))
    ]
    damaged = tmp_path / "damaged"
    damaged.write_bytes(whole)
    with damaged.open("r+b", buffering=0) as file:
        for position, bit in flips:
            for byte in (whole[position] ^ 1 << bit, whole[position]):
                with pytest.raises(ModelFileError) if byte != whole[position] else contextlib.nullcontext():
                    file.seek(position)
                    file.write(bytes([byte]))
                    read_model(damaged)
    read_model(damaged)


def test_bursts_of_damage_are_found(path, tmp_path):
    whole = path.read_bytes()
    rng = random.Random(2)
    damaged = tmp_path / "damaged"
    for _ in range(300):
        start = rng.randrange(len(whole))
        stop = min(len(whole), start + rng.randrange(1, 64))
        changed = whole[:start] + rng.randbytes(stop - start) + whole[stop:]
        if changed != whole:
            damaged.write_bytes(changed)
            with pytest.raises(ModelFileError):
                read_model(damaged)


@pytest.mark.parametrize("threads", [1, 2, 4096])
@pytest.mark.parametrize("name", ["head.bias", "patch.weight"])
def test_damaged_tensors_are_named_and_verify_false_skips_them(path, model, name, threads):
    whole = bytearray(path.read_bytes())
    tensor = model.tensors[name]
    data = tensor.data if isinstance(tensor, QuantizedTensor) else tensor
    whole[whole.index(data.tobytes())] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ModelFileError, match=rf"model\.qora-vision.*: {name.replace('.', '[.]')};"):
        read_model(path, threads=threads)
    read_model(path, verify=False)
    read_header(path)


# files that are something else


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"not a model at all" * 10, b"PK\x03\x04" + bytes(100), bytes(4096)]
)
def test_wrong_magic(tmp_path, content):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"not a usable \.qora-vision file"):
        read_model(tmp_path / "m")


def test_an_ordinary_safetensors_file_is_not_ours(tmp_path):
    safetensors.numpy.save_file({"x": np.zeros(3, np.float32)}, tmp_path / "m", {"format": "pt"})
    with pytest.raises(ModelFileError, match=r"ordinary safetensors file.*qora-vision convert"):
        read_model(tmp_path / "m")


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_model(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        read_model(tmp_path)


def sealed(header, data=b""):
    """A file with this header object and a right digest: what a wrong writer would make."""
    metadata = {"header_sha256": "0" * 64, **header.pop("__metadata__")}
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    raw = len(text).to_bytes(8, "little") + text
    return raw.replace(b"0" * 64, format_header._header_digest(raw), 1) + data


def plain_header(**changes):
    metadata = {
        "format": "qora-vision",
        "format_version": "1",
        "architecture": "vivit",
        "config": "{}",
        "preprocessing": "{}",
        "labels": "null",
        "quantization": "f32",
        "provenance": "{}",
        "quantized_tensors": "{}",
        "checksums": "{}",
    }
    return {
        "__metadata__": {name: value for name, value in {**metadata, **changes}.items() if value is not None}
    }


def test_a_sealed_header_is_readable(tmp_path):
    (tmp_path / "m").write_bytes(sealed(plain_header()))
    assert read_model(tmp_path / "m").tensors == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": "3"}, "format_version is 3.*reads up to 2.*upgrade"),
        ({"format_version": "one"}, "not a number"),
        ({"architecture": None}, "no 'architecture'"),
        ({"config": "[]"}, "'config' should be"),
        ({"config": "{"}, "'config' is wrong"),
        ({"config": '{"a":1,"a":2}'}, "'a' appears twice"),
        ({"config": '{"a":NaN}'}, "NaN is not allowed"),
        ({"config": "[" * 100_000}, "nested too deeply"),
        ({"labels": "[1]"}, "list of strings or null"),
        ({"checksums": '{"x":"crc32:0"}'}, "same names"),
        ({"quantized_tensors": '{"x":{"kind":"q4","shape":[1,32]}}'}, "missing tensors: x"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path, changes, message):
    (tmp_path / "m").write_bytes(sealed(plain_header(**changes)))
    with pytest.raises(ModelFileError, match=message):
        read_header(tmp_path / "m")


@pytest.mark.parametrize(
    ("claim", "dtype", "message"),
    [
        ({"kind": "q4", "shape": [1, 64]}, "U8", "data of a q4 tensor"),
        ({"kind": "q4", "shape": [1, "x"]}, "U8", "wrong shape"),
        ({"kind": "q4", "shape": [32]}, "U8", "needs a shape"),
        ({"kind": "q8", "shape": [1, 32]}, "U8", "lacks an entry or has a wrong type"),
        ("q4", "U8", "lacks an entry or has a wrong type"),
        (None, "I64", "the type I64"),
    ],
)
def test_a_wrong_table_of_tensors_is_refused(tmp_path, claim, dtype, message):
    header = plain_header(
        quantized_tensors=json.dumps({"x": claim} if claim else {}),
        checksums=json.dumps({"x": "", "x.scales": ""}),
    )
    header["x"] = {"dtype": dtype, "shape": [1, 16] if dtype == "U8" else [2], "data_offsets": [0, 16]}
    header["x.scales"] = {"dtype": "F16", "shape": [1, 1], "data_offsets": [16, 18]}
    (tmp_path / "m").write_bytes(sealed(header, bytes(18)))
    with pytest.raises(ModelFileError, match=message):
        read_model(tmp_path / "m", verify=False)


# what cannot be stored


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {1: "x"}}, "names must be strings"),
        ({"config": {"a": [{2: 3}]}}, "names must be strings"),
        ({"config": {"a": float("nan")}}, "config cannot be stored"),
        ({"provenance": {"a": object()}}, "provenance cannot be stored"),
        ({"preprocessing": "x"}, "must be a dictionary"),
        ({"labels": ["a", 1]}, "labels must be a list"),
        ({"labels": ["\ud800"]}, "labels cannot be stored"),
        ({"quantization": "q3"}, "expected one of q4, q8, f16, f32"),
        ({"architecture": ""}, "architecture must be a name"),
        ({"tensors": {"x": np.zeros(3)}}, "'x' is float64"),
        ({"tensors": {"__metadata__": np.zeros(3, np.float32)}}, "cannot be named"),
        (
            {
                "tensors": {
                    "x.scales": np.zeros(1, np.float32),
                    "x": QuantizedTensor(
                        "q8", (1, 32), np.zeros((1, 32), np.int8), np.zeros((1, 1), np.float16)
                    ),
                }
            },
            "two tensors would be stored under the same name",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path, model, changes, message):
    with pytest.raises(ModelFileError, match=message):
        write_model(tmp_path / "m", dataclasses.replace(model, **changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "shape", "data", "scales", "message"),
    [
        ("q5", (1, 32), np.zeros((1, 16), np.uint8), np.zeros((1, 1), np.float16), "unknown kind"),
        ("q4", (32,), np.zeros((1, 16), np.uint8), np.zeros((1, 1), np.float16), "needs a shape"),
        ("q4", (1, 33), np.zeros((1, 16), np.uint8), np.zeros((1, 2), np.float16), "data of a q4"),
        ("q8", (1, 32), np.zeros((1, 32), np.uint8), np.zeros((1, 1), np.float16), "must be int8"),
        ("q8", (1, 32), np.zeros((1, 32), np.int8), np.zeros((1, 1), np.float32), "scales of a q8"),
    ],
)
def test_quantized_tensor_checks_its_parts(kind, shape, data, scales, message):
    with pytest.raises(ValueError, match=message):
        QuantizedTensor(kind, shape, data, scales)

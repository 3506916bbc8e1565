"""Files of `torch.save` without PyTorch: right values; nothing executed, read out of bounds or endless."""

import argparse
import builtins
import contextlib
import io
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checkpoint_cases import EXPECTED, assert_holds, read_all
from paths import DATA

from qora_vision.errors import CheckpointError
from qora_vision.weights.checkpoints import open_checkpoint

FIXTURES = ("torch_zip.bin", "torch_legacy.bin")
ONE_STORAGE = [("0", np.arange(6, dtype=np.float32).tobytes())]
ONE_LEGACY_STORAGE = struct.pack("<q", 6) + bytes(24)


@pytest.mark.parametrize("name", FIXTURES)
def test_every_type_and_layout(name):
    checkpoint = open_checkpoint(DATA / name)
    assert_holds(checkpoint, EXPECTED)
    assert checkpoint.dtype("bf16") == "BF16" and checkpoint.dtype("f64") == "F64"
    for tensor in checkpoint:
        checkpoint.release(tensor)
    assert_holds(checkpoint, EXPECTED)


@pytest.mark.parametrize("name", ["torch_module.bin", "torch_no_crc.bin"])
def test_state_dict_of_a_module(name):
    expected = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.float32([-1, 1])}
    assert_holds(open_checkpoint(DATA / name), expected)


def test_values_stay_in_the_mapped_file():
    values = open_checkpoint(DATA / "torch_zip.bin").read("f32")
    assert not values.flags.owndata and not values.flags.writeable


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_against_torch(tmp_path, zipped, protocol):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv3d(3, 8, 2), torch.nn.BatchNorm3d(8), torch.nn.Linear(4, 300))
    state = model.state_dict()
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool):
        state[str(dtype)] = (torch.randn(7, 5, 3) * 3).to(dtype).permute(2, 0, 1)[1:, ::2]
    state["tied"] = state["0.weight"]
    path = tmp_path / "model.bin"
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    beside = {"epoch": 1, "rate": 1e-4, "note": "x" * 300, "args": argparse.Namespace(lr=0.1, betas=[1, {}])}
    if protocol < 4:
        beside |= {"sparse": {"a", "b"}, "nothing": set()}
    torch.save({"model": state, **beside, "size": state["tied"].shape}, path, **options)
    expected = {
        name: (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        for name, value in state.items()
    }
    assert_holds(open_checkpoint(path), expected)


# damage


@pytest.mark.parametrize("name", FIXTURES)
def test_truncated_everywhere(name, tmp_path):
    whole = (DATA / name).read_bytes()
    path = tmp_path / "cut.bin"
    for percent in range(0, 1000, 3):
        path.write_bytes(whole[: len(whole) * percent // 1000])
        with pytest.raises(CheckpointError, match=r"cut\.bin"):
            open_checkpoint(path)


@pytest.mark.parametrize("name", FIXTURES)
def test_flipped_bits(name, tmp_path):
    """A zip archive has checksums: an error or the right values. The old format has none: no crash."""
    whole = (DATA / name).read_bytes()
    path = tmp_path / "damaged.bin"
    rng = random.Random(4)
    refused = 0
    for position in range(0, len(whole), 4):
        changed = bytearray(whole)
        changed[position] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            arrays = read_all(path)
        except CheckpointError:
            refused += 1
            continue
        if name == "torch_zip.bin":
            assert arrays.keys() == EXPECTED.keys()
            for tensor, values in EXPECTED.items():
                np.testing.assert_array_equal(arrays[tensor], values, strict=True)
    assert refused > 200


@pytest.mark.parametrize("name", FIXTURES)
def test_random_bursts(name, tmp_path):
    whole = (DATA / name).read_bytes()
    path = tmp_path / "damaged.bin"
    rng = random.Random(5)
    for _ in range(400):
        start = rng.randrange(len(whole))
        path.write_bytes(
            whole[:start] + rng.randbytes(rng.randrange(1, 40)) + whole[start + rng.randrange(40) :]
        )
        with contextlib.suppress(CheckpointError):
            read_all(path)


def test_damaged_data_is_named(tmp_path):
    whole = bytearray((DATA / "torch_zip.bin").read_bytes())
    whole[whole.index((np.arange(24) / 3).tobytes())] ^= 1
    (tmp_path / "m.bin").write_bytes(whole)
    checkpoint = open_checkpoint(tmp_path / "m.bin")
    checkpoint.read("f32")
    with pytest.raises(CheckpointError, match=r"m\.bin.*'f64'.*checksum"):
        checkpoint.read("f64")


# pickles made by hand


def plain(value):
    return pickle.dumps(value, 2)[2:-1]


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def storage(key="0", numel=6, kind="FloatStorage"):
    return b"(" + plain("storage") + glob("torch", kind) + b"".join(map(plain, [key, "cpu", numel])) + b"tQ"


def tensor(offset=0, shape=(2, 3), strides=(3, 1), source=None, flags=b""):
    arguments = b"".join(map(plain, [offset, shape, strides, False])) + b"}"
    source = storage() if source is None else source
    return glob("torch._utils", "_rebuild_tensor_v2") + b"(" + source + arguments + flags + b"tR"


def a_dict(**items):
    return b"}" + b"".join(plain(name) + code + b"s" for name, code in items.items())


def write_zip(path, code, data=ONE_STORAGE, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + code + b".")
        archive.writestr("archive/byteorder", "little")
        for key, content in data:
            archive.writestr(f"archive/data/{key}", content)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.bin"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_written_by_others(path, compression):
    write_zip(path, a_dict(x=tensor()), compression=compression)
    assert_holds(open_checkpoint(path), {"x": np.arange(6, dtype=np.float32).reshape(2, 3)})


class Executed(Exception):
    pass


def evil(function, *arguments):
    class Evil:
        def __reduce__(self):
            return function, arguments

    return Evil()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("wrap", [lambda item: item, lambda item: {"w": item}, lambda item: [1, ("a", item)]])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("exit 7",)),
        (builtins.eval, ("1/0",)),
        (builtins.getattr, ("a", "upper")),
        (io.FileIO, ("/nowhere",)),
    ],
)
def test_pickles_that_only_call_something_are_refused(path, function, arguments, wrap, protocol, zipped):
    code = pickle.dumps(wrap(evil(function, *arguments)), protocol)
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", code)
    else:
        path.write_bytes(code)
    with pytest.raises(CheckpointError, match=r"x\.bin"):
        open_checkpoint(path)


def test_nothing_is_executed(path, tmp_path):
    witness = tmp_path / "witness"
    for protocol in range(6):
        path.write_bytes(pickle.dumps(evil(Path.touch, witness), protocol))
        with pytest.raises(CheckpointError):
            open_checkpoint(path)
        path.write_bytes(pickle.dumps(evil(os.mkdir, str(witness)), protocol))
        with pytest.raises(CheckpointError):
            open_checkpoint(path)
        for item in (
            evil(Path.touch, witness),
            evil(os.mkdir, str(witness)),
            evil(eval, f"open('{witness}','w')"),
        ):
            content = pickle.dumps(item, max(protocol, 2))
            write_zip(path, a_dict(x=tensor(), extra=content[(content[2] == 0x95 and 11) or 2 : -1]))
            assert list(open_checkpoint(path)) == ["x"]
    assert not witness.exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            a_dict(x=glob("types", "SimpleNamespace") + b")\x81"),
            "holds no tensors",
        ),
        (a_dict(x=glob("collections", "OrderedDict") + b")\x81"), "makes an object that is not a tensor"),
        (a_dict(x=b")\x81"), "not a tensor|damaged"),
        (a_dict(x=glob("torch", "load")), "holds no tensors"),
        (
            a_dict(x=glob("torch._utils", "_rebuild_qtensor") + b"(" + storage() + b"K\x00tR"),
            r"'x' needs torch\._utils\._rebuild_qtensor",
        ),
        (a_dict(x=tensor(source=storage(kind="ComplexFloatStorage"))), r"'x' needs torch\.Complex"),
        (a_dict(y=tensor(), x=glob("my", "tensor") + b"(" + tensor() + b"tR"), r"'x' needs my\.tensor"),
        (a_dict(y=tensor(), x=glob("my", "t") + b"(" + tensor() + b"t\x81}b"), r"'x' needs my\.t"),
        (a_dict(x=tensor() + b"}b"), "not a OrderedDict"),
        (a_dict(x=tensor() + plain("a") + b"a"), "not a list"),
        (b"}" + b"(" * 3 + b"u", "holds no tensors"),
        (b"}" + plain((1, 2)) + tensor() + b"s", "neither strings nor integers"),
        (b"}" + plain(1) + tensor() + b"s", "names must be strings"),
        (b"", "pickle is damaged"),
        (b"}(", "holds no tensors"),
        (b"\x86", "damaged"),
        (b"h\x09", "damaged"),
        (b"X\xff\xff\xff\xffabc", "truncated"),
        (b"\x8a\xff1", "truncated"),
        (b"}r\xff\xff\xff\xff", "holds no tensors"),
        (b"c" + b"x" * 1000, "a name does not end"),
        (b"cos", "a name does not end"),
        (b"\x8c\xff", "truncated"),
        (plain("x"), "holds a str where a dict"),
        (a_dict(a=b"K\x01"), "holds no tensors .* only 'a'"),
        (b"}q\x09" + plain("model") + b"h\x09s", "nested too deeply"),
        (a_dict(x=b"K\x01K\x02R"), "not a function"),
        (a_dict(x=glob("collections", "OrderedDict") + plain(([],)) + b"R"), "unknown way"),
        (a_dict(x=glob("torch._utils", "_rebuild_parameter") + plain((1, 2)) + b"R"), "not a tensor"),
        (a_dict(x=plain("storage") + b"Q"), "not a storage"),
        (a_dict(x=tensor(source=storage("9"))), "'x' is missing"),
        (a_dict(x=tensor(source=storage(numel=7))), "24 bytes of data, which are not 7 values"),
        (a_dict(x=tensor(shape=(2, 2), source=storage(numel=5))), "24 bytes of data, which are not 5 values"),
        (a_dict(x=tensor(source=storage(numel=-6))), "damaged reference"),
        (a_dict(x=tensor(source=storage(kind="LongStorage"))), "24 bytes of data, which are not 6 values"),
        (a_dict(x=tensor(source=b"K\x01")), "without proper storage"),
        (a_dict(x=tensor(offset=1)), "'x'.*beyond its data"),
        (a_dict(x=tensor(offset=-1)), "without proper storage"),
        (a_dict(x=tensor(offset=2**62)), "beyond its data"),
        (a_dict(x=tensor(shape=(2, 4))), "beyond its data"),
        (a_dict(x=tensor(strides=(4, 1))), "beyond its data"),
        (a_dict(x=tensor(shape=(2**40, 2**40))), "beyond its data"),
        (a_dict(x=tensor(shape=(2**70, 2))), "not lists of sizes"),
        (a_dict(x=tensor(strides=(-3, 1))), "not lists of sizes"),
        (a_dict(x=tensor(shape=(2, 3, 1))), "not lists of sizes"),
        (a_dict(x=tensor(shape=(1,) * 40, strides=(1,) * 40)), "not lists of sizes"),
        (a_dict(x=tensor(shape=[2, 3])), "not lists of sizes"),
        (a_dict(x=tensor(flags=plain({"conj": True}))), "conjugated"),
        (a_dict(x=tensor(shape=(2**40, 2**40), strides=(0, 0))), r"repeats its values.*contiguous"),
        (a_dict(x=tensor(shape=(0, 2**62), strides=(1, 1))), "'x'"),
    ],
)
def test_pickles_that_lie(path, code, message):
    write_zip(path, code)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path).read("x")


def test_a_pickle_cannot_take_for_ever_or_all_memory(path):
    """Nested tuples that double at each level, and a memo index of 4 billion."""
    doubling = b")" + b"q\x00h\x00\x86" * 200
    write_zip(path, b"}r\xf0\xff\xff\xff" + plain("a") + doubling + b"s" + plain("x") + tensor() + b"s")
    assert_holds(open_checkpoint(path), {"x": np.arange(6, dtype=np.float32).reshape(2, 3)})
    write_zip(path, b"}" + doubling + tensor() + b"s")
    with pytest.raises(CheckpointError, match="neither strings nor integers"):
        open_checkpoint(path)


def test_wrappers(path):
    for name in ("state_dict", "model_state_dict", "model_state", "model", "module", "model_ema", "ema"):
        write_zip(path, a_dict(**{"best": tensor(), name: a_dict(x=tensor())}))
        assert list(open_checkpoint(path)) == ["x"]
    both = {"model_ema": a_dict(y=tensor()), "model": a_dict(x=tensor())}
    write_zip(path, a_dict(**both))
    assert list(open_checkpoint(path)) == ["x"]
    # A tensor of that name is a tensor.
    write_zip(path, a_dict(model=tensor()))
    assert list(open_checkpoint(path)) == ["model"]


# archives that lie


def test_archives_that_lie(path):
    code = a_dict(x=tensor())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/readme", "no pickle")
    with pytest.raises(CheckpointError, match=r"no data\.pkl"):
        open_checkpoint(path)

    write_zip(path, code)
    path.write_bytes(path.read_bytes().replace(b"little", b"big---"))
    with pytest.raises(CheckpointError, match="checksum"):
        open_checkpoint(path)

    write_zip(path, code, data=[("0", bytes(24)), ("1", bytes(24))])
    path.write_bytes(path.read_bytes().replace(b"archive/data/1", b"archive/data/0"))
    with pytest.raises(CheckpointError, match="two members of the same name"):
        open_checkpoint(path)

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + code + b".")
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(CheckpointError, match="byte order is b'big'"):
        open_checkpoint(path)


def test_a_compressed_member_cannot_grow_beyond_its_claim(path):
    write_zip(path, a_dict(x=tensor()), data=[("0", bytes(10_000_000))], compression=zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    claim = struct.pack("<I", 10_000_000)
    assert whole.count(claim) == 2
    path.write_bytes(whole.replace(claim, struct.pack("<I", 24)))
    with pytest.raises(CheckpointError, match="does not unpack to the stated 24 bytes"):
        open_checkpoint(path).read("x")


# the format from before PyTorch 1.6


def legacy(value, keys=("0",), data=ONE_LEGACY_STORAGE, **changes):
    head = {"magic": 0x1950A86A20F9469CFC6C, "version": 1001, "machine": {"little_endian": True}, **changes}
    return (
        b"".join(pickle.dumps(item, 2) for item in head.values()) + value + pickle.dumps(list(keys), 2) + data
    )


def test_legacy_by_hand(path):
    path.write_bytes(legacy(b"\x80\x02" + a_dict(x=tensor()) + b"."))
    assert_holds(open_checkpoint(path), {"x": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": 1}, r"not one of torch\.save"),
        ({"version": 999}, "version is 999"),
        ({"machine": {"little_endian": False}}, "big-endian"),
        ({"machine": []}, "version is"),
        ({"keys": ["1"]}, "'1' that no tensor refers to"),
        ({"keys": []}, "'x' is missing"),
        ({"keys": [3]}, "no tensor refers to"),
        ({"data": struct.pack("<q", 7) + bytes(28)}, "7 values, not 6"),
        ({"data": struct.pack("<q", 6) + bytes(23)}, "beyond the end"),
        ({"data": b""}, "0 values, not 6"),
    ],
)
def test_legacy_files_that_lie(path, changes, message):
    path.write_bytes(legacy(b"\x80\x02" + a_dict(x=tensor()) + b".", **changes))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)

"""Files made to harm: messages stay short, time and memory stay in proportion to the file."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from paths import DATA

from qora_vision.errors import CheckpointError, listed, reason, shown
from qora_vision.video import Preprocessing
from qora_vision.weights import stored_tensor
from qora_vision.weights.checkpoints import open_checkpoint, read_json
from qora_vision.weights.config_fields import labels_of, read_field


def laughs(levels: int = 200) -> tuple:
    """A tuple that would take 2 to the `levels` characters to write out."""
    value: tuple = ()
    for _ in range(levels):
        value = (value, value)
    return value


def deep(levels: int = 100_000) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


HUGE = ["x" * 10**7, b"x" * 10**7, 1 << 10**6, laughs(), deep(), {"a" * 10**6: deep()}, [{}] * 10**6]


@pytest.mark.parametrize("value", HUGE, ids=[type(value).__name__ for value in HUGE])
def test_any_value_is_shown_in_a_bounded_text(value: object) -> None:
    started = time.perf_counter()
    assert len(shown(value)) < 3000
    assert len(listed([value] * 100)) < 100_000
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "value",
    [None, True, 1, -2.5, "a", b"a", [], (), {}, [1, "a"], (1,), {"a": [1, None]}, float("inf"), "\n"],
)
def test_small_values_are_shown_as_python_does(value: object) -> None:
    assert shown(value) == repr(value)


def test_names_and_reasons_are_one_line() -> None:
    assert listed(["a", "b\nc", 3]) == "a, 'b\\nc', 3"
    assert listed(map(str, range(9)), 2) == "0, 1 and 7 more"
    assert reason(ValueError("a\n b")) == "a b"
    assert len(reason(ValueError("a" * 10**6))) < 600
    assert len(reason(ValueError(laughs()))) < 600


@pytest.mark.parametrize("name", ["pickle_laughs.bin", "pickle_deep.bin", "pickle_bomb.bin"])
def test_pickles_made_to_harm_are_refused_at_once(name: str) -> None:
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(DATA / name)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("value", HUGE, ids=[type(value).__name__ for value in HUGE])
def test_readers_of_configs_show_little_of_a_value(value: object) -> None:
    with pytest.raises(CheckpointError) as error:
        read_field({"hidden_size": value}, "hidden_size", dict if isinstance(value, int) else float, 1)
    assert len(str(error.value)) < 4000
    with pytest.raises(CheckpointError) as error:
        Preprocessing.from_hf({"image_processor_type": "VivitImageProcessor", "size": value}, num_frames=2)
    assert len(str(error.value)) < 4000
    with pytest.raises(CheckpointError) as error:
        labels_of({"id2label": value})
    assert len(str(error.value)) < 4000


def packed(value: object) -> bytes:
    """The msgpack of maps with names."""
    if isinstance(value, dict):
        head = b"\xdf" + struct.pack(">I", len(value))
        return head + b"".join(packed(name) + packed(item) for name, item in value.items())
    text = str(value).encode()
    return b"\xdb" + struct.pack(">I", len(text)) + text


@pytest.mark.parametrize("case", ["msgpack", "npz", "safetensors", "json", "index", "long name"])
def test_every_reader_keeps_its_messages_short(tmp_path: Path, case: str) -> None:
    name = "n" * 300_000
    if case == "msgpack":
        path, content = tmp_path / "x.msgpack", packed({name: {}})
    elif case == "long name":
        path, content = tmp_path / "x.msgpack", packed({"params": {name: {"a": 1}}})
    elif case == "npz":
        buffer = io.BytesIO()
        np.savez(buffer, **{"a" * 60_000: np.array([{}], object)})
        path, content = tmp_path / "x.npz", buffer.getvalue()
    elif case == "safetensors":
        text = json.dumps({name: {"dtype": name, "shape": [1] * 10**5, "data_offsets": [0, 4]}}).encode()
        path, content = tmp_path / "x.safetensors", len(text).to_bytes(8, "little") + text + bytes(4)
    elif case == "index":
        listed_tensors = {name + str(i): f"s{i}" for i in range(300)}
        path = tmp_path / "x.index.json"
        content = json.dumps({"weight_map": listed_tensors}).encode()
    else:
        path, content = tmp_path / "x.json", b'{"a": 1, "' + name.encode() + b'": }'
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_json(path) if case == "json" else open_checkpoint(path)
    assert len(str(error.value)) < 12_000 + len(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "header",
    [
        b"-" * 5000 + b"1",
        b"(" * 5000,
        b"{'descr': '<f4', 'fortran_order': True, 'shape': (1180591620717411303424, 2)}",
    ],
)
def test_headers_of_numpy_that_are_no_literals(tmp_path: Path, header: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        text = header + b" \n"
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(8))
    with pytest.raises(CheckpointError, match=r"x\.npz.*'a\.npy'"):
        open_checkpoint(tmp_path / "x.npz")


# what is compressed


def torch_pickle(count: int = 1) -> bytes:
    """State dict of `count` tensors that share one storage of 1000 float32."""
    code = b"\x80\x02}"
    for i in range(count):
        storage = (
            b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"M\xe8\x03tQ"
        )
        sizes = b"K\x00M\xe8\x03\x85K\x01\x85\x89}"
        code += text(f"t{i}") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + sizes + b"tRs"
    return code + b"."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def write_archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


BOMBS = {
    "pickle.bin": {"a/data.pkl": b"\x80\x02" + b"}" * 60_000_000 + b"."},
    "memo.bin": {"a/data.pkl": b"\x80\x04}" + b"\x94" * 60_000_000 + b"."},
    "byteorder.bin": {"a/data.pkl": torch_pickle(), "a/byteorder": bytes(200_000_000)},
    "storage.bin": {"a/data.pkl": torch_pickle(), "a/data/0": bytes(200_000_000)},
    "header.npz": {"a.npy": b"\x93NUMPY\x02\x00\x00\x00\x00\x0b" + b" " * 200_000_000},
    "array.npz": {
        "a.npy": b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (50000000,), }".ljust(117)
        + b"\n"
        + bytes(200_000_000)
    },
}
CHILD = """
import resource, sys
from qora_vision.errors import CheckpointError
from qora_vision.weights.checkpoints import open_checkpoint
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (96 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    checkpoint = open_checkpoint(sys.argv[1])
    for name in checkpoint:
        checkpoint.read(name)
except CheckpointError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
@pytest.mark.parametrize("name", [*BOMBS, "pickle_bomb.bin"])
def test_a_small_file_cannot_take_much_memory(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path / name, BOMBS[name]) if name in BOMBS else DATA / name
    assert path.stat().st_size < 300_000
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 3 and name in done.stdout, done.stderr[-2000:]
    assert time.perf_counter() - started < 10


def test_a_pickle_cannot_have_instructions_without_end(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"\x80\x02" + b"}" * 4_000_001 + b".")
    with pytest.raises(CheckpointError, match="instructions"):
        open_checkpoint(path)


def test_members_cannot_share_their_bytes(tmp_path: Path) -> None:
    """An archive whose members all lie in the same place."""
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(5000, np.float32))
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[start:end]
    entries = b"".join(entry.replace(b"a.npy", b"%c.npy" % letter) for letter in range(97, 107))
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 10, 10, len(entries), start, 0)
    path.write_bytes(data[:start] + entries + tail)
    with pytest.raises(CheckpointError, match="overlap"):
        open_checkpoint(path)


def test_a_compressed_storage_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    unpack = stored_tensor._unpack
    monkeypatch.setattr(stored_tensor, "_unpack", lambda *given: calls.append(given) or unpack(*given))
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    members = {"a/data.pkl": torch_pickle(50), "a/data/0": values.tobytes()}
    checkpoint = open_checkpoint(write_archive(tmp_path / "x.bin", members))
    calls.clear()
    for name in checkpoint:
        assert np.array_equal(checkpoint.read(name), values)
        checkpoint.release(name)
    assert len(checkpoint) == 50 and len(calls) == 1
    checkpoint.read("t0")  # all were released: it is unpacked again
    assert len(calls) == 2


def test_honest_archives_that_were_compressed_are_read(tmp_path: Path) -> None:
    """Also with zeros, which shrink a thousandfold, as far as the rest of the file is in proportion."""
    rng = np.random.default_rng(1)
    arrays = {"w": rng.standard_normal((300, 300)).astype(np.float32), "zeros": np.zeros(250_000, np.float32)}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    checkpoint = open_checkpoint(tmp_path / "x.npz")
    assert all(np.array_equal(checkpoint.read(name), values) for name, values in arrays.items())
    members = {"a/data.pkl": torch_pickle(500), "a/data/0": rng.bytes(4000)}
    assert len(open_checkpoint(write_archive(tmp_path / "x.bin", members))) == 500

"""Model files whose checksums are right and whose contents are not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import DATA

import qora_vision
from qora_vision import ModelFileError
from qora_vision.cli.app import main
from qora_vision.cli.output import print_json
from qora_vision.engine.tensors import QuantizedTensor
from qora_vision.tasks.prediction import Classes
from qora_vision.weights import format_header
from qora_vision.weights.format import read_model, write_model

BAD = [np.nan, -np.nan, np.inf, -np.inf]


def test_the_files_that_were_taken_for_models() -> None:
    with pytest.raises(ModelFileError, match=r"nan_norm\.qora-vision: .*NaN.*blocks\.0\.norm1\.bias"):
        qora_vision.load(DATA / "nan_norm.qora-vision")
    with pytest.raises(ModelFileError, match=r"nan_scale\.qora-vision: .*NaN.*\.scales"):
        qora_vision.load(DATA / "nan_scale.qora-vision")


@pytest.mark.parametrize("verb", ["classify", "info"])
def test_the_verbs_print_no_nan(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(DATA / "nan_norm.qora-vision")
    video = str(DATA / "asl_eat_7frames.mp4")
    main(["classify", video, "--model", path, "--json"] if verb == "classify" else ["info", path, "--json"])
    assert "NaN" not in capsys.readouterr().out


@pytest.mark.parametrize("weights", ["q4", "q8", "f16", "f32"])
def test_a_number_that_is_none_is_found_in_any_tensor(tmp_path: Path, weights: str) -> None:
    path = tmp_path / "bad.qora-vision"
    qora_vision.load(DATA / "vivit_tiny", weights=weights).save(path)
    model = read_model(path)
    rng = np.random.default_rng(2)
    for number, (name, tensor) in enumerate(model.tensors.items()):
        values = np.array(tensor.scales if isinstance(tensor, QuantizedTensor) else tensor)
        values.flat[rng.integers(values.size)] = BAD[number % 4]
        changed: Any = values
        suffix = ""
        if isinstance(tensor, QuantizedTensor):
            changed, suffix = dataclasses.replace(tensor, scales=values), ".scales"
        write_model(path, dataclasses.replace(model, tensors={**model.tensors, name: changed}))
        with pytest.raises(ModelFileError) as error:
            read_model(path, threads=2)
        assert str(error.value).startswith(f"{path}: tensors that hold NaN or infinity: {name}{suffix};")
        read_model(path, verify=False)


def test_the_largest_halves_are_numbers(tmp_path: Path) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    model = dataclasses.replace(read_model(DATA / "v1.qora-vision"), tensors={"x": np.tile(every, 5)})
    write_model(tmp_path / "x.qora-vision", model)
    assert np.array_equal(read_model(tmp_path / "x.qora-vision").tensors["x"], np.tile(every, 5))


def altered(path: Path, **metadata: str) -> Path:
    """Write the header again with other texts and the right digest."""
    data = (DATA / "v1.qora-vision").read_bytes()
    length = int.from_bytes(data[:8], "little")
    fields = json.loads(data[8 : 8 + length])
    fields["__metadata__"].update(metadata, header_sha256="0" * 64)
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % 64)
    raw = len(text).to_bytes(8, "little") + text
    digest = hashlib.sha256(raw).hexdigest().encode()
    start = format_header._DIGEST_START
    path.write_bytes(raw[:start] + digest + raw[start + 64 :] + data[8 + length :])
    return path


def test_a_header_that_was_written_again_is_read(tmp_path: Path) -> None:
    model = read_model(altered(tmp_path / "x.qora-vision", provenance='{"a":"b","n":1,"z":null}'))
    assert model.provenance == {"a": "b", "n": 1, "z": None}


VALUES = [
    "null",
    "1",
    "[]",
    "{}",
    '"x"',
    "[[1]]",
    '{"a":[]}',
    '{"a":{"b":1}}',
    "1e999",
    "[" * 5000,
    "",
    "NaN",
]


@pytest.mark.parametrize(
    "name", ["config", "preprocessing", "labels", "provenance", "quantized_tensors", "checksums"]
)
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_wrong_types_under_the_right_checksum(tmp_path: Path, name: str, value: str) -> None:
    path = altered(tmp_path / "x.qora-vision", **{name: value})
    fine = {"labels": ("null", "[]"), "provenance": ("{}",)}
    if value in fine.get(name, ()) or (name in ("config", "preprocessing") and value.startswith("{")):
        read_model(path)
    else:
        with pytest.raises(ModelFileError, match=r"x\.qora-vision"):
            read_model(path)
    with pytest.raises(ModelFileError, match=r"x\.qora-vision"):
        qora_vision.load(path)


@pytest.mark.parametrize("value", ["", "q5", "Q4", "null", "q4" * 10**6])
def test_an_unknown_quantization(tmp_path: Path, value: str) -> None:
    with pytest.raises(ModelFileError, match=r"x\.qora-vision.*quantization is") as error:
        read_model(altered(tmp_path / "x.qora-vision", quantization=value))
    assert len(str(error.value)) < 1000


def test_results_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(ModelFileError, match="computes NaN"):
        Classes(["a", "b"]).best(np.float32([1, np.nan]), np.zeros(1, np.float32), 1, {})


def test_json_has_null_in_place_of_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": [1.5, np.float32(np.inf)], "c": np.array([np.nan, 2.0])})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "c": [None, 2.0]}

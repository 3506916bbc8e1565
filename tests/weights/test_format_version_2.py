"""Version 2 of the model file: its additions, and that version 1 is written if a model needs none of them."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from paths import DATA

import qora_vision
from qora_vision.errors import ModelFileError
from qora_vision.loading import conversion
from qora_vision.loading.checkpoint import held, import_checkpoint
from qora_vision.loading.options import LoadOptions
from qora_vision.weights.format import ModelFile, NetworkDescription, read_header, read_model, write_model

CLIP = np.random.default_rng(3).integers(0, 256, (8, 40, 60, 3), dtype=np.uint8)


def make_model(**changes: Any) -> ModelFile:
    usual = ModelFile(
        architecture="vivit",
        config={"depth": 2},
        preprocessing={"resize": 8},
        labels=["a", "b"],
        quantization="f32",
        provenance={},
        tensors={"x": np.arange(5, dtype=np.float32)},
    )
    return dataclasses.replace(usual, **changes)


def metadata_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "np") as file:
        return file.metadata()


PARTS = {
    "tokenizer": {"model": {"vocab": {"a": 0, "ü": 1}}},
    "chat_template": "{% for m in messages %}",
    "generation": {"temperature": 0.7},
    "scheduler": {"steps": 50},
}
NEEDS_VERSION_2 = {
    "task": {"task": "embed"},
    "scoring": {"scoring": "sigmoid"},
    "no preprocessing": {"preprocessing": None},
    "networks": {
        "networks": {"text": NetworkDescription("siglip_text", {"depth": 3})},
        "tensors": {"x": np.ones(3, np.float32), "text/x": np.ones(4, np.float16)},
    },
    "parts": {"parts": PARTS},
}


def test_version_1_is_written_where_it_says_all(tmp_path: Path) -> None:
    path = tmp_path / "m.qora-vision"
    write_model(path, make_model())
    assert metadata_of(path)["format_version"] == "1"
    assert not metadata_of(path).keys() & {"task", "scoring", "networks", "parts"}
    header = read_header(path)
    assert (header.format_version, header.task, header.scoring) == (1, "classify", "softmax")
    assert not header.networks
    assert header.parts == ()


@pytest.mark.parametrize("changes", NEEDS_VERSION_2.values(), ids=NEEDS_VERSION_2)
def test_version_2_brings_everything_back(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "m.qora-vision"
    model = make_model(**changes)
    write_model(path, model)
    assert metadata_of(path)["format_version"] == "2"
    back, header = read_model(path), read_header(path)
    for field in ("architecture", "config", "preprocessing", "labels", "task", "scoring", "networks"):
        assert getattr(back, field) == getattr(model, field) == getattr(header, field)
    assert back.parts == model.parts
    assert set(header.parts) == set(model.parts)
    assert back.tensors.keys() == model.tensors.keys() == header.tensors.keys()
    for name, tensor in model.tensors.items():
        assert np.array_equal(back.tensors[name], tensor)
    again = tmp_path / "again.qora-vision"
    write_model(again, back)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "paint"}, "task is 'paint': expected one of classify"),
        ({"scoring": "hardmax"}, "scoring is 'hardmax': expected one of softmax"),
        ({"parts": {"voice": {}}}, "no part 'voice': expected one of tokenizer"),
        ({"parts": {"generation": float("nan")}}, "generation cannot be stored as JSON"),
        ({"networks": {"a/b": NetworkDescription("x", {})}}, "cannot be named 'a/b'"),
        ({"networks": {"part": NetworkDescription("x", {})}}, "cannot be named 'part'"),
    ],
)
def test_what_version_2_cannot_hold_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        write_model(tmp_path / "m.qora-vision", make_model(**changes))
    assert not list(tmp_path.iterdir())


def test_a_damaged_part_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m.qora-vision"
    write_model(path, make_model(parts=PARTS))
    data = bytearray(path.read_bytes())
    data[data.index(b"for m in")] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"damaged tensors.*part/chat_template"):
        read_model(path)


@pytest.fixture
def multi_label(tmp_path: Path) -> Path:
    """A checkpoint whose classes do not exclude each other."""
    return with_problem_type(tmp_path / "checkpoint", "multi_label_classification")


def with_problem_type(directory: Path, problem: Any) -> Path:
    directory.mkdir()
    for file in (DATA / "videomae_tiny").iterdir():
        if file.is_file():
            (directory / file.name).write_bytes(file.read_bytes())
    fields = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps({**fields, "problem_type": problem}), encoding="utf-8")
    return directory


def test_multi_label_scores_are_sigmoids_and_travel_in_the_file(multi_label: Path, tmp_path: Path) -> None:
    clf = qora_vision.load(multi_label)
    path = tmp_path / "m.qora-vision"
    clf.save(path)
    assert read_header(path).format_version == 2
    for each in (clf, qora_vision.load(path)):
        assert each.scoring == "sigmoid"
        found = each.classify(CLIP, top_k=len(each.labels))
        expected = 1 / (1 + np.exp(-found.logits.astype(np.float64)))
        np.testing.assert_allclose(found.scores, expected[found.indices], rtol=1e-6)
        assert found.to_dict()["scoring"] == "sigmoid"
        limit = float(np.median(found.scores))
        kept = each.classify(CLIP, top_k=len(each.labels), min_score=limit)
        assert kept.labels == [label for label, score in found if score >= limit]
        assert 0 < len(kept) < len(found)


def test_other_problem_types(tmp_path: Path) -> None:
    clf = qora_vision.load(with_problem_type(tmp_path / "a", "regression"))
    found = clf.classify(CLIP, top_k=len(clf.labels))
    assert np.array_equal(found.scores, found.logits[found.indices])
    assert qora_vision.load(with_problem_type(tmp_path / "b", None)).scoring == "softmax"
    with pytest.raises(qora_vision.CheckpointError, match="problem_type must be one of single_label"):
        qora_vision.load(with_problem_type(tmp_path / "c", "ranking"))


@pytest.mark.parametrize("weights", ["q4", "q8", "f16", "f32"])
def test_streamed_and_held_tensors_give_the_same_file(tmp_path: Path, monkeypatch, weights) -> None:
    monkeypatch.setattr(conversion, "BLOCK_BYTES", 4096)  # several blocks even for a tiny tensor
    reports: list[tuple[int, int, str]] = []
    options = LoadOptions(weights, progress=lambda *report: reports.append(report))
    model = import_checkpoint(DATA / "videomae_tiny", options)
    streamed, whole = tmp_path / "streamed.qora-vision", tmp_path / "whole.qora-vision"
    write_model(streamed, model.file)
    assert reports[0][0] == 0
    assert reports[-1][0] == reports[-1][1] == len(model.file.tensors)
    write_model(whole, dataclasses.replace(model.file, tensors=dict(held(model, options).file.tensors)))
    assert streamed.read_bytes() == whole.read_bytes()


def test_a_conversion_holds_a_few_rows_at_a_time(tmp_path: Path, monkeypatch) -> None:
    rows, columns = 4096, 1024  # 16 MB of float32
    from qora_vision.nn.specs import TensorSpec
    from qora_vision.weights.checkpoints import open_checkpoint
    from qora_vision.weights.sources import Whole

    safetensors.numpy.save_file({"w": np.ones((rows, columns), np.float32)}, tmp_path / "w.safetensors")
    monkeypatch.setattr(conversion, "BLOCK_BYTES", 1_000_000)
    tensors = conversion.CheckpointTensors(
        open_checkpoint(tmp_path / "w.safetensors"),
        {"w": TensorSpec((rows, columns), "weight")},
        {"w": Whole("w")},
        LoadOptions("f32"),
    )
    tracemalloc.start()
    write_model(tmp_path / "m.qora-vision", make_model(tensors=tensors))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000
    assert (tmp_path / "m.qora-vision").stat().st_size > 16_000_000

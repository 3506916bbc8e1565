"""Models in `.qora-vision` files: saved and loaded without a bit of difference, parts that must fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vivit_cases import CLIP, DATA, PROCESSOR, TINY, write_checkpoint

import qora_vision
from qora_vision import ModelFileError
from qora_vision.engine.ops import quantize
from qora_vision.weights.format import ModelFile, read_model, write_model

WEIGHTS = ("q4", "q8", "f16", "f32")


@pytest.fixture(scope="module", params=WEIGHTS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of each precision. Not to be changed."""
    path = tmp_path_factory.mktemp("models") / f"{request.param}.qora-vision"
    qora_vision.load(TINY, weights=request.param).save(path)
    return path


def altered(tmp_path: Path, **changes: Any) -> Path:
    """A 4-bit model file whose checksums are right, with some of its parts exchanged."""
    original = tmp_path / "original.qora-vision"
    qora_vision.load(TINY).save(original)
    path = tmp_path / "altered.qora-vision"
    write_model(path, dataclasses.replace(read_model(original), **changes))
    return path


def parts(tmp_path: Path) -> ModelFile:
    path = tmp_path / "parts.qora-vision"
    qora_vision.load(TINY).save(path)
    return read_model(path)


@pytest.mark.parametrize("compute", ["auto", "int8", "bf16", "exact"])
@pytest.mark.parametrize("case", sorted(path.parent.name for path in DATA.glob("*/golden.npz")))
@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_round_trip_changes_no_bit(tmp_path: Path, weights: str, case: str, compute: str) -> None:
    first = qora_vision.load(DATA / case, weights=weights, compute=compute)
    first.save(tmp_path / "model.qora-vision")
    second = qora_vision.load(tmp_path / "model.qora-vision", compute=compute)
    with np.load(DATA / case / "golden.npz") as golden:
        clip = golden["pixel_values"].astype(np.float32)
    assert np.array_equal(first.forward(clip), second.forward(clip))
    for name in ("config", "preprocessing", "labels", "quantization", "architecture", "provenance"):
        assert getattr(second, name) == getattr(first, name), name
    second.save(tmp_path / "again.qora-vision")
    assert (tmp_path / "again.qora-vision").read_bytes() == (tmp_path / "model.qora-vision").read_bytes()


def test_a_file_keeps_its_precision(saved: Path) -> None:
    own = saved.stem
    assert qora_vision.load(saved).quantization == own
    assert qora_vision.load(saved, weights=own).quantization == own
    for other in set(WEIGHTS) - {own}:
        with pytest.raises(ValueError, match=f"holds {own} weights, which cannot become {other}"):
            qora_vision.load(saved, weights=other)


def test_norms_and_biases_stay_float32_and_tables_are_never_quantised(saved: Path) -> None:
    kinds = {name: info.kind for name, info in qora_vision.read_info(saved).tensors.items()}
    own = saved.stem
    table = "f32" if own == "f32" else "f16"
    assert {kinds["pos_embed"], kinds["cls_token"]} == {table}
    assert all(kinds[name] == own for name in kinds if name.endswith("weight") and "norm" not in name)
    assert all(kinds[name] == "f32" for name in kinds if name.endswith("bias") or "norm" in name)


def test_what_a_file_says_of_itself(saved: Path) -> None:
    info = qora_vision.read_info(saved)
    assert info.architecture == "vivit"
    assert info.config["embed_dim"] == 18
    assert info.config["tubelet_size"] == [2, 4, 8]
    assert info.labels == qora_vision.load(TINY).labels
    assert info.file_size == saved.stat().st_size
    assert sum(info.bytes_by_kind().values()) < info.file_size


def test_saving_over_the_file_that_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "model.qora-vision"
    qora_vision.load(TINY).save(path)
    content = path.read_bytes()
    clf = qora_vision.load(path)
    before = clf.forward(CLIP)
    clf.save(path)
    assert path.read_bytes() == content
    assert np.array_equal(clf.forward(CLIP), before)
    clf.save(path)
    assert np.array_equal(qora_vision.load(path).forward(CLIP), before)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        qora_vision.load(TINY).save(tmp_path / "nowhere" / "model.qora-vision")


def test_labels_of_a_model_are_not_those_of_its_file(tmp_path: Path) -> None:
    clf = qora_vision.load(TINY)
    clf.labels[0] = "changed"
    clf.save(tmp_path / "model.qora-vision")
    assert qora_vision.load(tmp_path / "model.qora-vision").labels[0] == "fold"


def test_a_truncated_or_damaged_file_is_refused(tmp_path: Path) -> None:
    """tests/weights/test_format.py damages every part; this test checks that `load` verifies the file."""
    path = tmp_path / "model.qora-vision"
    qora_vision.load(TINY).save(path)
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[-100] ^= 4
    for bad in (b"", content[:-1], content[: len(content) // 2], bytes(damaged)):
        path.write_bytes(bad)
        with pytest.raises(ModelFileError, match=r"model\.qora-vision"):
            qora_vision.load(path)


def test_other_files_are_refused() -> None:
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        qora_vision.load(TINY / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"config\.json"):
        qora_vision.load(TINY / "config.json")


def test_an_architecture_of_a_later_version(tmp_path: Path) -> None:
    path = altered(tmp_path, architecture="perceiver")
    with pytest.raises(ModelFileError, match=r"altered\.qora-vision.*'perceiver' \(it knows vivit, "):
        qora_vision.load(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 3}, "missing tensors: blocks.2.norm1.weight, "),
        ({"depth": 1}, "unexpected tensors: blocks.1.attn.k.bias, "),
        ({"depth": 10**12}, "depth must be a positive integer"),
        ({"depth": 10**8}, "depth must be at most 1000"),
        (
            {"num_classes": 12},
            r"misshapen tensors: head.weight is \(11, 18\) instead of \(12, 18\), head.bias",
        ),
        ({"num_classes": "11"}, "num_classes must be a positive integer or null, got '11'"),
        (
            {"num_classes": None},
            r"unexpected tensors: head\.bias.*its task is classify, but its network",
        ),
        ({"activation": "swish"}, "activation must be one of gelu, gelu_tanh, got 'swish'"),
        ({"activation": ["gelu"]}, "activation must be one of"),
        ({"tubelet_size": [2, [4], 8]}, "tubelet_size must be 3 positive integers"),
        ({"image_size": [8, 32]}, r"preprocessing gives clips .* and \(8, 32\) pixels"),
        ({"qkv_bias": None}, "qkv_bias must be true or false"),
        ({"norm_eps": 1}, "norm_eps must be a positive number"),
        ({"dropout": 0.0}, "expected the config fields .* got .*dropout"),
    ],
)
def test_a_config_that_does_not_fit_its_tensors(tmp_path: Path, fields: dict, message: str) -> None:
    config = parts(tmp_path).config | fields
    with pytest.raises(ModelFileError, match=message) as error:
        qora_vision.load(altered(tmp_path, config=config))
    assert "altered.qora-vision" in str(error.value)


def test_a_config_that_lacks_a_field(tmp_path: Path) -> None:
    config = parts(tmp_path).config
    del config["num_heads"]
    with pytest.raises(ModelFileError, match="expected the config fields"):
        qora_vision.load(altered(tmp_path, config=config))


def test_all_that_is_wrong_with_the_tensors_is_said_at_once(tmp_path: Path) -> None:
    tensors = dict(parts(tmp_path).tensors)
    del tensors["norm.bias"], tensors["blocks.0.mlp.fc1.weight"]
    tensors["another"] = np.zeros(3, np.float32)
    tensors["cls_token"] = np.zeros((1, 18), np.float16)  # right but for an axis: refused in our own files
    tensors["pos_embed"] = quantize(np.ones((17, 18), np.float32), "q4")
    path = altered(tmp_path, tensors=tensors, labels=["one", "two"])
    with pytest.raises(ModelFileError) as error:
        qora_vision.load(path)
    assert str(error.value) == (
        f"{path}: missing tensors: blocks.0.mlp.fc1.weight, norm.bias; unexpected tensors: another; "
        "misshapen tensors: cls_token is (1, 18) instead of (18,); unduly quantised tensors: pos_embed; "
        "2 labels for 11 classes"
    )


def test_a_preprocessing_that_does_not_fit(tmp_path: Path) -> None:
    preprocessing = parts(tmp_path).preprocessing
    for change, message in (
        ({"num_frames": 8}, "clips of 8 RGB frames"),
        ({"crop": [18, 16]}, r"frames of \(18, 16\) pixels"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"blur": 3}, "preprocessing must have the fields"),
    ):
        with pytest.raises(ModelFileError, match=message) as error:
            qora_vision.load(altered(tmp_path, preprocessing=preprocessing | change))
        assert "altered.qora-vision" in str(error.value)


def test_tensors_of_mixed_precision_run(tmp_path: Path) -> None:
    """Files need not be uniform: each tensor says what it is."""
    tensors = dict(parts(tmp_path).tensors)
    tensors["blocks.0.attn.k.weight"] = tensors["blocks.0.attn.k.weight"].dequantize()
    path = altered(tmp_path, tensors=tensors)
    expected = qora_vision.load(tmp_path / "original.qora-vision", compute="exact").forward(CLIP)
    assert np.array_equal(qora_vision.load(path, compute="exact").forward(CLIP), expected)
    assert np.isfinite(qora_vision.load(path).forward(CLIP)).all()


def test_preprocessing_travels_with_the_model(tmp_path: Path) -> None:
    fields = PROCESSOR | {"size": {"height": 16, "width": 16}, "do_center_crop": False, "resample": 3}
    first = qora_vision.load(write_checkpoint(tmp_path, processor=fields), value_range="hf")
    first.save(tmp_path / "model.qora-vision")
    second = qora_vision.load(tmp_path / "model.qora-vision")
    assert second.preprocessing == first.preprocessing
    frames = np.random.default_rng(6).integers(0, 256, (9, 30, 22, 3), dtype=np.uint8)
    assert np.array_equal(first.preprocess(frames), second.preprocess(frames))

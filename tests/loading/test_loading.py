"""Loading checkpoint directories: every form they come in, and everything that can be wrong with one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from vivit_cases import (
    CLIP,
    DATA,
    LOGITS,
    PROCESSOR,
    TENSORS,
    TINY,
    modern_name,
    write_checkpoint,
    write_shards,
)

import qora_vision
from qora_vision import CheckpointError, VideoClassifier
from qora_vision.errors import QoraVisionWarning

CLASSES = ["fold", "hop", "juggle", "knit", "row", "skate", "stir", "sweep", "tap", "wave", "yawn"]
QUERY = "vivit.encoder.layer.0.attention.attention.query.weight"
KINETICS = (DATA.parents[1] / "python/qora_vision/assets/kinetics400.txt").read_text().splitlines()


def load_exact(path: Path, **options) -> VideoClassifier:
    return qora_vision.load(path, weights="f32", compute="exact", **options)


def gives_the_golden_logits(path: Path) -> bool:
    """Far tighter than any mistake: test_vivit.py has the bound."""
    return bool(np.abs(load_exact(path).forward(CLIP)[0] - LOGITS).max() < 1e-5 * np.abs(LOGITS).max())


def test_a_directory_as_transformers_saves_it(tmp_path: Path) -> None:
    assert gives_the_golden_logits(TINY)
    clf = load_exact(str(write_checkpoint(tmp_path, processor=PROCESSOR)))
    assert clf.labels == CLASSES
    assert clf.num_frames == clf.config.num_frames == 4
    assert clf.architecture == "vivit"
    assert clf.quantization == "f32"
    assert clf.provenance["source"] == tmp_path.name
    assert clf.provenance["created_by"] == f"qora-vision {qora_vision.__version__}"


def test_shards_with_an_index(tmp_path: Path) -> None:
    write_shards(tmp_path, 3)
    assert gives_the_golden_logits(tmp_path)


def test_names_of_either_spelling_and_of_both(tmp_path: Path) -> None:
    modern = {modern_name(name): values for name, values in TENSORS.items()}
    assert set(modern) != set(TENSORS)
    assert gives_the_golden_logits(write_checkpoint(tmp_path / "modern", modern))
    mixed = {modern_name(n) if "layer.0" in n else n: values for n, values in TENSORS.items()}
    assert gives_the_golden_logits(write_checkpoint(tmp_path / "mixed", mixed))


def test_a_pooler_and_axes_of_length_one_do_not_matter(tmp_path: Path) -> None:
    tensors = TENSORS | {
        "vivit.pooler.dense.weight": np.ones((18, 18), np.float32),
        "vivit.embeddings.cls_token": TENSORS["vivit.embeddings.cls_token"].reshape(18),
    }
    assert gives_the_golden_logits(write_checkpoint(tmp_path, tensors))


def test_wider_floats_are_read(tmp_path: Path) -> None:
    tensors = {name: values.astype(np.float64) for name, values in TENSORS.items()}
    assert gives_the_golden_logits(write_checkpoint(tmp_path, tensors))


@pytest.mark.parametrize("weights", ["q4", "f32"])
def test_missing_extra_and_misshapen_tensors_are_named_at_once(tmp_path: Path, weights: str) -> None:
    tensors = dict(TENSORS)
    del tensors["vivit.layernorm.bias"], tensors["vivit.encoder.layer.1.output.dense.weight"]
    tensors["vivit.encoder.layer.2.output.dense.weight"] = np.zeros((18, 40), np.float32)
    tensors["extra"] = np.zeros(3, np.float32)
    tensors[QUERY] = np.zeros((18, 17), np.float32)
    tensors["vivit.embeddings.position_embeddings"] = np.zeros((1, 18, 18), np.float32)
    with pytest.raises(CheckpointError) as error:
        qora_vision.load(write_checkpoint(tmp_path, tensors), weights=weights)
    message = str(error.value)
    assert str(tmp_path) in message
    assert (
        "missing tensors: vivit.encoder.layer.1.output.dense.weight, vivit.layernorm.bias; "
        "unexpected tensors: extra, vivit.encoder.layer.2.output.dense.weight; misshapen tensors: " in message
    )
    assert f"{QUERY} is (18, 17) instead of (18, 18)" in message
    assert "vivit.embeddings.position_embeddings is (1, 18, 18) instead of (17, 18)" in message


def test_both_spellings_of_one_tensor_are_one_too_many(tmp_path: Path) -> None:
    tensors = TENSORS | {modern_name(QUERY): TENSORS[QUERY]}
    with pytest.raises(CheckpointError, match=r"unexpected tensors: vivit\.layers.0.attention.q_proj.weight"):
        qora_vision.load(write_checkpoint(tmp_path, tensors))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "perceiver"}, "model_type 'perceiver', which is not supported .*: vivit"),
        ({"model_type": None}, "model_type None"),
        ({"hidden_act": "swish"}, "hidden_act must be one of gelu, .* got 'swish'"),
        ({"hidden_size": "18"}, "hidden_size must be of type int, got '18'"),
        ({"hidden_size": 20}, "hidden_size 20 is no multiple of num_attention_heads 3"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be at most 1000"),
        ({"num_hidden_layers": -1}, "num_hidden_layers must be a positive integer"),
        ({"num_hidden_layers": 3}, "missing tensors: vivit.encoder.layer.2.layernorm_before.weight, "),
        ({"num_hidden_layers": 1}, "unexpected tensors: vivit.encoder.layer.1."),
        ({"tubelet_size": [2, 16]}, "tubelet_size must be 3 positive integers"),
        ({"tubelet_size": [2, 16, "8"]}, "tubelet_size must be 3 positive integers"),
        ({"tubelet_size": [2, 16, 17]}, "smaller than one tubelet"),
        ({"image_size": [16, 16, 16]}, "image_size must be of type int"),
        ({"image_size": [16, None]}, "image_size must be 2 positive integers"),
        ({"num_frames": 6}, r"position_embeddings is \(1, 17, 18\) instead of \(25, 18\)"),
        ({"num_channels": 1}, "takes 4 frames of 1 channels"),
        ({"qkv_bias": False}, "unexpected tensors: vivit.encoder.layer.0.attention.attention.key.bias, "),
        ({"layer_norm_eps": True}, "layer_norm_eps must be of type float"),
        ({"layer_norm_eps": 0}, "norm_eps must be a positive number"),
        ({"id2label": {"0": "a", "1": "b"}}, "config.json names 2 classes, the classifier has 11"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label: expected an object that maps 0, 1"),
        ({"id2label": {str(i): i for i in range(11)}}, "id2label: expected texts as class names"),
        ({"id2label": CLASSES}, "id2label: expected an object"),
    ],
)
def test_configs_that_do_not_fit(tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        qora_vision.load(write_checkpoint(tmp_path, config=fields))
    assert str(tmp_path) in str(error.value) or "config.json" in str(error.value)


def test_silence_in_the_config_means_the_defaults_of_transformers(tmp_path: Path) -> None:
    names = ("hidden_act", "qkv_bias", "num_channels", "layer_norm_eps")
    assert gives_the_golden_logits(write_checkpoint(tmp_path, config=dict.fromkeys(names)))


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not valid JSON"), ("[]", "expected a JSON object"), ("\xff", "not valid")]
)
def test_a_config_that_is_no_json(tmp_path: Path, content: str, message: str) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=message):
        qora_vision.load(tmp_path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file or directory .*google/vivit"):
        qora_vision.load("./google/vivit-b-16x2-kinetics400")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        qora_vision.load(tmp_path)
    shutil.copyfile(TINY / "config.json", tmp_path / "config.json")
    with pytest.raises(CheckpointError, match=r"found none of model\.safetensors"):
        qora_vision.load(tmp_path)
    write_shards(tmp_path / "shards", 3)
    (tmp_path / "shards" / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"missing shards: model-00002-of-00003\.safetensors"):
        qora_vision.load(tmp_path / "shards")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("case", ["vivit_tiny", "vivit_tiny_torch"])
def test_truncated_weights(tmp_path: Path, case: str, part: float) -> None:
    shutil.copytree(DATA / case, tmp_path, dirs_exist_ok=True)
    weights = next(path for path in tmp_path.iterdir() if path.suffix in (".safetensors", ".bin"))
    content = weights.read_bytes()
    weights.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(CheckpointError, match=weights.name):
        qora_vision.load(tmp_path)


def test_flipped_bits_in_a_header_never_crash(tmp_path: Path) -> None:
    """Safetensors has no checksums: most damage is refused, the rest must give a model that runs."""
    write_checkpoint(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(3)
    refused = 0
    for position in [*range(8), *rng.integers(8, header, 120)]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        weights.write_bytes(damaged)
        try:
            clf = qora_vision.load(tmp_path, weights="f32")
        except CheckpointError:
            refused += 1
        else:
            assert clf.forward(CLIP).shape == (1, 11)
    assert refused > 100


def test_flipped_bits_in_torch_files_are_found(tmp_path: Path) -> None:
    """torch.save writes a zip, whose entries have checksums."""
    shutil.copytree(DATA / "vivit_tiny_torch", tmp_path, dirs_exist_ok=True)
    expected = qora_vision.load(tmp_path).forward(np.zeros((1, 5, 3, 17, 17), np.float32))
    weights = tmp_path / "pytorch_model.bin"
    content = weights.read_bytes()
    rng = np.random.default_rng(4)
    refused = 0
    for position in rng.integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        weights.write_bytes(damaged)
        try:
            clf = qora_vision.load(tmp_path)
        except CheckpointError:
            refused += 1
        else:  # padding and unused fields of the container
            assert np.array_equal(clf.forward(np.zeros((1, 5, 3, 17, 17), np.float32)), expected)
    assert refused > 30


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weights", ["q4", "q8", "f16", "f32"])
@pytest.mark.parametrize("name", [QUERY, "vivit.layernorm.weight", "vivit.embeddings.position_embeddings"])
def test_weights_that_are_not_finite(tmp_path: Path, name: str, weights: str, value: float) -> None:
    values = TENSORS[name].copy()
    values.flat[-1] = value
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        qora_vision.load(write_checkpoint(tmp_path, TENSORS | {name: values}), weights=weights)


def test_weights_beyond_half_precision(tmp_path: Path) -> None:
    values = TENSORS[QUERY].copy()
    values[0, 0] = 1e5
    write_checkpoint(tmp_path, TENSORS | {QUERY: values})
    with pytest.raises(CheckpointError, match=r"query\.weight.*too large for float16"):
        qora_vision.load(tmp_path, weights="f16")
    for weights in ("q4", "q8", "f32"):  # 1e5 / 8 is a scale that float16 holds
        assert np.isfinite(qora_vision.load(tmp_path, weights=weights).forward(CLIP)).all()


def test_weights_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    tensors = TENSORS | {QUERY: np.ones((18, 18), np.int32)}
    with pytest.raises(CheckpointError, match="expected floating-point values, got int32"):
        qora_vision.load(write_checkpoint(tmp_path, tensors))


def test_labels_come_from_the_config_unless_given(tmp_path: Path) -> None:
    given = [name.upper() for name in CLASSES]
    assert qora_vision.load(TINY).labels == CLASSES
    assert qora_vision.load(TINY, labels=given).labels == given
    assert qora_vision.load(TINY, labels=tuple(given)).labels == given
    files = {
        "labels.txt": "\ufeff" + "\n".join(given) + "\n\n",
        "list.json": json.dumps(given),
        "map.json": json.dumps({str(i): name for i, name in enumerate(given)}),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert qora_vision.load(TINY, labels=tmp_path / name).labels == given, name
    clf = qora_vision.load(TINY, labels=str(tmp_path / "labels.txt"))
    clf.save(tmp_path / "named.qora-vision")
    assert qora_vision.load(tmp_path / "named.qora-vision").labels == given
    assert qora_vision.load(tmp_path / "named.qora-vision", labels=CLASSES).labels == CLASSES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.txt", b"one\ntwo\n", r"short\.txt: expected 11 class names \(texts\), got 2"),
        ("empty.txt", b"", "got 0"),
        ("binary.txt", b"\xff\xfe\x00", r"binary\.txt: expected class names"),
        ("list.json", b"[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]", "expected 11 class names"),
        ("gaps.json", b'{"1": "a"}', "maps 0, 1"),
        ("broken.json", b"{", r"broken\.json: expected class names"),
        ("number.json", b"11", "maps 0, 1"),
    ],
)
def test_label_files_that_do_not_fit(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        qora_vision.load(TINY, labels=tmp_path / name)


def test_labels_of_the_wrong_length_or_kind() -> None:
    with pytest.raises(ValueError, match="labels: expected 11 class names"):
        qora_vision.load(TINY, labels=CLASSES[1:])
    with pytest.raises(ValueError, match="labels: expected 11 class names"):
        qora_vision.load(TINY, labels=[0] * 11)
    with pytest.raises(FileNotFoundError):
        qora_vision.load(TINY, labels="no such file.txt")


@pytest.mark.parametrize("named", [False, True])
def test_400_classes_without_names_are_those_of_kinetics(tmp_path: Path, named: bool) -> None:
    tensors = TENSORS | {
        "classifier.weight": np.zeros((400, 18), np.float32),
        "classifier.bias": np.zeros(400, np.float32),
    }
    generic = {str(i): f"LABEL_{i}" for i in range(400)}
    fields = {"id2label": generic if named else None}
    known = write_checkpoint(tmp_path / "vivit-k400", tensors, fields)
    for directory in (known, write_checkpoint(tmp_path / "vivit", tensors, fields)):
        if directory != known:
            with pytest.warns(QoraVisionWarning, match="400 classes have no names, and nothing says"):
                clf = qora_vision.load(directory)
            assert clf.labels == [f"class {i}" for i in range(400)] and "labels" not in clf.provenance
            (directory / "README.md").write_text("Fine-tuned on Kinetics.")
        with pytest.warns(QoraVisionWarning, match="those of Kinetics-400 are assumed"):
            clf = qora_vision.load(directory)
        assert clf.labels == KINETICS
        assert "assumed" in clf.provenance["labels"]


def test_other_numbers_of_classes_stay_without_names(tmp_path: Path) -> None:
    clf = qora_vision.load(write_checkpoint(tmp_path, config={"id2label": None}))
    assert clf.labels == [f"class {i}" for i in range(11)]
    clf.save(tmp_path / "nameless.qora-vision")
    assert qora_vision.read_info(tmp_path / "nameless.qora-vision").labels is None


def test_the_value_range_is_chosen_once_and_travels_with_the_file(tmp_path: Path) -> None:
    """`original` is x / 127.5 - 1, `hf` what the published processor makes of it: 2 (x / 127.5 - 1) - 1."""
    write_checkpoint(tmp_path, processor=PROCESSOR)
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    frames[:, :, 8:] = 255
    for value_range, lowest in ((None, -1.0), ("original", -1.0), ("hf", -3.0)):
        path = tmp_path / f"{value_range}.qora-vision"
        qora_vision.load(tmp_path, value_range=value_range).save(path)
        clf = qora_vision.load(path)
        pixel_values = clf.preprocess(frames)
        assert (pixel_values.min(), pixel_values.max()) == (lowest, 1.0)
        with pytest.raises(ValueError, match="carries its own preprocessing"):
            qora_vision.load(path, value_range=value_range or "hf")


def test_without_a_processor_the_published_recipe_serves(tmp_path: Path) -> None:
    bare = qora_vision.load(write_checkpoint(tmp_path / "bare"))
    recipe = {name: PROCESSOR[name] for name in ("image_processor_type", "size", "crop_size")}
    assert (
        bare.preprocessing
        == qora_vision.load(write_checkpoint(tmp_path / "b", processor=recipe)).preprocessing
    )
    assert bare.preprocessing.resize == 18
    assert bare.preprocessing.resize_rule == "pil"
    shutil.move(tmp_path / "b/preprocessor_config.json", tmp_path / "bare/video_preprocessor_config.json")
    assert qora_vision.load(tmp_path / "bare").preprocessing == bare.preprocessing


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"crop_size": {"height": 16, "width": 20}},
            r"frames of \(16, 20\) pixels, .* and \(16, 16\) pixels",
        ),
        ({"do_center_crop": False}, "frames of 18 pixels"),
        ({"crop_size": -1}, "crop_size"),
        ({"image_processor_type": "CLIPImageProcessor"}, "CLIPImageProcessor"),
    ],
)
def test_processors_that_do_not_fit_the_model(tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        qora_vision.load(write_checkpoint(tmp_path, processor=PROCESSOR | fields))


def test_frames_resized_to_the_exact_size_need_no_crop(tmp_path: Path) -> None:
    fields = {"do_center_crop": False, "size": {"height": 16, "width": 16}}
    clf = qora_vision.load(write_checkpoint(tmp_path, processor=PROCESSOR | fields))
    assert clf.preprocess(np.zeros((4, 40, 30, 3), np.uint8)).shape == (1, 4, 3, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "q5"}, "weights must be one of q4, q8, f16, f32, got 'q5'"),
        ({"compute": "fast"}, "compute must be one of auto, int8, bf16, exact, got 'fast'"),
        ({"value_range": "tf"}, "value_range must be one of original, hf, got 'tf'"),
        ({"threads": 0}, "threads must be None or a whole number from 1 to 4096, got 0"),
        ({"threads": 1.5}, "threads must be"),
        ({"threads": True}, "threads must be"),
    ],
)
def test_options_that_do_not_exist(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        qora_vision.load(TINY, **options)


def test_progress_counts_every_tensor() -> None:
    calls: list[tuple[int, int, str]] = []
    qora_vision.load(TINY, progress=lambda *step: calls.append(step))
    total = len(TENSORS)
    assert [done for done, _, _ in calls] == list(range(total + 1))
    assert {(of, what) for _, of, what in calls} == {(total, "converting weights")}

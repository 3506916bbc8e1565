"""Any JSON in any field of any config: a model, or a `CheckpointError` that names file and field."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from paths import DATA

import qora_vision
from qora_vision import CheckpointError
from qora_vision.loading.options import LoadOptions
from qora_vision.loading.resolve import load_network
from qora_vision.models.registry import ARCHITECTURES, find_architecture
from qora_vision.video import Preprocessing
from qora_vision.weights.checkpoints import open_checkpoint

CASES = sorted(path.parent.name for path in DATA.glob("*_tiny*/config.json"))
NUMBERS = (0, 1, 2, 3, -1, 7, 16, 1000, 65536, 65537, 2**30, 2**31, 2**63, 10**18, 10**400, -(10**400))
FLOATS = (0.0, -0.0, 0.5, 1e-320, 1e-300, 1e300, 1e308, float("inf"), -float("inf"), float("nan"))
TEXTS = (
    "",
    "gelu",
    "tanh",
    "0",
    "\ud800",
    "x" * 100_000,
    "a\nb",
    "null",
    "token",
    "gap",
    "model.safetensors",
)


def any_json(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind == 2:
        return rng.choice(NUMBERS)
    if kind == 3:
        return rng.choice(FLOATS)
    if kind == 4:
        return rng.choice(TEXTS)
    if kind == 7:
        deep: Any = []
        for _ in range(rng.choice((1, 3, 400))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        return deep
    items = [any_json(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 2, 3, 3, 4, 5)))]
    names = ("shortest_edge", "height", "width", "0", "1", "a")
    return items if kind == 5 else {rng.choice(names): item for item in items}


def mutated(rng: random.Random, fields: dict[str, Any], names: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Change one or two fields; in a number's place there often is a number."""
    changed, touched = dict(fields), rng.sample(names, rng.choice((1, 1, 2)))
    for name in touched:
        old = fields.get(name)
        value = any_json(rng)
        if isinstance(old, list) and old and rng.random() < 0.5:
            value = list(old)
            value[rng.randrange(len(value))] = any_json(rng)
        elif isinstance(old, int | float) and rng.random() < 0.4:
            value = rng.choice((*NUMBERS, *FLOATS))
        changed[name] = value
    return changed, touched


def check_message(error: CheckpointError, file: str) -> None:
    text = str(error)
    assert file in text and len(text) < 20_000 and "\n" not in text, text[:2000]


MORE = [
    "image_size",
    "num_frames",
    "num_channels",
    "hidden_size",
    "qkv_bias",
    "id2label",
    "model_type",
    "_name_or_path",
    "model_config",
    "mlp_ratio",
    "attention",
    "classifier",
    "representation_size",
    "hidden_act",
    "layer_norm_eps",
    "num_pooler_layers",
    "pooler_heads",
    "crop_size",
    "tubelet_size",
]


@pytest.mark.parametrize(
    ("case", "change", "message"),
    [
        ("vivit_tiny", {"num_attention_heads": 7}, "hidden_size 18 is no multiple of num_attention_heads 7"),
        ("videomae_tiny", {"num_hidden_layers": 5000}, "num_hidden_layers must be at most 1000, got 5000"),
        ("vjepa2_tiny", {"num_pooler_layers": 2000}, "num_pooler_layers must be at most 1000, got 2000"),
        ("vjepa2_tiny", {"frames_per_clip": 0}, "frames_per_clip must be a positive integer"),
    ],
)
def test_errors_use_the_names_of_the_file(
    tmp_path: Path, case: str, change: dict[str, Any], message: str
) -> None:
    directory = tmp_path / case
    shutil.copytree(DATA / case, directory)
    fields = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(fields | change))
    with pytest.raises(CheckpointError, match=f"config.json: .*{message}"):
        load_network(directory, LoadOptions("f32"))


@pytest.mark.parametrize("case", CASES)
def test_any_field_of_config(tmp_path: Path, case: str) -> None:
    rng = random.Random(case)
    directory = tmp_path / case
    shutil.copytree(DATA / case, directory)
    fields = json.loads((directory / "config.json").read_text())
    names = sorted({*fields, *MORE})
    refused = 0
    for _ in range(250):
        changed, _touched = mutated(rng, fields, names)
        (directory / "config.json").write_text(json.dumps(changed))
        try:
            load_network(directory, LoadOptions("f32"))
        except CheckpointError as error:
            refused += 1
            check_message(error, str(directory) if str(directory) in str(error) else "config.json")
    assert refused > 50


@pytest.mark.parametrize("architecture", [entry.name for entry in ARCHITECTURES])
def test_any_field_that_a_reader_of_configs_asks_for(architecture: str) -> None:
    """Also of those that have no directory in tests/data: only errors that loading turns into its own."""
    found = find_architecture(architecture)
    assert found is not None
    convert = found.checkpoint
    asked: set[str] = set()

    class Asked(dict):  # type: ignore[type-arg]
        def get(self, name: str, default: Any = None) -> Any:
            asked.add(name)
            return super().get(name, default)

    convert.read_config(Asked(), 5)
    rng = random.Random(architecture)
    made = 0
    for _ in range(2000):
        changed, _ = mutated(rng, {}, sorted(asked))
        try:
            config = convert.read_config(changed, 5)
            convert.protocol(config)
            if config.num_tubelets < 10**6:
                config.tensor_specs()
            made += 1
        except ValueError as error:
            assert len(str(error)) < 5000
    assert 0 < made < 1999


PROCESSOR = {
    "image_processor_type": "VideoMAEImageProcessor", "do_resize": True, "do_center_crop": True,
    "do_rescale": True, "do_normalize": True, "size": {"shortest_edge": 24}, "resample": 2,
    "crop_size": {"height": 24, "width": 24}, "rescale_factor": 1 / 255, "offset": False,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_flip_channel_order": False,
    "video_processor_type": None, "feature_extractor_type": None,
}  # fmt: skip


def test_any_field_of_a_processor() -> None:
    rng = random.Random(5)
    refused = 0
    for _ in range(6000):
        changed, touched = mutated(rng, PROCESSOR, sorted(PROCESSOR))
        try:
            Preprocessing.from_hf(changed, num_frames=4, value_range=rng.choice(("hf", "original")))
        except CheckpointError as error:
            refused += 1
            check_message(error, "preprocessor_config.json")
            known = ("processor", "rescale_factor", "mean", "std", "offset", "resize", "crop")
            assert any(name in str(error) for name in (*touched, *known))
    assert 1000 < refused < 6000


def test_any_index_of_shards(tmp_path: Path) -> None:
    rng = random.Random(6)
    shutil.copyfile(DATA / "vivit_tiny" / "model.safetensors", tmp_path / "model.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "pickle.bin").write_bytes(b"\x80\x02}.")
    names = list(open_checkpoint(tmp_path / "model.safetensors"))
    index = tmp_path / "x.index.json"
    good: dict[str, Any] = dict.fromkeys(names, "model.safetensors")
    for _ in range(1500):
        changed, _ = mutated(rng, good, names)
        if rng.random() < 0.3:
            changed[rng.choice(names)] = rng.choice(("folder.safetensors", "pickle.bin", "x.index.json", "."))
        content = {"weight_map": changed} if rng.random() < 0.9 else any_json(rng)
        index.write_text(json.dumps(content if rng.random() < 0.95 else {"weight_map": any_json(rng)}))
        try:
            open_checkpoint(index)
        except CheckpointError as error:
            check_message(error, str(tmp_path))


@pytest.mark.parametrize(
    ("case", "fields", "message"),
    [
        ("vjepa2_tiny", {"mlp_ratio": 1e308}, "mlp_ratio must be a positive number"),
        ("vivit_tiny", {"num_frames": 10**9}, "num_frames"),
        ("videomae_tiny", {"num_frames": 10**9}, "num_frames"),
        ("videomae_tiny", {"image_size": [60000, 60000]}, "image_size"),
        ("videomae_tiny", {"id2label": {"0": "\ud800"}}, "id2label: expected texts as class names"),
        ("video_swin_tiny", {"depths": [2**30, 2, 2, 2]}, "depths"),
    ],
)
def test_what_was_found(tmp_path: Path, case: str, fields: dict[str, Any], message: str) -> None:
    directory = tmp_path / "x"
    shutil.copytree(DATA / case, directory)
    config = json.loads((directory / "config.json").read_text()) | fields
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"config\.json.*{message}"):
        qora_vision.load(directory)

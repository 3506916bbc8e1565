"""The tiny checkpoints of tests/data as the tests of loading change them: copied, renamed, cut, damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paths import DATA
from safetensors.numpy import load_file, save_file

TINY = DATA / "vivit_tiny"
TENSORS = load_file(TINY / "model.safetensors")
with np.load(TINY / "golden.npz") as _golden:
    CLIP: NDArray[np.float32] = _golden["pixel_values"].astype(np.float32)
    LOGITS: NDArray[np.float32] = _golden["logits"]

# What a processor of the model writes, at its size.
PROCESSOR = {
    "image_processor_type": "VivitImageProcessor",
    "size": {"shortest_edge": 18},
    "crop_size": {"height": 16, "width": 16},
    "rescale_factor": 1 / 127.5,
    "offset": True,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}

# Prefixes of transformers 5 in memory for those on disk, most special first.
_MODERN = (
    (".attention.attention.query.", ".attention.q_proj."),
    (".attention.attention.key.", ".attention.k_proj."),
    (".attention.attention.value.", ".attention.v_proj."),
    (".attention.output.dense.", ".attention.o_proj."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
    ("vivit.encoder.layer.", "vivit.layers."),
)


def modern_name(name: str) -> str:
    """The name of a tensor in the state_dict of transformers 5."""
    for old, new in _MODERN:
        name = name.replace(old, new)
    return name


def write_checkpoint(
    directory: Path,
    tensors: Mapping[str, NDArray] | None = None,
    config: Mapping[str, Any] | None = None,
    processor: Mapping[str, Any] | None = None,
) -> Path:
    """The tiny checkpoint with other tensors or config fields (None leaves one out), a processor added."""
    directory.mkdir(parents=True, exist_ok=True)
    fields = json.loads((TINY / "config.json").read_text()) | dict(config or {})
    fields = {name: value for name, value in fields.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(fields))
    if processor is not None:
        (directory / "preprocessor_config.json").write_text(json.dumps(processor))
    if tensors is None:
        shutil.copyfile(TINY / "model.safetensors", directory / "model.safetensors")
    else:
        save_file(dict(tensors), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def write_shards(directory: Path, count: int) -> list[str]:
    """Deal the weights of the tiny checkpoint out to `count` files with an index; returns their names."""
    write_checkpoint(directory)
    (directory / "model.safetensors").unlink()
    files = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    weight_map = {name: files[i % count] for i, name in enumerate(sorted(TENSORS))}
    for file in files:
        part = {name: TENSORS[name] for name, where in weight_map.items() if where == file}
        save_file(part, directory / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return files

"""Checkpoints of Video Swin: those of torchvision, and those of the original code, which mmaction saves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from qora_vision.errors import CheckpointError, shown
from qora_vision.models.video_swin.network import STAGES, VideoSwinConfig
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.config_fields import read_field, read_size
from qora_vision.weights.maps import CheckpointMap, ClipProtocol
from qora_vision.weights.sources import Rows, SourcePattern

_TABLE = re.compile(
    r"(?:features\.(?P<features>\d{1,3})|layers\.(?P<layers>\d{1,3})\.blocks)\.(?P<block>\d{1,3})"
    r"\.attn\.relative_position_bias_table"
)
_BLOCKS = [(f"features.{2 * stage}.{{i}}", f"layers.{stage}.blocks.{{i}}") for stage in range(STAGES)]
_MERGES = [(f"features.{2 * stage + 1}", f"layers.{stage}.downsample") for stage in range(STAGES - 1)]


def _block_names(theirs: str, first: str, second: str) -> dict[str, SourcePattern]:
    """Ours -> theirs within a block; the layers of the MLP are called `first` and `second`."""
    return {
        "norm1": f"{theirs}.norm1",
        "attn.q": Rows(f"{theirs}.attn.qkv", 0),
        "attn.k": Rows(f"{theirs}.attn.qkv", 1),
        "attn.v": Rows(f"{theirs}.attn.qkv", 2),
        "attn.bias": f"{theirs}.attn.relative_position_bias_table",
        "attn.proj": f"{theirs}.attn.proj",
        "norm2": f"{theirs}.norm2",
        "mlp.fc1": f"{theirs}.mlp.{first}",
        "mlp.fc2": f"{theirs}.mlp.{second}",
    }


# Ours -> theirs; {i} is a block of its stage.
_NAMES: dict[str, tuple[SourcePattern, ...]] = {
    "embed": ("patch_embed.proj",),
    "embed_norm": ("patch_embed.norm",),
    "norm": ("norm",),
    "head": ("head", "fc_cls"),
}
for _stage, (_torchvision, _original) in enumerate(_BLOCKS):
    _pairs = zip(
        _block_names(_torchvision, "0", "3").items(),
        _block_names(_original, "fc1", "fc2").values(),
        strict=True,
    )
    _NAMES |= {f"stages.{_stage}.blocks.{{i}}.{name}": (usual, other) for (name, usual), other in _pairs}
for _stage, _spellings in enumerate(_MERGES):
    for _part in ("norm", "reduction"):
        _NAMES[f"stages.{_stage}.merge.{_part}"] = tuple(f"{theirs}.{_part}" for theirs in _spellings)

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_SPARSE_CLASSES = 174
# Windows of the published models.
_WINDOWS = ((8, 7, 7), (16, 7, 7))


def read_config(fields: Mapping[str, Any], num_classes: int) -> VideoSwinConfig:
    """Read the arguments of the original `SwinTransformer3D`; missing ones are those of Swin-T."""
    return VideoSwinConfig(
        num_classes=num_classes,
        num_frames=read_field(fields, "num_frames", int, 32),
        image_size=read_size(fields, "image_size", 224),
        num_channels=read_field(fields, "in_chans", int, 3),
        tubelet_size=_sizes(fields, "patch_size", (2, 4, 4)),
        base_dim=read_field(fields, "embed_dim", int, 96),
        depths=_sizes(fields, "depths", (2, 2, 6, 2)),
        num_heads=_sizes(fields, "num_heads", (3, 6, 12, 24)),
        window_size=_sizes(fields, "window_size", (8, 7, 7)),
        mlp_ratio=int(read_field(fields, "mlp_ratio", float, 4.0)),
        norm_eps=float(read_field(fields, "layer_norm_eps", float, 1e-5)),
    )


def _sizes(fields: Mapping[str, Any], name: str, default: tuple[int, ...]) -> Any:
    """Return a list as the tuple of the config, which checks the numbers itself."""
    return tuple(read_field(fields, name, list, list(default)))


def original_fields(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Derive the config of a checkpoint from its tensors; None if it is not one.

    The tensors do not determine the number and the size of frames, which are 32 and 224 x 224 as published.

    Raises
    ------
    CheckpointError
        If it is one, but does not have four stages, or its tensors do not determine its window.
    """
    tables = [match for name in checkpoint if (match := _TABLE.fullmatch(name))]
    patches = "patch_embed.proj.weight"
    if not tables or patches not in checkpoint or len(checkpoint.shape(patches)) != 5:
        return None
    depths, heads = [0] * STAGES, [0] * STAGES
    for match in tables:
        stage = int(match["features"]) // 2 if match["features"] else int(match["layers"])
        if stage >= STAGES:
            raise CheckpointError(f"a Video Swin with a tensor {shown(match[0])}: expected {STAGES} stages")
        depths[stage] = max(depths[stage], int(match["block"]) + 1)
        heads[stage] = checkpoint.shape(match[0])[-1]
    if not all(depths):
        raise CheckpointError(f"a Video Swin of {depths} blocks: expected some in each of {STAGES} stages")
    dim, channels, *tubelet = checkpoint.shape(patches)
    block = tables[0][0].removesuffix("attn.relative_position_bias_table")
    hidden = next((name for part in ("0", "fc1") if (name := f"{block}mlp.{part}.bias") in checkpoint), None)
    width = checkpoint.shape(f"{block}norm1.bias")[0]
    return {
        "in_chans": channels,
        "patch_size": tubelet,
        "embed_dim": dim,
        "depths": depths,
        "num_heads": heads,
        "window_size": _window_of(checkpoint, tables[0][0]),
        "mlp_ratio": 4 if hidden is None else checkpoint.shape(hidden)[0] // width,
    }


def _window_of(checkpoint: Checkpoint, table: str) -> list[int]:
    """Derive the window from the rows of a bias table, and from the tokens of the index beside it.

    Windows are assumed to be as high as wide, unless the table is that of a published model.
    """
    rows = checkpoint.shape(table)[0]
    index = table.replace("_bias_table", "_index")
    tokens = checkpoint.shape(index)[0] if index in checkpoint else None
    found = [
        [(rows // (2 * side - 1) ** 2 + 1) // 2, side, side]
        for side in range(1, math.isqrt(rows) // 2 + 2)
        if rows % (2 * (2 * side - 1) ** 2) == (2 * side - 1) ** 2
    ]
    if tokens is None:
        found = [window for window in found if tuple(window) in _WINDOWS] or found
    else:
        found = [window for window in found if math.prod(window) == tokens]
    if len(found) != 1:
        raise CheckpointError(
            f"the window of a Video Swin with {rows} rows of bias is unknown: put the file into a "
            "directory with a config.json that states it (docs/models.md)"
        )
    return found[0]


def protocol(config: VideoSwinConfig) -> ClipProtocol:
    """Take every second frame, or one from each segment where that is the task; torchvision's preset.

    Shortest side 256/224 of the size, bilinear without antialias, centre crop, ImageNet's mean. Source:
    `VideoClassification` of torchvision as `Swin3D_*_Weights` has it; the configs of the original.
    """
    height, width = config.image_size
    processor = {
        "image_processor_type": "VideoMAEImageProcessor",
        "size": {"shortest_edge": min(height, width) * 256 // 224},
        "crop_size": {"height": height, "width": width},
        **_IMAGENET,
    }
    sparse = config.num_classes == _SPARSE_CLASSES
    return ClipProtocol("segments" if sparse else "dense", 2, processor, resize_rule="plain")


CHECKPOINT_MAP = CheckpointMap(
    names=_NAMES,
    # Follows from the window.
    ignored=(r".*\.attn\.relative_position_index",),
    prefixes=("cls_head.",),
    read_config=read_config,
    protocol=protocol,
    original_fields=original_fields,
)

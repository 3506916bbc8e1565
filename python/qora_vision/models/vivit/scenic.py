"""Common helpers for the checkpoints of scenic's projects/vivit: flax names, and no config file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from qora_vision.errors import CheckpointError
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.config_fields import read_field, read_size
from qora_vision.weights.flax_layouts import FlaxLinear, flax_norm
from qora_vision.weights.maps import ClipProtocol
from qora_vision.weights.sources import SourcePattern


def encoder_names(ours: str, theirs: str) -> dict[str, tuple[SourcePattern, ...]]:
    """Return the name map of a stack of blocks and the norm after it.

    Parameters
    ----------
    ours, theirs
        Prefixes of the names, such as "temporal." and "TemporalTransformer".
    """
    block = theirs + "/encoderblock_{i}/"
    attention = block + "MultiHeadDotProductAttention_0/"
    return {
        f"{ours}pos_embed": (f"{theirs}/posembed_input/pos_embedding",),
        f"{ours}blocks.{{i}}.norm1": (flax_norm(block + "LayerNorm_0"),),
        f"{ours}blocks.{{i}}.attn.q": (FlaxLinear(attention + "query"),),
        f"{ours}blocks.{{i}}.attn.k": (FlaxLinear(attention + "key"),),
        f"{ours}blocks.{{i}}.attn.v": (FlaxLinear(attention + "value"),),
        f"{ours}blocks.{{i}}.attn.proj": (FlaxLinear(attention + "out", inputs=2),),
        f"{ours}blocks.{{i}}.norm2": (flax_norm(block + "LayerNorm_1"),),
        f"{ours}blocks.{{i}}.mlp.fc1": (FlaxLinear(block + "MlpBlock_0/Dense_0"),),
        f"{ours}blocks.{{i}}.mlp.fc2": (FlaxLinear(block + "MlpBlock_0/Dense_1"),),
        f"{ours}norm": (flax_norm(theirs + "/encoder_norm"),),
    }


def count_blocks(checkpoint: Checkpoint, encoder: str) -> int:
    """Count the blocks of an encoder: published configs disagree with the files."""
    pattern = re.compile(re.escape(encoder) + r"/encoderblock_(\d{1,4})/.*")
    numbers = [int(match[1]) for name in checkpoint if (match := pattern.fullmatch(name))]
    return max(numbers, default=-1) + 1


def encoder_fields(checkpoint: Checkpoint, encoder: str, attention: str, mlp: str) -> dict[str, int]:
    """Return depth, heads and width of an encoder by its first block."""
    block = f"{encoder}/encoderblock_0/"
    heads = checkpoint.shape(f"{block}{attention}/query/bias")[0]
    mlp_dim = checkpoint.shape(f"{block}{mlp}/Dense_0/bias")[0]
    depth = count_blocks(checkpoint, encoder)
    return {"num_hidden_layers": depth, "num_attention_heads": heads, "intermediate_size": mlp_dim}


def clip_fields(checkpoint: Checkpoint, frames: int | None, positions: int) -> dict[str, object]:
    """Return the sizes of clips and tubelets.

    Parameters
    ----------
    checkpoint
        With "embedding/kernel".
    frames
        Frames of tubelets; None: as many as square frames leave of the positions (32 frames of 224 pixels
        where that fits).
    positions
        Positions of one frame of tubelets, or of all frames where `frames` is None.

    Raises
    ------
    CheckpointError
        If the frames cannot be square.
    """
    kernel = checkpoint.shape("embedding/kernel")
    if len(kernel) not in (4, 5):
        raise CheckpointError(f"embedding/kernel is {kernel}: expected (t, h, w, channels, features)")
    depth, height, width, channels, dim = kernel if len(kernel) == 5 else (1, *kernel)
    if frames is None:
        frames = next((n for n in (32 // depth, 16, 8, 4, 2, 1) if _is_square(positions, n)), 0)
        positions = positions // max(frames, 1)
    side = math.isqrt(positions)
    if not frames or side * side != positions:
        raise CheckpointError(f"a frame has {positions} positions: expected those of a square frame")
    return {
        "num_frames": frames * depth,
        "image_size": [side * height, side * width],
        "num_channels": channels,
        "tubelet_size": [depth, height, width],
        "hidden_size": dim,
    }


def representation_size(checkpoint: Checkpoint) -> int | None:
    """Return the width of the tanh layer before the classifier, None where there is none."""
    return checkpoint.shape("pre_logits/bias")[0] if "pre_logits/bias" in checkpoint else None


def vit_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `VitConfig` that have the same names in all configs; defaults are B/16x2's."""
    return {
        "num_frames": read_field(fields, "num_frames", int, 32),
        "image_size": read_size(fields, "image_size", 224),
        "num_channels": read_field(fields, "num_channels", int, 3),
        "tubelet_size": tuple(read_field(fields, "tubelet_size", list, [2, 16, 16])),
        "embed_dim": read_field(fields, "hidden_size", int, 768),
        "depth": read_field(fields, "num_hidden_layers", int, 12),
        "num_heads": read_field(fields, "num_attention_heads", int, 12),
        "mlp_dim": read_field(fields, "intermediate_size", int, 3072),
    }


def _is_square(positions: int, frames: int) -> bool:
    return positions % frames == 0 and math.isqrt(positions // frames) ** 2 == positions // frames


def protocol(image_size: tuple[int, int], num_classes: int) -> ClipProtocol:
    """Return the authors' protocol for the data set that has as many classes.

    Frames are 2 apart, or neighbours for Something-Something (174) and Epic Kitchens (397); pixels are in
    [-1, 1]; the shortest side is 256 for crops of 224, 288 for crops of 256, by tf.image.resize: bilinear
    without antialiasing.
    """
    height, width = image_size
    side = min(height, width)
    processor = {
        "image_processor_type": "VivitImageProcessor",
        "size": {"shortest_edge": side * 9 // 8 if side == 256 else side * 256 // 224},
        "crop_size": {"height": height, "width": width},
    }
    stride = 1 if num_classes in (174, 397) else 2
    return ClipProtocol("dense", stride, processor, resize_rule="plain")

"""Checkpoints of TRecViT: the archives of google-deepmind/trecvit, which hold paths of flax."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from qora_vision.errors import CheckpointError
from qora_vision.models.trecvit.network import TrecvitConfig
from qora_vision.models.vivit import scenic
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.config_fields import read_field, read_size
from qora_vision.weights.flax_layouts import FlaxBlocks, FlaxLayer, FlaxLinear, FlaxTubelets
from qora_vision.weights.maps import CheckpointMap, ClipProtocol
from qora_vision.weights.sources import SourcePattern

_RECURRENT = "encoder/residualblock_{i:0>2}/"
_GATES = _RECURRENT + "recurrent_block/rg_lru/"

# Ours -> theirs; {i} is a block.
_NAMES: dict[str, tuple[SourcePattern, ...]] = {
    **scenic.encoder_names("", "encoder"),
    "cls_token": ("tokenizer/cls",),
    "pos_embed": ("tokenizer/pos_embedding",),
    "embed": (FlaxTubelets("tokenizer/embedding"),),
    "blocks.{i}.recurrent.norm": (_RECURRENT + "temporal_pre_norm/scale",),
    "blocks.{i}.recurrent.decay": (_GATES + "a_param",),
    "blocks.{i}.recurrent.x": (FlaxLinear(_RECURRENT + "recurrent_block/linear_x"),),
    "blocks.{i}.recurrent.y": (FlaxLinear(_RECURRENT + "recurrent_block/linear_y"),),
    "blocks.{i}.recurrent.conv": (FlaxLayer(_RECURRENT + "recurrent_block/conv_1d", weight="w", bias="b"),),
    "blocks.{i}.recurrent.input_gate": (FlaxBlocks(_GATES + "input_gate", weight="w", bias="b"),),
    "blocks.{i}.recurrent.decay_gate": (FlaxBlocks(_GATES + "a_gate", weight="w", bias="b"),),
    "blocks.{i}.recurrent.out": (FlaxLinear(_RECURRENT + "recurrent_block/linear_out"),),
    "pre_logits": (FlaxLinear("decoder/pre_logits"),),
    "head": (FlaxLinear("decoder/cls_head"),),
}


def original_fields(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Derive the config of an archive from its shapes; None if it is not a TRecViT.

    The shapes do not determine two fields, which are those of the released model: square frames, 32 a clip.

    Raises
    ------
    CheckpointError
        If it is the masked auto-encoder, which has no classifier, or its frames cannot be square.
    """
    if not {"tokenizer/pos_embedding", "encoder/residualblock_00/temporal_pre_norm/scale"} <= set(checkpoint):
        return None
    if "decoder/cls_head/kernel" not in checkpoint:
        raise CheckpointError(
            "a TRecViT without a classifier (such as trecvit_B_mae) is not supported: use a fine-tuned one"
        )
    _, patch_height, patch_width, channels, embed_dim = checkpoint.shape("tokenizer/embedding/kernel")
    patches = checkpoint.shape("tokenizer/pos_embedding")[1]
    side = math.isqrt(patches)
    if side * side != patches:
        raise CheckpointError(f"a frame has {patches} positions: expected those of a square frame")
    block = "encoder/residualblock_00/recurrent_block/"
    taps, recurrent_dim = checkpoint.shape(block + "conv_1d/w")
    return {
        "image_size": [side * patch_height, side * patch_width],
        "num_channels": channels,
        "patch_size": [patch_height, patch_width],
        "hidden_size": embed_dim,
        "num_hidden_layers": sum(bool(re.fullmatch(r".*/linear_x/bias", name)) for name in checkpoint),
        "num_attention_heads": checkpoint.shape(block + "rg_lru/a_gate/b")[0],
        "intermediate_size": checkpoint.shape("encoder/encoderblock_0/MlpBlock_0/Dense_0/bias")[0],
        "lru_width": recurrent_dim,
        "conv1d_temporal_width": taps,
        "rep_size": checkpoint.shape("decoder/pre_logits/bias")[0],
    }


def read_config(fields: Mapping[str, Any], num_classes: int) -> TrecvitConfig:
    """Make the config from the fields of `original_fields`; defaults are those of size B."""
    return TrecvitConfig(
        num_classes=num_classes,
        num_frames=read_field(fields, "num_frames", int, 32),
        image_size=read_size(fields, "image_size", 224),
        num_channels=read_field(fields, "num_channels", int, 3),
        patch_size=read_size(fields, "patch_size", 16),
        embed_dim=read_field(fields, "hidden_size", int, 768),
        depth=read_field(fields, "num_hidden_layers", int, 12),
        num_heads=read_field(fields, "num_attention_heads", int, 12),
        mlp_dim=read_field(fields, "intermediate_size", int, 3072),
        recurrent_dim=read_field(fields, "lru_width", int, 1536),
        conv_width=read_field(fields, "conv1d_temporal_width", int, 4),
        representation_dim=read_field(fields, "rep_size", int, 3072),
    )


def protocol(config: TrecvitConfig) -> ClipProtocol:
    """Return our own choice: the authors published a network and a demo, but no preparation of clips.

    Pixels in [0, 1] are theirs. Shortest side 256/224 of the size, centre crop and frames two apart are the
    protocol of other models of Kinetics.
    """
    height, width = config.image_size
    processor = {
        "image_processor_type": "VideoMAEImageProcessor",
        "size": {"shortest_edge": min(height, width) * 256 // 224},
        "crop_size": {"height": height, "width": width},
        "do_normalize": False,
    }
    return ClipProtocol("dense", 2, processor)


CHECKPOINT_MAP = CheckpointMap(
    names=_NAMES,
    read_config=read_config,
    protocol=protocol,
    original_fields=original_fields,
)

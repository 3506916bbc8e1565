"""Checkpoints of TimeSformer: those of Hugging Face, and those of the original code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from qora_vision.errors import CheckpointError
from qora_vision.models.timesformer.network import AttentionType, TimesformerConfig
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.config_fields import activation_of, count_blocks, read_field, read_size
from qora_vision.weights.maps import CheckpointMap, ClipProtocol
from qora_vision.weights.sources import Folded, Rows, SourcePattern

_HF = "timesformer.encoder.layer.{i}"
_HF_QKV, _QKV = f"{_HF}.attention.attention.qkv", "blocks.{i}.attn.qkv"
_HF_TIME_QKV, _TIME_QKV = f"{_HF}.temporal_attention.attention.qkv", "blocks.{i}.temporal_attn.qkv"

# mmaction's names; without divided attention, the only attention has number 0.
_MM = "transformer_layers.layers.{i}"
_MM_TIME, _MM_SPACE = f"{_MM}.attentions.0", f"{_MM}.attentions.1"


def _qkv_names(
    ours: str, fused: tuple[str, ...], attentions: tuple[str, ...]
) -> dict[str, tuple[SourcePattern, ...]]:
    """Return the names of queries, keys and values, which are one layer everywhere."""
    return {
        f"blocks.{{i}}.{ours}.{letter}.{part}": (
            *(Rows(f"{layer}.{part}", number) for layer in fused),
            *(Rows(f"{layer}.attn.in_proj_{part}", number) for layer in attentions),
        )
        for number, letter in enumerate("qkv")
        for part in ("weight", "bias")
    }


# Ours -> theirs; {i} is a block. Attention over time ends in two linear layers in a row, which become one.
_NAMES: dict[str, tuple[SourcePattern, ...]] = {
    "cls_token": ("timesformer.embeddings.cls_token", "cls_token"),
    "pos_embed": ("timesformer.embeddings.position_embeddings", "pos_embed"),
    "time_embed": ("timesformer.embeddings.time_embeddings", "time_embed"),
    "embed": (
        "timesformer.embeddings.patch_embeddings.projection",
        "patch_embed.proj",
        "patch_embed.projection",
    ),
    "blocks.{i}.time_norm": (f"{_HF}.temporal_layernorm", "blocks.{i}.temporal_norm1", f"{_MM_TIME}.norm"),
    **_qkv_names("time", (_HF_TIME_QKV, _TIME_QKV), (_MM_TIME,)),
    "blocks.{i}.time.proj": (
        Folded(f"{_HF}.temporal_attention.output.dense", f"{_HF}.temporal_dense"),
        Folded("blocks.{i}.temporal_attn.proj", "blocks.{i}.temporal_fc"),
        Folded(f"{_MM_TIME}.attn.out_proj", f"{_MM_TIME}.temporal_fc"),
    ),
    "blocks.{i}.norm1": (
        f"{_HF}.layernorm_before",
        "blocks.{i}.norm1",
        f"{_MM_SPACE}.norm",
        f"{_MM}.norms.0",
    ),
    **_qkv_names("attn", (_HF_QKV, _QKV), (_MM_SPACE, _MM_TIME)),
    "blocks.{i}.attn.proj": (
        f"{_HF}.attention.output.dense",
        "blocks.{i}.attn.proj",
        f"{_MM_SPACE}.attn.out_proj",
        f"{_MM_TIME}.attn.out_proj",
    ),
    "blocks.{i}.norm2": (
        f"{_HF}.layernorm_after",
        "blocks.{i}.norm2",
        f"{_MM}.ffns.0.norm",
        f"{_MM}.norms.1",
    ),
    "blocks.{i}.mlp.fc1": (f"{_HF}.intermediate.dense", "blocks.{i}.mlp.fc1", f"{_MM}.ffns.0.layers.0.0"),
    "blocks.{i}.mlp.fc2": (f"{_HF}.output.dense", "blocks.{i}.mlp.fc2", f"{_MM}.ffns.0.layers.1"),
    "norm": ("timesformer.layernorm", "norm"),
    "head": ("classifier", "head", "fc_cls"),
}

# Frames of the published models that span 256 or 384 frames, each with its stride.
_STRIDES = {8: 32, 16: 16, 96: 4}
_SPARSE_CLASSES = 174
_MEAN, _STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
# Channels of a head in every published model.
_HEAD_DIM = 64


def read_config(fields: Mapping[str, Any], num_classes: int | None) -> TimesformerConfig:
    """Read config.json; missing fields take the defaults of transformers' `TimesformerConfig`."""
    kind = read_field(fields, "attention_type", str, "divided_space_time")
    return TimesformerConfig(
        num_classes=num_classes,
        num_frames=read_field(fields, "num_frames", int, 8),
        image_size=read_size(fields, "image_size", 224),
        num_channels=read_field(fields, "num_channels", int, 3),
        tubelet_size=(1, *read_size(fields, "patch_size", 16)),
        embed_dim=read_field(fields, "hidden_size", int, 768),
        depth=read_field(fields, "num_hidden_layers", int, 12),
        num_heads=read_field(fields, "num_attention_heads", int, 12),
        mlp_dim=read_field(fields, "intermediate_size", int, 3072),
        activation=activation_of(read_field(fields, "hidden_act", str, "gelu")),
        norm_eps=float(read_field(fields, "layer_norm_eps", float, 1e-6)),
        attention_type=cast(AttentionType, kind),
        qkv_bias=read_field(fields, "qkv_bias", bool, True),
        frame_average=read_field(fields, "frame_average", bool, True),
    )


def original_fields(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Derive the config of an original checkpoint from its tensors; None if it is not one.

    The tensors do not determine the width of a head, the shape of frames or, if attention is in space only,
    their number. As in the published models, heads have 64 channels, and there are 8 square frames.

    Raises
    ------
    CheckpointError
        If it is one, but its positions are not those of square frames, or its width is no multiple of 64.
    """
    # Of the original code, and of mmaction.
    layers = ("patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
    blocks = "blocks."
    if layers[0] not in checkpoint:
        blocks = "transformer_layers.layers."
        layers = ("patch_embed.projection.weight", f"{blocks}0.ffns.0.layers.0.0.weight")
    if any(name not in checkpoint for name in ("cls_token", "pos_embed", *layers)):
        return None
    patches, positions = checkpoint.shape(layers[0]), checkpoint.shape("pos_embed")
    if len(patches) != 4 or len(positions) != 3:
        return None
    dim, channels, height, width = patches
    side = math.isqrt(positions[1] - 1)
    if side * side != positions[1] - 1 or height != width or dim % _HEAD_DIM:
        raise CheckpointError(
            f"a TimeSformer with {positions[1]} positions, patches of {height} x {width} and {dim} channels "
            "is none of the published ones: put the file into a directory with a config.json that says what "
            "it is (docs/models.md)"
        )
    kind, frames = "space_only", 8
    if "time_embed" in checkpoint:
        names = ("blocks.0.temporal_fc.weight", f"{blocks}0.attentions.0.temporal_fc.weight")
        divided = any(name in checkpoint for name in names)
        kind = "divided_space_time" if divided else "joint_space_time"
        frames = checkpoint.shape("time_embed")[1]
    return {
        "num_frames": frames,
        "image_size": side * height,
        "patch_size": height,
        "num_channels": channels,
        "hidden_size": dim,
        "num_hidden_layers": count_blocks(checkpoint, blocks),
        "num_attention_heads": dim // _HEAD_DIM,
        "intermediate_size": checkpoint.shape(layers[1])[0],
        "attention_type": kind,
        "qkv_bias": blocks != "blocks." or "blocks.0.attn.qkv.bias" in checkpoint,
    }


def protocol(config: TimesformerConfig) -> ClipProtocol:
    """Spread the frames over about 256, or take one from each segment where that is the task.

    The short side becomes that of the crop without antialias; mean 0.45, deviation 0.225. Source: configs and
    datasets of facebookresearch/TimeSformer.
    """
    height, width = config.image_size
    processor = {
        "image_processor_type": "VideoMAEImageProcessor",
        "size": {"shortest_edge": min(height, width)},
        "crop_size": {"height": height, "width": width},
        "image_mean": list(_MEAN),
        "image_std": list(_STD),
    }
    stride = _STRIDES.get(config.num_frames, max(1, 256 // config.num_frames))
    sparse = config.num_classes == _SPARSE_CLASSES
    return ClipProtocol("segments" if sparse else "dense", stride, processor, resize_rule="plain")


CHECKPOINT_MAP = CheckpointMap(
    names=_NAMES,
    # Layers of the image model that training started from. They take no part in classifying a clip.
    ignored=(r"pre_logits\..*", r"head_dist\..*"),
    prefixes=("cls_head.",),
    encoder_prefix="timesformer.",
    read_config=read_config,
    protocol=protocol,
    original_fields=original_fields,
)

"""Checkpoints of VideoMAE: those of Hugging Face, of the original code, and of V2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qora_vision.errors import CheckpointError, shown
from qora_vision.models.videomae.network import VideoMaeConfig, sinusoids
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.config_fields import activation_of, count_blocks, read_field, read_size
from qora_vision.weights.maps import CheckpointMap, ClipProtocol
from qora_vision.weights.sources import Rows, Scaled, SourcePattern

_HF = "videomae.encoder.layer.{i}"
_HF_ATTENTION = f"{_HF}.attention.attention"

# Ours -> theirs; {i} is a block. V2 may scale the branches of a block by gamma, which is folded in.
_NAMES: dict[str, tuple[SourcePattern, ...]] = {
    "embed": (
        "videomae.embeddings.patch_embeddings.projection",
        "patch_embed.proj",
        "patch_embed.projection",
    ),
    "blocks.{i}.norm1": (f"{_HF}.layernorm_before", "blocks.{i}.norm1"),
    "blocks.{i}.attn.q.weight": (f"{_HF_ATTENTION}.query.weight", Rows("blocks.{i}.attn.qkv.weight", 0)),
    "blocks.{i}.attn.k.weight": (f"{_HF_ATTENTION}.key.weight", Rows("blocks.{i}.attn.qkv.weight", 1)),
    "blocks.{i}.attn.v.weight": (f"{_HF_ATTENTION}.value.weight", Rows("blocks.{i}.attn.qkv.weight", 2)),
    "blocks.{i}.attn.q.bias": (
        f"{_HF_ATTENTION}.q_bias",
        "blocks.{i}.attn.q_bias",
        f"{_HF_ATTENTION}.query.bias",
    ),
    "blocks.{i}.attn.v.bias": (
        f"{_HF_ATTENTION}.v_bias",
        "blocks.{i}.attn.v_bias",
        f"{_HF_ATTENTION}.value.bias",
    ),
    "blocks.{i}.attn.proj": (
        f"{_HF}.attention.output.dense",
        Scaled("blocks.{i}.attn.proj", "blocks.{i}.gamma_1"),
        "blocks.{i}.attn.proj",
    ),
    "blocks.{i}.norm2": (f"{_HF}.layernorm_after", "blocks.{i}.norm2"),
    "blocks.{i}.mlp.fc1": (f"{_HF}.intermediate.dense", "blocks.{i}.mlp.fc1", "blocks.{i}.mlp.layers.0.0"),
    "blocks.{i}.mlp.fc2": (
        f"{_HF}.output.dense",
        Scaled("blocks.{i}.mlp.fc2", "blocks.{i}.gamma_2"),
        "blocks.{i}.mlp.fc2",
        Scaled("blocks.{i}.mlp.layers.1", "blocks.{i}.gamma_2"),
        "blocks.{i}.mlp.layers.1",
    ),
    "pool_norm": ("fc_norm",),
    "norm": ("videomae.layernorm", "norm"),
    "head": ("classifier", "head", "fc_cls"),
}

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
# Classes of Something-Something V2, whose models see frames spread over the whole clip.
_SPARSE_CLASSES = 174
# Of a table of positions in half precision: values are at most 1.
_POSITION_ERROR = 2.0**-10
# Heads of the original models by their width. (As converted for Hugging Face the small one has 16.)
_ORIGINAL_HEADS = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}


def read_config(fields: Mapping[str, Any], num_classes: int | None) -> VideoMaeConfig:
    """Read config.json; missing fields take the defaults of `VideoMAEConfig` of transformers, or of V2."""
    nested = fields.get("model_config")
    if nested is not None:
        if not isinstance(nested, dict):
            raise CheckpointError(f"config.json: model_config must be an object, got {shown(nested)}")
        return _read_v2_config(nested, num_classes)
    bias = read_field(fields, "qkv_bias", bool, True)
    height, width = read_size(fields, "patch_size", 16)
    return VideoMaeConfig(
        num_classes=num_classes,
        num_frames=read_field(fields, "num_frames", int, 16),
        image_size=read_size(fields, "image_size", 224),
        num_channels=read_field(fields, "num_channels", int, 3),
        tubelet_size=(read_field(fields, "tubelet_size", int, 2), height, width),
        embed_dim=read_field(fields, "hidden_size", int, 768),
        depth=read_field(fields, "num_hidden_layers", int, 12),
        num_heads=read_field(fields, "num_attention_heads", int, 12),
        mlp_dim=read_field(fields, "intermediate_size", int, 3072),
        activation=activation_of(read_field(fields, "hidden_act", str, "gelu")),
        norm_eps=float(read_field(fields, "layer_norm_eps", float, 1e-12)),
        pool_norm_eps=_pool_norm_eps(fields, num_classes),
        qv_bias=read_field(fields, "qv_bias", bool, bias),
        mean_pooling=read_field(fields, "use_mean_pooling", bool, True),
    )


def _pool_norm_eps(fields: Mapping[str, Any], num_classes: int | None) -> float | None:
    """Return what config.json says. An encoder of Hugging Face that says nothing has no such norm."""
    if num_classes is None and "pool_norm_eps" not in fields:
        return None
    return float(read_field(fields, "pool_norm_eps", float, 1e-5))


def _read_v2_config(fields: Mapping[str, Any], num_classes: int | None) -> VideoMaeConfig:
    """Read what OpenGVLab/VideoMAEv2-* keeps under model_config: arguments of its `VisionTransformer`."""
    if read_field(fields, "cos_attn", bool, False):
        raise CheckpointError("config.json: cos_attn is true; attention by cosines is not supported")
    dim = read_field(fields, "embed_dim", int, 768)
    eps = float(read_field(fields, "layer_norm_eps", float, 1e-6))
    height, width = read_size(fields, "patch_size", 16)
    return VideoMaeConfig(
        num_classes=num_classes,
        num_frames=read_field(fields, "num_frames", int, 16),
        image_size=read_size(fields, "img_size", 224),
        num_channels=read_field(fields, "in_chans", int, 3),
        tubelet_size=(read_field(fields, "tubelet_size", int, 2), height, width),
        embed_dim=dim,
        depth=read_field(fields, "depth", int, 12),
        num_heads=read_field(fields, "num_heads", int, 12),
        mlp_dim=int(dim * read_field(fields, "mlp_ratio", float, 4.0)),
        norm_eps=eps,
        pool_norm_eps=eps,
        qv_bias=read_field(fields, "qkv_bias", bool, True),
        mean_pooling=read_field(fields, "use_mean_pooling", bool, True),
    )


def original_fields(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Derive the config of an original checkpoint from its tensors; None if it is not one.

    The tensors do not determine the number and the size of frames, which are 16 and 224 x 224 as published,
    nor the number of heads, which is that of the published model of this width.

    Raises
    ------
    CheckpointError
        If it is one, but its heads or positions are unknown.
    """
    # Of the original code, and of mmaction.
    layers = ("patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
    if layers[0] not in checkpoint:
        layers = ("patch_embed.projection.weight", "blocks.0.mlp.layers.0.0.weight")
    if layers[0] not in checkpoint or layers[1] not in checkpoint:
        return None
    patches, hidden = checkpoint.shape(layers[0]), checkpoint.shape(layers[1])
    if len(patches) != 5 or ("pos_embed" in checkpoint and "proj." in layers[0]) or "cls_token" in checkpoint:
        return None
    dim, channels, *tubelet = patches
    if dim not in _ORIGINAL_HEADS:
        raise CheckpointError(
            f"a VideoMAE {dim} channels wide is none of the published ones, so its number of heads is not "
            "known: put the file into a directory with a config.json that says (docs/models.md)"
        )
    return {
        "image_size": 224,
        "num_frames": 16,
        "num_channels": channels,
        "tubelet_size": tubelet[0],
        "patch_size": tubelet[1:],
        "hidden_size": dim,
        "num_hidden_layers": count_blocks(checkpoint),
        "num_attention_heads": _ORIGINAL_HEADS[dim],
        "intermediate_size": hidden[0],
        "layer_norm_eps": 1e-6,
        "pool_norm_eps": 1e-6,
        "qv_bias": "blocks.0.attn.q_bias" in checkpoint,
        "use_mean_pooling": "fc_norm.weight" in checkpoint,
    }


def protocol(config: VideoMaeConfig) -> ClipProtocol:
    """Take every fourth frame, or one from each segment where that is the task; ImageNet's mean.

    The short side becomes that of the crop. Source: kinetics.py and ssv2.py of MCG-NJU/VideoMAE.
    """
    height, width = config.image_size
    processor = {
        "image_processor_type": "VideoMAEImageProcessor",
        "size": {"shortest_edge": min(height, width)},
        "crop_size": {"height": height, "width": width},
        **_IMAGENET,
    }
    return ClipProtocol("segments" if config.num_classes == _SPARSE_CLASSES else "dense", 4, processor)


def check_positions(checkpoint: Checkpoint, config: VideoMaeConfig) -> None:
    """Compare a stored table of positions, as mmaction has it, with the one that the network computes.

    Raises
    ------
    CheckpointError
        If they differ: learned positions are not supported.
    """
    if "pos_embed" not in checkpoint:
        return
    stored = checkpoint.read("pos_embed").astype(np.float32)
    computed = sinusoids(config.sequence_length, config.embed_dim)
    stored = stored.reshape(stored.shape[-2:]) if stored.ndim > 1 else stored
    if stored.shape != computed.shape or not np.abs(stored - computed).max() <= _POSITION_ERROR:
        raise CheckpointError(
            f"{checkpoint.path}: pos_embed {shown(stored.shape)} is not the table of sines and cosines "
            f"{shown(computed.shape)} that VideoMAE computes: learned positions are not supported"
        )


CHECKPOINT_MAP = CheckpointMap(
    names=_NAMES,
    # Tensors of pre-training: the decoder, and the encoder's norm, which mean pooling does not use. mmaction
    # stores the table of positions, which we compute: see `check_positions`.
    ignored=(r"decoder\..*", r"encoder_to_decoder\..*", r"mask_token", r"norm\.(weight|bias)", r"pos_embed"),
    # Prefixes of the pre-trained encoder, and of mmaction.
    prefixes=("encoder.", "cls_head."),
    encoder_prefix="videomae.",
    read_config=read_config,
    protocol=protocol,
    check=check_positions,
    original_fields=original_fields,
)

"""Checkpoints of V-JEPA 2 in the layout of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qora_vision.models.vjepa2.network import Vjepa2Config
from qora_vision.weights.config_fields import activation_of, read_field, read_size
from qora_vision.weights.maps import HUGGING_FACE_FIELDS, CheckpointMap, ClipProtocol
from qora_vision.weights.sources import Applied, SourcePattern

_ENCODER = "vjepa2.encoder"
_LAYER = f"{_ENCODER}.layer.{{i}}"
_POOLER_LAYER = "pooler.self_attention_layers.{i}"
_CROSS = "pooler.cross_attention_layer"

# Ours -> theirs; {i} is a block. The query of the pooler is the same for all clips: it is projected here.
_NAMES: dict[str, tuple[SourcePattern, ...]] = {
    "embed": (f"{_ENCODER}.embeddings.patch_embeddings.proj",),
    "blocks.{i}.norm1": (f"{_LAYER}.norm1",),
    "blocks.{i}.attn.q": (f"{_LAYER}.attention.query",),
    "blocks.{i}.attn.k": (f"{_LAYER}.attention.key",),
    "blocks.{i}.attn.v": (f"{_LAYER}.attention.value",),
    "blocks.{i}.attn.proj": (f"{_LAYER}.attention.proj",),
    "blocks.{i}.norm2": (f"{_LAYER}.norm2",),
    "blocks.{i}.mlp.fc1": (f"{_LAYER}.mlp.fc1",),
    "blocks.{i}.mlp.fc2": (f"{_LAYER}.mlp.fc2",),
    "norm": (f"{_ENCODER}.layernorm",),
    "pooler.blocks.{i}.norm1": (f"{_POOLER_LAYER}.layer_norm1",),
    "pooler.blocks.{i}.attn.q": (f"{_POOLER_LAYER}.self_attn.q_proj",),
    "pooler.blocks.{i}.attn.k": (f"{_POOLER_LAYER}.self_attn.k_proj",),
    "pooler.blocks.{i}.attn.v": (f"{_POOLER_LAYER}.self_attn.v_proj",),
    "pooler.blocks.{i}.attn.proj": (f"{_POOLER_LAYER}.self_attn.out_proj",),
    "pooler.blocks.{i}.norm2": (f"{_POOLER_LAYER}.layer_norm2",),
    "pooler.blocks.{i}.mlp.fc1": (f"{_POOLER_LAYER}.mlp.fc1",),
    "pooler.blocks.{i}.mlp.fc2": (f"{_POOLER_LAYER}.mlp.fc2",),
    "pooler.token": ("pooler.query_tokens",),
    "pooler.query": (Applied(f"{_CROSS}.cross_attn.q_proj", "pooler.query_tokens"),),
    "pooler.kv_norm": (f"{_CROSS}.layer_norm1",),
    "pooler.k": (f"{_CROSS}.cross_attn.k_proj",),
    "pooler.v": (f"{_CROSS}.cross_attn.v_proj",),
    "pooler.norm2": (f"{_CROSS}.layer_norm2",),
    "pooler.mlp.fc1": (f"{_CROSS}.mlp.fc1",),
    "pooler.mlp.fc2": (f"{_CROSS}.mlp.fc2",),
    "head": ("classifier",),
}

# Classifiers of at most this many frames sample every fourth frame, others every second frame.
_COARSE_FRAMES = 16


def read_config(fields: Mapping[str, Any], num_classes: int | None) -> Vjepa2Config:
    """Read config.json; missing fields take the defaults of `VJEPA2Config` of transformers.

    `pooler_heads` is our own field: the reference gives the pooler as many heads as the encoder, even if it
    was trained with another number.
    """
    dim, heads = (
        read_field(fields, "hidden_size", int, 1024),
        read_field(fields, "num_attention_heads", int, 16),
    )
    height, width = read_size(fields, "patch_size", 16)
    size = read_field(fields, "crop_size", int, 256)
    return Vjepa2Config(
        num_classes=num_classes,
        num_frames=read_field(fields, "frames_per_clip", int, 64),
        image_size=(size, size),
        num_channels=read_field(fields, "in_chans", int, 3),
        tubelet_size=(read_field(fields, "tubelet_size", int, 2), height, width),
        embed_dim=dim,
        depth=read_field(fields, "num_hidden_layers", int, 24),
        num_heads=heads,
        mlp_dim=int(dim * read_field(fields, "mlp_ratio", float, 4.0)),
        activation=activation_of(read_field(fields, "hidden_act", str, "gelu")),
        norm_eps=float(read_field(fields, "layer_norm_eps", float, 1e-6)),
        qkv_bias=read_field(fields, "qkv_bias", bool, True),
        pooler_depth=read_field(fields, "num_pooler_layers", int, 3),
        pooler_heads=read_field(fields, "pooler_heads", int, heads),
        # Not `mlp_ratio`, which is the encoder's alone.
        pooler_mlp_dim=4 * dim,
    )


def protocol(config: Vjepa2Config) -> ClipProtocol:
    """Take 16 frames 4 apart, or more frames 2 apart; the processor of transformers prepares them.

    Source: the configs of evals/video_classification_frozen of facebookresearch/vjepa2.
    """
    stride = 4 if config.num_frames <= _COARSE_FRAMES else 2
    height, width = config.image_size
    processor = {
        "image_processor_type": "VJEPA2VideoProcessor",
        "crop_size": {"height": height, "width": width},
    }
    return ClipProtocol("dense", stride, processor)


CHECKPOINT_MAP = CheckpointMap(
    names=_NAMES,
    # The predictor serves training and planning.
    ignored=(r"vjepa2\.predictor\..*",),
    encoder_prefix="vjepa2.",
    read_config=read_config,
    field_names=HUGGING_FACE_FIELDS
    | {
        "image_size": "crop_size",
        "mlp_dim": "mlp_ratio",
        "num_channels": "in_chans",
        "num_frames": "frames_per_clip",
        "pooler_depth": "num_pooler_layers",
    },
    protocol=protocol,
)

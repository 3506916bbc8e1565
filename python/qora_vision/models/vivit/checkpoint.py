"""Checkpoints of ViViT: those of Hugging Face, and those of scenic, which flax saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qora_vision.models.vivit import scenic
from qora_vision.models.vivit.network import VivitConfig
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.config_fields import activation_of, read_field
from qora_vision.weights.flax_layouts import FlaxLinear, FlaxTubelets
from qora_vision.weights.maps import CheckpointMap, ClipProtocol
from qora_vision.weights.sources import SourcePattern

# Ours -> the names in every file that transformers saves, and the names of its version 5 in memory.
_HUGGING_FACE: dict[str, tuple[SourcePattern, ...]] = {
    "cls_token": ("vivit.embeddings.cls_token",),
    "pos_embed": ("vivit.embeddings.position_embeddings",),
    "embed": ("vivit.embeddings.patch_embeddings.projection",),
    "blocks.{i}.norm1": ("vivit.encoder.layer.{i}.layernorm_before", "vivit.layers.{i}.layernorm_before"),
    "blocks.{i}.attn.q": (
        "vivit.encoder.layer.{i}.attention.attention.query",
        "vivit.layers.{i}.attention.q_proj",
    ),
    "blocks.{i}.attn.k": (
        "vivit.encoder.layer.{i}.attention.attention.key",
        "vivit.layers.{i}.attention.k_proj",
    ),
    "blocks.{i}.attn.v": (
        "vivit.encoder.layer.{i}.attention.attention.value",
        "vivit.layers.{i}.attention.v_proj",
    ),
    "blocks.{i}.attn.proj": (
        "vivit.encoder.layer.{i}.attention.output.dense",
        "vivit.layers.{i}.attention.o_proj",
    ),
    "blocks.{i}.norm2": ("vivit.encoder.layer.{i}.layernorm_after", "vivit.layers.{i}.layernorm_after"),
    "blocks.{i}.mlp.fc1": ("vivit.encoder.layer.{i}.intermediate.dense", "vivit.layers.{i}.mlp.fc1"),
    "blocks.{i}.mlp.fc2": ("vivit.encoder.layer.{i}.output.dense", "vivit.layers.{i}.mlp.fc2"),
    "norm": ("vivit.layernorm",),
    "head": ("classifier",),
}
_SCENIC: dict[str, tuple[SourcePattern, ...]] = {
    "cls_token": ("cls",),
    "embed": (FlaxTubelets("embedding"),),
    **scenic.encoder_names("", "Transformer"),
    "head": (FlaxLinear("output_projection"),),
}
_NAMES = {ours: (*spellings, *_SCENIC[ours]) for ours, spellings in _HUGGING_FACE.items()}


def original_fields(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Derive the config of a scenic checkpoint from its shapes; None if it is another network."""
    if not {"cls", "Transformer/posembed_input/pos_embedding"} <= set(checkpoint):
        return None
    positions = checkpoint.shape("Transformer/posembed_input/pos_embedding")[1] - 1
    return {
        **scenic.clip_fields(checkpoint, None, positions),
        **scenic.encoder_fields(checkpoint, "Transformer", "MultiHeadDotProductAttention_0", "MlpBlock_0"),
    }


def read_config(fields: Mapping[str, Any], num_classes: int | None) -> VivitConfig:
    """Read config.json; missing fields take the defaults of transformers' `VivitConfig`."""
    return VivitConfig(
        num_classes=num_classes,
        **scenic.vit_fields(fields),
        activation=activation_of(read_field(fields, "hidden_act", str, "gelu_fast")),
        norm_eps=float(read_field(fields, "layer_norm_eps", float, 1e-6)),
        qkv_bias=read_field(fields, "qkv_bias", bool, True),
    )


def protocol(config: VivitConfig) -> ClipProtocol:
    """Spread frames over the clip, as every published example does; see docs/video.md."""
    height, width = config.image_size
    processor = {
        "image_processor_type": "VivitImageProcessor",
        "size": {"shortest_edge": min(height, width) * 256 // 224},
        "crop_size": {"height": height, "width": width},
    }
    return ClipProtocol("uniform", 2, processor)


CHECKPOINT_MAP = CheckpointMap(
    names=_NAMES,
    # Tensors that a classifier does not need.
    ignored=(r"vivit\.pooler\..*",),
    encoder_prefix="vivit.",
    read_config=read_config,
    protocol=protocol,
    original_fields=original_fields,
)

"""Checkpoints of ViViT with a factorised encoder, which scenic saves with flax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from qora_vision.errors import CheckpointError
from qora_vision.models.vivit import scenic
from qora_vision.models.vivit_factorised_encoder.network import VivitFactorisedEncoderConfig
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.config_fields import read_field
from qora_vision.weights.flax_layouts import FlaxLinear, FlaxTubelets
from qora_vision.weights.maps import CheckpointMap, ClipProtocol
from qora_vision.weights.sources import SourcePattern

_NAMES: dict[str, tuple[SourcePattern, ...]] = {
    "embed": (FlaxTubelets("embedding"),),
    "cls_token": ("cls_SpatialTransformer",),
    "temporal.cls_token": ("cls_TemporalTransformer",),
    **scenic.encoder_names("", "SpatialTransformer"),
    **scenic.encoder_names("temporal.", "TemporalTransformer"),
    "pre_logits": (FlaxLinear("pre_logits"),),
    "head": (FlaxLinear("output_projection"),),
}


def original_fields(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Derive the config from the shapes; None if it is another network.

    Raises
    ------
    CheckpointError
        If it is scenic's spatial baseline, which averages over time instead of encoding it.
    """
    positions = "SpatialTransformer/posembed_input/pos_embedding"
    if positions not in checkpoint:
        return None
    temporal = "TemporalTransformer/posembed_input/pos_embedding"
    if temporal not in checkpoint:
        raise CheckpointError("a ViViT without temporal encoder (spatial_only_baseline) is not supported")
    token = "cls_SpatialTransformer" in checkpoint
    frames, spatial = checkpoint.shape(temporal)[1] - token, checkpoint.shape(positions)[1] - token
    attention, mlp = "MultiHeadDotProductAttention_0", "MlpBlock_0"
    times = scenic.encoder_fields(checkpoint, "TemporalTransformer", attention, mlp)
    return {
        **scenic.clip_fields(checkpoint, frames, spatial),
        **scenic.encoder_fields(checkpoint, "SpatialTransformer", attention, mlp),
        **{f"temporal_{name}": value for name, value in times.items()},
        "classifier": "token" if token else "gap",
        "representation_size": scenic.representation_size(checkpoint),
    }


def read_config(fields: Mapping[str, Any], num_classes: int) -> VivitFactorisedEncoderConfig:
    """Read what `original_fields` gave; absent fields are those of size B."""
    return VivitFactorisedEncoderConfig(
        num_classes=num_classes,
        **scenic.vit_fields(fields),
        temporal_depth=read_field(fields, "temporal_num_hidden_layers", int, 4),
        temporal_num_heads=read_field(fields, "temporal_num_attention_heads", int, 12),
        temporal_mlp_dim=read_field(fields, "temporal_intermediate_size", int, 3072),
        pooling=cast(Any, read_field(fields, "classifier", str, "token")),
        pre_logits_dim=fields.get("representation_size"),
    )


def protocol(config: VivitFactorisedEncoderConfig) -> ClipProtocol:
    """Return the authors' protocol for Kinetics, or for the data set that has as many classes."""
    return scenic.protocol(config.image_size, config.num_classes)


CHECKPOINT_MAP = CheckpointMap(
    names=_NAMES,
    read_config=read_config,
    protocol=protocol,
    original_fields=original_fields,
)

"""Checkpoints of ViViT with factorised self-attention or dot product, which scenic saves with flax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qora_vision.errors import CheckpointError
from qora_vision.models.vivit import scenic
from qora_vision.models.vivit_factorised_attention.network import VivitFactorisedAttentionConfig
from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.flax_layouts import FlaxLinear, FlaxTubelets, flax_norm
from qora_vision.weights.maps import CheckpointMap, ClipProtocol
from qora_vision.weights.sources import SourcePattern

_BLOCK = "Transformer/encoderblock_{i}/"
_POSITIONS = "Transformer/posembed_input/pos_embedding"


def _attention(axis: str) -> dict[str, SourcePattern]:
    layer = f"{_BLOCK}MultiHeadDotProductAttention_{axis}/"
    names = {"q": "query", "k": "key", "v": "value"}
    inputs: dict[str, SourcePattern] = {ours: FlaxLinear(layer + theirs) for ours, theirs in names.items()}
    return {**inputs, "proj": FlaxLinear(layer + "out", inputs=2)}


# Names in blocks of factorised self-attention that differ from those of every other encoder.
_SELF_ATTENTION: dict[str, SourcePattern] = {
    "norm1": flax_norm(_BLOCK + "LayerNorm_space"),
    **{f"attn.{name}": layer for name, layer in _attention("space").items()},
    "norm2": flax_norm(_BLOCK + "LayerNorm_mlp"),
    "mlp.fc1": FlaxLinear(_BLOCK + "MlpBlock/Dense_0"),
    "mlp.fc2": FlaxLinear(_BLOCK + "MlpBlock/Dense_1"),
}
_NAMES: dict[str, tuple[SourcePattern, ...]] = {
    "embed": (FlaxTubelets("embedding"),),
    **scenic.encoder_names("", "Transformer"),
    "blocks.{i}.time_norm": (flax_norm(_BLOCK + "LayerNorm_time"),),
    **{f"blocks.{{i}}.time.{name}": (layer,) for name, layer in _attention("time").items()},
    "pre_logits": (FlaxLinear("pre_logits"),),
    "head": (FlaxLinear("output_projection"),),
}
for _name, _layer in _SELF_ATTENTION.items():
    _NAMES[f"blocks.{{i}}.{_name}"] += (_layer,)


def original_fields(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Derive the config from the shapes; None if it is another network.

    The tensors do not determine whether attention over time or over space comes first. Time first is assumed,
    as in the paper; a config.json beside the weights can state the other order.

    Raises
    ------
    CheckpointError
        If blocks are ordinary: factorised dot-product attention has the same tensors as joint attention.
    """
    if _POSITIONS not in checkpoint or "cls" in checkpoint:
        return None
    if "Transformer/encoderblock_0/LayerNorm_time/scale" not in checkpoint:
        raise CheckpointError(
            "a ViViT without CLS and with ordinary blocks: its tensors do not say whether attention is "
            "factorised. If it is (factorized_dot_product_attention), put the file into a directory with a "
            'config.json of {"model_type": "vivit_factorised_attention", "attention": "dot_product", ...}; '
            "joint attention without CLS is not supported"
        )
    return {
        **scenic.clip_fields(checkpoint, None, checkpoint.shape(_POSITIONS)[1]),
        **scenic.encoder_fields(checkpoint, "Transformer", "MultiHeadDotProductAttention_space", "MlpBlock"),
        "representation_size": scenic.representation_size(checkpoint),
    }


def read_config(fields: Mapping[str, Any], num_classes: int) -> VivitFactorisedAttentionConfig:
    """Read what `original_fields` gave, or a config.json of the same fields; absent ones are of size B."""
    return VivitFactorisedAttentionConfig(
        num_classes=num_classes,
        **scenic.vit_fields(fields),
        attention=fields.get("attention", "time_space"),
        pre_logits_dim=fields.get("representation_size"),
    )


def protocol(config: VivitFactorisedAttentionConfig) -> ClipProtocol:
    """Return the authors' protocol for Kinetics, or for the data set that has as many classes."""
    return scenic.protocol(config.image_size, config.num_classes)


CHECKPOINT_MAP = CheckpointMap(
    names=_NAMES,
    read_config=read_config,
    protocol=protocol,
    original_fields=original_fields,
)

"""The type of a checkpoint map: how published checkpoints become a model's config, tensors and clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from qora_vision.weights.checkpoints import Checkpoint
from qora_vision.weights.sources import SourcePattern

ConfigT = TypeVar("ConfigT")

# Fields of our configs -> what config.json of Hugging Face usually calls them.
HUGGING_FACE_FIELDS = {
    "activation": "hidden_act",
    "depth": "num_hidden_layers",
    "embed_dim": "hidden_size",
    "mlp_dim": "intermediate_size",
    "norm_eps": "layer_norm_eps",
    "num_heads": "num_attention_heads",
}


@dataclass(frozen=True)
class ClipProtocol:
    """How the authors of a model choose and prepare frames.

    Attributes
    ----------
    sampling, stride
        Fields of `video.Preprocessing`. They come from here in any case, since no processor of Hugging Face
        chooses frames.
    processor
        Replaces a missing preprocessor_config.json, and has its fields.
    resize_rule
        The arithmetic of resizing. None: that of the processor class that `processor` names.
    """

    sampling: Literal["uniform", "dense", "segments"]
    stride: int
    processor: Mapping[str, Any]
    resize_rule: Literal["plain"] | None = None


@dataclass(frozen=True)
class CheckpointMap(Generic[ConfigT]):
    """How checkpoints of one architecture become its config and its tensors.

    Attributes
    ----------
    names
        Name of a tensor or layer of the model -> candidates for its values in a checkpoint. The first
        candidate that a checkpoint has is used. "{i}" stands for the number of a block. A layer's name stands
        for its `weight` and its `bias`. Every tensor of the config's `tensor_specs()` must be here.
    read_config
        Makes the config from the fields of config.json and the number of classes: None where there is no
        classifier, and always a number if `encoder_prefix` is None. Fields that are missing take the defaults
        of the reference implementation.
    field_names
        Fields of the config -> their names in config.json, where they differ: errors use the latter.
    protocol
        Returns how the authors prepare clips for a model of this config.
    original_fields
        Derives the fields of config.json from the tensors of the authors' own checkpoint; returns None for
        any other checkpoint, and raises `ValueError` if the tensors do not determine the fields. None: the
        authors publish no such checkpoints.
    ignored
        Regular expressions. A tensor whose whole name matches one of them is allowed, but not read.
    prefixes
        Prefixes that every name of a checkpoint may have, and that are removed.
    check
        Raises `CheckpointError` if a checkpoint holds something that its network of this config computes, and
        computes otherwise. None: there is no such thing.
    encoder_prefix
        What Hugging Face's classifier puts before the names of its encoder. An encoder that was saved by
        itself lacks it. None: there are no checkpoints without a classifier.
    """

    names: Mapping[str, tuple[SourcePattern, ...]]
    read_config: Callable[[Mapping[str, Any], Any], ConfigT]
    protocol: Callable[[ConfigT], ClipProtocol]
    original_fields: Callable[[Checkpoint], dict[str, Any] | None] | None = None
    ignored: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    encoder_prefix: str | None = None
    field_names: Mapping[str, str] = field(default_factory=lambda: HUGGING_FACE_FIELDS)
    check: Callable[[Checkpoint, ConfigT], None] | None = None

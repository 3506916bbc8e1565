"""What a model says about checkpoints of other people: names of tensors, config, preparation of clips."""

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
        Fields of `video.Preprocessing`. They replace whatever the checkpoint says, since no processor of
        Hugging Face chooses frames.
    processor
        Replaces a missing preprocessor_config.json, and has the fields of one.
    resize_rule
        Whose arithmetic `processor` resizes with. None: that of the processor class it names.
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
        Name of a tensor or layer of the model -> where its values may come from. The first candidate that a
        checkpoint has is taken. "{i}" stands for the number of a block. A layer's name stands for its
        `weight` and its `bias`. Every tensor of the config's `tensor_specs()` must be here.
    read_config
        Makes the config from the fields of config.json and the number of classes: None where there is no
        classifier, and always a number if `encoder_prefix` is None. Fields that are missing take the defaults
        of the reference implementation.
    field_names
        Fields of the config -> their names in config.json, where they differ: errors use the latter.
    protocol
        Returns how the authors prepare clips for a model of this config.
    original_fields
        Returns the fields of config.json as the tensors of the authors' own checkpoint tell them, and None
        for any other checkpoint. It raises `ValueError` where they cannot be told. None: the authors publish
        no such checkpoints.
    ignored
        Regular expressions. A tensor whose whole name matches one of them is no fault, but is not read.
    prefixes
        Texts that may precede every name of a checkpoint and mean nothing.
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

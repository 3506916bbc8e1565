"""The base class of models, the interface of configs, and checks that all models need."""

from __future__ import annotations

import dataclasses
import itertools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints, runtime_checkable

import numpy as np

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.engine.tensors import Tensor
from qora_vision.errors import VideoError, listed, shown
from qora_vision.nn.layer import Module
from qora_vision.nn.specs import TensorScope, TensorSpec
from qora_vision.nn.workspace import Workspace, Workspaces


@dataclass(frozen=True)
class Output:
    """Result of a forward pass of one clip.

    Attributes
    ----------
    logits
        (num_classes,) float32; empty where the network has no classifier.
    embedding
        (hidden,) float32: what feeds the classifier, or the mean of the tokens where there is none.
    tokens
        (tokens, hidden) float32, what the reference calls `last_hidden_state`, of a network without a
        classifier. None where there is one: it need not compute every token.
    """

    logits: FloatArray
    embedding: FloatArray
    tokens: FloatArray | None = None


class Config(Protocol):
    """Shape of a network: a frozen dataclass of JSON values."""

    def tensor_specs(self) -> dict[str, TensorSpec]:
        """Return every tensor of the network by name."""


class ClipConfig(Config, Protocol):
    """Shape of a network that takes clips."""

    @property
    def num_classes(self) -> int | None:
        """Outputs of the classifier; None: there is none, and the network embeds."""

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, C, H, W) of a clip."""

    @property
    def num_tubelets(self) -> int:
        """Number of tubelets of a clip."""

    @property
    def sequence_length(self) -> int:
        """Number of tokens that one attention reads."""

    @property
    def embed_dim(self) -> int:
        """Channels of a token, and of the embedding."""


# See `Model.forward`.
OnBlock = Callable[[int, FloatArray], None]

NetworkT = TypeVar("NetworkT", bound="Network")


class Network(Module):
    """A network of any kind. Its constructor lists its layers; it can run after `with_weights`.

    Several threads may run a network at the same time: a pass writes only to its workspace.

    Parameters
    ----------
    config
        Shape of the network.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._workspaces = Workspaces()

    def with_weights(self: NetworkT, tensors: Mapping[str, Tensor], engine: Engine) -> NetworkT:
        """Pack the weights for an engine, and return the network itself.

        Parameters
        ----------
        tensors
            By the names of `config.tensor_specs()`. They are read one by one, and not needed afterwards.
        engine
            Packs the weights and runs the ops.
        """
        self.bind(engine, TensorScope(tensors))
        return self


class Model(Network):
    """A network that takes clips."""

    config: ClipConfig

    def forward(self, clip: FloatArray, on_block: OnBlock | None = None) -> Output:
        """Classify one clip, or embed it where there is no classifier.

        Parameters
        ----------
        clip
            (T, C, H, W) float32, preprocessed, C-contiguous, of exactly the configured size.
        on_block
            Called with 0 and the embedded tokens, then with i and the output of block i: (sequence_length,
            embed_dim) float32, valid during the call. The class of a network documents other shapes. The
            last block of a network whose classifier reads the CLS token computes only that token.

        Raises
        ------
        VideoError
            If the clip has another shape or dtype.
        """
        check_clip(clip, self.config.clip_shape)
        with self._workspaces.lend() as workspace:
            return self.run(clip, workspace, on_block)

    @abstractmethod
    def run(self, clip: FloatArray, workspace: Workspace, on_block: OnBlock | None) -> Output:
        """Compute what `forward` returns, for a checked clip and with a workspace of this pass."""


def reporter(on_block: OnBlock | None) -> Callable[[FloatArray], None]:
    """Return a function that passes tokens to `on_block`, if there is one, and counts its calls."""
    numbers = itertools.count()

    def report(x: FloatArray) -> None:
        if on_block is not None:
            on_block(next(numbers), x)

    return report


@runtime_checkable
class CausalModel(Protocol):
    """A network that also runs frame by frame: `step` over all frames of a clip equals `forward`."""

    def new_state(self) -> Any:
        """Return the state before the first frame; the caller owns it."""

    def step(self, frames: FloatArray, state: Any) -> Output:
        """Process the next (n, C, H, W) frames, update the state, and classify all frames since the start."""


def check_clip(clip: FloatArray, expected: tuple[int, int, int, int]) -> None:
    """Raise `VideoError` unless the clip is a C-contiguous float32 array of the expected (T, C, H, W)."""
    if clip.dtype != np.float32 or clip.shape != expected or not clip.flags.c_contiguous:
        raise VideoError(
            f"expected a contiguous float32 clip (T, C, H, W) = {expected}, got {clip.dtype} {clip.shape}; "
            "a model accepts one size, so frames must be sampled and resized to it"
        )


def check_fields(architecture: str, config: Any) -> None:
    """Raise `ValueError` unless a config's fields are of their declared types and its numbers positive."""
    kinds = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        name, kind, value = field.name, kinds[field.name], getattr(config, field.name)
        if not _fits(value, kind):
            raise ValueError(f"{architecture}: {name} must be {_describe(kind)}, got {shown(value)}")


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is UnionType:
        return any(value is None if part is NoneType else _fits(value, part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    return type(value) is kind and (kind is bool or 0 < value < 2**31)


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is UnionType:
        return " or ".join("null" if part is NoneType else _describe(part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        return f"{len(get_args(kind))} positive integers"
    return {bool: "true or false", int: "a positive integer", float: "a positive number"}[kind]


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a config's fields as JSON values."""
    return {
        field.name: list(value) if isinstance(value := getattr(config, field.name), tuple) else value
        for field in dataclasses.fields(config)
    }


def config_from_dict(kind: type[Any], fields: dict[str, Any]) -> Any:
    """Make a config from the fields of `config_to_dict`.

    Raises
    ------
    ValueError
        If a field is missing, unknown or invalid.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    if fields.keys() != names:
        raise ValueError(f"expected the config fields {listed(sorted(names))}; got {listed(sorted(fields))}")
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    )

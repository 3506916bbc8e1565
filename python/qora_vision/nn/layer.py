"""The interface of a layer, and layers that consist of other layers.

A layer has two states. A new layer knows only its shape, and takes almost no memory. `bind` gives it its
weights, after which it can run. The layers of a new model therefore list the tensors that it needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.nn.specs import TensorScope, TensorSpec, join_names
from qora_vision.nn.workspace import Workspace


class Layer(ABC):
    """A part of a network that has tensors of its own."""

    @abstractmethod
    def specs(self) -> dict[str, TensorSpec]:
        """Return the tensors of the layer by their names within it, in the order of model files.

        A layer with a single tensor may give it an empty name: the tensor then has the name of the layer.
        """

    @abstractmethod
    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """Pack the weights for an engine; the layer runs on it from then on.

        Parameters
        ----------
        engine
            Packs the weights and runs the ops.
        tensors
            Has every tensor of `specs`. The layer reads each tensor when it packs it, and does not keep it.
        """

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of memory that the bound layer keeps: packed weights, norms, tables."""


LayerT = TypeVar("LayerT", bound=Layer)


class Module(Layer):
    """A layer that consists of other layers. It lists them with `add`, and has no tensors of its own."""

    _engine: Engine

    def __init__(self) -> None:
        self._layers: list[tuple[str, Layer]] = []

    def add(self, name: str, layer: LayerT) -> LayerT:
        """List a sub-layer and return it. Tensors in model files have the order of these calls.

        Parameters
        ----------
        name
            Prefix of the names of its tensors. Empty: they have the prefix of this module.
        layer
            The sub-layer. If several layers use it, only one of them lists it.

        Raises
        ------
        ValueError
            If the name or the layer is listed already.
        """
        for other_name, other in self._layers:
            if other is layer or (name and other_name == name):
                raise ValueError(f"a layer is listed twice: as {other_name!r} and as {name!r}")
        self._layers.append((name, layer))
        return layer

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`; raises `ValueError` if two sub-layers have a tensor of the same name."""
        result: dict[str, TensorSpec] = {}
        for prefix, layer in self._layers:
            for name, spec in layer.specs().items():
                full = join_names(prefix, name)
                if full in result:
                    raise ValueError(f"two layers have a tensor {full!r}")
                result[full] = spec
        return result

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """Bind every sub-layer; see `Layer`."""
        self._engine = engine
        for name, layer in self._layers:
            layer.bind(engine, tensors.scope(name))

    @property
    def nbytes(self) -> int:
        """Bytes of all sub-layers."""
        return sum(layer.nbytes for _, layer in self._layers)


class LayerList(Module, Generic[LayerT]):
    """Layers that are named by their numbers: "0", "1" and so on."""

    def __init__(self, layers: Iterable[LayerT]) -> None:
        super().__init__()
        self._items = [self.add(str(number), layer) for number, layer in enumerate(layers)]

    def __iter__(self) -> Iterator[LayerT]:
        return iter(self._items)


class Branch(Module):
    """A residual step of a transformer block, with its norm: x += layer(norm(x))."""

    @abstractmethod
    def __call__(self, x: FloatArray, workspace: Workspace, sequences: int = 1) -> FloatArray:
        """Change x in place and return the rows for the next layer, which may be fewer.

        Parameters
        ----------
        x
            (sequences * rows, embed_dim) float32.
        workspace
            Buffers of this forward pass.
        sequences
            How many sequences of one length x holds, one after the other. Tokens attend to those of their
            own sequence.
        """

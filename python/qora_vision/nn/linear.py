"""Linear layers: one matrix, or several with the same input packed as one."""

from __future__ import annotations

from collections.abc import Mapping

from qora_vision.engine.ops import Activation, ActivationArray, Engine, FloatArray, PackedLinear
from qora_vision.nn.layer import Layer
from qora_vision.nn.norm import Norm
from qora_vision.nn.specs import TensorScope, TensorSpec, join_names


class PackedLayer(Layer):
    """A layer that is one `PackedLinear` once it is bound.

    Attributes
    ----------
    packed
        The weights in the layout of the engine's kernels; there are none before `bind`.
    """

    packed: PackedLinear
    _engine: Engine

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights and biases."""
        return self.packed.nbytes

    def __call__(
        self,
        x: ActivationArray,
        out: ActivationArray,
        *,
        norm: Norm | None = None,
        residual: FloatArray | None = None,
        activation: Activation | None = None,
    ) -> None:
        """Write activation(norm(x) Wᵀ + b) + residual to out.

        x is (rows, in), out and residual (rows, out). `Engine.linear` says what may overlap.
        """
        self._engine.linear(
            x,
            self.packed,
            out,
            norm=None if norm is None else norm.parameters,
            activation=activation,
            residual=residual,
        )


class Linear(PackedLayer):
    """A linear layer: tensors "weight", (out, in), and "bias", (out,), unless it has none."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.has_bias = bias

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        specs = {"weight": TensorSpec((self.out_features, self.in_features), "weight")}
        return specs | {"bias": TensorSpec((self.out_features,))} if self.has_bias else specs

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        self._engine = engine
        self.packed = engine.pack([tensors.stored("weight")], [self.bias_of(tensors)])

    def bias_of(self, tensors: TensorScope) -> FloatArray | None:
        """Return its bias (out,) from its own tensors, None where it has none."""
        return tensors.floats("bias") if self.has_bias else None


class FusedLinear(PackedLayer):
    """Several linear layers with the same input, packed as one. Outputs are in the order of the parts.

    Parameters
    ----------
    parts
        The layers by their names. They define tensors and shapes, and are not bound themselves.

    Raises
    ------
    ValueError
        If there are none, or their inputs differ in number.
    """

    def __init__(self, parts: Mapping[str, Linear]) -> None:
        if len({part.in_features for part in parts.values()}) != 1:
            raise ValueError("fused layers need the same number of inputs")
        self._parts = dict(parts)
        self.out_features = sum(part.out_features for part in parts.values())

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        return {
            join_names(name, tensor): spec
            for name, part in self._parts.items()
            for tensor, spec in part.specs().items()
        }

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        self._engine = engine
        scopes = {name: tensors.scope(name) for name in self._parts}
        self.packed = engine.pack(
            [scope.stored("weight") for scope in scopes.values()],
            [part.bias_of(scopes[name]) for name, part in self._parts.items()],
        )

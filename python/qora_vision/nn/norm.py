"""Norms over the last axis. A norm runs inside the op that reads its result, or by itself."""

from __future__ import annotations

from qora_vision.engine import ops
from qora_vision.engine.ops import Engine, FloatArray
from qora_vision.nn.layer import Layer
from qora_vision.nn.specs import TensorScope, TensorSpec


class Norm(Layer):
    """A norm of any kind, as linear layers, attention and MLPs take it.

    Attributes
    ----------
    parameters
        Argument `norm` of the engine's ops; not set before `bind`.
    """

    parameters: ops.Norm


class LayerNorm(Norm):
    """Layer norm: tensors "weight" and "bias", (features,) each."""

    _engine: Engine
    parameters: ops.LayerNorm

    def __init__(self, features: int, eps: float) -> None:
        self._features = features
        self._eps = eps

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        return {"weight": TensorSpec((self._features,)), "bias": TensorSpec((self._features,))}

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        self._engine = engine
        self.parameters = ops.LayerNorm(tensors.floats("weight"), tensors.floats("bias"), self._eps)

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors in float32."""
        return self.parameters.gamma.nbytes + self.parameters.beta.nbytes

    def __call__(self, x: FloatArray, out: FloatArray) -> None:
        """Write the norm of each row of x, (rows, features) float32, to out, which may be x."""
        self._engine.layer_norm(x, self.parameters, out)

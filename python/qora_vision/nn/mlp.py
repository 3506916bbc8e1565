"""The MLP of a transformer block."""

from __future__ import annotations

from qora_vision.engine.ops import Activation, FloatArray
from qora_vision.nn.layer import Branch
from qora_vision.nn.linear import Linear
from qora_vision.nn.norm import Norm
from qora_vision.nn.workspace import Workspace


class Mlp(Branch):
    """x += fc2(activation(fc1(norm(x)))): layers "norm2", "mlp.fc1" and "mlp.fc2"."""

    def __init__(self, norm: Norm, embed_dim: int, mlp_dim: int, activation: Activation) -> None:
        super().__init__()
        self._activation = activation
        self._norm = self.add("norm2", norm)
        self._fc1 = self.add("mlp.fc1", Linear(embed_dim, mlp_dim))
        self._fc2 = self.add("mlp.fc2", Linear(mlp_dim, embed_dim))

    def __call__(self, x: FloatArray, workspace: Workspace, sequences: int = 1) -> FloatArray:
        """Change x (rows, embed_dim) in place and return it; rows do not depend on each other."""
        self._engine.mlp(
            x,
            self._fc1.packed,
            self._fc2.packed,
            x,
            activation=self._activation,
            norm=self._norm.parameters,
            residual=x,
        )
        return x

"""Embeddings of tokens: embedded tubelets, and tables such as position embeddings."""

from __future__ import annotations

from collections.abc import Callable

from qora_vision.engine.ops import Engine, FloatArray, PackedLinear
from qora_vision.nn.layer import Layer
from qora_vision.nn.specs import TensorScope, TensorSpec


class Table(Layer):
    """Learned values, such as position embeddings: one tensor, with the name of the layer.

    Attributes
    ----------
    values
        float32 of the given shape; there are none before `bind`.
    """

    values: FloatArray

    def __init__(self, *shape: int) -> None:
        self._shape = shape

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        return {"": TensorSpec(self._shape, "table")}

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        self.values = tensors.floats("")

    @property
    def nbytes(self) -> int:
        """Bytes of the values in float32."""
        return self.values.nbytes


class ComputedTable(Layer):
    """Computed values, such as fixed position embeddings. A model file has no tensor for them.

    Parameters
    ----------
    compute
        Makes the values when the layer is bound.

    Attributes
    ----------
    values
        What `compute` returned, float32; there are none before `bind`.
    """

    values: FloatArray

    def __init__(self, compute: Callable[[], FloatArray]) -> None:
        self._compute = compute

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`: none."""
        return {}

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        self.values = self._compute()

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.values.nbytes


class TubeletEmbedding(Layer):
    """A linear layer on tubelets: tensors "weight", (out, channels, t, h, w), and "bias", (out,).

    A tubelet is a block of t frames, h rows and w columns (Arnab et al. 2021, section 3.2). With t = 1 it is
    a patch.

    Parameters
    ----------
    tubelet_size
        (t, h, w) in frames and pixels.
    num_channels
        Channels of a frame.
    embed_dim
        Number of outputs.
    """

    _engine: Engine
    _packed: PackedLinear

    def __init__(self, tubelet_size: tuple[int, int, int], num_channels: int, embed_dim: int) -> None:
        self._tubelet_size = tubelet_size
        self._shape = (embed_dim, num_channels, *tubelet_size)

    def specs(self) -> dict[str, TensorSpec]:
        """See `Layer`."""
        return {"weight": TensorSpec(self._shape, "weight"), "bias": TensorSpec(self._shape[:1])}

    def bind(self, engine: Engine, tensors: TensorScope) -> None:
        """See `Layer`."""
        self._engine = engine
        self._packed = engine.pack([tensors.stored("weight")], [tensors.floats("bias")])

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights and biases."""
        return self._packed.nbytes

    def __call__(self, clip: FloatArray, out: FloatArray, residual: FloatArray | None = None) -> None:
        """Embed the tubelets of a clip (T, C, H, W), and add a residual to them.

        out and residual are (tokens, out) float32; tokens are ordered by time, row and column.
        """
        self._engine.tubelet_embed(clip, self._tubelet_size, self._packed, out, residual=residual)

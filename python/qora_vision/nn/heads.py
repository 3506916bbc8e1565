"""Classifiers on one row of activations."""

from __future__ import annotations

import numpy as np

from qora_vision.engine.ops import FloatArray
from qora_vision.nn.layer import Module
from qora_vision.nn.linear import Linear
from qora_vision.nn.norm import LayerNorm


class Head(Module):
    """A linear layer "head" on one row, after an optional tanh layer "pre_logits".

    Parameters
    ----------
    embed_dim
        Length of the row.
    num_classes
        Number of outputs.
    pre_logits_dim
        Width of the tanh layer. None: there is none.
    """

    def __init__(self, embed_dim: int, num_classes: int, pre_logits_dim: int | None = None) -> None:
        super().__init__()
        self._pre_logits = (
            None if pre_logits_dim is None else self.add("pre_logits", Linear(embed_dim, pre_logits_dim))
        )
        self._linear = self.add("head", Linear(pre_logits_dim or embed_dim, num_classes))

    def __call__(self, row: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Classify a (1, embed_dim) float32 row.

        Returns
        -------
        Logits (num_classes,), and the embedding that the linear layer reads, both float32.
        """
        if self._pre_logits is not None:
            wide = np.empty((1, self._pre_logits.out_features), np.float32)
            self._pre_logits(row, wide)
            row = np.tanh(wide)
        logits = np.empty((1, self._linear.out_features), np.float32)
        self._linear(row, logits)
        return logits[0], row[0]


class NormedHead(Module):
    """A layer norm and a linear layer "head" on one row; the norm of the row is the embedding.

    Parameters
    ----------
    norm_name, norm
        The layer norm and its name.
    embed_dim, num_classes
        As of `Head`.
    """

    def __init__(self, norm_name: str, norm: LayerNorm, embed_dim: int, num_classes: int) -> None:
        super().__init__()
        self._norm = self.add(norm_name, norm)
        self._head = self.add("", Head(embed_dim, num_classes))

    def __call__(self, row: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Classify a (1, embed_dim) float32 row; see `Head`."""
        embedding = np.empty((1, row.shape[1]), np.float32)
        self._norm(row, embedding)
        return self._head(embedding)

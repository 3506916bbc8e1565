"""The ends of networks: classifiers on one row of activations, and the mean of all rows."""

from __future__ import annotations

import numpy as np

from qora_vision.engine.ops import FloatArray
from qora_vision.nn.layer import Module
from qora_vision.nn.linear import Linear
from qora_vision.nn.norm import LayerNorm

# What a network that has no classifier gives in place of logits.
_NO_LOGITS = np.empty(0, np.float32)


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


class TokenMean(Module):
    """The end of a network without a classifier: the embedding is the mean of its tokens.

    Parameters
    ----------
    token_norm
        Name and layer norm that each token goes through first. None: there is none.
    mean_norm
        Name and layer norm that the mean goes through. None: there is none.
    """

    def __init__(
        self, token_norm: tuple[str, LayerNorm] | None = None, mean_norm: tuple[str, LayerNorm] | None = None
    ) -> None:
        super().__init__()
        self._token_norm = None if token_norm is None else self.add(*token_norm)
        self._mean_norm = None if mean_norm is None else self.add(*mean_norm)

    def __call__(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Average (rows, embed_dim) float32 tokens.

        Returns
        -------
        No logits (0,), the embedding (embed_dim,), and the tokens after their norm (rows, embed_dim): a new
        array. All are float32.
        """
        tokens = x.copy()
        if self._token_norm is not None:
            self._token_norm(x, tokens)
        mean = tokens.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
        if self._mean_norm is not None:
            self._mean_norm(mean, mean)
        return _NO_LOGITS, mean[0], tokens

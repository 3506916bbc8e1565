"""Rounding a weight so that the errors of its values cancel in the outputs, on given inputs.

GPTQ: Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", section 3, which is optimal brain surgeon (Hassibi & Stork 1993) for one value after the other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qora_vision.engine.ops import quantize
from qora_vision.engine.tensors import GROUP_SIZE, QuantizedTensor

# Damping: this share of the mean diagonal of the Gram matrix is added to the diagonal, because a few clips do
# not represent all inputs.
DAMPING = 0.05
LIMITS = {"q4": (-8, 7), "q8": (-127, 127)}

Doubles = NDArray[np.float64]
FloatArray = NDArray[np.float32]


def quantize_for_inputs(
    weight: NDArray[Any], gram: NDArray[Any], kind: str, threads: int = 0
) -> QuantizedTensor:
    """Quantise a weight so that its layer's outputs, not its values, change little.

    Columns are rounded one after the other. The following columns compensate the error of each, as far as the
    inputs correlate. The search of `quantize` chooses the scales of a group of 32 columns from their values
    at the time that the group is rounded.

    Parameters
    ----------
    weight
        (out, in...) floating-point, finite.
    gram
        (in, in): sum of x xᵀ over inputs x of the layer.
    kind
        "q4" or "q8".
    threads
        0: the process default.

    Returns
    -------
    QuantizedTensor
        This result or that of `quantize`, whichever changes the outputs less on these inputs.

    Raises
    ------
    ValueError
        If a weight is not finite or too large for a float16 scale, shapes do not fit, or the inputs were not
        finite.
    """
    plain = quantize(weight, kind, threads)
    columns = math.prod(weight.shape[1:])
    if gram.shape != (columns, columns):
        raise ValueError(f"expected inputs of {columns} features, got a Gram matrix {gram.shape}")
    if not np.isfinite(gram).all():
        raise ValueError("the layer's inputs are not finite, or too large to be squared")
    matrix = np.asarray(weight, np.float32).reshape(len(weight), columns)
    rounded = _round_columns(matrix, gram, kind, threads)
    if output_error(matrix, rounded, gram) < output_error(matrix, plain, gram):
        return QuantizedTensor(kind, plain.shape, rounded.data, rounded.scales)
    return plain


def output_error(matrix: FloatArray, tensor: QuantizedTensor, gram: NDArray[Any]) -> float:
    """Return the sum of squared errors of a layer's outputs over the inputs of a Gram matrix."""
    error = tensor.dequantize().reshape(matrix.shape) - matrix
    return float(np.vdot(error @ gram.astype(np.float32, copy=False), error))


def _round_columns(matrix: FloatArray, gram: NDArray[Any], kind: str, threads: int) -> QuantizedTensor:
    """Round a matrix (out, in) column by column, and spread each error over the columns that follow."""
    low, high = LIMITS[kind]
    rows, columns = matrix.shape
    spread = _spreading(gram)
    rest = np.ascontiguousarray(matrix.T)  # (in, out), so that each column is contiguous
    groups = -(-columns // GROUP_SIZE)
    q = np.zeros((groups * GROUP_SIZE, rows), np.int8)
    scales = np.zeros((rows, groups), np.float16)
    for group in range(groups):
        start, stop = group * GROUP_SIZE, min((group + 1) * GROUP_SIZE, columns)
        scales[:, group] = quantize(rest[start:stop].T, kind, threads).scales[:, 0]
        scale = scales[:, group].astype(np.float32)
        inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
        errors = np.empty((stop - start, rows), np.float32)
        for i, at in enumerate(range(start, stop)):
            levels = np.clip(np.rint(rest[at] * inverse), low, high)
            q[at] = levels
            errors[i] = (rest[at] - levels * scale) / spread[at, at]
            rest[at + 1 : stop] -= np.outer(spread[at, at + 1 : stop], errors[i])
        rest[stop:] -= spread[start:stop, stop:].T @ errors
    return QuantizedTensor(kind, (rows, columns), _pack(np.ascontiguousarray(q.T), kind), scales)


def _spreading(gram: NDArray[Any]) -> FloatArray:
    """Return the upper Cholesky factor U of H⁻¹ = Uᵀ U, where H is the damped Gram matrix.

    The error e of column j is spread over the columns k that follow as e / U[j, j] · U[j, k]. With H = R Rᵀ
    for an upper triangular R, U is R⁻¹. R comes from the usual factorisation of H read backwards.
    """
    damped = gram.astype(np.float64)
    diagonal = np.einsum("ii->i", damped)
    diagonal += DAMPING * diagonal.mean()
    diagonal[diagonal == 0] = 1.0  # the input is always zero: any rounding is right
    backwards = np.linalg.cholesky(damped[::-1, ::-1])
    return _invert_upper(np.asarray(backwards[::-1, ::-1], np.float64)).astype(np.float32)


def _invert_upper(matrix: Doubles) -> Doubles:
    """Return the inverse of an upper triangular matrix, recursively: a sixth of the work of a general one."""
    size = len(matrix)
    if size <= 128:
        return np.triu(np.linalg.inv(matrix))
    half = size // 2
    inverse = np.zeros((size, size))
    inverse[:half, :half] = _invert_upper(matrix[:half, :half])
    inverse[half:, half:] = _invert_upper(matrix[half:, half:])
    inverse[:half, half:] = -inverse[:half, :half] @ matrix[:half, half:] @ inverse[half:, half:]
    return inverse


def _pack(q: NDArray[np.int8], kind: str) -> NDArray[Any]:
    """Return the stored form of integers (out, in_padded); see `QuantizedTensor`."""
    if kind == "q8":
        return q
    biased = (q + 8).astype(np.uint8)
    return biased[:, 0::2] | biased[:, 1::2] << 4

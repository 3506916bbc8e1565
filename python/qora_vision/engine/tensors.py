"""Quantised weights as they are stored: groups of 32 along the input, one half-precision scale a group."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

GROUP_SIZE = 32
KINDS = ("q4", "q8")


@dataclass(frozen=True)
class QuantizedTensor:
    """A weight matrix in 4 or 8 bits: `weight = scale * q`, symmetric, in groups of 32 along the input.

    The logical shape `(out, in...)` is flattened to `(out, in)`; rows are padded with zeros to a multiple of
    32. The layout is canonical: the same for every CPU.

    Attributes
    ----------
    kind
        `"q4"` or `"q8"`.
    shape
        Logical shape `(out, in...)`, at least two dimensions, none of them 0.
    data
        `q4`: `(out, in_padded // 2)` uint8. Byte `j` of a row holds value `2j` in its low nibble and `2j + 1`
        in its high one, each stored as `q + 8` with `q` in -8..7. `q8`: `(out, in_padded)` int8, -127..127.
    scales
        `(out, in_padded // 32)` float16.

    Raises
    ------
    ValueError
        If kind, shape, data and scales do not match.
    """

    kind: str
    shape: tuple[int, ...]
    data: npt.NDArray[Any]
    scales: npt.NDArray[np.float16]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"unknown kind of quantised tensor {self.kind!r}: expected one of {', '.join(KINDS)}"
            )
        if len(self.shape) < 2 or min(self.shape) < 1:
            raise ValueError(
                f"a quantised tensor needs a shape (out, in...) without zeros, but it is {self.shape}"
            )
        rows, columns = self.shape[0], self.padded_inputs
        wanted_type = np.dtype(np.uint8 if self.kind == "q4" else np.int8)
        wanted_shape = (rows, columns // 2 if self.kind == "q4" else columns)
        for what, array, dtype, shape in (
            ("data", self.data, wanted_type, wanted_shape),
            ("scales", self.scales, np.dtype(np.float16), (rows, columns // GROUP_SIZE)),
        ):
            if array.dtype != dtype or array.shape != shape:
                raise ValueError(
                    f"{what} of a {self.kind} tensor of shape {self.shape} must be {dtype} {shape}, "
                    f"but it is {array.dtype} {array.shape}"
                )

    @property
    def padded_inputs(self) -> int:
        """Length of a row of values: the product of `shape[1:]`, rounded up to a multiple of 32."""
        return -(-math.prod(self.shape[1:]) // GROUP_SIZE) * GROUP_SIZE

    def __getitem__(self, rows: slice) -> QuantizedTensor:
        """Return some outputs, without copying them."""
        data, scales = self.data[rows], self.scales[rows]
        return QuantizedTensor(self.kind, (len(data), *self.shape[1:]), data, scales)

    @property
    def nbytes(self) -> int:
        """Bytes that values and scales take."""
        return int(self.data.nbytes + self.scales.nbytes)

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return the weights that this tensor stands for: float32 of the logical shape."""
        rows, columns = self.shape[0], self.padded_inputs
        values = np.empty((rows, columns), np.float32)
        if self.kind == "q4":
            values[:, 0::2] = self.data & 0x0F
            values[:, 1::2] = self.data >> 4
            values -= 8.0
        else:
            values[:] = self.data
        groups = values.reshape(rows, columns // GROUP_SIZE, GROUP_SIZE)
        groups *= self.scales.astype(np.float32)[:, :, None]
        return np.ascontiguousarray(values[:, : math.prod(self.shape[1:])]).reshape(self.shape)


# The type of a model's weight; arrays are float32 or float16.
Tensor: TypeAlias = npt.NDArray[Any] | QuantizedTensor

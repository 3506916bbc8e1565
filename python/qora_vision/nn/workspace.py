"""Buffers for the activations of a forward pass, allocated once and used again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from qora_vision.engine.ops import ActivationArray, ActivationType, FloatArray


class Workspace:
    """Activations of a forward pass or a stream, allocated once and used by every block."""

    def __init__(self) -> None:
        self._memory: dict[str, FloatArray] = {}
        self._arrays: dict[str, ActivationArray] = {}

    def floats(self, name: str, *shape: int) -> FloatArray:
        """Return the float32 buffer of this name in a shape. It still holds its last content.

        A name stands for one piece of memory. A request with another shape may lose the content.
        """
        return self.activations(name, np.float32, *shape)

    def activations(self, name: str, dtype: ActivationType, *shape: int) -> ActivationArray:
        """Return a buffer as `floats` does, of float32 or of bf16 (uint16)."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            size = math.prod(shape)
            floats = -(-size * np.dtype(dtype).itemsize // 4)
            if name not in self._memory or self._memory[name].size < floats:
                self._memory[name] = _aligned_floats(floats)
            array = self._arrays[name] = self._memory[name].view(dtype)[:size].reshape(shape)
        return array


class Workspaces:
    """The workspaces of a model. Each forward pass borrows one; concurrent passes borrow different ones.

    Workspaces are kept, because allocating large buffers for each pass costs a small model 4 % of its time.
    """

    def __init__(self) -> None:
        self._free: list[Workspace] = []

    @contextmanager
    def lend(self) -> Iterator[Workspace]:
        """Yield a workspace that no other pass uses until the context ends."""
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = Workspace()
        yield workspace
        self._free.append(workspace)


def _aligned_floats(size: int) -> FloatArray:
    """Allocate an array that starts at a cache line. NumPy aligns to 16 bytes, so vectors may cross lines."""
    line = 16
    memory = np.empty(size + line - 1, np.float32)
    begin = -memory.ctypes.data // memory.itemsize % line
    return memory[begin : begin + size]

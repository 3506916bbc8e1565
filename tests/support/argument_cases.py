"""Helpers of the tests of wrong arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kernel_cases import ISAS
from numpy.typing import NDArray

ISA = ISAS[-1]


def ones(*shape: int, dtype: Any = np.float32) -> NDArray:
    return np.ones(shape, dtype)


def frozen(*shape: int) -> NDArray:
    array = ones(*shape)
    array.flags.writeable = False
    return array


def refused(call: Callable[..., object], arguments: dict[str, Any], op: str, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call(**arguments)
    assert op in str(caught.value)

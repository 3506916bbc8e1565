"""What the recurrent ops refuse, each with an error that names the op."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from argument_cases import ISA, frozen, ones, refused

from qora_vision import _core

# What is wrong, and a word of the message. The rest of the call is right.
SHARED = ones(6, 8)
BAD_CONV: list[tuple[dict[str, Any], str]] = [
    ({"x": ones(6, 8, dtype=np.float64)}, "float64"),
    ({"x": ones(5, 8), "out": ones(5, 8)}, "no whole number of frames of 2 tokens"),
    ({"weight": ones(4, 7)}, r"\(taps, 8\)"),
    ({"weight": ones(1, 8)}, "2 to 64 taps"),
    ({"bias": ones(7)}, "bias"),
    ({"history": ones(5, 8)}, "the history must be float32"),
    ({"history": frozen(6, 8)}, "read-only"),
    ({"out": ones(6, 7)}, "the output must be float32"),
    ({"out": ones(2, 6, 4)}, "the output must be float32"),
    ({"x": SHARED, "out": SHARED}, "overlaps the input"),
    ({"history": SHARED, "out": SHARED}, "overlaps the history"),
]


@pytest.mark.parametrize("index", range(len(BAD_CONV)))
def test_causal_conv_refuses(index: int) -> None:
    wrong, message = BAD_CONV[index]
    right = {
        "x": ones(6, 8),
        "weight": ones(4, 8),
        "bias": ones(8),
        "history": ones(6, 8),
        "isa": ISA,
        "out": ones(6, 8),
    }
    _core.causal_conv(**right)
    refused(_core.causal_conv, right | wrong, "causal_conv", message)


BAD_RECURRENCE: list[tuple[dict[str, Any], str]] = [
    ({"x": ones(6, 8, dtype=np.uint16)}, "the input must be float32"),
    ({"x": ones(5, 8)}, "no whole number of frames of 2 tokens"),
    ({"input_gate": ones(6, 7)}, "the input gate must be"),
    ({"decay_gate": ones(4, 8)}, "the decay gate must be"),
    ({"decay": ones(7)}, "decay"),
    ({"branch": ones(6, 9)}, "the branch must be"),
    ({"state": ones(2, 7)}, "the state must be"),
    ({"state": ones(0, 8)}, "no whole number of frames of 0 tokens"),
    ({"out": frozen(6, 8)}, "read-only"),
    ({"branch": SHARED, "out": SHARED}, "overlaps a gate"),
]


@pytest.mark.parametrize("index", range(len(BAD_RECURRENCE)))
def test_gated_recurrence_refuses(index: int) -> None:
    wrong, message = BAD_RECURRENCE[index]
    right = {
        **{name: ones(6, 8) for name in ("x", "input_gate", "decay_gate", "branch", "out")},
        "decay": -ones(8),
        "fresh": False,
        "state": ones(2, 8),
        "isa": ISA,
    }
    _core.gated_recurrence(**right)
    refused(_core.gated_recurrence, right | wrong, "gated_recurrence", message)

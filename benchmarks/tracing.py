"""Trace a forward pass: every native call with its time and its arithmetic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from qora_vision import _core


@dataclass(frozen=True)
class Call:
    """One native call.

    Attributes
    ----------
    op
        Name in `_core`.
    family
        Operand family of its products, empty where it has none.
    operations
        Of its products; a multiply-add counts twice.
    shape
        linear, tubelet_embed, mlp: (rows, inputs, outputs of the first layer).
        attention, short_attention, window_attention: (sequences, queries, keys of each, heads, head_dim).
    seconds
        From call to return, conversion of arguments included.
    """

    op: str
    family: str
    operations: float
    shape: tuple[int, ...]
    seconds: float


def _describe(op: str, arguments: tuple[Any, ...]) -> tuple[str, float, tuple[int, ...]]:
    """Return family, operations and shape of a call by the positions of its arguments."""
    if op == "linear":
        x, weight = arguments[:2]
        shape = (x.shape[0], weight.in_features, weight.out_features)
        return weight.family, 2.0 * shape[0] * shape[1] * shape[2], shape
    if op == "tubelet_embed":
        weight, out = arguments[2], arguments[4]
        shape = (out.shape[0], weight.in_features, weight.out_features)
        return weight.family, 2.0 * shape[0] * shape[1] * shape[2], shape
    if op == "mlp":
        x, fc1 = arguments[0], arguments[2]
        shape = (x.shape[0], fc1.in_features, fc1.out_features)
        return fc1.family, 4.0 * shape[0] * shape[1] * shape[2], shape
    if op in ("attention", "short_attention"):
        sequences, queries, heads, head_dim = arguments[0].shape
        keys = arguments[1].shape[1]
        family = arguments[4] if op == "attention" else "f32"
    elif op == "window_attention":
        sequences, rows, heads, head_dim = arguments[0].shape
        queries, keys, family = rows - 1, prod(map(min, arguments[4], arguments[5])), arguments[8]
    else:
        return "", 0.0, ()
    shape = (sequences, queries, keys, heads, head_dim)
    return family, 4.0 * prod(shape), shape


@contextmanager
def tracing() -> Iterator[list[Call]]:
    """Yield a list that every native op appends itself to while the context lasts."""
    calls: list[Call] = []
    own: dict[str, Any] = {
        name: value for name, value in vars(_core).items() if name in _OPS and callable(value)
    }

    def traced(op: str, run: Any) -> Any:
        def wrapper(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = run(*arguments)
            seconds = time.perf_counter() - started
            calls.append(Call(op, *_describe(op, arguments), seconds))
            return result

        return wrapper

    try:
        for name, value in own.items():
            setattr(_core, name, traced(name, value))
        yield calls
    finally:
        for name, value in own.items():
            setattr(_core, name, value)


# Everything that models call between a clip and its logits.
_OPS = (
    "all_finite",
    "attention",
    "causal_conv",
    "gated_recurrence",
    "layer_norm",
    "linear",
    "mlp",
    "rms_norm",
    "rotate",
    "short_attention",
    "tubelet_embed",
    "window_attention",
)

"""The error of the arithmetic of each operand family, on random normal data.

    python -m benchmarks.accuracy [--seed 0]

Every op runs on every instruction set that this CPU has, and is compared with the same op in float64. Linear
layers are compared using the weights as they are stored, so those figures are the error of the arithmetic
only. The error of the stored forms is in a table of its own. Errors are |difference| / |result| (Euclidean
norms over the whole output); for layer norm and GELU, whose results pass through zero, the largest absolute
difference.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np

from qora_vision import _core
from qora_vision.engine.ops import Engine, LayerNorm, available_isas, quantize

# The sizes of ViViT-B: embedding, hidden layer, head, and tokens as keys. Rows and queries are a sample.
DIM, HIDDEN, HEAD_DIM, KEYS, ROWS = 768, 3072, 64, 3137, 96


def distance(got, exact) -> float:
    """Return the Euclidean distance relative to the exact result's length."""
    return float(np.linalg.norm(got - exact) / np.linalg.norm(exact))


def stored_weights(weight) -> dict[str, tuple]:
    """Return what `set_rows` takes of each stored form, and the float32 weights that it stands for."""
    half = weight.astype(np.float16)
    forms = {"f32": (weight, None, weight), "f16": (half, None, half.astype(np.float32))}
    for kind in ("q8", "q4"):
        tensor = quantize(weight, kind)
        forms[kind] = (tensor.data, tensor.scales, tensor.dequantize())
    return forms


def linear_error(isa: str, family: str, x, form) -> float:
    """Return the error of one linear layer without bias."""
    data, scales, weight = form
    packed = _core.PackedLinear(isa, family, *weight.shape)
    packed.set_rows(0, data, scales, None)
    out = np.empty((len(x), len(weight)), np.float32)
    _core.linear(x, packed, None, None, None, out)
    return distance(out, x.astype(np.float64) @ weight.T.astype(np.float64))


def attention_error(isa: str, family: str, spread: float, seed: int) -> float:
    """Return the error of one head whose scores have the given standard deviation (in units of e)."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((1, n, 1, HEAD_DIM), np.float32) for n in (ROWS, KEYS, KEYS))
    q *= np.float32(spread)
    out = np.empty((ROWS, HEAD_DIM), np.float32)
    _core.attention(q, k, v, HEAD_DIM**-0.5, family, isa, out)
    a, b, c = (t[0, :, 0].astype(np.float64) for t in (q, k, v))
    scores = a @ b.T / math.sqrt(HEAD_DIM)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return distance(out, weights / weights.sum(axis=1, keepdims=True) @ c)


def gelu_error(isa: str, name: str) -> float:
    """Return the largest error of a form of GELU on [-12, 12]: an identity layer that ends in it."""
    x = np.linspace(-12, 12, 4001, dtype=np.float32)[:, None]
    engine = Engine("exact", isa=isa)
    out = np.empty_like(x)
    engine.linear(x, engine.pack([np.ones((1, 1), np.float32)], [None]), out, activation=name)
    t = x.astype(np.float64)
    if name == "gelu":
        exact = 0.5 * t * np.vectorize(math.erfc)(-t / math.sqrt(2))
    else:
        exact = 0.5 * t * (1 + np.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3)))
    return float(np.abs(out - exact).max())


def norm_error(isa: str, x) -> float:
    """Return the largest error of a layer norm with gamma one and beta zero."""
    out, eps = np.empty_like(x), 1e-6
    norm = LayerNorm(np.ones(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32), eps)
    Engine("exact", isa=isa).layer_norm(x, norm, out)
    t = x.astype(np.float64)
    exact = (t - t.mean(1, keepdims=True)) / np.sqrt(t.var(1, keepdims=True) + eps)
    return float(np.abs(out - exact).max())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    arguments, isas = parser.parse_args(), available_isas()

    def show(what: str, measure: Callable[[str], float]) -> None:
        print("| " + " | ".join([what, *(f"{measure(isa):.1e}" for isa in isas)]) + " |", flush=True)

    rng = np.random.default_rng(arguments.seed)
    print(f"| op | {' | '.join(isas)} |\n|---|" + "---|" * len(isas))
    for inputs in (DIM, HIDDEN):
        x = rng.standard_normal((ROWS, inputs), np.float32)
        forms = stored_weights(rng.standard_normal((DIM, inputs), np.float32) / np.float32(inputs) ** 0.5)
        for family, kind in (("f32", "f32"), ("bf16", "f32"), ("i8", "f32"), ("i8", "q4"), ("q4", "q4")):
            label = f"linear {inputs} to {DIM}, {family}, {kind} weights"
            show(label, lambda isa, f=family, x=x, form=forms[kind]: linear_error(isa, f, x, form))
    for family in ("f32", "bf16", "i16", "i8"):
        for spread in (1.0, 3.0):
            label = f"attention, {KEYS} keys, {family}, scores N(0, {spread:g}²)"
            show(label, lambda isa, f=family, s=spread: attention_error(isa, f, s, arguments.seed))
    show("layer norm of 768, largest", lambda isa: norm_error(isa, x[:, :DIM].copy()))
    for name in ("gelu", "gelu_tanh"):
        show(f"{name} on [-12, 12], largest", lambda isa, name=name: gelu_error(isa, name))

    print("\n| stored weights | relative error |\n|---|---|")
    for kind in ("f16", "q8", "q4"):
        print(f"| {kind} | {distance(forms[kind][2], forms['f32'][2]):.1e} |")


if __name__ == "__main__":
    main()

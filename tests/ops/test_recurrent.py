"""RMS norm, causal convolution and the RG-LRU on every instruction set, number by number against float64."""

from __future__ import annotations

import bounds
import numpy as np
import pytest
import recurrent_bounds
from kernel_cases import ISAS, activations, floats, framed, framed_vector, guarded, layer
from numpy.typing import NDArray

from qora_vision import _core

pytestmark = pytest.mark.parametrize("isa", ISAS)

WIDTHS = [1, 7, 8, 15, 16, 17, 33, 128, 197]


@pytest.mark.parametrize("features", [*WIDTHS, 768])
def test_rms_norm(isa: str, features: int) -> None:
    rng = np.random.default_rng(81)
    gamma = framed_vector((1 + 0.3 * rng.standard_normal(features)).astype(np.float32))
    for rows in (1, 3, 33):
        x = activations(rng, rows, features)
        out = guarded(rows, features)
        _core.rms_norm(x, gamma, 1e-6, isa, out.array, 2)
        out.assert_intact("rms_norm")
        bounds.assert_within(out.array, bounds.rms_norm(x, gamma, 1e-6), f"{rows} x {features}")


@pytest.mark.parametrize("family", ["f32", "bf16", "i8"])
def test_rms_norm_before_a_linear_layer(isa: str, family: str) -> None:
    rng = np.random.default_rng(82)
    weights = layer(rng, isa, family, "f32", 40, 70)
    gamma = framed_vector((1 + 0.3 * rng.standard_normal(70)).astype(np.float32))
    x, out = activations(rng, 21, 70), guarded(21, 40)
    _core.linear(x, weights.packed, (gamma, None, 1e-6), None, None, out.array, 1)
    bound = bounds.linear(family, x, weights.weight, weights.bias, norm=(gamma, None, 1e-6), model=False)
    bounds.assert_within(out.array, bound, family)


def sequence(rng: np.random.Generator, frames: int, tokens: int, width: int) -> NDArray[np.float32]:
    return floats(rng, frames, tokens, width)


def rows_of(x: NDArray) -> NDArray:
    return framed(x.reshape(-1, x.shape[-1]))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("frames", "tokens", "taps"), [(1, 1, 2), (2, 5, 4), (9, 3, 4), (3, 2, 7)])
def test_causal_conv(isa: str, width: int, frames: int, tokens: int, taps: int) -> None:
    rng = np.random.default_rng(83)
    x, weight, bias = sequence(rng, frames, tokens, width), floats(rng, taps, width), floats(rng, width)
    expected = recurrent_bounds.causal_conv(x, weight, bias)
    # In one piece, and in two: history carries over. Histories shorter and longer than a piece occur.
    for cut in {0, frames // 2, frames - 1}:
        history = guarded((taps - 1) * tokens, width)
        history.array[...] = 0
        parts = []
        for piece in (x[:cut], x[cut:]):
            out = guarded(len(piece) * tokens, width)
            _core.causal_conv(rows_of(piece), weight, framed_vector(bias), history.array, isa, out.array, 2)
            out.assert_intact("causal_conv")
            parts.append(out.array.reshape(piece.shape))
        bounds.assert_within(np.concatenate(parts), expected, f"cut at {cut}")
        past = np.concatenate([np.zeros((taps - 1, tokens, width)), x])[-(taps - 1) :]
        np.testing.assert_array_equal(history.array, past.reshape(-1, width))
        history.assert_intact("causal_conv's history")


def recurrence_case(rng: np.random.Generator, frames: int, tokens: int, width: int) -> tuple[NDArray, ...]:
    """Input, gates of all magnitudes, decays from none to sudden, branch."""
    x, input_gate, decay_gate, branch = (sequence(rng, frames, tokens, width) for _ in range(4))
    decay = -np.exp(rng.uniform(-9, 4, width)).astype(np.float32)
    return x, 4 * input_gate, 4 * decay_gate, decay, branch


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (2, 5), (9, 3), (40, 2)])
def test_gated_recurrence(isa: str, width: int, frames: int, tokens: int) -> None:
    rng = np.random.default_rng(84)
    x, input_gate, decay_gate, decay, branch = recurrence_case(rng, frames, tokens, width)
    expected = recurrent_bounds.gated_recurrence(x, input_gate, decay_gate, decay, None)
    for cut in {0, frames // 2}:
        state = guarded(tokens, width)
        parts = []
        for begin, end in ((0, cut), (cut, frames)):
            out = guarded((end - begin) * tokens, width)
            _core.gated_recurrence(
                *(rows_of(each[begin:end]) for each in (x, input_gate, decay_gate)),
                framed_vector(decay),
                rows_of(branch[begin:end]),
                begin == 0,
                state.array,
                isa,
                out.array,
                2,
            )
            out.assert_intact("gated_recurrence")
            parts.append(out.array.reshape(-1, tokens, width))
        state.assert_intact("gated_recurrence's state")
        last = bounds.Bounded(expected.value[-1], expected.error[-1])
        bounds.assert_within(state.array, last, "the state")
        size = np.abs(branch)
        out_bound = bounds.rounded(bounds.Bounded(expected.value * branch, expected.error * size))
        bounds.assert_within(np.concatenate(parts), out_bound, f"cut at {cut}")


def test_recurrence_in_place_and_from_a_state(isa: str) -> None:
    rng = np.random.default_rng(85)
    x, input_gate, decay_gate, decay, branch = recurrence_case(rng, 3, 4, 21)
    before = floats(rng, 4, 21)
    state, out = before.copy(), x.reshape(-1, 21).copy()
    gates = (rows_of(input_gate), rows_of(decay_gate))
    _core.gated_recurrence(out, *gates, decay, rows_of(branch), False, state, isa, out, 1)
    expected = recurrent_bounds.gated_recurrence(x, input_gate, decay_gate, decay, before)
    bounds.assert_within(state, bounds.Bounded(expected.value[-1], expected.error[-1]), "from a state")
    assert np.isfinite(out).all()


def test_gates_far_out(isa: str) -> None:
    """Shut and open gates: the state is kept for ever, or forgotten at once; nothing overflows."""
    x = np.ones((1, 8), np.float32)
    for gate, decay, expected in ((-1e30, -1.0, 5.0), (1e30, -1e30, 1.0), (1e30, 0.0, 5.0)):
        state, out = np.full((1, 8), 5, np.float32), np.empty((1, 8), np.float32)
        gates = np.full((1, 8), gate, np.float32)
        rates = np.full(8, decay, np.float32)
        _core.gated_recurrence(x, np.full_like(x, 1e30), gates, rates, x, False, state, isa, out, 1)
        np.testing.assert_allclose(state, expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_shows(isa: str, bad: float) -> None:
    rng = np.random.default_rng(86)
    case = dict(
        zip(("x", "input_gate", "decay_gate", "decay", "branch"), recurrence_case(rng, 2, 1, 19), strict=True)
    )
    rows = {name: value.reshape(-1, 19).copy() for name, value in case.items() if name != "decay"}
    rows["x"][0, 17] = bad
    state, out = np.zeros((1, 19), np.float32), np.empty((2, 19), np.float32)
    _core.gated_recurrence(**rows, decay=case["decay"], fresh=True, state=state, isa=isa, out=out)
    assert not np.isfinite(out[:, 17]).any()
    assert np.isfinite(np.delete(out, 17, axis=1)).all()

"""Results do not depend on threads: how many an op uses, when it runs, what else runs at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import reference
from kernel_cases import (
    ATTENTION_FAMILIES,
    ISAS,
    LINEAR_FAMILIES,
    activations,
    floats,
    layer,
    norm_params,
    set_weight,
)
from numpy.typing import NDArray

from qora_vision import _core
from qora_vision.engine.ops import Engine, cpu_info, set_num_threads

THREADS = (1, 2, 3, 7)

Op = Callable[[int], NDArray]


def linear_op(isa: str, family: str, rows: int, columns: int, seed: int = 101) -> Op:
    rng = np.random.default_rng(seed)
    weights = layer(rng, isa, family, "q4", columns, 130)
    x, norm = activations(rng, rows, 130), norm_params(rng, 130)

    def run(threads: int) -> NDArray:
        out = np.full((rows, columns), np.nan, np.float32)
        _core.linear(x, weights.packed, norm, "gelu", None, out, threads)
        return out

    return run


def mlp_op(isa: str, family: str, rows: int, seed: int = 102) -> Op:
    rng = np.random.default_rng(seed)
    fc1, fc2 = layer(rng, isa, family, "q8", 200, 60), layer(rng, isa, family, "q8", 60, 200)
    x, norm = activations(rng, rows, 60), norm_params(rng, 60)

    def run(threads: int) -> NDArray:
        out = np.full((rows, 60), np.nan, np.float32)
        _core.mlp(x, norm, fc1.packed, "gelu_tanh", fc2.packed, x, out, threads)
        return out

    return run


def attention_op(isa: str, family: str, queries: int, keys: int, seed: int = 103) -> Op:
    rng = np.random.default_rng(seed)
    q, k, v = (floats(rng, 2, n, 3, 40) for n in (queries, keys, keys))

    def run(threads: int) -> NDArray:
        out = np.full((2 * queries, 120), np.nan, np.float32)
        _core.attention(q, k, v, 0.2, family, isa, out, threads)
        return out

    return run


def tubelet_op(isa: str, family: str, seed: int = 104) -> Op:
    rng = np.random.default_rng(seed)
    clip = floats(rng, 8, 3, 40, 40)
    weights = layer(rng, isa, family, "f16", 50, 3 * 2 * 8 * 8)

    def run(threads: int) -> NDArray:
        out = np.full((100, 50), np.nan, np.float32)
        _core.tubelet_embed(clip, (2, 8, 8), weights.packed, None, out, threads)
        return out

    return run


def norm_op(isa: str, seed: int = 105) -> Op:
    rng = np.random.default_rng(seed)
    x, (gamma, beta, eps) = activations(rng, 101, 77), norm_params(rng, 77)

    def run(threads: int) -> NDArray:
        out = np.full((101, 77), np.nan, np.float32)
        _core.layer_norm(x, gamma, beta, eps, isa, out, threads)
        return out

    return run


def recurrence_op(isa: str, seed: int = 106) -> Op:
    rng = np.random.default_rng(seed)
    tokens, width = 37, 45
    x, gate, keep, branch = (floats(rng, 5 * tokens, width) for _ in range(4))
    weight, bias, decay = floats(rng, 4, width), floats(rng, width), -np.abs(floats(rng, width))
    history, state = floats(rng, 3 * tokens, width), floats(rng, tokens, width)

    def run(threads: int) -> NDArray:
        mixed, out = np.full_like(x, np.nan), np.full_like(x, np.nan)
        past, memory = history.copy(), state.copy()
        _core.causal_conv(x, weight, bias, past, isa, mixed, threads)
        _core.gated_recurrence(mixed, gate, keep, decay, branch, False, memory, isa, out, threads)
        return np.concatenate([out, past, memory])

    return run


def rotary_op(isa: str, seed: int = 107) -> Op:
    rng = np.random.default_rng(seed)
    x, cosines, sines = floats(rng, 2, 101, 3, 20), floats(rng, 101, 18), floats(rng, 101, 18)

    def run(threads: int) -> NDArray:
        out = x.copy()
        _core.rotate(out, cosines, sines, isa, threads)
        return out

    return run


def ops_of(isa: str) -> dict[str, Op]:
    ops: dict[str, Op] = {
        "layer_norm": norm_op(isa),
        "recurrence": recurrence_op(isa),
        "rotate": rotary_op(isa),
    }
    for family in LINEAR_FAMILIES:
        for rows, columns in ((1, 300), (5, 64), (200, 70), (1000, 33)):
            ops[f"linear {family} {rows} x {columns}"] = linear_op(isa, family, rows, columns)
        for rows in (1, 40, 450):
            ops[f"mlp {family} {rows}"] = mlp_op(isa, family, rows)
        ops[f"tubelet_embed {family}"] = tubelet_op(isa, family)
    for family in ATTENTION_FAMILIES:
        for queries, keys in ((1, 300), (97, 65), (200, 31)):
            ops[f"attention {family} {queries} x {keys}"] = attention_op(isa, family, queries, keys)
    return ops


@pytest.mark.parametrize("isa", ISAS)
def test_results_are_the_same_bits_for_every_number_of_threads(isa: str) -> None:
    for name, op in ops_of(isa).items():
        wanted = op(1)
        assert np.isfinite(wanted).all(), name
        for threads in (*THREADS, 0):
            for attempt in range(2):
                got = op(threads)
                same = np.array_equal(got.view(np.uint32), wanted.view(np.uint32))
                assert same, f"{name} with {threads} threads, run {attempt}"


@pytest.mark.parametrize("isa", ISAS)
def test_packing_is_the_same_for_every_number_of_threads(isa: str) -> None:
    rng = np.random.default_rng(106)
    weight, x = floats(rng, 150, 90), activations(rng, 4, 90)
    for family in LINEAR_FAMILIES:
        results = []
        for threads in THREADS:
            packed = _core.PackedLinear(isa, family, 150, 90)
            set_weight(packed, 0, weight, None, threads=threads)
            out = np.empty((4, 150), np.float32)
            _core.linear(x, packed, None, None, None, out, 1)
            results.append(out)
        assert all(np.array_equal(out, results[0]) for out in results)


def _at_once(tasks: list[Op], threads: int, repeats: int) -> list[list[NDArray]]:
    """Each task in a Python thread of its own, all started together."""
    start = threading.Barrier(len(tasks))
    results: list[list[NDArray]] = [[] for _ in tasks]

    def work(index: int) -> None:
        start.wait()
        for _ in range(repeats):
            results[index].append(tasks[index](threads))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(tasks))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


@pytest.mark.parametrize("threads", [1, 2])
def test_python_threads_do_not_meet(threads: int) -> None:
    """Different ops, instruction sets and sizes at once, over and over: the bits of one after the other."""
    best, plain = ISAS[-1], ISAS[0]
    tasks = [
        linear_op(best, "i8", 300, 200, seed=1),
        mlp_op(best, "bf16", 150, seed=2),
        attention_op(best, "i16", 120, 200, seed=3),
        attention_op(plain, "f32", 33, 70, seed=4),
        tubelet_op(best, "f32", seed=5),
    ]
    alone = [task(threads) for task in tasks]
    for wanted, got in zip(alone, _at_once(tasks, threads, 6), strict=True):
        assert len(got) == 6
        assert all(np.array_equal(one, wanted) for one in got)


def test_two_engines_share_a_packed_layer() -> None:
    rng = np.random.default_rng(107)
    weights = layer(rng, ISAS[-1], "i8", "q4", 100, 200)
    inputs = [activations(rng, 80, 200) for _ in range(2)]
    engines = [Engine("auto", threads=1), Engine("auto", threads=2)]

    def task(index: int) -> Op:
        def run(_: int) -> NDArray:
            out = np.empty((80, 100), np.float32)
            engines[index].linear(inputs[index], weights.packed, out)
            return out

        return run

    alone = [task(i)(0) for i in range(2)]
    assert not np.array_equal(*alone)
    for wanted, got in zip(alone, _at_once([task(0), task(1)], 0, 10), strict=True):
        assert all(np.array_equal(one, wanted) for one in got)


def test_the_number_of_threads_is_a_setting() -> None:
    before = cpu_info()["threads"]
    try:
        for n in (1, 3, 4096):
            set_num_threads(n)
            assert cpu_info()["threads"] == n == _core.num_threads()
        for n in (0, -1, 4097):
            with pytest.raises(ValueError, match=f"set_num_threads: expected 1 to 4096, got {n}"):
                set_num_threads(n)
    finally:
        set_num_threads(before)
    for bad in (0, -2, 4097, True):
        with pytest.raises(ValueError, match=r"threads must be None or .* from 1 to 4096"):
            Engine(threads=bad)


def test_the_gil_is_released() -> None:
    """Another Python thread makes progress while an op runs."""
    rng = np.random.default_rng(108)
    weights = layer(rng, "scalar", "f32", "f32", 512, 512)
    x = activations(rng, 400, 512)
    out = np.empty((400, 512), np.float32)
    started, ticks, done = threading.Event(), [], threading.Event()

    def count() -> None:
        started.set()
        while not done.is_set():
            ticks.append(None)
            done.wait(0.0005)

    counter = threading.Thread(target=count)
    counter.start()
    started.wait()
    before = len(ticks)
    _core.linear(x, weights.packed, None, None, None, out, 1)
    during = len(ticks) - before
    done.set()
    counter.join()
    # The op takes tens of milliseconds: with the GIL held nobody could have counted before it returned.
    assert during >= 2
    assert np.isfinite(reference.values(out)).all()

"""The pool of threads: shared by callers, larger than the machine if asked, new in the child of a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from kernel_cases import activations, layer

from qora_vision import _core

CALLERS, CALLS = 6, 40


def make_op(seed: int):
    """A layer of as many items as threads can share, and its result with one thread."""
    rng = np.random.default_rng(seed)
    weights, x = layer(rng, "scalar", "f32", "f32", 96, 40), activations(rng, 50, 40)

    def run(threads: int) -> np.ndarray:
        out = np.full((50, 96), np.nan, np.float32)
        _core.linear(x, weights.packed, None, None, None, out, threads)
        return out

    return run, run(1)


def test_callers_share_the_pool_without_mixing_their_work() -> None:
    wrong: list[tuple[int, int]] = []

    def call(seed: int) -> None:
        run, expected = make_op(seed)
        for i in range(CALLS):
            if not np.array_equal(run(2 + i % 5), expected):
                wrong.append((seed, i))

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
        assert not caller.is_alive(), "a caller waits for ever"
    assert not wrong


def test_many_more_threads_than_cores() -> None:
    run, expected = make_op(7)
    for threads in (3, 64, 300, 2):
        assert np.array_equal(run(threads), expected)


FORK = """
import os, numpy as np
from qora_vision.engine.ops import Engine
rng = np.random.default_rng(0)
engine = Engine("exact", threads=3)
weight = engine.pack([rng.standard_normal((256, 64), np.float32)], [None])
x, out = rng.standard_normal((90, 64), np.float32), np.empty((90, 256), np.float32)
engine.linear(x, weight, out)
child = os.fork()
again = np.zeros_like(out)
engine.linear(x, weight, again)
same = np.array_equal(out, again)
if child == 0:
    os._exit(0 if same else 3)
assert same
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(_core.uses_openmp(), reason="OpenMP's threads do not survive a fork")
def test_the_child_of_a_fork_has_threads_too() -> None:
    # Python warns of forks of processes with threads, which this one has on purpose.
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=60)

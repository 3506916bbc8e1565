"""Weights are read although training scripts saved other objects beside them."""

import collections
import datetime
from pathlib import Path

import numpy as np
import pytest
from checkpoint_cases import assert_holds

from qora_vision.weights.checkpoints import open_checkpoint


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_harmless_objects_beside_the_weights(tmp_path, zipped, protocol):
    torch = pytest.importorskip("torch")

    state = {"w": torch.arange(6.0).reshape(2, 3)}
    weights = collections.defaultdict(list, state)
    beside = {
        "best": np.float64(0.5), "losses": [np.float32(1), np.arange(3)], "device": torch.device("cpu"),
        "path": Path("/a/b"), "dtype": torch.float16, "when": datetime.datetime(2024, 1, 2), "raw": b"abc",
        "groups": collections.defaultdict(dict, {"a": {1: 2}}), "by": {(1, 2): 3, None: 4, 0.5: 1},
        "names": {"a"}, "frozen": frozenset([1]), "deque": collections.deque([1, 2], 5),
        "counter": collections.Counter("aab"), "complex": 1j, "delta": datetime.timedelta(1),
    }  # fmt: skip
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    for kept in (state, weights):
        torch.save({"state_dict": kept, **beside}, tmp_path / "x.pth", **options)
        assert_holds(open_checkpoint(tmp_path / "x.pth"), {"w": state["w"].numpy()})
    torch.save({**state, **beside}, tmp_path / "x.pth", **options)
    assert_holds(open_checkpoint(tmp_path / "x.pth"), {"w": state["w"].numpy()})

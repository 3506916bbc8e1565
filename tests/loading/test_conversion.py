"""Patterns of name maps: parts of fused layers, layers folded together, prefixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from qora_vision.errors import CheckpointError
from qora_vision.loading.conversion import CheckpointTensors, find_sources
from qora_vision.loading.options import LoadOptions
from qora_vision.nn.specs import TensorSpec
from qora_vision.weights.checkpoints import Checkpoint, open_checkpoint
from qora_vision.weights.maps import CheckpointMap
from qora_vision.weights.sources import Applied, Folded, Rows, Scaled

RNG = np.random.default_rng(0)


def draw(*shape: int) -> NDArray[np.float32]:
    return RNG.standard_normal(shape, dtype=np.float32)


def written(path: Path, **tensors: NDArray) -> Checkpoint:
    save_file({name.replace("__", "."): values for name, values in tensors.items()}, path / "x.safetensors")
    return open_checkpoint(path / "x.safetensors")


def unneeded(*args: object) -> Any:
    raise AssertionError("finding tensors asks for neither config nor protocol")


def converted(names: dict, shapes: dict[str, tuple[int, ...]], checkpoint: Checkpoint) -> CheckpointTensors:
    checkpoint_map: CheckpointMap[Any] = CheckpointMap(names, unneeded, unneeded, ignored=("unused",))
    specs = {name: TensorSpec(shape) for name, shape in shapes.items()}
    sources = find_sources(checkpoint_map, specs, checkpoint, Path("here"))
    return CheckpointTensors(checkpoint, specs, sources, LoadOptions("f32", threads=1))


def test_a_fused_layer_comes_apart(tmp_path: Path) -> None:
    weight, bias = draw(6, 5), draw(6)
    checkpoint = written(tmp_path, b__3__qkv__weight=weight, b__3__qkv__bias=bias)
    names = {f"blocks.{{i}}.{part}": (Rows("b.{i}.qkv", i),) for i, part in enumerate("qkv")}
    shapes = {f"blocks.3.{part}.{kind}": shape for part in "qkv" for kind, shape in KINDS.items()}
    tensors = converted(names, shapes, checkpoint)
    for i, part in enumerate("qkv"):
        assert np.array_equal(tensors[f"blocks.3.{part}.weight"], weight[2 * i : 2 * i + 2])
        assert np.array_equal(tensors[f"blocks.3.{part}.bias"], bias[2 * i : 2 * i + 2])
    with pytest.raises(
        CheckpointError, match=r"here: tensor 'b.3.qkv.weight' has 6 rows.*into 4 equal parts"
    ):
        converted({"q": (Rows("b.3.qkv", 0, 4),)}, {"q.weight": (2, 5)}, checkpoint)
    with pytest.raises(
        CheckpointError, match=r"misshapen tensors: b.3.qkv.weight is \(2, 5\) instead of \(2, 4\)"
    ):
        converted({"q": (Rows("b.3.qkv", 0),)}, {"q.weight": (2, 4), "q.bias": (2,)}, checkpoint)


KINDS = {"weight": (2, 5), "bias": (2,)}


def test_layers_in_a_row_become_one(tmp_path: Path) -> None:
    parts = {"a__weight": draw(4, 5), "a__bias": draw(4), "b__weight": draw(2, 4), "b__bias": draw(2)}
    tensors = converted(
        {"both": (Folded("a", "b"),)},
        {f"both.{kind}": shape for kind, shape in KINDS.items()},
        written(tmp_path, **parts),
    )
    w1, b1, w2, b2 = (values.astype(np.float64) for values in parts.values())
    assert np.array_equal(tensors["both.weight"], (w2 @ w1).astype(np.float32))
    assert np.array_equal(tensors["both.bias"], (w2 @ b1 + b2).astype(np.float32))
    with pytest.raises(CheckpointError, match=r"'b.weight' of shape \(2, 3\) cannot follow 'a.weight'"):
        converted(
            {"both": (Folded("a", "b"),)},
            {f"both.{kind}": shape for kind, shape in KINDS.items()},
            written(tmp_path, **parts | {"b__weight": draw(2, 3)}),
        )


def test_a_layer_with_scaled_outputs(tmp_path: Path) -> None:
    weight, bias, gamma = draw(2, 5), draw(2), draw(2)
    names = {"blocks.{i}.fc": (Scaled("b.{i}.fc", "b.{i}.gamma"), "b.{i}.fc")}
    shapes = {f"blocks.0.fc.{kind}": shape for kind, shape in KINDS.items()}
    given = {"b__0__fc__weight": weight, "b__0__fc__bias": bias}
    tensors = converted(names, shapes, written(tmp_path, **given, b__0__gamma=gamma))
    np.testing.assert_allclose(tensors["blocks.0.fc.weight"], gamma[:, None] * weight, rtol=1e-7)
    np.testing.assert_allclose(tensors["blocks.0.fc.bias"], gamma * bias, rtol=1e-7)
    plain = converted(names, shapes, written(tmp_path, **given))
    assert np.array_equal(plain["blocks.0.fc.weight"], weight)
    with pytest.raises(
        CheckpointError, match=r"'b.0.gamma' has shape \(3,\), which does not match 'b.0.fc.weight'"
    ):
        converted(names, shapes, written(tmp_path, **given, b__0__gamma=draw(3)))


def test_what_a_layer_makes_of_a_constant(tmp_path: Path) -> None:
    given = {"q__weight": draw(4, 5), "q__bias": draw(4), "token": draw(1, 1, 5)}
    names, shapes = {"query": (Applied("q", "token"),)}, {"query": (4,)}
    tensors = converted(names, shapes, written(tmp_path, **given))
    weight, bias, token = (values.astype(np.float64) for values in given.values())
    assert np.array_equal(tensors["query"], (weight @ token[0, 0] + bias).astype(np.float32))
    with pytest.raises(
        CheckpointError, match=r"'q.weight' of shape \(4, 5\) cannot be applied to 'token' of shape \(6,\)"
    ):
        converted(names, shapes, written(tmp_path, **given | {"token": draw(6)}))


def test_what_is_missing_is_called_as_the_rest_is(tmp_path: Path) -> None:
    names = {"first": ("x.first", "y.first"), "second": ("x.second", "y.second")}
    shapes = {f"{layer}.{kind}": shape for layer in names for kind, shape in KINDS.items()}
    given = {"first__weight": draw(2, 5), "first__bias": draw(2), "second__bias": draw(2)}
    for prefix in "xy":
        checkpoint = written(tmp_path, **{f"{prefix}__{name}": values for name, values in given.items()})
        with pytest.raises(CheckpointError, match=rf"missing tensors: {prefix}\.second\.weight$"):
            converted(names, shapes, checkpoint)


def test_prefixes_come_off_however_often_they_stand_there(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, module___orig_mod__model__a=draw(1), net__b=draw(1), c__module__d=draw(1))
    assert sorted(checkpoint.without_prefixes(())) == ["a", "b", "c.module.d"]
    assert sorted(checkpoint.without_prefixes(("c.",))) == ["a", "b", "d"]
    twice = written(tmp_path, module__a=draw(1), a=draw(1))
    with pytest.raises(
        CheckpointError, match=r"it has 'a' twice, under different prefixes \(of _orig_mod\., "
    ):
        twice.without_prefixes(())

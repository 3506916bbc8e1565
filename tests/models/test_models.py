"""Every architecture against golden files of its reference (tools/make_goldens.py), without PyTorch.

Every instruction set that the CPU has runs every case. Bounds are derived in model_bounds.py.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from kernel_cases import FAST_ENGINES
from model_bounds import (
    MARGIN,
    WEIGHT_NOISE,
    cosine,
    distance,
    engine_noise,
    float32_error,
    model_error,
)
from numpy.typing import NDArray
from paths import DATA

from qora_vision.engine.ops import Engine, available_isas, default_isa
from qora_vision.engine.tensors import QuantizedTensor
from qora_vision.errors import VideoError
from qora_vision.loading.checkpoint import import_checkpoint
from qora_vision.loading.model import LoadedModel
from qora_vision.loading.options import LoadOptions
from qora_vision.models.base import ClipConfig, Model
from qora_vision.models.timesformer.network import TimesformerConfig
from qora_vision.models.videomae.network import VideoMaeConfig
from qora_vision.models.vivit.network import VivitConfig
from qora_vision.models.vjepa2.network import Vjepa2Config
from qora_vision.nn.specs import TensorScope
from qora_vision.nn.workspace import Workspace, Workspaces

CASES = sorted(path.parent.name for path in DATA.glob("*/golden.npz"))
ISAS = available_isas()
WEIGHTS = ("q4", "q8", "f16", "f32")
COMPUTE = ("auto", "int8", "bf16", "exact")


@cache
def golden(case: str) -> dict[str, NDArray]:
    with np.load(DATA / case / "golden.npz") as arrays:
        return dict(arrays)


def clip_of(case: str) -> NDArray[np.float32]:
    return golden(case)["pixel_values"][0].astype(np.float32)


@cache
def loaded(case: str, weights: str) -> LoadedModel:
    return import_checkpoint(DATA / case, LoadOptions(weights))


def build(model: LoadedModel, engine: Engine, *, dequantized: bool = False) -> Model:
    tensors = dict(model.file.tensors)
    if dequantized:
        tensors = {
            name: tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor.astype(np.float32)
            for name, tensor in tensors.items()
        }
    return model.architecture.build(model.config, tensors, engine)


@dataclass
class Run:
    """One forward pass with everything that it shows."""

    blocks: list[NDArray]
    embedding: NDArray
    logits: NDArray


def run(network: Model, clip: NDArray[np.float32]) -> Run:
    blocks: list[NDArray] = []

    def keep(number: int, x: NDArray) -> None:
        assert number == len(blocks)
        blocks.append(x.copy())

    output = network.forward(clip, on_block=keep)
    return Run(blocks, output.embedding, output.logits)


@cache
def reference_run(case: str, weights: str) -> Run:
    """The weights as they are stored, in float32 throughout: what every other arithmetic is held against."""
    return run(build(loaded(case, weights), Engine("exact"), dequantized=True), clip_of(case))


def float32_bound(config: Any) -> float:
    tubelet = config.num_channels * int(np.prod(config.tubelet_size))
    return float32_error(config, max(tubelet, config.embed_dim, config.mlp_dim, config.sequence_length))


def fast_noise(model: LoadedModel, weights: str, engine: Engine) -> float:
    """What an engine's arithmetic is expected to add to stored weights."""
    return model_error(model.config, *engine_noise(engine, weights))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES)
def test_exact_agrees_with_the_reference_in_every_block(case: str, isa: str) -> None:
    model, expected = loaded(case, "f32"), golden(case)
    bound = float32_bound(model.config)
    assert bound < 1e-4 / 2  # far inside of what is promised of logits
    got = run(build(model, Engine("exact", isa=isa)), clip_of(case))
    if staged := "block_1" in expected:  # blocks have different numbers of tokens, all of which are kept
        rows, blocks = slice(None), [expected[f"block_{i}"] for i in range(1, model.config.depth + 1)]
    else:
        rows, blocks = expected["rows"], list(expected["blocks"])
    assert len(got.blocks) == 1 + len(blocks)
    assert distance(got.blocks[0][rows], expected["tokens"]) < bound
    for block, wanted in zip(got.blocks[1:-1], blocks, strict=False):
        assert distance(block[rows], wanted) < bound
    # The last block may compute the one token alone that the classifier reads, the reference all.
    if staged or len(got.blocks[-1]) == len(got.blocks[0]):
        assert distance(got.blocks[-1][rows], blocks[-1]) < bound
    else:
        assert distance(got.blocks[-1][0], blocks[-1][0]) < bound
    assert distance(got.embedding, expected["embedding"]) < bound
    assert np.abs(got.logits - expected["logits"]).max() < bound * np.abs(expected["logits"]).max()


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("vivit_tiny_erf", {"activation": "gelu_tanh"}),
        ("videomae_tiny_first", {"norm_eps": 1e-6}),
        ("vjepa2_tiny_odd", {"norm_eps": 1e-6}),
        ("vjepa2_tiny_odd", {"pooler_heads": 2}),
    ],
)
def test_golden_files_tell_similar_networks_apart(case: str, change: dict[str, Any]) -> None:
    """The two forms of GELU differ by 4.7e-4 at most: goldens too tame to show it would prove little."""
    model = loaded(case, "f32")
    config = dataclasses.replace(model.config, **change)
    wrong = model.architecture.build(config, model.file.tensors, Engine("exact"))
    expected = golden(case)
    got = run(wrong, clip_of(case))
    assert distance(got.embedding, expected["embedding"]) > 3 * float32_bound(model.config)


@pytest.mark.parametrize("weights", ["f16", "q8", "q4"])
@pytest.mark.parametrize("case", CASES)
def test_stored_weights_are_as_good_as_their_format(case: str, weights: str) -> None:
    """Against the golden of the full weights: the error is that of the format alone, and not less."""
    model = loaded(case, weights)
    got = reference_run(case, weights)
    expected = model_error(model.config, WEIGHT_NOISE[weights])
    error = distance(got.embedding, golden(case)["embedding"])
    assert error < MARGIN * expected
    if weights in ("q4", "q8"):
        assert error > expected / 10  # quantised weights were really used


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weights", ["f16", "q8", "q4"])
@pytest.mark.parametrize("case", CASES)
def test_exact_unpacks_weights_exactly(case: str, weights: str, isa: str) -> None:
    """Exact arithmetic on stored weights is exact arithmetic on what they stand for, bit for bit."""
    model, engine = loaded(case, weights), Engine("exact", isa=isa)
    got = run(build(model, engine), clip_of(case))
    same = run(build(model, engine, dequantized=True), clip_of(case))
    assert np.array_equal(got.logits, same.logits)
    assert np.array_equal(got.embedding, same.embedding)


@pytest.mark.parametrize(("compute", "isa"), FAST_ENGINES)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("case", CASES)
def test_fast_arithmetic_stays_within_its_noise(case: str, weights: str, compute: str, isa: str) -> None:
    model, engine = loaded(case, weights), Engine(compute, isa=isa)
    expected = reference_run(case, weights)
    got = run(build(model, engine), clip_of(case))
    bound = MARGIN * fast_noise(model, weights, engine) + float32_bound(model.config)
    assert distance(got.embedding, expected.embedding) < bound
    for block, wanted in zip(got.blocks, expected.blocks, strict=True):
        assert distance(block, wanted) < bound


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES)
def test_four_bits_under_auto_point_where_their_weights_point(case: str, isa: str) -> None:
    """The promise for 4-bit models: cosine of the logits with those of the same weights in float32.

    It is made for published sizes. A tiny network in stages has as many layers that are whole as any, and no
    more blocks than these: it may be as far off as they let expect.
    """
    model, engine = loaded(case, "q4"), Engine("auto", isa=isa)
    got = run(build(model, engine), clip_of(case))
    staged = hasattr(model.config, "depths")
    promised = 1 - fast_noise(model, "q4", engine) ** 2 / 2 if staged else 0.9995
    assert cosine(got.logits, reference_run(case, "q4").logits) >= promised


def assert_same(a: Run, b: Run) -> None:
    assert all(np.array_equal(x, y) for x, y in zip(a.blocks, b.blocks, strict=True))
    assert np.array_equal(a.embedding, b.embedding)
    assert np.array_equal(a.logits, b.logits)


@pytest.mark.parametrize("compute", COMPUTE)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("case", CASES)
def test_threads_and_other_clips_change_no_bit(case: str, weights: str, compute: str) -> None:
    model, clip = loaded(case, weights), clip_of(case)
    one = build(model, Engine(compute, threads=1))
    first = run(one, clip)
    as_it_was = copy.deepcopy(first)
    run(one, -clip)
    assert_same(first, as_it_was)
    assert_same(run(one, clip), first)
    for threads in (2, 3):
        assert_same(run(build(model, Engine(compute, threads=threads)), clip), first)


def test_instruction_sets_are_what_the_cpu_has() -> None:
    assert ISAS[0] == "scalar"
    assert default_isa() in ISAS


@pytest.mark.parametrize(
    "change",
    [
        lambda clip: clip[1:],
        lambda clip: clip.astype(np.float64),
        lambda clip: clip[..., ::-1],
        lambda clip: clip[None],
    ],
    ids=["a frame less", "float64", "not contiguous", "batched"],
)
def test_a_clip_of_another_kind_is_refused(change) -> None:
    network = build(loaded("vivit_tiny", "f32"), Engine("exact"))
    with pytest.raises(VideoError, match="expected a contiguous float32 clip"):
        network.forward(change(clip_of("vivit_tiny")))


@pytest.mark.parametrize("config", [VivitConfig, VideoMaeConfig, TimesformerConfig, Vjepa2Config])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": 770}, "no multiple of num_heads"),
        ({"depth": 0}, "depth must be a positive integer"),
        ({"depth": 10**9}, "depth must be at most 1000"),
        ({"num_classes": "7"}, "num_classes must be a positive integer"),
        ({"num_heads": True}, "num_heads must be a positive integer"),
        ({"image_size": (224, 0)}, "image_size must be 2 positive integers"),
        ({"tubelet_size": (2, 16)}, "tubelet_size must be 3 positive integers"),
        ({"tubelet_size": (64, 16, 16)}, "smaller than one tubelet"),
        ({"norm_eps": float("nan")}, "norm_eps must be a positive number"),
        ({"activation": "swish"}, "activation must be one of gelu, gelu_tanh"),
    ],
)
def test_impossible_configs_are_refused(config: type[ClipConfig], change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"{config.name}: .*{message}"):
        config(**{"num_classes": 400} | change)


@pytest.mark.parametrize(("config", "field"), [(VivitConfig, "qkv_bias"), (VideoMaeConfig, "mean_pooling")])
def test_switches_are_true_or_false(config: type[ClipConfig], field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be true or false"):
        config(**{"num_classes": 400, field: 1})


def parameters(config: ClipConfig) -> int:
    return sum(int(np.prod(spec.shape)) for spec in config.tensor_specs().values())


def test_vivit_b_has_the_published_size() -> None:
    """Arnab et al. 2021, table 1 of ViViT-B/16x2; 88.95 million parameters with 400 classes."""
    config = VivitConfig(num_classes=400)
    assert config.sequence_length == 3137
    assert parameters(config) == 88_954_000


def test_buffers_begin_cache_lines_and_are_kept() -> None:
    workspace = Workspace()
    buffers = {f"{rows} x {columns}": (rows, columns) for rows, columns in ((1, 1), (3, 17), (500, 768))}
    for name, shape in buffers.items():
        array = workspace.floats(name, *shape)
        assert array.shape == shape
        assert array.flags.c_contiguous
        assert array.ctypes.data % 64 == 0
        assert workspace.floats(name, *shape) is array


def test_a_buffer_is_one_place_whatever_its_shape() -> None:
    workspace = Workspace()
    whole = workspace.floats("x", 40, 32)
    part = workspace.floats("x", 20, 32)
    assert np.shares_memory(whole, part)
    assert workspace.floats("x", 64, 20) is not part
    assert not np.shares_memory(workspace.floats("y", 20, 32), part)
    larger = workspace.floats("x", 41, 32)
    assert larger.shape == (41, 32)
    assert np.shares_memory(larger, workspace.floats("x", 40, 32))


def test_floats_of_a_model_are_no_views_of_its_file() -> None:
    stored = np.ones((2, 3), np.float32)
    floats = TensorScope({"a.weight": stored}, "a").floats("weight")
    assert np.array_equal(floats, stored)
    assert not np.shares_memory(floats, stored)


def test_a_pass_has_a_workspace_for_itself() -> None:
    workspaces = Workspaces()
    with workspaces.lend() as first, workspaces.lend() as second:
        assert first is not second
    with workspaces.lend() as again:
        assert again in (first, second)
    with pytest.raises(MemoryError), workspaces.lend() as failed:
        raise MemoryError
    with workspaces.lend() as one, workspaces.lend() as other:
        assert failed not in (one, other)

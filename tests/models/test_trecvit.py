"""TRecViT against outputs of the authors' own code, and streaming against whole clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jax_golden import golden
from kernel_cases import FAST_ENGINES
from model_bounds import MARGIN, WEIGHT_NOISE, distance, engine_noise, recurrent_error
from numpy.typing import NDArray

import qora_vision
from qora_vision.engine.ops import Engine, available_isas
from qora_vision.engine.tensors import QuantizedTensor
from qora_vision.errors import CheckpointError, VideoError
from qora_vision.loading.conversion import CheckpointTensors, candidates_of, find_sources
from qora_vision.loading.options import LoadOptions
from qora_vision.models.trecvit import network as trecvit
from qora_vision.models.trecvit.checkpoint import CHECKPOINT_MAP
from qora_vision.models.trecvit.network import Trecvit, TrecvitConfig
from qora_vision.weights.checkpoints import Checkpoint, open_checkpoint

# Logits of the authors' float32 code differ from those of a float64 forward by 4e-7, the residual stream at
# magnitude 10 by 3e-5.
LOGITS, STREAM = 1e-5, 2e-4


def build(
    checkpoint: Checkpoint, config: TrecvitConfig, weights: str = "f32", engine: Engine | None = None
) -> Trecvit:
    specs = config.tensor_specs()
    sources = find_sources(CHECKPOINT_MAP, specs, checkpoint, checkpoint.path)
    tensors = CheckpointTensors(checkpoint, specs, sources, LoadOptions(weights))
    return Trecvit(config).with_weights(tensors, engine or Engine("exact"))


def clips_of(video: NDArray) -> NDArray:
    """(B, T, H, W, C) as published → contiguous (B, T, C, H, W)."""
    return np.ascontiguousarray(video.transpose(0, 1, 4, 2, 3))


class Case:
    """A golden case: its weights, its outputs, its config."""

    def __init__(self, name: str, config: TrecvitConfig) -> None:
        self.checkpoint = open_checkpoint(golden(f"trecvit_{name}_weights.npz"))
        with np.load(golden(f"trecvit_{name}_io.npz")) as archive:
            self.io = dict(archive)
        self.config = config
        self.clips = clips_of(self.io["input"])


@pytest.fixture(scope="module")
def case_a() -> Case:
    return Case("a", TrecvitConfig(7, 6, (32, 32), 3, (16, 16), 24, 3, 3, 56, 48, 4, 40))


@pytest.fixture(scope="module")
def case_b() -> Case:
    return Case("b", TrecvitConfig(9, 6, (32, 48), 3, (16, 16), 32, 2, 2, 48, 64, 4, 36))


def quantised_error(config: TrecvitConfig, weights: str, engine: Engine) -> float:
    """What an engine's arithmetic is expected to add to stored weights."""
    # Gates of a model in four bits have eight: no more noise than the other layers.
    return MARGIN * recurrent_error(config.depth, *engine_noise(engine, weights)) + STREAM


@pytest.mark.parametrize(("compute", "isa"), FAST_ENGINES)
@pytest.mark.parametrize("weights", ["q4", "q8", "f16"])
@pytest.mark.parametrize("name", ["case_a", "case_b"])
def test_fast_arithmetic_stays_within_its_noise(
    name: str, weights: str, compute: str, isa: str, request: pytest.FixtureRequest
) -> None:
    """Against the same weights in float32; and no more of it after ten times as many frames."""
    case = request.getfixturevalue(name)
    engine = Engine(compute, isa=isa)
    fast = build(case.checkpoint, case.config, weights, engine)
    exact = build(case.checkpoint, case.config, weights, Engine("exact"))
    states = fast.new_state(), exact.new_state()
    bound = quantised_error(case.config, weights, engine)
    clip = case.clips[0]
    for _ in range(10):
        got, expected = fast.step(clip, states[0]), exact.step(clip, states[1])
        assert distance(got.logits, expected.logits) < bound
        for memory, wanted in zip(states[0].memory, states[1].memory, strict=True):
            assert distance(memory, wanted) < bound


@pytest.mark.parametrize("weights", ["q4", "q8", "f16"])
def test_stored_weights_are_as_good_as_their_format(case_a: Case, weights: str) -> None:
    expected = recurrent_error(case_a.config.depth, WEIGHT_NOISE[weights])
    full, stored = (build(case_a.checkpoint, case_a.config, of) for of in ("f32", weights))
    error = distance(stored.forward(case_a.clips[0]).embedding, full.forward(case_a.clips[0]).embedding)
    assert error < MARGIN * expected
    if weights != "f16":
        assert error > expected / 10  # quantised weights were really used


def test_gates_never_have_less_than_eight_bits(case_a: Case) -> None:
    specs = case_a.config.tensor_specs()
    sources = find_sources(CHECKPOINT_MAP, specs, case_a.checkpoint, case_a.checkpoint.path)
    tensors = CheckpointTensors(case_a.checkpoint, specs, sources, LoadOptions("q4"))
    kinds = {name: tensor.kind for name, tensor in tensors.items() if isinstance(tensor, QuantizedTensor)}
    assert {kind for name, kind in kinds.items() if "gate" in name} == {"q8"}
    assert {kind for name, kind in kinds.items() if "gate" not in name} == {"q4"}


@pytest.mark.parametrize("isa", available_isas())
def test_every_layer_of_case_a(case_a: Case, isa: str) -> None:
    model = build(case_a.checkpoint, case_a.config, engine=Engine("exact", isa=isa))
    for number, clip in enumerate(case_a.clips):
        seen: dict[int, NDArray] = {}
        output = model.forward(clip, on_block=lambda i, x: seen.update({i: x.copy()}))  # noqa: B023
        np.testing.assert_allclose(output.logits, case_a.io["out/logits"][number], rtol=0, atol=LOGITS)
        tokens = case_a.io["out/tokens"][number]
        np.testing.assert_allclose(seen[0].reshape(tokens.shape), tokens, rtol=0, atol=STREAM)
        for i in range(case_a.config.depth):
            expected = case_a.io[f"out/layer_{i:02d}/block"][number]
            if i + 1 < case_a.config.depth:
                np.testing.assert_allclose(seen[i + 1].reshape(expected.shape), expected, rtol=0, atol=STREAM)
            else:
                np.testing.assert_allclose(seen[i + 1], expected[:, 0], rtol=0, atol=STREAM)
        np.testing.assert_allclose(
            output.embedding, case_a.io["out/pre_logits"][number, 0], rtol=0, atol=LOGITS
        )


def test_states_of_case_a(case_a: Case) -> None:
    model = build(case_a.checkpoint, case_a.config)
    state = model.new_state()
    model.step(case_a.clips[0], state)
    assert state.frames == 6
    for i in range(case_a.config.depth):
        memory = case_a.io[f"out/state/layer_{i:02d}/rg_lru"][0]
        np.testing.assert_allclose(state.memory[i], memory, rtol=0, atol=STREAM)
        history = case_a.io[f"out/state/layer_{i:02d}/conv_1d"][0]  # (tokens, 3, width), oldest first
        ours = state.history[i].reshape(3, -1, memory.shape[-1]).transpose(1, 0, 2)
        np.testing.assert_allclose(ours, history, rtol=0, atol=STREAM)


@pytest.mark.parametrize("name", ["a", "b"])
def test_each_frame_of_a_stream(name: str, request: pytest.FixtureRequest) -> None:
    """After k frames: what the authors' code gives for the clip of the first k frames."""
    case: Case = request.getfixturevalue(f"case_{name}")
    model = build(case.checkpoint, case.config)
    for number, clip in enumerate(case.clips):
        state = model.new_state()
        size = state.nbytes
        for k, expected in enumerate(case.io["out/prefix_logits"]):
            output = model.step(clip[k : k + 1], state)
            np.testing.assert_allclose(output.logits, expected[number], rtol=0, atol=LOGITS)
        assert state.nbytes == size


def test_clips_of_case_b(case_b: Case) -> None:
    """Two clips from one video, and the whole video as one clip."""
    model = build(case_b.checkpoint, case_b.config)
    for number, video in enumerate(case_b.clips):
        for clip in range(2):
            output = model.forward(np.ascontiguousarray(video[6 * clip : 6 * clip + 6]))
            expected = case_b.io["out/logits_per_clip"][number, clip]
            np.testing.assert_allclose(output.logits, expected, rtol=0, atol=LOGITS)
    whole = build(case_b.checkpoint, replace(case_b.config, num_frames=12))
    for number, video in enumerate(case_b.clips):
        expected = case_b.io["out/one_clip_of_12_logits"][number]
        np.testing.assert_allclose(whole.forward(video).logits, expected, rtol=0, atol=LOGITS)


def test_wrong_frames_are_refused(case_a: Case) -> None:
    model = build(case_a.checkpoint, case_a.config)
    state = model.new_state()
    for frames in (case_a.clips[0][:0], case_a.clips[0][0], case_a.clips[0][:, :, :-1]):
        with pytest.raises(VideoError, match="expected a contiguous float32 clip"):
            model.step(frames, state)
    with pytest.raises(VideoError):
        model.forward(case_a.clips[0][:5])
    assert state.frames == 0


def test_loading_the_released_layout(case_a: Case, tmp_path: Path) -> None:
    """A bare archive is recognised by its names; what is absent or no classifier is said."""
    source = golden("trecvit_a_weights.npz")
    clf = qora_vision.load(source, weights="f32", compute="exact")
    assert clf.architecture == "trecvit"
    assert clf.config == replace(case_a.config, num_frames=32)
    path = tmp_path / "model.qora-vision"
    qora_vision.load(source).save(path)
    assert qora_vision.load(path).config == clf.config
    with np.load(source) as archive:
        arrays = dict(archive)
    headless = {name: value for name, value in arrays.items() if not name.startswith("decoder/")}
    np.savez(tmp_path / "mae.npz", **headless)
    with pytest.raises(CheckpointError, match="without a classifier"):
        qora_vision.load(tmp_path / "mae.npz")
    del arrays["encoder/residualblock_01/recurrent_block/rg_lru/a_gate/w"]
    np.savez(tmp_path / "part.npz", **arrays)
    with pytest.raises(CheckpointError, match=r"missing tensors: .*residualblock_01.*a_gate/w"):
        qora_vision.load(tmp_path / "part.npz")


def test_published_size() -> None:
    """370 arrays and 136 778 128 values: the shape evaluation of the authors' model B with 400 classes."""
    specs = TrecvitConfig(num_classes=400).tensor_specs()
    assert len(specs) == 370
    assert sum(int(np.prod(spec.shape)) for spec in specs.values()) == 136_778_128
    lines = golden("keys_trecvit_B_400.tsv").read_text("utf-8").splitlines()
    theirs = {line.split("\t")[0] for line in lines if "/" in line}
    assert {
        name for ours in specs for item in candidates_of(CHECKPOINT_MAP, ours) for name in item.names
    } == theirs


def test_groups_of_frames_do_not_show(case_a: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(case_a.checkpoint, case_a.config)
    whole = model.forward(case_a.clips[0]).logits
    for size in (1, 4, 5):
        monkeypatch.setattr(trecvit, "FRAMES_AT_ONCE", size)
        np.testing.assert_array_equal(model.forward(case_a.clips[0]).logits, whole)


def test_stream_of_a_video(case_a: Case) -> None:
    """Decoded, resized and classified frame by frame, as the network alone would with the same pixels."""
    clf = qora_vision.load(golden("trecvit_a_weights.npz"), weights="f32", compute="exact")
    frames = np.random.default_rng(5).integers(0, 256, (9, 40, 50, 3), np.uint8)
    seen = list(qora_vision.stream(clf, iter(frames), top_k=2, stride=2, fps=10.0))
    assert [round(window.end, 6) for window in seen] == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert {window.start for window in seen} == {0.0}
    network, pixels = clf.network, clf.preprocess(frames, sampling=[0, 2, 4, 6, 8] * 6 + [0, 0])[0]
    assert isinstance(network, Trecvit)
    state = network.new_state()
    for index, window in enumerate(seen):
        expected = network.step(pixels[index : index + 1], state)
        np.testing.assert_array_equal(window.prediction.logits, expected.logits)
        assert len(window.prediction.labels) == 2

    anew = list(qora_vision.stream(clf, frames, stride=1, reset_every=4, fps=10.0))
    assert [round(window.start, 6) for window in anew] == [0.0] * 4 + [0.4] * 4 + [0.8]
    first = network.step(clf.preprocess(frames, sampling=[4] * 32)[0][:1], network.new_state())
    np.testing.assert_array_equal(anew[4].prediction.logits, first.logits)


def test_what_streams_refuse(case_a: Case, tiny_model_file: Path) -> None:
    frames = np.zeros((3, 40, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="looks at whole clips"):
        qora_vision.stream(qora_vision.load(tiny_model_file), frames)
    clf = qora_vision.load(golden("trecvit_a_weights.npz"))
    for wrong in ({"top_k": 8}, {"reset_every": -1}, {"stride": 0.5}, {"fps": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            qora_vision.stream(clf, frames, **wrong)

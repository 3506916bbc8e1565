"""Calibrated quantising: what is observed, what rounding makes of it, and the way there from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from kernel_cases import floats
from numpy.typing import NDArray
from tiny_vivit import write_tiny_vivit

import qora_vision
from qora_vision.cli import main
from qora_vision.engine.ops import Engine, LayerNorm, quantize
from qora_vision.loading.calibration.observing import NamedTensors, ObservingEngine
from qora_vision.loading.calibration.rounding import output_error, quantize_for_inputs
from qora_vision.models.vivit.network import Vivit
from qora_vision.weights.format import read_model

KINDS = ("q4", "q8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    write_tiny_vivit(directory)
    return directory


def clip(seed: int, frames: int = 12) -> NDArray[np.uint8]:
    """A coarse random picture that slides: (frames, 40, 40, 3)."""
    cells = np.random.default_rng(seed).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    picture = cells.repeat(10, axis=0).repeat(10, axis=1)
    return np.stack([np.roll(picture, 3 * i, axis=1) for i in range(frames)])


def correlated_inputs(rng: np.random.Generator, rows: int, features: int) -> NDArray[np.float64]:
    """Rows that lie near a space of a quarter of the dimensions, as activations do."""
    basis = rng.standard_normal((features // 4 + 1, features))
    return rng.standard_normal((rows, len(basis))) @ basis + 0.1 * rng.standard_normal((rows, features))


# What an engine observes


def test_sums_are_those_of_each_layers_inputs() -> None:
    """Plain, normed, MLP and tubelet inputs, beside float64; the ops themselves give what they always do."""
    rng = np.random.default_rng(91)
    tensors = {
        "a": floats(rng, 24, 40),
        "b": floats(rng, 8, 40),
        "fc1": floats(rng, 48, 40),
        "fc2": floats(rng, 40, 48),
        "embed": floats(rng, 16, 3, 2, 4, 4),
    }
    named = NamedTensors(tensors)
    engine, usual = ObservingEngine(named), Engine("exact")
    norm = LayerNorm(floats(rng, 40), floats(rng, 40), 1e-6)
    joint = engine.pack([named["a"], named["b"]], [None, None])
    fc1, fc2 = engine.pack([named["fc1"]], [floats(rng, 48)]), engine.pack([named["fc2"]], [None])
    embed = engine.pack([named["embed"]], [None])
    assert engine.grams() == {}

    x = floats(rng, 50, 40)
    outs = [(np.empty((50, 32), np.float32), np.empty((50, 40), np.float32)) for _ in range(2)]
    for one, (out, result) in zip((engine, usual), outs, strict=True):
        one.linear(x, joint, out, norm=norm)
        one.mlp(x, fc1, fc2, result, activation="gelu", norm=norm, residual=x)
    assert np.array_equal(outs[0][0], outs[1][0])
    assert np.allclose(outs[0][1], outs[1][1], rtol=0, atol=1e-4)
    clips = floats(rng, 5, 3, 9, 8)  # the last frame and row fill no tubelet
    tokens = [np.empty((8, 16), np.float32) for _ in range(2)]
    for one, out in zip((engine, usual), tokens, strict=True):
        one.tubelet_embed(clips, (2, 4, 4), embed, out)
    assert np.array_equal(tokens[0], tokens[1])
    engine.tubelet_embed(clips, (2, 4, 4), embed, tokens[0])

    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt(centred.var(axis=1, keepdims=True) + 1e-6) * norm.gamma + norm.beta
    hidden = np.empty((50, 48), np.float32)
    usual.linear(x, fc1, hidden, norm=norm, activation="gelu")
    cut = clips[:4, :, :8].reshape(2, 2, 3, 2, 4, 2, 4).transpose(0, 3, 5, 2, 1, 4, 6).reshape(8, 96)
    wanted = {"a": normed, "b": normed, "fc1": normed, "fc2": hidden, "embed": np.concatenate([cut, cut])}
    grams = engine.grams()
    assert set(grams) == set(wanted) and grams["a"] is grams["b"]
    for name, rows in wanted.items():
        due = rows.astype(np.float64).T @ rows
        assert np.abs(grams[name] - due).max() <= 1e-5 * np.abs(due).max(), name
    # The tubelets are in the order of the weight's values: the embedding is their product.
    assert np.allclose(tokens[1], cut @ tensors["embed"].reshape(16, -1).T, atol=1e-3)


def test_tensors_are_known_as_long_as_they_live() -> None:
    named = NamedTensors({"a": np.zeros(3), "b": np.zeros(3)})
    assert list(named) == ["a", "b"] and len(named) == 2
    assert named.name_of(named["b"]) == "b"
    assert named.name_of(np.zeros(3)) is None
    assert named.name_of(named["a"].reshape(1, 3)) is None


def test_a_whole_model_is_observed(checkpoint: Path) -> None:
    """Each weight of a ViViT has its sum, of as many features as it has inputs; logits are those of exact."""
    exact = qora_vision.load(checkpoint, weights="f32", compute="exact")
    named = NamedTensors(exact._file.tensors)
    engine = ObservingEngine(named)
    pixels = exact.preprocess(clip(0))
    logits = Vivit(exact.config).with_weights(named, engine).forward(pixels[0]).logits  # type: ignore[arg-type]
    assert np.allclose(logits, exact.forward(pixels)[0], atol=1e-5)
    specs = exact.config.tensor_specs()
    grams = engine.grams()
    assert set(grams) == {name for name, spec in specs.items() if spec.storage == "weight"}
    for name, gram in grams.items():
        assert gram.shape == 2 * (int(np.prod(specs[name].shape[1:])),)


# What rounding makes of it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(48, 64), (33, 70), (5, 31), (16, 3, 2, 4, 4), (9, 300)], ids=str)
def test_outputs_change_less_also_on_other_inputs(kind: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(92)
    weight = floats(rng, *shape)
    features = weight[0].size
    inputs = correlated_inputs(rng, 40 * features, features)
    seen, other = inputs[: 20 * features], inputs[20 * features :]
    tensor = quantize_for_inputs(weight, seen.T @ seen, kind)
    plain = quantize(weight, kind)
    assert (tensor.kind, tensor.shape) == (plain.kind, plain.shape)
    flat = weight.reshape(len(weight), -1)
    for rows in (seen, other):
        got = output_error(flat, tensor, rows.T @ rows)
        assert got < 0.7 * output_error(flat, plain, rows.T @ rows)
        # That figure is what it says.
        outputs = rows @ (tensor.dequantize().reshape(flat.shape) - flat).T.astype(np.float64)
        assert got == pytest.approx((outputs**2).sum(), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_say_nothing_change_nothing(kind: str) -> None:
    """Uncorrelated inputs, and none at all, leave plain rounding; so does one that is always zero."""
    weight = floats(np.random.default_rng(93), 20, 64)
    plain = quantize(weight, kind)
    for gram in (np.eye(64), np.zeros((64, 64)), np.diag([0.0, *np.ones(63)])):
        tensor = quantize_for_inputs(weight, gram, kind)
        assert np.array_equal(tensor.data, plain.data) and np.array_equal(tensor.scales, plain.scales)


@pytest.mark.parametrize("kind", KINDS)
def test_few_inputs_and_hard_weights(kind: str) -> None:
    """Fewer inputs than features, twice the same one, groups of zeros and of tiny values."""
    rng = np.random.default_rng(94)
    weight = floats(rng, 12, 96)
    weight[3] = 0
    weight[4, :32] = 1e-8
    weight[5, 40] = 300
    rows = correlated_inputs(rng, 7, 96)
    rows[6] = rows[5]
    rows[:, 17] = rows[:, 18]
    tensor = quantize_for_inputs(weight, rows.T @ rows, kind)
    assert np.isfinite(tensor.dequantize()).all()
    assert not tensor.dequantize()[3].any()
    gram = rows.T @ rows
    assert output_error(weight, tensor, gram) <= output_error(weight, quantize(weight, kind), gram)


def test_wrong_input_is_refused() -> None:
    weight = floats(np.random.default_rng(95), 4, 64)
    with pytest.raises(ValueError, match=r"expected inputs of 64 features, got a Gram matrix \(32, 32\)"):
        quantize_for_inputs(weight, np.eye(32), "q4")
    with pytest.raises(ValueError, match="not finite"):
        quantize_for_inputs(weight, np.full((64, 64), np.inf), "q4")
    weight[2, 3] = np.nan
    with pytest.raises(ValueError, match="row 2 holds NaN"):
        quantize_for_inputs(weight, np.eye(64), "q4")


# From the outside


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_loses_less_on_other_clips(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    exact = qora_vision.load(checkpoint, weights="f32", compute="exact")
    held_out = np.concatenate([exact.preprocess(clip(seed)) for seed in range(100, 112)])
    due = exact.forward(held_out)
    said: list[str] = []
    errors = {}
    for name, clips in (("plain", None), ("calibrated", [clip(seed) for seed in range(6)])):
        model = qora_vision.load(
            checkpoint,
            weights=kind,  # type: ignore[arg-type]
            compute="exact",
            calibrate=clips,
            progress=lambda done, total, what: said.append(what),
        )
        errors[name] = float(np.abs(model.forward(held_out) - due).mean())
        model.save(tmp_path / f"{name}.qora-vision")
    assert errors["calibrated"] < 0.6 * errors["plain"]
    assert {"observing clips", "rounding weights"} < set(said)
    # The same file in every other way.
    plain, calibrated = (read_model(tmp_path / f"{name}.qora-vision") for name in errors)
    assert calibrated.provenance == {**plain.provenance, "calibration": "GPTQ, 6 clips"}
    assert calibrated.quantization == plain.quantization == kind
    for name, tensor in plain.tensors.items():
        other = calibrated.tensors[name]
        assert type(tensor) is type(other) and tensor.shape == other.shape and tensor.nbytes == other.nbytes


def test_clips_and_precisions_that_do_not_serve(checkpoint: Path, tmp_path: Path) -> None:
    good = [clip(0)]
    with pytest.raises(ValueError, match="at least one clip"):
        qora_vision.load(checkpoint, calibrate=[])
    for single in ("clip.mp4", b"bytes of a video", 3):
        with pytest.raises(ValueError, match="must be a sequence of clips"):
            qora_vision.load(checkpoint, calibrate=single)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is for q4 and q8 weights, got f16"):
        qora_vision.load(checkpoint, weights="f16", calibrate=good)
    with pytest.raises(FileNotFoundError, match=r"missing\.mp4"):
        qora_vision.load(checkpoint, calibrate=[tmp_path / "missing.mp4"])
    (tmp_path / "text.mp4").write_text("this is no video")
    with pytest.raises(qora_vision.VideoError, match=r"text\.mp4"):
        qora_vision.load(checkpoint, calibrate=[tmp_path / "text.mp4"])
    qora_vision.load(checkpoint, weights="q4").save(tmp_path / "q4.qora-vision")
    with pytest.raises(ValueError, match="convert the original checkpoint again"):
        qora_vision.load(tmp_path / "q4.qora-vision", calibrate=good)


def test_the_command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2 = pytest.importorskip("cv2")
    folders = []
    for seed in range(2):
        folder = tmp_path / f"clip{seed}"
        folder.mkdir()
        for i, frame in enumerate(clip(seed, 6)):
            cv2.imwrite(str(folder / f"{i:03}.png"), frame)
        folders.append(str(folder))
    output = tmp_path / "model.qora-vision"
    assert main(["convert", str(checkpoint), "-o", str(output), "--json", "--calibrate", *folders]) == 0
    said = json.loads(capsys.readouterr().out)["calibration"]
    assert said == qora_vision.load(output).provenance["calibration"] == "GPTQ, 2 clips"
    assert main(["convert", str(checkpoint), "-o", str(output), "--calibrate", str(tmp_path / "no.mp4")]) == 1
    assert "no.mp4" in capsys.readouterr().err

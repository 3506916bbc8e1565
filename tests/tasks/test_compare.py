"""How far two models agree: the numbers themselves, how classes are matched, and the verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from paths import CLIP
from tiny_vivit import CONFIG, LABELS, load_maker, write_tiny_vivit

import qora_vision
from qora_vision import ClipComparison, Comparison
from qora_vision.cli import main
from qora_vision.tasks.prediction import Classes


def clip_of(a: list[float], b: list[float], top_k: int = 2) -> ClipComparison:
    names = [f"class {index}" for index in range(len(a))]
    logits = [np.array(each, np.float32) for each in (a, b)]
    return ClipComparison(*(Classes(names).best(each, np.empty(0, np.float32), top_k, {}) for each in logits))


def test_numbers_of_a_clip() -> None:
    clip = clip_of([3.0, 0.0, 4.0, 0.0], [3.0, 3.5, 4.0, -0.5])
    assert clip.max_difference == 3.5
    assert clip.mean_difference == 1.0
    assert clip.cosine == pytest.approx(25 / (5 * np.sqrt(9 + 12.25 + 16 + 0.25)))
    assert clip.same_label
    assert clip.overlap == 0.5
    other = clip_of([1.0, 0.0], [-1.0, 0.0], top_k=1)
    assert (other.cosine, other.same_label, other.overlap) == (-1.0, False, 0.0)
    assert clip_of([0.0, 0.0], [0.0, 0.0]).cosine == 1.0
    assert clip_of([0.0, 0.0], [0.0, 1.0]).cosine == 0.0


def test_totals_are_counts_means_and_the_worst() -> None:
    clips = (
        clip_of([3.0, 0.0, 4.0, 0.0], [3.0, 3.5, 4.0, -0.5]),
        clip_of([2.0, 1.0, 0, 0], [1.0, 2.0, 0, 0]),
    )
    assert Comparison(clips).to_dict() == {
        "clips": 2,
        "same_label": 1,
        "overlap": 0.75,
        "max_difference": 3.5,
        "mean_difference": 0.75,
        "min_cosine": pytest.approx(0.8),
    }


def test_a_model_agrees_with_itself_and_nearly_with_its_quantised_form(
    tiny_checkpoint: Path, frames: Path
) -> None:
    exact = qora_vision.load(tiny_checkpoint, weights="f32", compute="exact")
    (same,) = qora_vision.compare(exact, exact, [CLIP]).clips
    assert (same.max_difference, same.overlap, same.same_label) == (0.0, 1.0, True)
    assert same.cosine == pytest.approx(1.0)
    coarse = qora_vision.load(tiny_checkpoint)
    result = qora_vision.compare(exact, coarse, [CLIP, frames], top_k=3)
    for clip, source in zip(result.clips, (CLIP, frames), strict=True):
        np.testing.assert_array_equal(clip.a.logits, exact.classify(source).logits)
        np.testing.assert_array_equal(clip.b.logits, coarse.classify(source).logits)
        assert clip.max_difference > 0
        assert len(clip.a) == 3


def test_models_that_see_clips_differently_get_their_own(tiny_checkpoint: Path) -> None:
    a = qora_vision.load(tiny_checkpoint)
    b = qora_vision.load(tiny_checkpoint, value_range="hf")
    (clip,) = qora_vision.compare(a, b, [CLIP]).clips
    np.testing.assert_array_equal(clip.b.logits, b.classify(CLIP).logits)
    assert clip.max_difference > 0


def test_the_same_names_in_another_order_are_matched_by_name(tiny_checkpoint: Path, tmp_path: Path) -> None:
    a = qora_vision.load(tiny_checkpoint)
    turned = [*LABELS[1:], LABELS[0]]
    b = qora_vision.load(tiny_checkpoint, labels=turned)
    (clip,) = qora_vision.compare(a, b, [CLIP]).clips
    np.testing.assert_array_equal(clip.b.logits, np.roll(clip.a.logits, 1))
    assert dict(clip.b) == pytest.approx(dict(b.classify(CLIP)))
    # Other names, or names that repeat, say nothing: the index decides.
    for names in ([f"name {index}" for index in range(7)], [LABELS[0]] * 7):
        other = qora_vision.load(tiny_checkpoint, labels=names)
        assert qora_vision.compare(a, other, [CLIP]).clips[0].max_difference == 0.0


def test_models_of_different_numbers_of_classes_are_refused(
    tiny_checkpoint: Path, tmp_path: Path, capsys
) -> None:
    write_tiny_vivit(tmp_path / "two", ["yes", "no"])
    a, b = qora_vision.load(tiny_checkpoint), qora_vision.load(tmp_path / "two")
    with pytest.raises(ValueError, match=r"7 classes \(opening, \.\.\.\), the other 2 \(yes, \.\.\.\)"):
        qora_vision.compare(a, b, [CLIP])
    assert main(["compare", str(tiny_checkpoint), str(tmp_path / "two"), "--video", str(CLIP)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "cannot be compared" in err


def test_wrong_arguments(tiny_checkpoint: Path) -> None:
    model = qora_vision.load(tiny_checkpoint)
    with pytest.raises(ValueError, match="no clips"):
        qora_vision.compare(model, model, [])
    with pytest.raises(ValueError, match="top_k"):
        qora_vision.compare(model, model, [CLIP], top_k=8)
    with pytest.raises(FileNotFoundError):
        qora_vision.compare(model, model, ["missing.mp4"])


def test_the_verb_shows_both_and_sums_up(tiny_checkpoint: Path, frames: Path, capsys) -> None:
    command = ["compare", str(tiny_checkpoint), "--weights-a", "f32", "--compute-a", "exact", "--video"]
    assert main([*command, str(CLIP), str(frames), "--top-k", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith(f"A  {tiny_checkpoint}: f32, compute exact, ")
    assert lines[1].startswith(f"B  {tiny_checkpoint}: q4, compute auto, ")
    assert lines[lines.index(str(CLIP)) + 2].count("%") == 2
    assert out.count("same best label") == 3
    assert "total: 2 clips" in out
    assert main([*command, str(CLIP)]) == 0
    assert "total" not in capsys.readouterr().out


def test_json_has_models_clips_and_total(
    tiny_checkpoint: Path, tiny_model_file: Path, frames: Path, capsys
) -> None:
    command = ["compare", str(tiny_checkpoint), str(tiny_model_file), "--weights-a", "f16", "--json"]
    assert main([*command, "--video", str(CLIP), "missing.mp4", str(frames)]) == 1
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert (result["a"]["weights"], result["b"]["weights"]) == ("f16", "q4")
    assert [clip["source"] for clip in result["clips"]] == [str(CLIP), "missing.mp4", str(frames)]
    assert "missing.mp4" in result["clips"][1]["error"]
    assert err.count("\n") == 1
    expected = qora_vision.compare(
        qora_vision.load(tiny_checkpoint, weights="f16"), qora_vision.load(tiny_model_file), [CLIP, frames]
    )
    assert result["total"] == pytest.approx(expected.to_dict(), rel=1e-6)
    assert result["clips"][0]["cosine"] == pytest.approx(expected.clips[0].cosine)
    assert (
        main(["compare", str(tiny_checkpoint), str(tiny_model_file), "--json", "--video", "missing.mp4"]) == 1
    )
    assert json.loads(capsys.readouterr().out)["total"] is None


def test_names_that_differ_are_told(tiny_checkpoint: Path, tmp_path: Path, frames: Path, capsys) -> None:
    write_tiny_vivit(tmp_path / "other", [f"name {index}" for index in range(7)])
    assert main(["compare", str(tiny_checkpoint), str(tmp_path / "other"), "--video", str(frames)]) == 0
    assert "matched by their index" in capsys.readouterr().err


def test_frames_that_differ_are_told(tiny_checkpoint: Path, tmp_path: Path, frames: Path, capsys) -> None:
    load_maker().write_checkpoint(tmp_path / "other", CONFIG | {"num_frames": 8}, list(LABELS), 0)
    assert main(["compare", str(tiny_checkpoint), str(tmp_path / "other"), "--video", str(frames)]) == 0
    told = "the models see different frames of a clip: A 4, uniform, B 8, uniform"
    assert told in capsys.readouterr().err
    assert main(["compare", str(tiny_checkpoint), "--weights-b", "q8", "--video", str(frames)]) == 0
    assert "different frames" not in capsys.readouterr().err

"""The study of docs/quantisation.md: its clips, its reference rule, and that it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_cases import floats
from paths import ROOT
from tiny_vivit import write_tiny_vivit

from qora_vision.loading.options import LoadOptions
from qora_vision.loading.resolve import load_network

sys.path.insert(0, str(ROOT))

from benchmarks.quantisation import by_largest_value, by_layer, forms, report
from training.drifting_gratings.data import FRAMES, LABELS, SIZE, make_clips


def test_gratings_are_a_function_of_their_number() -> None:
    clips, labels = make_clips(5, 0, 40)
    assert clips.shape == (40, FRAMES, SIZE, SIZE, 3) and clips.dtype == np.uint8
    assert len(set(labels)) > 8 and set(labels) <= set(range(len(LABELS)))
    some, same = make_clips(5, 30, 3)
    assert np.array_equal(some, clips[30:33]) and np.array_equal(same, labels[30:33])
    assert not np.array_equal(make_clips(6, 30, 3)[0], some)


@pytest.mark.parametrize("kind", ["q4", "q8"])
def test_the_rule_of_the_largest_value(kind: str) -> None:
    """Its value comes back but for the rounding of the scale, all others within a step."""
    weight = floats(np.random.default_rng(96), 20, 3, 5, 5)
    tensor = by_largest_value(weight, kind)
    flat, back = weight.reshape(20, 75), tensor.dequantize().reshape(20, 75)
    for start in (0, 32, 64):
        group, got = flat[:, start : start + 32], back[:, start : start + 32]
        at = np.abs(group).argmax(axis=1)[:, None]
        peak = np.take_along_axis(group, at, axis=1)
        assert np.allclose(np.take_along_axis(got, at, axis=1), peak, rtol=2.0**-10)
        steps = 8 if kind == "q4" else 254
        assert (np.abs(got - group) <= np.abs(peak) / steps * 1.01).all()


def test_the_study_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_vivit(tmp_path)
    model = load_network(tmp_path, LoadOptions("f32"))
    clips = floats(np.random.default_rng(97), 3, *model.config.clip_shape)
    calibration = [np.random.default_rng(98).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)]
    for rows in (list(forms(model, clips, calibration)), list(by_layer(model, clips))):
        assert len(rows) > 5
        errors = [float(np.abs(row.logits - rows[0].logits).mean()) for row in rows]
        assert errors[0] == 0 and min(errors[1:]) > 0 and max(errors) < 0.1
        report(rows, np.zeros(3, np.int64))
    printed = capsys.readouterr().out
    assert "| q4, calibrated | auto |" in printed and "| q4, calibrated | int8 |" in printed

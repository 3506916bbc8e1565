"""`qora_vision.convert`: the file that `load(...).save(...)` writes, a few rows at a time."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from paths import CLIP, DATA

import qora_vision
from qora_vision.loading import conversion
from qora_vision.weights import checkpoints

TINY = DATA / "vivit_tiny"


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"weights": "q8"},
        {"weights": "f16", "value_range": "hf"},
        {"labels": [f"name {i}" for i in range(11)], "weights": "f32"},
        {"calibrate": [CLIP]},
    ],
)
def test_the_file_is_the_one_that_saving_writes(how: dict[str, Any], tmp_path: Path) -> None:
    reports: list[tuple[int, int, str]] = []
    output = tmp_path / "converted.qora-vision"
    info = qora_vision.convert(TINY, output, progress=lambda *report: reports.append(report), **how)
    qora_vision.load(TINY, **how).save(tmp_path / "saved.qora-vision")
    assert output.read_bytes() == (tmp_path / "saved.qora-vision").read_bytes()
    assert info.quantization == how.get("weights", "q4") and info.file_size == output.stat().st_size
    assert reports and all(done <= total for done, total, _ in reports)
    # A file of ours, and a bundled model, are copied.
    again = tmp_path / "again.qora-vision"
    qora_vision.convert(output, again)
    assert again.read_bytes() == output.read_bytes()


def test_memory_does_not_grow_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it makes the checkpoint")
    from live_reference import random_model

    fields = {
        "hidden_size": 192,
        "intermediate_size": 1024,
        "num_hidden_layers": 12,
        "num_attention_heads": 3,
    }
    fields |= {"image_size": 32, "num_frames": 2, "tubelet_size": [2, 16, 16], "num_labels": 10}
    random_model("Vivit", fields, 0).save_pretrained(tmp_path)
    assert torch is not None
    monkeypatch.setattr(conversion, "BLOCK_BYTES", 200_000)
    peaks = []
    for weights in ("q4", "f32"):
        tracemalloc.start()
        info = qora_vision.convert(tmp_path, tmp_path / "out.qora-vision", weights=weights)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert info.file_size > 20_000_000
    # The model would be 3.5 MB in q4 and 26 MB in f32.
    assert max(peaks) < 2_500_000


def test_a_conversion_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "model.qora-vision"
    output.write_bytes(b"old")

    def broken(self: object, name: str) -> None:
        raise OSError("the disk went away")

    monkeypatch.setattr(checkpoints.Checkpoint, "read", broken)
    with pytest.raises(OSError, match="the disk went away"):
        qora_vision.convert(TINY, output)
    assert output.read_bytes() == b"old" and list(tmp_path.iterdir()) == [output]
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="no file or directory"):
        qora_vision.convert(tmp_path / "nothing", output)
    with pytest.raises(ValueError, match="weights must be one of"):
        qora_vision.convert(TINY, output, weights="q3")  # type: ignore[arg-type]
    with pytest.raises(OSError):
        qora_vision.convert(TINY, tmp_path)
    assert output.read_bytes() == b"old"

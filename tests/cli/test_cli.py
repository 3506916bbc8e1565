"""The console script: its verbs, on a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import CLIP
from tiny_vivit import LABELS, write_tiny_vivit

import qora_vision
from qora_vision.cli import main


def ranking(text: str) -> list[tuple[float, str]]:
    """The (percent, label) lines of an output."""
    rows = [line.split("%") for line in text.splitlines() if "%" in line]
    return [(float(score), label.strip()) for score, label in rows]


# vivit


def test_predecessors_command_lines(
    tiny_checkpoint: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Word for word: with a trailing slash, relative to the current folder, saved and loaded again."""
    shutil.copytree(frames, tmp_path / "run" / "my_frames")
    shutil.copytree(tiny_checkpoint, tmp_path / "ViViT")
    shutil.copy(CLIP, tmp_path / "run" / "clip.mp4")
    monkeypatch.chdir(tmp_path / "run")
    rankings = []
    for line in (
        "vivit --frames ./my_frames/ --model-path ../ViViT/",
        "vivit --video clip.mp4 --model-path ../ViViT/",
        "vivit --frames ./my_frames/ --model-path ../ViViT/ --save model.qora-vision",
        "vivit --load model.qora-vision --frames ./my_frames/",
    ):
        assert main(line.split()) == 0
        rankings.append(ranking(capsys.readouterr().out))
    assert all(len(each) == 5 for each in rankings)
    assert rankings[0] == rankings[2] == rankings[3]
    assert rankings[0] != rankings[1]


def test_vivit_reports_what_its_predecessor_did(tiny_checkpoint: Path, frames: Path, capsys) -> None:
    assert main(["vivit", "--frames", str(frames), "--model-path", str(tiny_checkpoint)]) == 0
    out, err = capsys.readouterr()
    fields = {line[:12].strip(): line[12:].strip() for line in out.split("\n\n")[0].splitlines()}
    assert fields["Tubelets"] == "8"
    assert fields["Sequence"].startswith("9 ")
    assert fields["Embedding"].startswith("64 dimensions, L2 norm ")
    assert float(fields["Embedding"].split()[-1]) > 0
    assert fields["Weights"].startswith("q4, ")
    assert {"Load time", "Forward time", "Engine", "Clip"} <= fields.keys()
    scores = [score for score, _ in ranking(out)]
    assert scores == sorted(scores, reverse=True)
    assert err == ""


def test_vivit_f16(tiny_checkpoint: Path, frames: Path, tmp_path: Path, capsys) -> None:
    saved = tmp_path / "half.qora-vision"
    command = [
        "vivit",
        "--frames",
        str(frames),
        "--model-path",
        str(tiny_checkpoint),
        "--f16",
        "--save",
        str(saved),
    ]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "f16, " in out
    assert f"saved {saved}" in err
    assert qora_vision.read_info(saved).quantization == "f16"


def test_vivit_with_fewer_labels_than_five(
    tiny_checkpoint: Path, frames: Path, tmp_path: Path, capsys
) -> None:
    names = tmp_path / "ViViT"
    write_tiny_vivit(names, ["yes", "no"])
    assert main(["vivit", "--frames", str(frames), "--model-path", str(names)]) == 0
    assert {label for _, label in ranking(capsys.readouterr().out)} == {"yes", "no"}


# classify


def test_classify_prints_each_source_with_its_labels(tiny_model_file: Path, frames: Path, capsys) -> None:
    assert main(["classify", str(CLIP), str(frames), "--model", str(tiny_model_file), "--top-k", "2"]) == 0
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if "%" not in line] == [str(CLIP), str(frames)]
    assert len(ranking(out)) == 4
    assert err == ""


def test_classify_json_is_one_object_a_line(tiny_model_file: Path, frames: Path, capsys) -> None:
    command = ["classify", str(CLIP), str(frames), "--model", str(tiny_model_file), "--top-k", "3", "--json"]
    assert main(command) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [result["source"] for result in results] == [str(CLIP), str(frames)]
    expected = qora_vision.load(tiny_model_file).classify(CLIP, top_k=3)
    found = results[0]["predictions"]
    assert [each["label"] for each in found] == expected.labels
    assert [each["score"] for each in found] == pytest.approx(expected.scores.tolist(), rel=1e-6)


def test_classify_goes_on_after_a_source_that_fails(
    tiny_model_file: Path, frames: Path, tmp_path: Path, capsys
) -> None:
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    missing = tmp_path / "missing.mp4"
    command = ["classify", str(empty), str(missing), str(frames), "--model", str(tiny_model_file), "--json"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    results = [json.loads(line) for line in out.splitlines()]
    assert [result["source"] for result in results] == [str(empty), str(missing), str(frames)]
    assert ["error" in result for result in results] == [True, True, False]
    assert {result["model"] for result in results} == {str(tiny_model_file)}
    lines = err.splitlines()
    assert len(lines) == 2
    for line, source in zip(lines, (empty, missing), strict=True):
        assert line.startswith("qora-vision: error: ")
        assert str(source) in line


def test_classify_takes_the_model_from_the_environment(
    tiny_model_file: Path, frames: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("QORA_VISION_MODEL", str(tiny_model_file))
    assert main(["classify", str(frames), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["model"] == str(tiny_model_file)
    assert err == ""


def test_classify_options_reach_the_library(
    tiny_checkpoint: Path, frames: Path, tmp_path: Path, capsys
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"class {index}\n" for index in range(7)), encoding="utf-8")
    command = ["classify", str(frames), "--model", str(tiny_checkpoint), "--json", "--labels", str(names)]
    command += ["--weights", "f32", "--compute", "exact", "--threads", "1", "--value-range", "hf"]
    command += ["--sampling", "dense", "--stride", "2", "--views", "2x3"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    model = qora_vision.load(
        tiny_checkpoint, weights="f32", compute="exact", threads=1, value_range="hf", labels=names
    )
    expected = model.classify(frames, sampling="dense", stride=2, views=(2, 3))
    assert [each["label"] for each in result["predictions"]] == expected.labels
    assert expected.labels[0].startswith("class ")
    assert [each["score"] for each in result["predictions"]] == pytest.approx(
        expected.scores.tolist(), rel=1e-6
    )


def test_classify_threads(
    tiny_model_file: Path, frames: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Results do not depend on the threads, so only the call shows them."""
    given = []
    load = qora_vision.load

    def record(source, **options):
        given.append(options["threads"])
        return load(source, **options)

    monkeypatch.setattr(qora_vision, "load", record)
    outputs = []
    for arguments in ([], ["--threads", "1"], ["--threads", "2"]):
        assert main(["classify", str(frames), "--model", str(tiny_model_file), *arguments]) == 0
        outputs.append(capsys.readouterr().out)
    assert given == [None, 1, 2]
    assert outputs[0] == outputs[1] == outputs[2]


# convert, info, doctor


@pytest.mark.parametrize("weights", ["q4", "q8", "f16", "f32"])
def test_convert_and_info_agree(tiny_checkpoint: Path, tmp_path: Path, weights: str, capsys) -> None:
    output = tmp_path / "model.qora-vision"
    assert main(["convert", str(tiny_checkpoint), "-o", str(output), "--weights", weights, "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["file_size"] == output.stat().st_size
    assert main(["info", str(output), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["architecture"] == written["architecture"] == "vivit"
    assert info["quantization"] == written["weights"] == weights
    assert info["labels"] == list(LABELS)
    assert info["file_size"] == written["file_size"]
    kinds = {tensor["kind"] for tensor in info["tensors"].values()}
    assert weights in kinds
    assert sum(tensor["nbytes"] for tensor in info["tensors"].values()) < info["file_size"]


def test_info_for_people(tiny_model_file: Path, capsys) -> None:
    assert main(["info", str(tiny_model_file)]) == 0
    out = capsys.readouterr().out
    assert str(tiny_model_file) in out
    assert "7: opening, closing, waiting, ..." in out
    sizes = qora_vision.read_info(tiny_model_file).bytes_by_kind()
    assert set(sizes) > {"q4"}
    for kind, nbytes in sizes.items():
        assert any(f"{kind:<4} " in line and f"{nbytes / 1000:.1f} kB" in line for line in out.splitlines())
    names = [line.split("  ")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert names == [
        "File",
        "Task",
        "Architecture",
        "Weights",
        "Labels",
        "Scores",
        "Config",
        "Preprocessing",
        "Provenance",
    ]


def test_convert_leaves_the_old_file_when_it_fails(tiny_checkpoint: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "old.qora-vision"
    output.write_bytes(b"old")
    (tmp_path / "names.txt").write_text("one label\n", encoding="utf-8")
    command = ["convert", str(tiny_checkpoint), "-o", str(output), "--labels", str(tmp_path / "names.txt")]
    assert main(command) == 1
    assert output.read_bytes() == b"old"
    assert capsys.readouterr().err.startswith("qora-vision: error: ")


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduling policies here")
def test_asking_decoders_leaves_the_process_as_it_is() -> None:
    """An AV1 encoder made it a real-time process, which starves every other one, with a hundred threads."""
    code = (
        "import os, qora_vision; before = os.sched_getscheduler(0); qora_vision.list_decoders(); "
        "print(before == os.sched_getscheduler(0))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "True"


def test_doctor(capsys) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    info = qora_vision.cpu_info()
    for expected in (
        "PyAV",
        "OpenCV",
        "libavcodec",
        "h264",
        info["name"],
        info["isa"],
        qora_vision.__version__,
        np.__version__,
    ):
        assert expected in out
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cpu"].items() >= info.items()
    assert report["problems"] == []

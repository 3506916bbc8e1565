"""The verb `segments`: tables, lines of JSON, and sources that cannot be used."""

from __future__ import annotations

import json

import pytest
from paths import CLIP

import qora_vision
from qora_vision.cli.app import main


def test_lines_of_json_are_the_segments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segments", str(CLIP), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = [segment.to_dict() for segment in qora_vision.load("camera-motion").segments(CLIP)]
    assert found == [{"source": str(CLIP), "model": "camera-motion", **each} for each in expected]
    assert {each["label"] for each in found} == {"static"}


def test_segments_are_joined_windows() -> None:
    clf = qora_vision.load("camera-motion")
    clip = qora_vision.demo_clip()
    windows = clf.classify_windows(clip.path, 1, stride=clip.stride)
    assert list(clf.segments(clip.path, stride=clip.stride)) == list(qora_vision.join_windows(windows))


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segments", str(CLIP), "--hop", "8"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"{CLIP}  (camera-motion)"
    assert len(lines) == 1
    assert "static" in lines[0]


def test_the_others_go_on(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    missing = str(tmp_path / "missing.mp4")
    assert main(["segments", missing, str(CLIP), "--json"]) == 1
    out, err = capsys.readouterr()
    first, *rest = [json.loads(line) for line in out.splitlines()]
    assert first["source"] == missing
    assert "error" in first
    assert err.count("\n") == 1
    assert rest

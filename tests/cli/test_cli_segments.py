"""The verb `segments`: tables, lines of JSON, and sources that cannot be used."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

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
    windows = clf.classify_windows(clip.path, 1)
    assert list(clf.segments(clip.path)) == list(qora_vision.join_windows(windows))


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


@pytest.mark.parametrize("form", qora_vision.TIMELINE_FORMATS)
def test_every_format_is_written(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / f"out.{form}"
    output.write_text("old")
    assert main(["segments", str(CLIP), "-o", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    track = qora_vision.make_track(CLIP, qora_vision.load("camera-motion").segments(CLIP))
    assert output.read_text("utf-8") == qora_vision.format_tracks([track], form)
    assert main(["segments", str(CLIP), "--format", form]) == 0
    assert capsys.readouterr().out == output.read_text("utf-8")


def test_a_folder_gets_a_file_for_each_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = [tmp_path / name for name in ("a.mp4", "b.mp4", "b.m4v")]
    for video in videos:
        shutil.copyfile(CLIP, video)
    folder = tmp_path / "out"
    folder.mkdir()
    assert main(["segments", *map(str, videos), "--format", "srt", "-o", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a.srt", "b.m4v.srt", "b.mp4.srt"]
    table = tmp_path / "all.csv"
    missing = str(tmp_path / "missing.mp4")
    assert main(["segments", str(videos[0]), missing, str(videos[1]), "-o", str(table)]) == 1
    rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8"))))
    assert {row["source"] for row in rows} == {str(videos[0]), str(videos[1])}
    assert "missing.mp4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out.xyz"], "-o out.xyz: its suffix names no format; give --format one of csv, srt"),
        (["-o", "."], "-o .: its suffix names no format"),
        (["-o", "missing/out.srt"], "-o missing/out.srt: there is no folder missing"),
        (["--format", "csv", "-o", "-"], "-o - is no file: without -o the result is printed"),
        (["--format", "table", "-o", "out.txt"], "-o goes with another --format"),
        (["--json", "--format", "srt"], "--json prints lines"),
        (["--json", "-o", "out.srt"], "--json prints lines"),
        (["--window", "0"], "'0' is not a number above 0"),
        (["--hop", "-1"], "'-1' is not a number above 0"),
        (["--min-score", "nan"], "'nan' is not a number"),
        (["--min-length", "-2"], "'-2' is below 0 seconds"),
        ([str(CLIP), "--format", "srt"], "a file of srt holds one video: give -o an existing folder"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["segments", str(CLIP), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_video_itself_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = tmp_path / "a.csv"
    shutil.copyfile(CLIP, video)
    assert main(["segments", str(video), "-o", str(video)]) == 2
    assert "is one of the videos" in capsys.readouterr().err
    assert video.read_bytes() == CLIP.read_bytes()


def test_thresholds_leave_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segments", str(CLIP), "--min-score", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == "" and "no label reaches --min-score" in err


def test_tracks_are_checked(tmp_path: Path) -> None:
    track = qora_vision.Track("a.mp4", [])
    with pytest.raises(ValueError, match=r"format must be one of csv, srt, .*, eaf, got .x.$"):
        qora_vision.format_tracks([track], "x")
    with pytest.raises(ValueError, match="there are no tracks to write"):
        qora_vision.format_tracks([], "csv")
    with pytest.raises(ValueError, match="holds one video, got 2: write a file for each"):
        qora_vision.format_tracks([track, track], "eaf")
    with pytest.raises(FileNotFoundError):
        qora_vision.make_track(tmp_path / "missing.mp4", [])
    made = qora_vision.make_track(CLIP, [])
    assert made.fps and made.duration and made.source == str(CLIP)


def test_videos_of_one_name_get_a_file_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = [tmp_path / folder / name for folder, name in (("x", "a.mp4"), ("y", "a.mp4"), ("z", "A.mp4"))]
    for video in videos:
        video.parent.mkdir()
        shutil.copyfile(CLIP, video)
    folder = tmp_path / "out"
    folder.mkdir()
    assert main(["segments", *map(str, videos), "--format", "eaf", "-o", str(folder)]) == 0
    files = [folder / name for name in ("a.mp4.eaf", "a.mp4 (2).eaf", "A.mp4 (3).eaf")]
    assert capsys.readouterr().out.splitlines() == [str(file) for file in files]
    for video, file in zip(videos, files, strict=True):
        assert video.as_uri() in file.read_text("utf-8")


def test_a_video_in_the_folder_of_results_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "a.csv"
    shutil.copyfile(CLIP, video)
    assert main(["segments", str(video), "--format", "csv", "-o", str(tmp_path)]) == 2
    assert "is one of the videos" in capsys.readouterr().err
    assert video.read_bytes() == CLIP.read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_behind_stdout_is_no_fault_of_the_video(options: list[str]) -> None:
    code = "import sys; from qora_vision.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "segments", str(CLIP), str(CLIP), *options]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "qora-vision: error: [Errno 28] No space left on device\n"


def test_the_end_of_a_reader_ends_the_work() -> None:
    code = "import sys; from qora_vision.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "segments", str(CLIP), str(CLIP), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == ""

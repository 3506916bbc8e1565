"""`qora-vision demo`: a timeline in any terminal, JSON for programs, an annotated copy on request."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builds import marked
from paths import CLIP

import qora_vision
from qora_vision import Segment
from qora_vision.cli import main
from qora_vision.cli.timeline import Timeline

LINE = re.compile(r" +(\d+):(\d\d\.\d) - +(\d+):(\d\d\.\d)  (\S.*?) +(\d+) %(?:  ([▁▂▃▄▅▆▇█]+))?")


def timeline(text: str) -> list[tuple[float, float, str, int]]:
    """Start, end, label and percent of each line that is a segment."""
    rows = [LINE.fullmatch(line) for line in text.splitlines()]
    return [
        (60 * int(row[1]) + float(row[2]), 60 * int(row[3]) + float(row[4]), row[5], int(row[6]))
        for row in rows
        if row
    ]


def test_the_bundled_clip_needs_nothing_else(tiny_bundled: Path, capsys) -> None:
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].endswith("(camera-motion)")
    rows = timeline(out)
    assert len(rows) == len(lines) - 3
    assert (rows[0][0], rows[-1][1]) == (0.0, 13.0)
    assert all(before[1] == after[0] and before[2] != after[2] for before, after in itertools.pairwise(rows))
    assert "windows of 4 frames 2 apart" in lines[-2]
    assert "NASA" in lines[-1]
    assert "\033" not in out
    assert err == ""


def test_json_has_the_windows_and_their_segments(tiny_bundled: Path, capsys) -> None:
    assert main(["demo", str(CLIP), "--json", "--stride", "3", "--hop", "10"]) == 0
    result = json.loads(capsys.readouterr().out)
    expected = list(qora_vision.load("camera-motion").classify_windows(CLIP, stride=3, hop=10))
    assert result["windows"] == [
        {"start": start, "end": end, "label": each.labels[0], "score": pytest.approx(each.scores[0])}
        for start, end, each in expected
    ]
    assert result["segments"] == [each.to_dict() for each in qora_vision.join_windows(expected)]
    assert (result["source"], result["model"], result["output"]) == (str(CLIP), "camera-motion", None)
    assert "credit" not in result
    assert main(["demo", "--json"]) == 0
    assert "NASA" in json.loads(capsys.readouterr().out)["credit"]


def test_a_clip_shorter_than_a_window_is_one_line(tiny_bundled: Path, capsys) -> None:
    assert main(["demo", str(CLIP), "--stride", "30"]) == 0
    out = capsys.readouterr().out
    assert [row[:2] for row in timeline(out)] == [(0.0, 1.6)]
    assert "1 window of 4 frames 30 apart" in out


def test_folders_have_the_rate_that_is_given(tiny_bundled: Path, frames: Path, capsys) -> None:
    assert main(["demo", str(frames), "--fps", "5"]) == 0
    assert timeline(capsys.readouterr().out)[-1][1] == 2.2


@pytest.mark.parametrize("name", [*map(marked, ["film.mp4", "film.gif"])])
def test_the_annotated_copy_exists(tiny_bundled: Path, tmp_path: Path, name: str, capsys) -> None:
    output = tmp_path / name
    assert main(["demo", str(CLIP), "-o", str(output)]) == 0
    err = capsys.readouterr().err
    assert f"saved {output}" in err
    assert output.stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-o film.webm", "must end in one of .mp4, "),
        ("-o film", "must end in one of .mp4, "),
        ("-o no/film.mp4", "there is no folder"),
        ("--hop 0", "whole number"),
        ("--fps -1", "number above 0"),
        ("--fps nan", "number above 0"),
        ("a.mp4 b.mp4", "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_told_before_any_work(line: str, message: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]


def test_a_video_that_cannot_be_used_is_one_line(tiny_bundled: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "text.mp4").write_text("no video", encoding="utf-8")
    for name in ("missing.mp4", "text.mp4"):
        output = tmp_path / "annotated.mp4"
        assert main(["demo", str(tmp_path / name), "-o", str(output)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert name in err
        assert not output.exists()
    assert main(["demo", str(CLIP), "-o", str(CLIP)]) == 1
    assert "is the video itself" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A terminal of UTF-8."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, segment: Segment, columns: int, stdout: io.StringIO) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", stdout)
    Timeline(["pan left", "roll counterclockwise"]).show(segment)
    return stdout.getvalue().removesuffix("\n")


SEGMENT = Segment(0.0, 3723.4, "roll counterclockwise", tuple(i / 100 for i in range(100)))


@pytest.mark.parametrize("columns", [44, 50, 60, 80, 200])
def test_lines_fit_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    line = shown(monkeypatch, SEGMENT, columns, Terminal())
    assert len(line) <= columns
    assert line.startswith(" 0:00.0 - 62:03.4  roll")
    bar = line.rpartition("%  ")[2]
    assert len(bar) == min(100, columns - line.index(bar))
    assert list(bar) == sorted(bar)
    assert bar[0] in "▁▂"
    assert bar[-1] in "▇█"


def test_a_terminal_too_narrow_for_bars_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    line = shown(monkeypatch, SEGMENT, 10, Terminal())
    assert line == " 0:00.0 - 62:03.4  roll …   50 %"


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    colored = shown(monkeypatch, SEGMENT, 80, Terminal())
    assert colored.count("\033[") == (0 if os.name == "nt" else 2)
    plain = re.sub(r"\033\[\d*m", "", colored)
    assert len(plain) <= 80
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            assert shown(context, SEGMENT, 80, Terminal()) == plain


def test_a_terminal_without_unicode_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = Terminal()
    stdout.encoding = "ascii"
    monkeypatch.setenv("NO_COLOR", "1")
    line = shown(monkeypatch, SEGMENT, 50, stdout)
    assert line.isascii()
    assert line.endswith("  .-+%")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to one process")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_leaves_no_file_and_no_traceback(
    name: str, status: int, tmp_path: Path, tiny_model_file: Path
) -> None:
    output = tmp_path / "annotated.mp4"
    output.write_bytes(b"old")
    # The signal comes when some frames are in the temporary file, however fast the machine is.
    script = """
import os, signal, sys
from pathlib import Path
from qora_vision.video import writing
from qora_vision_launcher import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
at_rate = writing._at_rate
sent = getattr(signal, sys.argv.pop(1))

def interrupted(frames, fps):
    for number, frame in enumerate(at_rate(frames, fps)):
        if number == 3:
            assert list(Path(sys.argv[-1]).parent.glob(".*.tmp.mp4"))
            os.kill(os.getpid(), sent)
        yield frame

writing._at_rate = interrupted
sys.exit(main())
"""
    command = ["demo", str(CLIP), "--model", str(tiny_model_file), "-o", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-c", script, name, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err.decode()
    assert err.decode() == "qora-vision: interrupted\n"
    assert output.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))

"""What comes through a pipe: windows come before its end, and it is read once."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import CLIP, DATA

from qora_vision.errors import VideoError
from qora_vision.video import ClipWindow, Preprocessing, SlidingWindow, as_frames, iter_windows, spool
from qora_vision.video.spool import Spool

SMALL = Preprocessing(num_frames=4, resize=32, crop=(24, 24))
needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")


def windows_of(source: Any) -> Iterator[ClipWindow]:
    return iter_windows(source, SlidingWindow(SMALL, stride=1, hop=2))


def same(windows: list[ClipWindow], path: Path) -> None:
    expected = list(windows_of(path))
    assert [(each.start, each.end) for each in windows] == [(each.start, each.end) for each in expected]
    for ours, theirs in zip(windows, expected, strict=True):
        np.testing.assert_array_equal(ours.clip, theirs.clip)


@needs_posix
def test_windows_come_before_the_end() -> None:
    """The rest of the file is sent only after the first windows have come."""
    data = CLIP.read_bytes()
    reading, writing = os.pipe()
    seen = threading.Event()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data[: len(data) * 2 // 3])
            pipe.flush()
            seen.wait(60)
            pipe.write(data[len(data) * 2 // 3 :])

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as pipe:
        windows = windows_of(pipe)
        first = list(itertools.islice(windows, 3))
        assert not seen.is_set()
        seen.set()
        same(first + list(windows), CLIP)
    writer.join()


class Trickle(io.RawIOBase):
    """A stream that cannot seek, and gives few bytes at a time."""

    def __init__(self, data: bytes, most: int = 5000) -> None:
        self._file, self._most = io.BytesIO(data), most

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, self._most))


@pytest.mark.parametrize(
    "name",
    [
        "asl_eat_7frames.mp4",
        "var_fps_video.mp4",
        "av1_video.mkv",
        "decoding/mpeg2.mpg",
        "decoding/raw25.h264",
    ],
)
def test_the_same_as_from_a_file(name: str) -> None:
    path = DATA / name
    for most in (5000, 1 << 20):
        same(list(windows_of(Trickle(path.read_bytes(), most))), path)


def test_only_the_start_is_kept_of_what_is_read_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEQUENTIAL_SPOOL", 20_000)
    monkeypatch.setattr(spool, "LARGEST_SPOOL", 50_000)
    same(list(windows_of(Trickle(CLIP.read_bytes()))), CLIP)
    source = as_frames(Trickle(CLIP.read_bytes()), once=True)
    assert len(list(source.stream(np.mean))) == 47
    with pytest.raises(OSError, match="read once and its start is not kept"):
        list(source.stream(np.mean))


def test_a_second_pass_over_what_is_kept() -> None:
    source = as_frames(Trickle(CLIP.read_bytes()), once=True)
    first = list(source.stream(np.mean))
    assert list(source.stream(np.mean)) == first


def test_failures_on_the_way_are_errors() -> None:
    class Failing(Trickle):
        def read(self, size: int = -1) -> bytes:
            if self._file.tell() > 60_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    class Text(Trickle):
        def read(self, size: int = -1) -> Any:
            return "text"

    windows = windows_of(Failing(CLIP.read_bytes()))
    with pytest.raises(OSError, match="Input/output error"):
        list(windows)
    with pytest.raises(VideoError, match="gives text"):
        windows_of(Text(b""))


def test_reading_again_and_to_the_end() -> None:
    data = bytes(range(256)) * 20
    kept = Spool(Trickle(data, 100), "it")
    with kept.open() as file, kept.open() as other:
        assert (file.read(7), other.read(300), file.read()) == (data[:7], data[:300], data[7:])
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert (file.read(9), file.read(1)) == (data[-5:], b"")
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 1 << 16)
    kept.close()
    kept.close()


@needs_posix
def test_standard_input_of_the_console_script() -> None:
    code = "import sys; from qora_vision.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "segments", "-", "--json"]
    done = subprocess.run(command, input=CLIP.read_bytes(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") >= 1


def is_empty(pipe: int) -> bool:
    import fcntl
    import termios

    return fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) == bytes(4)


@needs_posix
@pytest.mark.parametrize("verb", ["segments", "demo", "classify"])
def test_ctrl_c_while_standard_input_says_nothing(verb: str) -> None:
    """In a thread (segments), within FFmpeg (demo), and before anything is decoded (classify)."""
    code = "import sys; from qora_vision.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, verb, "-", "--model", "camera-motion"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(CLIP.read_bytes()[:60_000])
        while not is_empty(process.stdin.fileno()):
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(60) == 130
        finally:
            process.kill()
        assert process.stderr.read() == b"qora-vision: interrupted\n"

"""Sources of a video: paths, pipes, addresses, bytes, file objects; and the errors of wrong sources."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paths import DATA

from qora_vision.errors import VideoError
from qora_vision.video import (
    Preprocessing,
    SlidingWindow,
    VideoReader,
    as_frames,
    iter_windows,
    load_clips,
    origins,
    spool,
)

CLIP = DATA / "asl_eat_7frames.mp4"
SMALL = Preprocessing(num_frames=4, resize=32, crop=(24, 24))
needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such names and pipes")


def clip_of(source: Any) -> Any:
    return load_clips(as_frames(source), SMALL)


@pytest.fixture(scope="module")
def expected() -> Any:
    return clip_of(CLIP)


def test_bytes_and_file_objects(expected: Any) -> None:
    data = CLIP.read_bytes()
    with CLIP.open("rb") as file:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), file):
            np.testing.assert_array_equal(clip_of(source), expected)
    padded = io.BytesIO(b"something else" + data)
    padded.seek(14)
    np.testing.assert_array_equal(clip_of(padded), expected)  # from where the file object stands
    windows = list(iter_windows(io.BytesIO(data), SlidingWindow(SMALL)))
    assert windows[-1].end == pytest.approx(7 / 30)


@needs_posix
def test_pipes_are_read_once(tmp_path: Path, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = CLIP.read_bytes()
    named = tmp_path / "pipe.mp4"
    os.mkfifo(named)
    writer = threading.Thread(target=lambda: named.write_bytes(data))
    writer.start()
    np.testing.assert_array_equal(clip_of(named), expected)
    writer.join()
    reading, writing = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(writing, data), os.close(writing)))
    writer.start()
    with os.fdopen(reading, "rb") as pipe:
        np.testing.assert_array_equal(clip_of(pipe), expected)
    writer.join()

    class Stdin:
        buffer = io.BytesIO(data)
        isatty = staticmethod(lambda: False)

    monkeypatch.setattr(sys, "stdin", Stdin())
    np.testing.assert_array_equal(clip_of("-"), expected)


@needs_posix
def test_a_pipe_through_which_nothing_comes_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    monkeypatch.setattr(origins, "_SILENCE_SECONDS", 0.1)
    with pytest.raises(VideoError, match="nothing came through the pipe"):
        as_frames(tmp_path / "pipe.mp4")


def test_what_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    monkeypatch.setattr(spool, "LARGEST_SPOOL", 4 << 20)
    with pytest.raises(VideoError, match="no end"):
        as_frames(Endless())


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(DATA))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_addresses(server: str, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    np.testing.assert_array_equal(clip_of(f"{server}/{CLIP.name}?a=b"), expected)
    with pytest.raises(OSError, match="the server says 404"):
        as_frames(f"{server}/nothing.mp4")


@needs_posix
def test_names_that_are_no_utf8(tmp_path: Path, expected: Any) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/vid\xe9o.mp4")
    Path(path).write_bytes(CLIP.read_bytes())
    np.testing.assert_array_equal(clip_of(path), expected)
    with pytest.raises(VideoError, match="not UTF-8; rename"):
        VideoReader(path, decoder="opencv")


def test_a_name_like_a_pattern_is_one_picture(tmp_path: Path) -> None:
    for name, level in (("a%02d.png", 10), ("a00.png", 200), ("a01.png", 250)):
        assert cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), level, np.uint8))
    total, kept = as_frames(tmp_path / "a%02d.png").select(lambda _: [0], lambda frame: int(frame.max()))
    assert (total, kept) == (1, {0: 10})
    with VideoReader(tmp_path / "a%02d.png") as reader:
        assert [int(frame.max()) for frame in reader] == [10]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "name of the source is empty"),
        ("0", "camera 0 .*live sources"),
        (0, "camera 0 .*live sources"),
        ("/dev/video9", "camera.*live sources"),
        ("rtsp://host/stream", "live stream"),
        ("s3://bucket/a.mp4", "download the video"),
        (Path("http://host/a.mp4"), "lost a slash"),
        ("https://host/list.m3u8?x=1", "playlist"),
        (["a.png", "b.png"], r"'a\.png'.*folder of the images"),
        ([Path("a.png")], "not a picture"),
        (cv2.VideoCapture(), "got a cv2.VideoCapture"),
        (io.StringIO("text"), "mode 'rb'"),
    ],
    ids=str,
)
def test_what_is_no_file_is_told_what_to_do(source: Any, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        as_frames(source)
    with pytest.raises(VideoError, match=message):
        list(iter_windows(source, SlidingWindow(SMALL)))


def test_a_folder_of_videos(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(VideoError, match=r"folder of videos \(a\.mp4.*one by one"):
        as_frames(tmp_path)


def test_a_disk_that_fails_is_no_short_video(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes an error of reading for the end of the file."""
    data = (DATA / "var_fps_video.mp4").read_bytes()

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > len(data) // 2:
                raise OSError(5, "Input/output error")
            return super().read(min(size or 0, 4096))

    with pytest.raises(OSError, match="Input/output error"):
        VideoReader(Failing(data)).count_frames()

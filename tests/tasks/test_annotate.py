"""The annotated copy of a video: what it shows, in which formats, and that nothing is lost when it fails."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from builds import marked
from paths import CLIP, DATA

import qora_vision
from qora_vision import Segment
from qora_vision.video import VideoReader, as_frames
from qora_vision.video.writing import write_frames

SEGMENTS = [Segment(0.0, 0.8, "static", (0.9, 0.8)), Segment(0.8, 1.6, "cut", (0.5,))]


@pytest.mark.parametrize("suffix", [*map(marked, qora_vision.ANNOTATION_FORMATS)])
def test_every_format_is_written_whole(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"annotated{suffix.upper()}"
    qora_vision.annotate(CLIP, SEGMENTS, output)
    with VideoReader(CLIP) as reader:
        before = reader.info()
    with VideoReader(output) as reader:
        info = reader.info()
        frames = [np.array(frame) for frame in reader]
    width = 480 if suffix == ".gif" else before.width
    assert (info.width, info.height) == (width, width * 3 // 4)
    assert info.frame_count == (20 if suffix == ".gif" else before.frame_count)
    assert info.fps == pytest.approx(12.5 if suffix == ".gif" else before.fps, rel=1e-2)
    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    # Above the band the picture is as it was, but for the encoding; in the band it is not.
    with VideoReader(CLIP) as reader:
        originals = reader.read([0])
    first = cv2.resize(originals[0], (info.width, info.height))
    pair = [cv2.blur(each, (15, 15)).astype(int) for each in (frames[0], first)]  # GIF dithers
    difference = np.abs(pair[0] - pair[1]).mean(axis=(1, 2))
    assert difference[: info.height * 8 // 10].mean() < 12
    assert difference[-info.height // 10 :].mean() > 40


def test_the_strip_shows_the_segments_and_where_we_are(tmp_path: Path) -> None:
    output = tmp_path / "annotated.avi"
    qora_vision.annotate(CLIP, SEGMENTS, output)
    with VideoReader(output) as reader:
        frames = reader.read([10, 40])
    rows = frames[:, -4].astype(int)
    for row, index in zip(rows, (10, 40), strict=True):
        marker = int(np.argmax(row.min(axis=-1)))
        assert row[marker].min() > 180
        assert marker == pytest.approx(640 * index / 30 / 1.6, abs=4)
    assert np.abs(rows[1][:300] - rows[0][500]).sum(axis=-1).min() > 100  # two colours
    assert np.abs(rows[0][400:630] - rows[1][400:530].mean(axis=0)).mean() < 40  # each where it belongs
    # The label changes with the segment.
    bands = frames[:, -70:-14, :200].astype(int)
    assert np.abs(bands[0] - bands[1]).max() > 100


def test_variable_frame_rates_keep_their_time(tmp_path: Path) -> None:
    path = DATA / "var_fps_video.mp4"
    with VideoReader(path) as reader:
        before = reader.info()
    qora_vision.annotate(path, [Segment(0.0, before.duration, "static", (1.0,))], tmp_path / "a.mp4")
    with VideoReader(tmp_path / "a.mp4") as reader:
        after = reader.info()
    assert after.duration == pytest.approx(before.duration, abs=0.6)  # the last frame lasts up to 533 ms


def test_a_folder_of_images(frames: Path, tmp_path: Path) -> None:
    """Their sizes are odd and differ."""
    odd = tmp_path / "odd"
    odd.mkdir()
    for number, (height, width) in enumerate([(41, 61), (41, 61), (30, 80)]):
        cv2.imwrite(str(odd / f"{number}.png"), np.full((height, width, 3), 90, np.uint8))
    qora_vision.annotate(odd, [Segment(0.0, 0.3, "a label", (1.0,))], tmp_path / "a.mp4", fps=10)
    with VideoReader(tmp_path / "a.mp4") as reader:
        info = reader.info()
    assert (info.width, info.height, info.frame_count, info.fps) == (60, 40, 3, 10)


@pytest.mark.parametrize("suffix", [*map(marked, qora_vision.ANNOTATION_FORMATS)])
@pytest.mark.parametrize("size", [(2, 2), (16, 16), (400, 10), (10, 400)])
def test_tiny_and_thin_frames(size: tuple[int, int], suffix: str, tmp_path: Path) -> None:
    source = as_frames(np.zeros((2, *size, 3), np.uint8))
    qora_vision.annotate(source, SEGMENTS, tmp_path / f"a{suffix}")
    with VideoReader(tmp_path / f"a{suffix}") as reader:
        assert reader.count_frames() >= 1


def test_a_size_that_the_codec_refuses(tmp_path: Path) -> None:
    with pytest.raises(qora_vision.VideoError, match=r"frames of 1 x 1; try \.avi"):
        qora_vision.annotate(DATA / "onepixel_1x1.mp4", SEGMENTS, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "segments", "message"),
    [
        ("a.webm", SEGMENTS, r"cannot write \.webm; use \.mp4, "),
        ("a", SEGMENTS, "without an extension"),
        ("a.mp4", [], "no segments"),
        ("a.gif", [Segment(0.0, 41.0, "static", (1.0,))], r"GIF of 41 s .* use \.mp4"),
        ("clip.mkv", SEGMENTS, "is the video itself"),
        ("no/a.mp4", SEGMENTS, "No such file"),
        ("folder.mp4", SEGMENTS, "not a regular file"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, name: str, segments, message: str) -> None:
    clip = tmp_path / "clip.mkv"
    clip.write_bytes(CLIP.read_bytes())
    (tmp_path / "folder.mp4").mkdir()
    names = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises((ValueError, OSError), match=message):
        qora_vision.annotate(clip, segments, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert clip.read_bytes() == CLIP.read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, qora_vision.VideoError("damaged")])
@pytest.mark.parametrize("suffix", [*map(marked, [".mp4", ".gif"])])
def test_the_old_file_survives_a_failure(tmp_path: Path, suffix: str, error) -> None:
    output = tmp_path / f"annotated{suffix}"
    output.write_bytes(b"old")

    def fail(done: int, total: int, what: str) -> None:
        if done == 20:
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        qora_vision.annotate(CLIP, SEGMENTS, output, progress=fail)
    assert output.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_a_file_that_did_not_get_all_frames_is_an_error(tmp_path: Path, monkeypatch) -> None:
    """As when the disk is full, which OpenCV does not tell."""

    class Losing:
        """Writes nothing more after the tenth frame."""

        fourcc = staticmethod(cv2.VideoWriter.fourcc)

        def __init__(self) -> None:
            self._writer, self._left = cv2_writer(), 10

        def open(self, *arguments) -> bool:
            return self._writer.open(*arguments)

        def write(self, frame) -> None:
            self._left -= 1
            if self._left >= 0:
                self._writer.write(frame)

        def release(self) -> None:
            self._writer.release()

    cv2_writer = cv2.VideoWriter
    monkeypatch.setattr(cv2, "VideoWriter", Losing)
    with pytest.raises(OSError, match="10 of 47 frames"):
        qora_vision.annotate(CLIP, SEGMENTS, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_frames_are_repeated_and_dropped_to_keep_time(tmp_path: Path) -> None:
    def frame(value: int) -> np.ndarray:
        return np.full((16, 16, 3), value, np.uint8)

    frames = [(0.0, frame(10)), (0.3, frame(100)), (0.31, frame(0)), (0.4, frame(200)), (9e9, frame(50))]
    write_frames(tmp_path / "a.avi", frames, 10.0, 0.5)
    with VideoReader(tmp_path / "a.avi") as reader:
        values = [int(np.median(each)) for each in reader]
    assert values[:5] == pytest.approx([10, 100, 100, 100, 200], abs=6)
    assert len(values) == 5 + 101  # a leap in time is taken for ten seconds

"""Videos that some decoder has decoded wrongly: fields, colours, mirrors, times."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from paths import DATA

from qora_vision.errors import VideoError
from qora_vision.video import Preprocessing, SlidingWindow, VideoReader, as_frames, iter_windows
from qora_vision.video.decoders.orientation import Orientation

FILES = DATA / "decoding"
SMALL = Preprocessing(num_frames=8, resize=32, crop=(24, 24))
DECODERS = ("pyav", "opencv")
PQ_MEANS = [132.39, 149.63, 139.81]


def frames_of(name: str, decoder: str | None = None) -> NDArray[np.uint8]:
    with VideoReader(FILES / name, decoder=decoder) as reader:
        return np.stack(list(reader))


def test_frames_of_two_fields_show_what_they_hold() -> None:
    fields, whole = frames_of("x264_tff.mp4"), frames_of("x264_prog.mp4")
    assert fields.shape == whole.shape == (8, 128, 192, 3)
    np.testing.assert_allclose(fields.mean((1, 2, 3)), whole.mean((1, 2, 3)), atol=1)
    assert whole[0].mean() == pytest.approx(55.5, abs=0.1)


def test_opencv_refuses_frames_of_two_fields() -> None:
    np.testing.assert_array_equal(frames_of("x264_prog.mp4", "opencv"), frames_of("x264_prog.mp4"))
    with pytest.raises(VideoError, match=r"frame 0 is interlaced.*use the decoder pyav"):
        frames_of("x264_tff.mp4", "opencv")


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("name", "matrix"), [("matrix_ICtCp.mp4", "ICtCp"), ("matrix_bt2020c.mp4", "constant luminance")]
)
def test_colours_that_nobody_converts_are_an_error(name: str, matrix: str, decoder: str) -> None:
    with pytest.raises(
        VideoError, match=rf"{name}: frame 0 has the colour matrix .*{matrix}.*expected BT\.601"
    ):
        frames_of(name, decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_bt709(decoder: str) -> None:
    """Its bars are red, green, blue, yellow and grey of 255, 0 and 40."""
    try:
        frame = frames_of("bt709.mp4", decoder)[0]
    except VideoError as error:
        assert decoder == "opencv" and "BT.601" in str(error)
        return
    colours = np.unique(frame.reshape(-1, 3), axis=0)
    assert np.abs(colours.astype(int)[..., None] - [0, 40, 255]).min(-1).max() <= 2


@pytest.mark.parametrize("decoder", DECODERS)
def test_mirrored_pictures(decoder: str) -> None:
    coded = frames_of("flip_src.mp4", decoder)
    np.testing.assert_array_equal(frames_of("hflip.mp4", decoder), coded[:, :, ::-1])
    np.testing.assert_array_equal(frames_of("vflip.mp4", decoder), coded[:, ::-1])
    with VideoReader(FILES / "hflip.mp4") as reader:
        assert (reader.info().rotation, reader.info().mirrored) == (0, True)
    with VideoReader(FILES / "vflip.mp4") as reader:
        assert (reader.info().rotation, reader.info().mirrored) == (180, True)


def test_every_display_matrix_of_right_angles() -> None:
    """Pixel (x, y) goes to (a x + c y, b x + d y), shifted so that the picture begins at 0."""
    frame = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    rows, columns = np.mgrid[0:4, 0:6]
    seen = set()
    for swap, p, q in itertools.product((False, True), (1, -1), (1, -1)):
        a, b, c, d = (0, p, q, 0) if swap else (p, 0, 0, q)
        x, y = a * columns + c * rows, b * columns + d * rows
        x, y = x - x.min(), y - y.min()
        expected = np.zeros((y.max() + 1, x.max() + 1, 3), np.uint8)
        expected[y, x] = frame
        one = 1 << 16
        matrix = struct.pack("=9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
        turned = Orientation.from_matrix(matrix)
        np.testing.assert_array_equal(turned.apply(frame), expected)
        again = np.rot90(frame, -turned.rotation // 90)
        np.testing.assert_array_equal(again[:, ::-1] if turned.mirrored else again, expected)
        seen.add((turned.rotation, turned.mirrored))
    assert len(seen) == 8


@pytest.mark.parametrize("data", [b"", b"\0" * 36, struct.pack("=9i", 7, 7, 0, -7, 7, 0, 0, 0, 1 << 30)])
def test_a_matrix_that_means_nothing_changes_nothing(data: bytes) -> None:
    assert Orientation.from_matrix(data) == Orientation()


@pytest.mark.parametrize(
    ("name", "seconds", "fps"), [("mpeg2.mpg", 0.96, 25), ("raw25.h264", 0.96, 25), ("raw60.h264", 2.0, 60)]
)
def test_durations_of_files_with_few_stamps_or_none(name: str, seconds: float, fps: float) -> None:
    with VideoReader(FILES / name) as reader:
        info = reader.info()
    assert (info.duration, info.fps) == (pytest.approx(seconds), fps)


@pytest.mark.parametrize(("given", "end"), [(None, 2.0), (60, 2.0), (30, 4.0)])
def test_the_callers_rate_counts_where_there_are_no_stamps(given: float | None, end: float) -> None:
    source = as_frames(FILES / "raw60.h264")
    assert not source.has_stamps
    windows = list(iter_windows(source, SlidingWindow(SMALL), fps=given))
    assert windows[-1].end == pytest.approx(end)


def test_the_callers_rate_does_not_replace_stamps() -> None:
    windows = list(iter_windows(FILES / "x264_prog.mp4", SlidingWindow(SMALL), fps=5))
    assert windows[-1].end == pytest.approx(0.32)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cover.m4a", "no video, only sound and a cover picture"),
        ("sound.m4a", r"holds sound only \(aac\)"),
        ("encrypted.mp4", "the video is encrypted"),
    ],
)
def test_files_without_a_video_to_see_are_called_what_they_are(name: str, message: str) -> None:
    with pytest.raises(VideoError, match=rf"{name}: .*{message}"):
        as_frames(FILES / name)


def test_decoders_are_chosen_by_argument_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    path = FILES / "x264_tff.mp4"
    monkeypatch.setenv("QORA_VISION_DECODER", "opencv")
    with pytest.raises(VideoError, match="interlaced"):
        frames_of("x264_tff.mp4")
    assert len(frames_of("x264_tff.mp4", "pyav")) == 8
    assert as_frames(path, decoder="pyav").select(lambda _: [0], np.mean)[0] == 8
    monkeypatch.setenv("QORA_VISION_DECODER", "gstreamer")
    with pytest.raises(VideoError, match="QORA_VISION_DECODER must be one of pyav, opencv, got 'gstreamer'"):
        VideoReader(path)
    with pytest.raises(VideoError, match="decoder must be one of"):
        as_frames(path, decoder="ffmpeg")


def test_opencv_says_which_names_it_cannot_take(tmp_path: Path) -> None:
    data = (FILES / "x264_prog.mp4").read_bytes()
    (tmp_path / "a%02d.mp4").write_bytes(data)
    with pytest.raises(VideoError, match="pattern"):
        VideoReader(tmp_path / "a%02d.mp4", decoder="opencv")
    with pytest.raises(VideoError, match="files only"):
        VideoReader(data, decoder="opencv")


def test_high_dynamic_range_is_reduced_as_opencv_does() -> None:
    """PQ with BT.2020's colours; what this frame is in OpenCV 5.0."""
    import av

    if int(av.__version__.partition(".")[0]) < 18:
        with pytest.raises(VideoError, match=r"high dynamic range \(PQ\)"):
            frames_of("pq.mp4")
        return
    means = frames_of("pq.mp4")[0].mean((0, 1))
    np.testing.assert_allclose(means, PQ_MEANS, atol=0.5)

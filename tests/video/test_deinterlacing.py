"""Interlaced frames become whole pictures of their first field; others stay as they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from paths import DATA

from qora_vision.video import VideoReader
from qora_vision.video.decoders.deinterlacing import Deinterlacer
from qora_vision.video.decoders.pyav import PyavDecoder, av
from qora_vision.video.origins import find_origin

FIELDS = DATA / "decoding" / "x264_tff.mp4"
FFMPEG = shutil.which("ffmpeg")


def luma(frame: Any) -> NDArray[np.uint8]:
    plane = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]


def test_the_first_field_stays_as_it_is() -> None:
    """Its frames say that the bottom field comes first: odd rows are coded, even ones are made."""
    decoder = PyavDecoder(find_origin(FIELDS))
    changed = 0
    while decoder.grab():
        assert decoder.interlaced
        woven, whole = luma(decoder._frame), luma(decoder._whole_picture())
        np.testing.assert_array_equal(whole[1::2], woven[1::2])
        changed += int((whole[::2] != woven[::2]).sum())
    decoder.close()
    assert changed > 0


def test_which_frames_are_asked_for_changes_nothing() -> None:
    with VideoReader(FIELDS) as reader:
        every = list(reader)
        for chosen in ([0], [7], [1, 4, 5], [6, 7], [0, 2, 4]):
            np.testing.assert_array_equal(reader.read(chosen), [every[number] for number in chosen])


def test_other_frames_cost_nothing() -> None:
    decoder = PyavDecoder(find_origin(DATA / "decoding" / "x264_prog.mp4"))
    while decoder.grab():
        decoder.retrieve()
        assert decoder._deinterlacer is None and decoder._previous is None
    decoder.close()


def coded(
    codec: str, options: dict[str, str], pixels: str, path: Path, size: tuple[int, int] = (96, 64)
) -> None:
    """Encode a bar that moves from field to field."""
    width, height = 96, 64
    try:
        with av.open(str(path), "w") as output:
            stream = output.add_stream(codec, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, pixels
            stream.codec_context.thread_count = 1
            for index in range(6):
                picture = np.full((height, width), 40, np.uint8)
                picture[::2, 10 * index : 10 * index + 20] = 200
                picture[1::2, 10 * index + 5 : 10 * index + 25] = 200
                frame = av.VideoFrame.from_ndarray(picture, "gray").reformat(format=pixels)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    except (ValueError, LookupError) as error:
        pytest.skip(f"this build of PyAV cannot write {codec}: {error}")


@pytest.mark.skipif(FFMPEG is None, reason="the ffmpeg command is absent")
@pytest.mark.parametrize(
    ("codec", "options", "pixels", "suffix"),
    [
        ("mpeg2video", {"flags": "+ildct+ilme", "qscale": "2"}, "yuv420p", ".mkv"),
        ("libx264", {"flags": "+ildct+ilme", "x264-params": "tff=1"}, "yuv420p", ".mp4"),
        ("libx264", {"flags": "+ildct+ilme", "x264-params": "bff=1"}, "yuv422p", ".mkv"),
    ],
)
def test_as_the_ffmpeg_command_does(
    codec: str, options: dict[str, str], pixels: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"fields{suffix}"
    coded(codec, options, pixels, path)
    decoder = PyavDecoder(find_origin(path))
    ours = []
    while decoder.grab():
        assert decoder.interlaced
        ours.append(luma(decoder._whole_picture()).copy())
    decoder.close()
    command = [str(FFMPEG), "-v", "error", "-i", str(path), "-fps_mode", "passthrough"]
    command += ["-vf", "bwdif=mode=send_frame:deint=interlaced,extractplanes=y", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(-1, *ours[0].shape)
    assert len(ours) == len(theirs)
    # Versions of FFmpeg differ about the first frame, which has no neighbour before it.
    np.testing.assert_array_equal(ours[1:], theirs[1:])


def test_frames_that_cannot_be_filtered_stay_woven() -> None:
    tiny = av.VideoFrame(2, 2, "yuv420p")
    assert Deinterlacer().apply(None, tiny, None) is tiny


def test_frames_of_another_size_beside_it_do_no_harm() -> None:
    decoder = PyavDecoder(find_origin(FIELDS))
    assert decoder.grab()
    other = av.VideoFrame(64, 48, "yuv420p")
    alone = luma(Deinterlacer().apply(None, decoder._frame, None))
    np.testing.assert_array_equal(luma(Deinterlacer().apply(other, decoder._frame, other)), alone)
    decoder.close()

"""Every frame against the `ffmpeg` command: planes bit for bit, colours within 2 levels, times to 0.1 ms."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import CLIP, DATA, SHARED

from qora_vision.video.decoders.pyav import PyavDecoder
from qora_vision.video.origins import find_origin

FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(
    FFMPEG is None, reason="the independent decoder, the ffmpeg command, is absent"
)

# Files whose colours nobody converts, or which hold no video to see, are tested elsewhere.
_OTHERS = {"pq.mp4", "matrix_ICtCp.mp4", "matrix_bt2020c.mp4", "encrypted.mp4", "cover.m4a", "sound.m4a"}
_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".3gp", ".h264"}
# Of how many frames the colours are compared, and of how many at most the planes and times.
_COLOURS, _MOST = 5, 100
INTERLACED = {"x264_tff.mp4"}
DEINTERLACE = "bwdif=mode=send_frame:deint=interlaced"


def files() -> list[Path]:
    folders = [DATA, *([SHARED / "videos"] if (SHARED / "videos").is_dir() else [])]
    found = [path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES]
    return sorted(path for path in [CLIP, *found] if path.name not in _OTHERS)


def ffmpeg(path: Path, *arguments: str) -> bytes:
    """Run ffmpeg on the first frames of the first video stream, as they are coded, without turning them."""
    command = [FFMPEG, "-v", "error", "-threads", "1", "-noautorotate", "-i", str(path), "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-frames:v", str(_MOST), *arguments, "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


@functools.cache
def knows_av1() -> bool:
    listed = subprocess.run(
        [str(FFMPEG), "-v", "error", "-decoders"], capture_output=True, text=True, check=True
    )
    return "libdav1d" in listed.stdout


def planes_of(frame: Any) -> bytes:
    """The bytes of a frame without the padding of its rows, as ffmpeg's rawvideo has them."""
    parts = []
    for plane, component in zip(frame.planes, frame.format.components, strict=False):
        rows = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height].reshape(plane.height, -1)
        packed = len(frame.planes) == 1 and len(frame.format.components) > 1
        bits = frame.format.padded_bits_per_pixel if packed else (8 if component.bits <= 8 else 16)
        parts.append(rows[:, : plane.width * bits // 8].tobytes())
    return b"".join(parts)


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_frames_equal_those_of_another_decoder(path: Path) -> None:
    if path.name.startswith("av1") and not knows_av1():
        pytest.skip("this ffmpeg does not decode AV1")
    listing = ffmpeg(path, "-enc_time_base", "-1", "-f", "framemd5").decode().splitlines()
    base = next(line for line in listing if line.startswith("#tb 0:")).split(": ")[1]
    tick = int(base.split("/")[0]) / int(base.split("/")[1])
    known = [line.split(",") for line in listing if not line.startswith("#")]
    chosen = sorted({i * (len(known) - 1) // (_COLOURS - 1) for i in range(_COLOURS)})
    decoder = PyavDecoder(find_origin(path))
    frames, times = [], []
    for index, fields in enumerate(known):
        assert decoder.grab(), f"{index} frames instead of {len(known)}"
        assert hashlib.md5(planes_of(decoder._frame)).hexdigest() == fields[5].strip(), f"frame {index}"
        times.append((decoder.seconds(), int(fields[2]) * tick))
        if index in chosen:
            frames.append(decoder.retrieve())
            turned = decoder.orientation()
            deep = decoder._frame.format.components[0].bits > 8
    assert len(known) == _MOST or not decoder.grab()
    decoder.close()
    if decoder.has_stamps:
        # ffmpeg lets every file begin at 0.
        ours = np.array([ours for ours, _ in times]) - times[0][0]
        np.testing.assert_allclose(ours, np.array([theirs for _, theirs in times]) - times[0][1], atol=1e-4)
    select = "+".join(f"eq(n\\,{index})" for index in chosen)
    filters = f"select={select},scale=flags=bicubic:interl=-1,format=bgr24"
    if path.name in INTERLACED:
        filters = f"{DEINTERLACE},{filters}"
    raw = ffmpeg(path, "-vf", filters, "-f", "rawvideo")
    height, width = frames[0].shape[:2]
    shape = (width, height, 3) if turned.transposed else (height, width, 3)
    for ours, coded in zip(frames, np.frombuffer(raw, np.uint8).reshape(-1, *shape), strict=True):
        if path.name in INTERLACED and ours is frames[0]:
            continue  # the first frame has no neighbour before it, and versions of FFmpeg differ about that
        theirs = turned.apply(np.ascontiguousarray(coded))
        difference = ours.astype(int) - theirs
        if deep:  # versions of swscale interpolate colours in different ways beyond 8 bits
            assert np.abs(difference.mean((0, 1))).max() <= 1
        else:
            assert np.abs(difference).max() <= 2

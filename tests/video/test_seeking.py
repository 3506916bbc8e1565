"""Frames that are sought: the same, bit for bit, as those of a full decode, or not sought at all."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from paths import DATA, SHARED

from qora_vision.errors import VideoError
from qora_vision.video import VideoReader, decode
from qora_vision.video.decoders import numbering
from qora_vision.video.decoders.nal_units import is_idr
from qora_vision.video.decoders.numbering import KeyPacket, Numbering
from qora_vision.video.sampling import uniform_indices

FRAMES = 90
SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".3gp", ".h264"}


def files() -> list[Path]:
    folders = [DATA, *([SHARED / "videos", SHARED / "broken"] if SHARED.is_dir() else [])]
    return sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Lets every video be sought in, pay it or not; says of each selection whether it was."""
    sought: list[bool] = []
    seek = VideoReader._seek

    def note(self: VideoReader, *arguments: Any, **named: Any) -> Any:
        found = seek(self, *arguments, **named)
        sought.append(found is not None)
        return found

    monkeypatch.setattr(VideoReader, "_seek", note)
    monkeypatch.setattr(decode, "LONG", 0)
    monkeypatch.setattr(numbering, "_SAVING", -FRAMES)
    return sought


def selected(path: Path) -> tuple[int, dict[int, NDArray[np.uint8]]]:
    with VideoReader(path) as reader:
        return reader.select(lambda total: uniform_indices(total, 7), np.copy)


def compare(path: Path, eager: list[bool], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Compare a selection with that of a full decode; return whether frames were sought."""
    total, frames = selected(path)
    sought = eager[0]
    monkeypatch.setattr(decode, "LONG", 1 << 40)
    known, expected = selected(path)
    assert total == known
    assert frames.keys() == expected.keys()
    for number, frame in frames.items():
        np.testing.assert_array_equal(frame, expected[number])
    return sought


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_every_file(path: Path, eager: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        compare(path, eager, monkeypatch)
    except VideoError as error:
        with pytest.raises(VideoError) as caught:
            selected(path)
        assert str(caught.value) == str(error)


# --- files that lie, and files where seeking is no simple thing ------------------------------------


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_a_stream_from_the_middle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sought or not, the frames from some time on are those of a full decode."""
    try:
        with VideoReader(path) as reader:
            known = list(reader.stream(lambda frame: hash(frame.tobytes())))
    except VideoError:
        pytest.skip("nothing of it decodes")
    stamps = [stamp for stamp, _ in known if stamp is not None]
    if len(stamps) < len(known) or stamps != sorted(set(stamps)):
        pytest.skip("its frames have no rising time stamps")
    monkeypatch.setattr(decode, "LONG", 0)
    for since in (stamps[len(stamps) // 2], stamps[-1], stamps[-1] + 100):
        with VideoReader(path) as reader:
            found = list(reader.stream(lambda frame: hash(frame.tobytes()), since=since))
        assert found == known[len(known) - len(found) :]
        assert found[0][0] <= since


def write(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    times: Sequence[int] = range(FRAMES),
    container: dict[str, str] | None = None,
) -> None:
    """Encode moving noise; `times` are presentation times in 25ths of a second."""
    av = pytest.importorskip("av")
    picture = np.random.default_rng(3).integers(0, 256, (20, 40), np.uint8).repeat(8, 0).repeat(8, 1)
    try:
        with av.open(str(path), "w", options=container or {}) as output:
            stream = output.add_stream(codec, rate=25, options=options or {})
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            stream.codec_context.thread_count = 1
            for index, time in enumerate(times):
                part = np.ascontiguousarray(np.roll(picture, 2 * index, 1)[:96, :128])
                frame = av.VideoFrame.from_ndarray(np.stack([part] * 3, -1), "rgb24").reformat(
                    format="yuv420p"
                )
                frame.pts = time
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    except (ValueError, LookupError) as error:
        pytest.skip(f"this build of PyAV cannot write {codec}: {error}")


def x264(parameters: str = "") -> dict[str, str]:
    return {"g": "12", "bf": "3", "x264-params": f"scenecut=0{parameters}"}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("parameters", ["", ":open-gop=1", ":intra-refresh=1"])
def test_groups_of_pictures(
    suffix: str, parameters: str, tmp_path: Path, eager: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"groups{suffix}"
    write(path, options=x264(parameters))
    assert compare(path, eager, monkeypatch)


@pytest.mark.parametrize(
    ("suffix", "times", "container"),
    [
        (".mkv", range(-9, FRAMES - 9), {"avoid_negative_ts": "disabled"}),
        (".mp4", range(-9, FRAMES - 9), {"avoid_negative_ts": "disabled"}),
        (".mp4", range(40, 40 + FRAMES), {}),
        (".mp4", [i * i for i in range(FRAMES)], {}),
        (".mp4", range(FRAMES), {"movflags": "frag_keyframe+empty_moov"}),
        (".mkv", range(FRAMES), {"live": "1"}),
        (".ts", range(FRAMES), {}),
    ],
    ids=["negative mkv", "edit list", "late", "variable rate", "fragments", "no index", "transport stream"],
)
def test_times_and_indices(
    suffix: str,
    times: Sequence[int],
    container: dict[str, str],
    tmp_path: Path,
    eager: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / f"times{suffix}"
    write(path, options=x264(), times=times, container=container)
    compare(path, eager, monkeypatch)


def shift_sync_samples(data: bytearray) -> None:
    """Call frames after each key frame the key frames."""
    place = data.index(b"stss") + 12
    for key in range(1, int.from_bytes(data[place - 4 : place], "big")):
        old = int.from_bytes(data[place + 4 * key : place + 4 * key + 4], "big")
        data[place + 4 * key : place + 4 * key + 4] = struct.pack(">I", old + 1 + key % 3)


def forget_sync_samples(data: bytearray) -> None:
    """Without this table every frame is a key frame."""
    place = data.index(b"stss")
    data[place : place + 4] = b"free"


def shift_one_time(data: bytearray) -> None:
    place = data.index(b"ctts") + 12 + 8 * 5
    data[place + 4 : place + 8] = struct.pack(">I", 123)


def damage(data: bytearray) -> None:
    place = data.index(b"mdat")
    for byte in range(place + 3000, len(data) // 2, 41):
        data[byte] ^= 0x5A


@pytest.mark.parametrize("spoil", [shift_sync_samples, forget_sync_samples, shift_one_time, damage])
def test_an_index_that_lies(
    spoil: Callable[[bytearray], None], tmp_path: Path, eager: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lies.mp4"
    write(path, options=x264())
    data = bytearray(path.read_bytes())
    spoil(data)
    path.write_bytes(data)
    compare(path, eager, monkeypatch)


def test_a_matroska_index_that_lies(
    tmp_path: Path, eager: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lies.mkv"
    write(path, options=x264())
    data = bytearray(path.read_bytes())
    cues = data.rindex(b"\x1c\x53\xbb\x6b")
    for place in range(cues, len(data) - 4):
        if data[place] == 0xF1 and data[place + 1] == 0x82:  # CueClusterPosition of two bytes
            data[place + 3] ^= 0x55
    path.write_bytes(data)
    compare(path, eager, monkeypatch)


# --- when it is done ---------------------------------------------------------------------------------


def test_few_frames_of_a_long_video_are_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.mp4"
    write(path, options=x264(), times=range(1100))
    grabs = 0

    class Reader(VideoReader):
        def _open(self) -> Any:
            decoder = super()._open()
            grab = decoder.grab

            def count() -> bool:
                nonlocal grabs
                grabs += 1
                return grab()

            decoder.grab = count
            return decoder

    with Reader(path) as reader:
        total, _ = reader.select(lambda count: uniform_indices(count, 8), np.copy)
        assert (total, grabs < 8 * 12) == (1100, True)
        grabs = 0
        np.testing.assert_array_equal(reader.read([1050])[0], list(VideoReader(path))[1050])
        assert grabs <= 12
        grabs = 0
        late = reader.stream(np.copy, lambda stamp: stamp is not None and stamp > 1080 / 25, since=1080 / 25)
        assert len(list(late)) == 19 and grabs <= 35
        with pytest.raises(VideoError, match="frame 1100 was asked for, but the clip has 1100 frames"):
            reader.read([1100])
        # Where most frames would be decoded all the same, all are: then damage anywhere is seen.
        grabs = 0
        reader.select(lambda count: uniform_indices(count, 500), np.copy)
        assert grabs == 1101


def test_decoding_starts_where_nothing_earlier_is_shown_later() -> None:
    key = KeyPacket(0, 0)
    # Frames in the order of decoding: at place 3 an open group begins, whose 3 and 4 are shown before its 5.
    shown = [0, 2, 1, 5, 3, 4, 6, 7]
    found = Numbering(shown, {place: key for place in (0, 3, 6)})
    assert [found.start_for(number)[0] for number in range(8)] == [0, 0, 0, 0, 0, 0, 6, 6]
    assert found.total == 8
    assert Numbering(shown, {3: key}).total == 0  # it begins in the middle of a group
    assert Numbering([0, 1, 1], {0: key}).total == 0
    assert Numbering([], {}).total == 0


def test_what_pays() -> None:
    keys = {place: KeyPacket(place, place) for place in range(0, 1000, 100)}
    found = Numbering(range(1000), keys)
    assert found.pays([0, 500, 999])
    assert not found.pays(range(0, 1000, 10))
    assert not found.pays([99], last=99)


def test_slices_of_h264() -> None:
    annexb = b"\0\0\0\1\x09\xf0\0\0\1\x67ab\0\0\1\x65slice"
    assert is_idr(annexb, b"")
    assert not is_idr(annexb.replace(b"\x65", b"\x41"), b"")
    lengths = b"\0\2\x09\xf0\0\6\x65slice"
    assert is_idr(lengths, b"\1abc\xfd")
    assert not is_idr(lengths.replace(b"\x65", b"\x41"), b"\1abc\xfd")
    assert not is_idr(b"", b"\1abc\xfd") and not is_idr(b"\0\xff", b"\1abc\xfd")

"""Reading videos: frame counts of containers are not trusted, and errors name the fault."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paths import DATA, SHARED

from qora_vision.errors import VideoError
from qora_vision.video import Preprocessing, VideoReader, as_frames, load_clips
from qora_vision.video.decoders.pyav import PyavDecoder, av
from qora_vision.video.sampling import uniform_indices

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the shared data lie beside the project, not here"
)
SMALL = Preprocessing(num_frames=8, resize=32, crop=(24, 24))
OLD_OPENCV = tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 13)


def _probe() -> dict[str, dict[str, Any]]:
    path = SHARED / "probe_opencv.json"
    return json.loads(path.read_text()) if path.is_file() else {}


# The probe was made with OpenCV, which ends a file at the first packet that cannot be decoded, and lacks AV1.
# These are the counts of the `ffmpeg` command, which goes on.
COUNTS = {
    "broken/decord_corrupted.mp4": 49,
    "broken/derived_bitflips_friday.mp4": 184,
    "broken/derived_trunc60_friday_moov_first.mp4": 116,
    "broken/moz_no_timescale.mp4": 170,
}
AV1 = "videos/formats/av1_video.mkv"
DECODABLE = sorted(name for name, entry in _probe().items() if entry.get("decoded"))
HOPELESS = sorted(name for name, entry in _probe().items() if not entry.get("decoded") and name != AV1)


class Spy:
    """Counts what is asked of the decoder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.grabs = self.retrieves = self.opened = 0
        spy = self

        class Counting(PyavDecoder):
            def __init__(self, *arguments: Any) -> None:
                spy.opened += 1
                super().__init__(*arguments)

            def grab(self) -> bool:
                spy.grabs += 1
                return super().grab()

            def retrieve(self, *arguments: Any) -> Any:
                spy.retrieves += 1
                return super().retrieve(*arguments)

        monkeypatch.setattr("qora_vision.video.decoders.pyav.PyavDecoder", Counting)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def _all_frames(path: Path) -> NDArray[np.uint8]:
    with VideoReader(path) as reader:
        return np.stack(list(reader))


# --- what the files hold ---------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize("name", DECODABLE)
def test_every_readable_file_gives_the_known_frames(name: str) -> None:
    expected = _probe()[name]
    with VideoReader(SHARED / name) as reader:
        info = reader.info()
        first = reader.read([0])[0]
    assert info.frame_count == COUNTS.get(name, expected["decoded"])
    assert (info.width, info.height) == (first.shape[1], first.shape[0])
    assert info.rotation == (expected["rotation"] or 0)
    upright = (expected["w"], expected["h"])
    assert (info.width, info.height) in (upright, upright[::-1])
    # Versions of swscale interpolate colours in different ways beyond 8 bits.
    deep = "10bits" in name
    np.testing.assert_allclose(first.mean((0, 1)), expected["first_frame_mean_rgb"], atol=1 if deep else 0.01)


@needs_shared
@pytest.mark.parametrize("name", HOPELESS)
def test_every_hopeless_file_is_a_clear_error(name: str) -> None:
    with pytest.raises(VideoError) as caught:
        load_clips(as_frames(SHARED / name), SMALL)
    message = str(caught.value)
    assert Path(name).name in message
    hints = ("re-encode", "copy or download it again", "0 bytes", "git lfs pull")
    assert any(hint in message for hint in hints)


@needs_shared
@pytest.mark.parametrize(
    ("video", "frame"),
    [
        ("clear/nasa_13013.mp4", "nasa_13013.mp4.stream0.frame000000.npz"),
        ("clear/nasa_13013.mp4", "nasa_13013.mp4.stream0.frame000015.npz"),
        ("formats/var_fps_video.mp4", "var_fps_video.mp4.stream0.frame000000.npz"),
    ],
)
def test_frames_equal_another_decoder(video: str, frame: str) -> None:
    with np.load(SHARED / "golden" / "frames" / frame) as archive:
        expected = archive[archive.files[0]]
    number = int(frame.split(".frame")[1].split(".")[0])
    with VideoReader(SHARED / "videos" / video) as reader:
        np.testing.assert_array_equal(reader.read([number])[0], expected)


def test_variable_frame_rate() -> None:
    with VideoReader(DATA / "var_fps_video.mp4") as reader:
        info = reader.info()
    assert info.frame_count == 300
    assert info.codec == "h264"
    assert info.duration == pytest.approx(300 / 20.089, rel=0.01)


def test_a_single_pixel() -> None:
    with VideoReader(DATA / "onepixel_1x1.mp4") as reader:
        info = reader.info()
    assert (info.width, info.height, info.frame_count, info.fps) == (1, 1, 5, 1.0)


def test_rotation_is_applied() -> None:
    with VideoReader(DATA / "rot90.mov") as reader:
        info = reader.info()
        upright = reader.read([0])[0]
    assert (info.width, info.height, info.rotation) == (320, 568, 90)
    if OLD_OPENCV:
        pytest.skip(f"OpenCV {cv2.__version__} converts BT.709 as BT.601")
    raw = cv2.VideoCapture(str(DATA / "rot90.mov"))
    raw.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    _, lying = raw.read()
    raw.release()
    np.testing.assert_array_equal(upright, cv2.rotate(lying, cv2.ROTATE_90_CLOCKWISE)[..., ::-1])


@needs_shared
def test_the_same_scene_under_every_rotation_tag() -> None:
    sizes = {}
    for angle in (0, 90, 180, 270):
        with VideoReader(SHARED / "videos" / "formats" / f"rot{angle}.mov") as reader:
            sizes[angle] = reader.read([0]).shape[1:3]
    assert sizes == {0: (320, 568), 90: (568, 320), 180: (320, 568), 270: (568, 320)}


@needs_shared
def test_damaged_files_decode_the_same_way_every_time() -> None:
    path = SHARED / "broken" / "derived_bitflips_friday.mp4"
    first = load_clips(as_frames(path), SMALL)
    np.testing.assert_array_equal(load_clips(as_frames(path), SMALL), first)


# --- which frames are read, and what that costs -----------------------------------------------------


def test_read_gives_frames_in_the_order_asked_for() -> None:
    path = DATA / "asl_eat_7frames.mp4"
    frames = _all_frames(path)
    with VideoReader(path) as reader:
        for wanted in ([0], [6], [5, 1, 1, 6, 0], list(range(7))):
            np.testing.assert_array_equal(reader.read(wanted), frames[wanted])


def test_read_stops_at_the_last_frame_and_converts_only_wanted_ones(spy: Spy) -> None:
    with VideoReader(DATA / "var_fps_video.mp4") as reader:
        reader.read([40, 7, 7, 12])
    assert spy.grabs == 41
    assert spy.retrieves == 3


def test_sampling_takes_one_pass_when_the_container_is_right(spy: Spy) -> None:
    load_clips(as_frames(DATA / "var_fps_video.mp4"), SMALL)
    assert spy.retrieves == 8
    assert spy.grabs == 301
    assert spy.opened == 1


@pytest.mark.parametrize("promised", [None, 1, 6, 8, 50, 5544])
def test_a_wrong_frame_count_changes_nothing(promised: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = DATA / "asl_eat_7frames.mp4"
    frames = _all_frames(path)
    monkeypatch.setattr(VideoReader, "promised_frames", promised)
    for num_frames in (3, 7, 16):
        preprocessing = Preprocessing(num_frames=num_frames, resize=32, crop=(24, 24))
        got = load_clips(as_frames(path), preprocessing)[0]
        expected = preprocessing.apply(frames[uniform_indices(7, num_frames)])
        np.testing.assert_array_equal(got, expected)


def test_work_and_memory_do_not_grow_with_the_clip(spy: Spy) -> None:
    """However long the clip, as many frames are converted as are chosen, at most two at a time."""
    alive: list[weakref.ref[Any]] = []
    most = 0

    def note(frame: NDArray[np.uint8]) -> int:
        nonlocal most
        alive.append(weakref.ref(frame))
        most = max(most, sum(reference() is not None for reference in alive))
        return int(frame.nbytes)

    with VideoReader(DATA / "var_fps_video.mp4") as reader:
        total, kept = reader.select(lambda count: uniform_indices(count, 16), note)
    assert total == 300
    assert sorted(kept) == uniform_indices(300, 16)
    assert spy.retrieves == 16
    assert most <= 2


def test_a_pass_leaves_nothing_to_the_garbage_collector() -> None:
    """Frames of the decoder are large; in a cycle they would stay until the collector comes."""
    kinds = (av.VideoFrame, av.CodecContext, av.container.InputContainer, PyavDecoder)
    gc.collect()
    before = {id(item) for item in gc.get_objects() if issubclass(type(item), kinds)}
    gc.disable()
    try:
        for _ in range(2):
            load_clips(as_frames(DATA / "rot90.mov"), SMALL)
        after = {id(item) for item in gc.get_objects() if issubclass(type(item), kinds)}
        assert after <= before
    finally:
        gc.enable()


def test_chosen_frames_outlive_the_decoder() -> None:
    """Without a resize, the crops could be views of what the decoder owns."""
    path = DATA / "asl_eat_7frames.mp4"
    preprocessing = Preprocessing(num_frames=7, resize=None, crop=(100, 100))
    got = load_clips(as_frames(path), preprocessing)[0]
    np.testing.assert_array_equal(got, preprocessing.apply(_all_frames(path)))


def test_counting_converts_nothing(spy: Spy) -> None:
    with VideoReader(DATA / "var_fps_video.mp4") as reader:
        assert reader.count_frames() == 300
    assert spy.retrieves == 0


def test_frames_past_the_end() -> None:
    with VideoReader(DATA / "asl_eat_7frames.mp4") as reader:
        with pytest.raises(VideoError, match="frame 7 was asked for, but the clip has 7 frames"):
            reader.read([0, 7])
        with pytest.raises(VideoError, match="count from 0"):
            reader.read([-1])


def test_explicit_indices_and_views() -> None:
    path = DATA / "asl_eat_7frames.mp4"
    frames = _all_frames(path)
    chosen = [6, 0, 0, 3, 2, 2, 5, 1]
    clip = load_clips(as_frames(path), SMALL, indices=chosen)
    np.testing.assert_array_equal(clip[0], SMALL.apply(frames[chosen]))
    dense = Preprocessing(num_frames=2, sampling="dense", stride=2, resize=32, crop=(24, 24))
    views = load_clips(as_frames(path), dense, views=(4, 3))
    assert views.shape == (12, 2, 3, 24, 24)
    for v, start in enumerate([0, 1, 2, 3]):
        for s in range(3):
            np.testing.assert_array_equal(views[3 * v + s], dense.apply(frames[[start, start + 2]], s))
    with pytest.raises(ValueError, match="expected 8 frame numbers, got 1"):
        load_clips(as_frames(path), SMALL, indices=[0])
    with pytest.raises(ValueError, match="temporal"):
        load_clips(as_frames(path), SMALL, indices=chosen, views=(2, 1))
    with pytest.raises(ValueError, match="spatial"):
        load_clips(as_frames(path), SMALL, views=(1, 2))


# --- errors --------------------------------------------------------------------------------------


def test_av1_decodes_or_names_the_codec_and_the_way_out() -> None:
    path = DATA / "av1_video.mkv"
    with VideoReader(path) as reader:
        info = reader.info()
    assert (info.codec, info.frame_count) == ("av1", 125)
    try:
        with VideoReader(path, decoder="opencv") as reader:
            reader.count_frames()
    except VideoError as error:
        assert "codec av1 may not be supported by OpenCV" in str(error)
        assert "use the decoder pyav" in str(error)


def test_missing_empty_and_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4"):
        as_frames(tmp_path / "nothing.mp4")
    with pytest.raises(IsADirectoryError):
        VideoReader(tmp_path)
    cases = {"empty.mp4": (b"", "0 bytes"), "text.mp4": (b"hello, I am no video\n" * 9, "does not read")}
    cases["pointer.mp4"] = (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull")
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=message):
            as_frames(tmp_path / name)


def test_a_file_cut_off_before_its_index_is_an_error(tmp_path: Path) -> None:
    data = (DATA / "asl_eat_7frames.mp4").read_bytes()
    for percent in range(0, 100, 5):
        path = tmp_path / f"cut{percent}.mp4"
        path.write_bytes(data[: len(data) * percent // 100])
        with pytest.raises(VideoError):
            load_clips(as_frames(path), SMALL)


def test_the_terminal_stays_quiet(tmp_path: Path) -> None:
    """Neither FFmpeg nor OpenCV writes about a file that the exception already describes."""
    whole = (DATA / "var_fps_video.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    for position in range(2000, len(flipped) - 8000, 97):
        flipped[position] ^= 0x5A
    (tmp_path / "flipped.mp4").write_bytes(bytes(flipped))
    (tmp_path / "frame.png").write_bytes(b"\x89PNG\r\n\x1a\n not really")
    code = (
        "import sys, pathlib\n"
        "from qora_vision.errors import VideoError\n"
        "from qora_vision.video import VideoReader, read_image\n"
        "failed = 0\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try:\n"
        "        read_image(path) if path.suffix == '.png' else VideoReader(path).count_frames()\n"
        "    except VideoError:\n"
        "        failed += 1\n"
        "print(failed)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("OPENCV_FFMPEG_LOGLEVEL", None)
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    said = run.stderr.splitlines()
    if OLD_OPENCV:  # its libpng writes there by itself
        said = [line for line in said if not line.startswith("libpng error")]
    assert said == []
    assert int(run.stdout) >= 2

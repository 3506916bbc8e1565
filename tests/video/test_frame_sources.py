"""Reading folders of images, arrays and iterables of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paths import DATA

from qora_vision.errors import VideoError
from qora_vision.video import Preprocessing, VideoReader, as_frames, list_images, load_clips, read_frames_dir
from qora_vision.video.images import natural_key
from qora_vision.video.sampling import uniform_indices

SMALL = Preprocessing(num_frames=8, resize=32, crop=(24, 24))


# --- folders of images ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Callable[[dict[str, tuple[int, int]]], Path]]:
    def make(images: dict[str, tuple[int, int]]) -> Path:
        for number, (name, size) in enumerate(images.items()):
            cv2.imwrite(str(tmp_path / name), np.full((*size, 3), (number, 10, 200), np.uint8))
        return tmp_path

    return make


def test_natural_order(folder: Callable[..., Path]) -> None:
    names = ["f10.png", "f2.png", "F1.PNG", "f02b.bmp", "f1_10.png", "f1_9.png"]
    path = folder({name: (4, 4) for name in names})
    (path / "notes.txt").write_text("not an image")
    (path / ".hidden.png").write_bytes(b"")
    (path / "sub.png").mkdir()
    ordered = [image.name for image in list_images(path)]
    assert ordered == ["F1.PNG", "f1_9.png", "f1_10.png", "f2.png", "f02b.bmp", "f10.png"]
    assert natural_key("a") != natural_key("1")


def test_folder_frames_are_rgb_and_may_differ_in_size(folder: Callable[..., Path]) -> None:
    path = folder({"1.png": (40, 30), "2.bmp": (30, 60), "10.webp": (64, 64), "11.jpg": (50, 40)})
    frames = read_frames_dir(path)
    assert [frame.shape for frame in frames] == [(40, 30, 3), (30, 60, 3), (64, 64, 3), (50, 40, 3)]
    np.testing.assert_array_equal(frames[1][0, 0], [200, 10, 1])
    clip = load_clips(as_frames(path), SMALL)
    assert clip.shape == (1, 8, 3, 24, 24)
    expected = SMALL.apply([frames[i] for i in uniform_indices(4, 8)])
    np.testing.assert_array_equal(clip[0], expected)


def test_only_chosen_images_are_read(folder: Callable[..., Path]) -> None:
    path = folder({f"{i}.png": (8, 8) for i in range(5)})
    (path / "1.png").write_bytes(b"broken, but not chosen")
    clip = load_clips(as_frames(path), Preprocessing(num_frames=3, resize=8, crop=(8, 8)))
    assert clip.shape == (1, 3, 3, 8, 8)


def test_one_broken_image_is_named(folder: Callable[..., Path]) -> None:
    path = folder({f"{i}.jpg": (64, 64) for i in range(3)})
    whole = (path / "1.jpg").read_bytes()
    for content, message in ((whole[: len(whole) // 2], "damaged"), (b"", "0 bytes"), (b"x" * 99, "damaged")):
        (path / "1.jpg").write_bytes(content)
        with pytest.raises(VideoError, match=rf"1\.jpg is .*{message}"):
            load_clips(as_frames(path), SMALL)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no images in"):
        as_frames(tmp_path)
    with pytest.raises(FileNotFoundError):
        list_images(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        list_images(tmp_path / "file")


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    from PIL import Image

    image = Image.fromarray(np.zeros((20, 40, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90 degrees clockwise to view
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_frames_dir(tmp_path)[0].shape == (40, 20, 3)


# --- arrays and iterables ---------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_clip(tmp_path: Path) -> None:
    with VideoReader(DATA / "asl_eat_7frames.mp4") as reader:
        frames = np.stack(list(reader))
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame[..., ::-1])
    expected = load_clips(as_frames(str(DATA / "asl_eat_7frames.mp4")), SMALL)
    sources = [frames, list(frames), (frame for frame in frames), tmp_path, np.asfortranarray(frames)]
    for source in sources:
        np.testing.assert_array_equal(load_clips(as_frames(source), SMALL), expected)
    backwards = np.ascontiguousarray(frames[..., ::-1])
    for source in (backwards, list(backwards), frames[..., ::-1]):
        np.testing.assert_array_equal(load_clips(as_frames(source, "bgr"), SMALL), expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), "add an axis"),
        (np.zeros((8, 8), np.uint8), r"\(T, H, W, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), "no frames"),
        (np.zeros((2, 8, 8, 4), np.uint8), "drop alpha"),
        (np.zeros((2, 3, 8, 8), np.uint8), "channels last"),
        (np.zeros((2, 8, 8, 3), np.float32), "scale to 0..255"),
        (np.zeros((2, 0, 8, 3), np.uint8), "no pixels"),
        ([], "no frames"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)], "frame 1 .*grey"),
        ([np.zeros((8, 8, 3), np.int64)], "frame 0 .*int64"),
        (7, "cannot read frames from int"),
        (b"clip.mp4", "got bytes"),
    ],
)
def test_wrong_frames_are_refused(source: Any, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        as_frames(source)


def test_a_wrong_channel_order_is_refused() -> None:
    with pytest.raises(ValueError, match="channel_order"):
        as_frames(np.zeros((1, 8, 8, 3), np.uint8), "rbg")  # type: ignore[arg-type]

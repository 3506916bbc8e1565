"""A folder of images as a clip: one file for each frame, in natural order of their names."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import VideoError
from qora_vision.video._opencv import load_opencv, quiet

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
VIDEO_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".wmv",
    ".flv",
    ".3gp",
)
_DIGITS = re.compile(r"(\d+)")


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which numbers in names count as numbers: f2.png, f10.png; letters ignore case."""
    parts = (part for part in _DIGITS.split(name.casefold()) if part)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """List the images directly in a folder in natural order, without hidden files and other suffixes.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    VideoError
        If it holds no image.
    """
    directory = Path(folder)
    if not directory.exists():
        raise FileNotFoundError(f"no such folder: {directory}")
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file; a folder of images was expected")
    images = [
        path
        for path in directory.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not images:
        videos = sorted(path.name for path in directory.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
        if videos:
            raise VideoError(
                f"{directory} is a folder of videos ({videos[0]} and so on); expected a video "
                "file or a folder of "
                f"images: pass the videos one by one, `classify {directory}/*{Path(videos[0]).suffix}`"
            )
        raise VideoError(f"no images in {directory}: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return sorted(images, key=lambda path: (natural_key(path.name), path.name))


def read_bgr(path: Path) -> NDArray[np.uint8]:
    """Decode one image to (H, W, 3) uint8 in OpenCV's order, BGR; see `read_image`."""
    cv2 = load_opencv()
    data = path.read_bytes()
    image = None
    if data:
        with quiet():
            try:
                image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            except cv2.error:
                image = None
    if image is None:
        detail = "is empty (0 bytes)" if not data else "is damaged or not an image that OpenCV can read"
        raise VideoError(f"the image {path} {detail}: replace it or take it out of the folder")
    return np.asarray(image, dtype=np.uint8)


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read one image as (H, W, 3) uint8 RGB.

    As OpenCV does it: the EXIF orientation is applied, grey images get three equal channels, alpha is
    dropped, 16-bit images are reduced to 8 bits.

    Raises
    ------
    OSError
        If the file cannot be read.
    VideoError
        If it is not an image, or a damaged one; the message names it.
    """
    return np.ascontiguousarray(read_bgr(Path(path))[..., ::-1])


def read_frames_dir(folder: str | os.PathLike[str]) -> list[NDArray[np.uint8]]:
    """Read every image of a folder as (H, W, 3) uint8 RGB, in natural order; sizes may differ.

    All are in memory at once; `ImageFolder` reads only the chosen ones.

    Raises
    ------
    OSError, VideoError
        As `list_images` and `read_image`.
    """
    return [read_image(path) for path in list_images(folder)]

"""Video to float clips: sources, decoding, sampling, preprocessing and writing.

This room knows no model. It may import `_core`, `files` and `errors`, and no other room.

>>> source = as_frames("clip.mp4")  # doctest: +SKIP
>>> pixel_values = load_clips(source, Preprocessing())  # doctest: +SKIP
"""

from __future__ import annotations

from qora_vision.video.clips import load_clips
from qora_vision.video.clock import Clock, is_number
from qora_vision.video.decode import VideoInfo, VideoReader
from qora_vision.video.images import list_images, read_frames_dir, read_image
from qora_vision.video.preprocess import Preprocessing
from qora_vision.video.sampling import dense_indices, temporal_view_indices, uniform_indices, view_indices
from qora_vision.video.sources import FrameSource, as_frames
from qora_vision.video.timed_windows import TimedWindow
from qora_vision.video.windows import ClipWindow, SlidingWindow, comes_one_by_one, iter_windows

__all__ = [
    "ClipWindow",
    "Clock",
    "FrameSource",
    "Preprocessing",
    "SlidingWindow",
    "TimedWindow",
    "VideoInfo",
    "VideoReader",
    "as_frames",
    "comes_one_by_one",
    "dense_indices",
    "is_number",
    "iter_windows",
    "list_images",
    "load_clips",
    "read_frames_dir",
    "read_image",
    "temporal_view_indices",
    "uniform_indices",
    "view_indices",
]

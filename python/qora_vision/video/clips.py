"""Make a model's input from a source: choose frames, decode only those, and preprocess each at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qora_vision.video.preprocess import SPATIAL_VIEWS, Preprocessing, SpatialCrop, common_size
from qora_vision.video.sampling import validate_indices, view_indices
from qora_vision.video.sources import Frame, FrameSource


def load_clips(
    source: FrameSource,
    preprocessing: Preprocessing,
    *,
    indices: Sequence[int] | None = None,
    views: tuple[int, int] = (1, 1),
    num_threads: int = 0,
) -> NDArray[np.float32]:
    """Make the clips of one source.

    Each chosen frame is resized and cropped as soon as it is decoded. Memory therefore holds one full frame,
    the crops as bytes and the result, independent of the length of the video.

    Parameters
    ----------
    source
        From `qora_vision.video.as_frames`.
    preprocessing
        How to choose and prepare frames.
    indices
        Frame numbers to use instead of the sampling rule: as many as preprocessing.num_frames, any order,
        repeats allowed. A video is decoded up to the largest only, and not counted.
    views
        Temporal and spatial views. 1 spatial view is the centre crop, 3 are the crops along the longer side.
        (4, 3) is the test protocol of ViViT (Arnab et al. 2021, section 4.1), whose logits are averaged.
    num_threads
        For resizing; 0: the process default.

    Returns
    -------
    (temporal * spatial, T, 3, h, w) float32, contiguous; the spatial views of a temporal view are neighbours.

    Raises
    ------
    VideoError
        If the source has no frames, a frame number is past the end, there are not num_frames indices, or
        frames end up with different sizes.
    ValueError
        If views is not (1 or more, 1 or 3), or temporal views are asked of explicit indices.
    """
    temporal, spatial = _check_views(views)
    crops: list[SpatialCrop] = ["center"] if spatial == 1 else list(range(SPATIAL_VIEWS))

    def prepare(frame: Frame) -> list[Frame]:
        return preprocessing.crop_views(frame[None], crops, num_threads=num_threads)

    if indices is None:

        def choose(total: int) -> list[int]:
            rule = preprocessing.sampling, preprocessing.stride
            return [
                i for view in view_indices(total, preprocessing.num_frames, *rule, temporal) for i in view
            ]

        total, prepared = source.select(choose, prepare)
        chosen = choose(total)
    else:
        if temporal != 1:
            raise ValueError(f"explicit indices make 1 temporal view, but views={views} asks for {temporal}")
        chosen = validate_indices(indices)
        if len(chosen) != preprocessing.num_frames:
            raise ValueError(f"expected {preprocessing.num_frames} frame numbers, got {len(chosen)}")
        prepared = source.pick(chosen, prepare)
    return _to_clips(chosen, prepared, preprocessing, source, (temporal, spatial), num_threads)


def _to_clips(
    chosen: list[int],
    prepared: dict[int, list[Frame]],
    preprocessing: Preprocessing,
    source: FrameSource,
    views: tuple[int, int],
    num_threads: int,
) -> NDArray[np.float32]:
    temporal, spatial = views
    length = preprocessing.num_frames
    height, width = common_size(part for parts in prepared.values() for part in parts)
    out = np.empty((temporal, spatial, length, 3, height, width), np.float32)
    for v in range(temporal):
        frames = [prepared[i] for i in chosen[v * length : (v + 1) * length]]
        for s, clip in enumerate(out[v]):
            parts = [views[s] for views in frames]
            preprocessing.to_float(parts, clip, channel_order=source.channel_order, num_threads=num_threads)
    return out.reshape(temporal * spatial, *out.shape[2:])


def _check_views(views: tuple[int, int]) -> tuple[int, int]:
    valid = isinstance(views, (tuple, list)) and len(views) == 2
    if not valid or views[0] < 1 or views[1] not in (1, SPATIAL_VIEWS):
        raise ValueError(
            f"views must be (temporal, spatial) with temporal >= 1 and spatial 1 or 3, got {views!r}"
        )
    return views[0], views[1]

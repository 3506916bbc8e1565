"""Sampling rules: pure functions on frame numbers, in integers, so that results are the same everywhere.

`total` is the number of frames that really decode, indices count from 0. The rules are stated in
docs/video.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from qora_vision.errors import VideoError

Sampling = Literal["uniform", "dense", "segments"]
SAMPLINGS: tuple[str, ...] = get_args(Sampling)


def _check(total: int, **counts: int) -> None:
    if total < 1:
        raise VideoError(f"cannot sample from a clip of {total} frames: at least 1 is needed")
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def uniform_indices(total: int, num_frames: int) -> list[int]:
    """Frames spread evenly over the whole clip, the first and the last included.

    ``index[i] = i * (total - 1) // (num_frames - 1)``, and the middle frame ``(total - 1) // 2`` when
    num_frames is 1. This is ``np.linspace(0, total - 1, num_frames).astype(int)``, the rule of the Hugging
    Face and decord examples, in exact arithmetic. A clip shorter than num_frames repeats frames by the same
    formula.

    Parameters
    ----------
    total, num_frames
        Frames of the clip and frames wanted, each at least 1.

    Returns
    -------
    list of num_frames ints in [0, total), never decreasing.

    Raises
    ------
    VideoError
        If the clip has no frames.
    ValueError
        If num_frames is below 1.
    """
    _check(total, num_frames=num_frames)
    if num_frames == 1:
        return [(total - 1) // 2]
    return [i * (total - 1) // (num_frames - 1) for i in range(num_frames)]


def dense_indices(total: int, num_frames: int, stride: int, *, offset: int | None = None) -> list[int]:
    """Every stride-th frame of one window, by default the middle one.

    ``index[i] = (offset + i * stride) % total`` with ``offset = max(0, (total - num_frames * stride) // 2)``
    unless given; a clip shorter than the window is looped. Source: `sample_sequence` of google-deepmind/dmvr,
    the input pipeline of ViViT (Arnab et al. 2021, section 4.1), without its random offset.

    Returns
    -------
    list of num_frames ints in [0, total).

    Raises
    ------
    VideoError
        If the clip has no frames.
    ValueError
        If num_frames or stride is below 1, or offset below 0.
    """
    _check(total, num_frames=num_frames, stride=stride)
    if offset is None:
        offset = max(0, (total - num_frames * stride) // 2)
    if offset < 0:
        raise ValueError(f"offset must be at least 0, got {offset}")
    return [(offset + i * stride) % total for i in range(num_frames)]


def temporal_view_indices(total: int, num_frames: int, stride: int, views: int) -> list[list[int]]:
    """Windows spread evenly over the clip, for multi-view testing.

    View v of more than one starts at ``v * max(0, total - num_frames * stride) // (views - 1)``; a single
    view is the middle window of `dense_indices`. Source: `sample_linspace_sequence` of google-deepmind/dmvr,
    which the paper's 4-clip protocol (Arnab et al. 2021, section 4.1) uses.

    Returns
    -------
    list of `views` lists of num_frames ints in [0, total).

    Raises
    ------
    VideoError
        If the clip has no frames.
    ValueError
        If num_frames, stride or views is below 1.
    """
    _check(total, num_frames=num_frames, stride=stride, views=views)
    if views == 1:
        return [dense_indices(total, num_frames, stride)]
    room = max(0, total - num_frames * stride)
    return [dense_indices(total, num_frames, stride, offset=v * room // (views - 1)) for v in range(views)]


def segment_view_indices(total: int, num_frames: int, views: int = 1) -> list[list[int]]:
    """One frame from each of num_frames equal segments of the clip.

    A single view takes the middle ones, ``(2 * i + 1) * total // (2 * num_frames)``; view v of more than one
    takes those at phase v of each segment, ``(i * views + v) * total // (num_frames * views)``. Source: the
    test-time sampling of Wang et al. 2016 (TSN) as VideoMAE uses it for Something-Something (Tong et al.
    2022), in exact arithmetic.

    Returns
    -------
    list of `views` lists of num_frames ints in [0, total), never decreasing.

    Raises
    ------
    VideoError
        If the clip has no frames.
    ValueError
        If num_frames or views is below 1.
    """
    _check(total, num_frames=num_frames, views=views)
    if views == 1:
        return [[(2 * i + 1) * total // (2 * num_frames) for i in range(num_frames)]]
    parts = num_frames * views
    return [[(i * views + v) * total // parts for i in range(num_frames)] for v in range(views)]


def view_indices(
    total: int, num_frames: int, sampling: Sampling, stride: int, views: int = 1
) -> list[list[int]]:
    """Frame numbers of each temporal view by the rule named `sampling`.

    "dense" is `temporal_view_indices`, "segments" `segment_view_indices`. "uniform" lays
    ``views * num_frames`` frames over the clip with `uniform_indices` and deals them out in turn: view v
    takes numbers v, v + views, v + 2 * views ..., so that every view spans the whole clip at its own phase,
    and a single view is `uniform_indices` itself.
    `stride` matters for "dense" alone.

    Raises
    ------
    VideoError
        If the clip has no frames.
    ValueError
        If sampling is unknown or a count is below 1.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, got {sampling!r}")
    if sampling == "dense":
        return temporal_view_indices(total, num_frames, stride, views)
    if sampling == "segments":
        return segment_view_indices(total, num_frames, views)
    _check(total, num_frames=num_frames, views=views)
    spread = uniform_indices(total, views * num_frames)
    return [spread[v::views] for v in range(views)]


def validate_indices(indices: Sequence[int], *, total: int | None = None) -> list[int]:
    """Return explicit frame numbers as a list of ints after checking them.

    Any order and repeats are fine. Numbers below 0 are refused rather than counted from the end, because the
    end is known only after the whole clip has been decoded.

    Raises
    ------
    VideoError
        If there are none, one is not an integer, one is negative, or one is `total` or more (when total is
        given).
    """
    checked: list[int] = []
    for index in indices:
        try:
            number = index.__index__()
        except (AttributeError, TypeError):
            raise VideoError(f"frame numbers must be integers, got {index!r}") from None
        if number < 0:
            raise VideoError(f"frame numbers count from 0, got {number}")
        if total is not None and number >= total:
            raise VideoError(
                f"frame {number} was asked for, but the clip has {total} frames (0 to {total - 1})"
            )
        checked.append(number)
    if not checked:
        raise VideoError("no frame numbers were given: at least 1 is needed")
    return checked

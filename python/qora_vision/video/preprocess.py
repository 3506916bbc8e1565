"""Preprocessing of frames to a model's float input: resize, crop, rescale, normalise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qora_vision.errors import CheckpointError, ModelFileError, VideoError, listed, shown
from qora_vision.video.hf_config import ValueRange, read_hf_config
from qora_vision.video.resize import RESAMPLES, RESIZE_RULES, Resample, ResizeRule, lookup, resize
from qora_vision.video.sampling import SAMPLINGS, Sampling
from qora_vision.video.sources import ChannelOrder, Frame, check_clip, check_frame

SpatialCrop = Literal["center"] | int
SPATIAL_VIEWS = 3
_LARGEST_SIDE = 65536
_Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Preprocessing:
    """All choices of preprocessing. The model file stores them.

    Attributes
    ----------
    num_frames
        Frames of a clip.
    sampling, stride
        How they are chosen: see `qora_vision.video.sampling.view_indices`.
    resize
        An int: the short side becomes that many pixels and the long one ``size * long // short``. A pair:
        exactly that height and width. None: frames are used as they are.
    resample, resize_rule
        The filter, and whose arithmetic: see `qora_vision.video.resize.resize`.
    crop
        Height and width cut out after resizing, None for no crop. A centre between two pixels is the one
        before, under "plain" the one of even number as in torchvision's `CenterCrop`. Where the frame is
        smaller it is padded with zero bytes, the odd one before the frame under "pil" and after it otherwise,
        as the Hugging Face processors do.
    rescale_factor, offset
        Bytes are multiplied by the factor, then 1 is subtracted if offset is set.
    mean, std
        Of each RGB channel, subtracted and divided by after rescaling; both None for no normalisation.
    """

    num_frames: int = 32
    sampling: Sampling = "uniform"
    stride: int = 2
    resize: int | tuple[int, int] | None = 256
    resample: Resample = "bilinear"
    resize_rule: ResizeRule = "pil"
    crop: tuple[int, int] | None = (224, 224)
    rescale_factor: float = 1 / 127.5
    offset: bool = True
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        _check_int("num_frames", self.num_frames)
        _check_int("stride", self.stride)
        _check_choice("sampling", self.sampling, SAMPLINGS)
        _check_choice("resample", self.resample, RESAMPLES)
        _check_choice("resize_rule", self.resize_rule, RESIZE_RULES)
        if self.resize_rule == "plain" and self.resample != "bilinear":
            raise ValueError('resize_rule "plain" knows only resample "bilinear"')
        if isinstance(self.resize, tuple):
            _check_pair("resize", self.resize)
        elif self.resize is not None:
            _check_int("resize", self.resize)
        if self.crop is not None:
            _check_pair("crop", self.crop)
        _check_number("rescale_factor", self.rescale_factor)
        if not isinstance(self.offset, bool):
            raise ValueError(f"offset must be true or false, got {shown(self.offset)}")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std must be given together")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is None:
                continue
            if not isinstance(values, tuple) or len(values) != 3:
                raise ValueError(f"{name} must have 3 numbers, got {shown(values)}")
            for value in values:
                _check_number(name, value)
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {shown(self.std)}")
        with np.errstate(all="ignore"):
            if not np.isfinite(self.value_table()).all():
                raise ValueError("rescale_factor, mean and std would make pixels NaN or infinite")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; `from_dict` gives back an equal object."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """Make an object from the fields of `to_dict`.

        Raises
        ------
        ModelFileError
            If a field is missing, unknown or invalid.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, Mapping) or fields.keys() != names:
            found = listed(fields) if isinstance(fields, Mapping) else shown(fields)
            raise ModelFileError(f"preprocessing must have the fields {listed(sorted(names))}; got {found}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        try:
            return cls(**values)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"preprocessing: {error}") from error

    @classmethod
    def from_hf(
        cls,
        config: Mapping[str, Any],
        *,
        num_frames: int,
        value_range: ValueRange = "original",
        sampling: Sampling = "uniform",
        stride: int = 2,
        default_processor: str | None = None,
    ) -> Preprocessing:
        """Read the contents of a Hugging Face `preprocessor_config.json`.

        Missing keys and nulls take the defaults of the processor class that the file names. A switch that is
        null is off, as in transformers 5. docs/video.md lists the classes.

        Parameters
        ----------
        config
            The JSON object.
        num_frames, sampling, stride
            Fields of the result: processors leave the choice of frames to the caller.
        value_range
            "hf": the values that the named processor computes. "original": those that the weights were
            trained with where the processor differs, which is known of ViViT: ``x / 127.5 - 1`` in [-1, 1],
            whatever the file says of factor, offset, mean and std (as published, it gives [-3, 1]). The same
            as "hf" for the other processors.
        default_processor
            Class to assume when the file names none, such as "VivitImageProcessor".

        Raises
        ------
        CheckpointError
            If the processor is unknown or a value invalid or unsupported.
        ValueError
            If one of the keyword arguments is invalid.
        """
        fields = read_hf_config(config, value_range, default_processor)
        # Wrong arguments of the caller are not errors of the file.
        cls(num_frames=num_frames, sampling=sampling, stride=stride)
        try:
            return cls(num_frames=num_frames, sampling=sampling, stride=stride, **fields)
        except ValueError as error:
            raise CheckpointError(f"preprocessor_config.json: {error}") from error

    def value_table(self) -> NDArray[np.float32]:
        """Float value of every byte in each channel, (3, 256) float32, RGB.

        The arithmetic is that of the processor which the resize rule belongs to, so that values agree bit for
        bit: for "pil" and whenever offset is set, ``x * rescale_factor`` is rounded to float32 (after a
        float64 product for "pil") and then shifted and normalised in float32; otherwise torchvision's fused
        ``(x - mean / rescale_factor) / (std / rescale_factor)`` in float32.
        """
        pixels = np.arange(256, dtype=np.float64)
        single = np.float32
        mean = None if self.mean is None else np.array(self.mean, single)[:, None]
        std = None if self.std is None else np.array(self.std, single)[:, None]
        if self.resize_rule != "pil" and not self.offset and mean is not None and std is not None:
            inverse = single(1.0 / self.rescale_factor)
            fused = (pixels.astype(single) - mean * inverse) / (std * inverse)
            return np.asarray(fused, dtype=single)
        if self.resize_rule == "pil":
            values = (pixels * self.rescale_factor).astype(single)
        else:
            values = pixels.astype(single) * single(self.rescale_factor)
        if self.offset:
            values = values - single(1.0)
        table = np.tile(values, (3, 1))
        return table if mean is None or std is None else (table - mean) / std

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the frames that `apply` makes from frames of this size."""
        return self.resized_size(height, width) if self.crop is None else self.crop

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing, before the crop.

        Raises
        ------
        VideoError
            If the frame is so long and thin that the long side would exceed 65536 pixels.
        """
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        short, long = min(height, width), max(height, width)
        scaled = self.resize * long // short
        if scaled > _LARGEST_SIDE:
            raise VideoError(
                f"frames of {height} x {width} cannot be resized to a short side of {self.resize}: the long "
                f"side would be {scaled} pixels; crop the video to a less extreme shape first"
            )
        return (scaled, self.resize) if height >= width else (self.resize, scaled)

    def crop_views(self, frames: Frame, views: Sequence[SpatialCrop], *, num_threads: int = 0) -> list[Frame]:
        """Resize frames and cut each of the spatial views out, still as bytes.

        Parameters
        ----------
        frames
            (T, H, W, 3) uint8, any channel order.
        views
            "center", or 0, 1, 2 for left, centre, right along the longer side (top to bottom in portrait).
        num_threads
            0: the process default.

        Returns
        -------
        For each view (T, h, w, 3) uint8 with (h, w) = `output_size`; rows are contiguous. They share no
        memory with `frames`, but may with each other.
        """
        height, width = self.resized_size(frames.shape[1], frames.shape[2])
        boxes = [self._crop_box(height, width, view) for view in views]
        # Only the pixels of some view are computed.
        top, left = max(0, min(box[0] for box in boxes)), max(0, min(box[1] for box in boxes))
        bottom = min(height, max(box[0] + box[2] for box in boxes))
        right = min(width, max(box[1] + box[3] for box in boxes))
        if self.resize is None:
            region = frames[:, top:bottom, left:right].copy()
        else:
            region = resize(
                frames,
                (height, width),
                resample=self.resample,
                rule=self.resize_rule,
                crop=(top, left, bottom - top, right - left),
                num_threads=num_threads,
            )
        return [_cut(region, (box[0] - top, box[1] - left, box[2], box[3])) for box in boxes]

    def to_float(
        self,
        parts: Sequence[Frame],
        out: NDArray[np.float32],
        *,
        channel_order: ChannelOrder = "rgb",
        num_threads: int = 0,
    ) -> None:
        """Write the float planes of resized and cropped frames, RGB, in one pass.

        Parameters
        ----------
        parts
            Of `crop_views`, in order: (n, h, w, 3) uint8.
        out
            (T, 3, h, w) float32, C-contiguous.
        channel_order
            Of `parts`.
        num_threads
            0: the process default.
        """
        lookup(
            parts, self.value_table(), out, reverse_channels=channel_order == "bgr", num_threads=num_threads
        )

    def apply(
        self,
        frames: Frame | Sequence[Frame],
        crop: SpatialCrop = "center",
        *,
        channel_order: ChannelOrder = "rgb",
        num_threads: int = 0,
    ) -> NDArray[np.float32]:
        """Preprocess chosen frames.

        Parameters
        ----------
        frames
            (T, H, W, 3) uint8, or a sequence of (H, W, 3) uint8 frames, whose sizes may differ if there is a
            crop or an exact resize. All of them are used: choosing is not done here.
        crop
            "center", or a spatial view 0, 1 or 2: see `crop_views`.
        channel_order
            Of `frames`; the result is RGB.
        num_threads
            0: the process default.

        Returns
        -------
        (T, 3, h, w) float32, contiguous.

        Raises
        ------
        VideoError
            For a wrong shape or dtype, no frames, or results of different sizes.
        ValueError
            If crop is not one of the views.
        """
        if isinstance(frames, np.ndarray):
            checked = [check_clip(frames)]
        else:
            checked = [check_frame(frame, f"frame {i}")[None] for i, frame in enumerate(frames)]
        parts = [self.crop_views(part, [crop], num_threads=num_threads)[0] for part in checked]
        out = np.empty((sum(map(len, parts)), 3, *common_size(parts)), np.float32)
        self.to_float(parts, out, channel_order=channel_order, num_threads=num_threads)
        return out

    def _crop_box(self, height: int, width: int, view: SpatialCrop) -> _Box:
        """Place a view in the resized frame: (top, left, height, width), outside where that is too small."""
        position = SPATIAL_VIEWS // 2 if view == "center" else view
        if isinstance(position, bool) or position not in range(SPATIAL_VIEWS):
            raise ValueError(f'crop must be "center", 0, 1 or 2, got {shown(view)}')
        if self.crop is None:
            if position != SPATIAL_VIEWS // 2:
                raise ValueError("spatial views need a crop, and this preprocessing has none")
            return 0, 0, height, width
        top = _center(height, self.crop[0], self.resize_rule)
        left = _center(width, self.crop[1], self.resize_rule)
        if height > width and height > self.crop[0]:
            top = (0, top, height - self.crop[0])[position]
        elif height <= width and width > self.crop[1]:
            left = (0, left, width - self.crop[1])[position]
        return top, left, *self.crop


def common_size(parts: Iterable[Frame]) -> tuple[int, int]:
    """Return the height and width of all (n, h, w, 3) pieces of a clip.

    Raises
    ------
    VideoError
        If there are none or their sizes differ.
    """
    sizes = sorted({(part.shape[1], part.shape[2]) for part in parts})
    if not sizes:
        raise VideoError("no frames were given: at least 1 is needed")
    if len(sizes) > 1:
        raise VideoError(
            f"frames have different sizes after resizing ({', '.join(f'{h} x {w}' for h, w in sizes)}): set "
            "a crop or an exact size, or use frames of one shape"
        )
    return sizes[0]


def _center(size: int, crop: int, rule: ResizeRule) -> int:
    """Where a centred crop starts; negative by the padding before a frame that is too small."""
    if crop <= size:
        return round((size - crop) / 2) if rule == "plain" else (size - crop) // 2
    missing = crop - size
    return -((missing + 1) // 2) if rule == "pil" else -(missing // 2)


def _cut(region: Frame, box: _Box) -> Frame:
    """Cut box (top, left, height, width) out of (T, H, W, 3), with zero bytes outside."""
    top, left, height, width = box
    inner_top, inner_left = max(0, top), max(0, left)
    bottom, right = min(region.shape[1], top + height), min(region.shape[2], left + width)
    inner = region[:, inner_top:bottom, inner_left:right]
    if inner.shape[1:3] == (height, width):
        return inner
    padded = np.zeros((region.shape[0], height, width, 3), np.uint8)
    padded[:, inner_top - top : bottom - top, inner_left - left : right - left] = inner
    return padded


def _check_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_SIDE:
        raise ValueError(f"{name} must be an integer from 1 to {_LARGEST_SIDE}, got {shown(value)}")


def _check_pair(name: str, value: object) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(f"{name} must be a height and a width, got {shown(value)}")
    for side in value:
        _check_int(name, side)


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {shown(value)}")
    if name == "rescale_factor" and value <= 0:
        raise ValueError(f"rescale_factor must be positive, got {shown(value)}")

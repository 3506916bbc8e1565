"""Reading Hugging Face `preprocessor_config.json` files: their fields, and the defaults of missing fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from qora_vision.errors import CheckpointError, shown
from qora_vision.video.resize import ResizeRule

ValueRange = Literal["original", "hf"]

_HALF = (0.5, 0.5, 0.5)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RESAMPLES = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling
_RESAMPLE_NAMES = {0: "nearest", 1: "lanczos", 4: "box", 5: "hamming"}


# When 1 is subtracted after rescaling: never, as the field `offset` says, or whenever pixels are rescaled.
Offset = Literal["never", "switch", "always"]


@dataclass(frozen=True)
class _Family:
    """Class defaults of a family's processors, and the scaling its weights learned if it differs."""

    short_side: int
    crop: int
    rescale_factor: float
    offset: Offset
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    original_factor: float | None = None  # pixels * factor - 1, without mean and std
    short_side_of_crop: bool = False  # the short side is 256/224 of the crop's height, whatever `size` says


_VIVIT = _Family(256, 224, 1 / 127.5, "switch", _HALF, _HALF, original_factor=1 / 127.5)
_VIVIT_VIDEO = replace(_VIVIT, offset="always")
_VIDEOMAE = _Family(224, 224, 1 / 255, "never", _HALF, _HALF)
_TIMESFORMER = _Family(224, 224, 1 / 255, "never", _IMAGENET_MEAN, _IMAGENET_STD)
_VJEPA2 = _Family(292, 256, 1 / 255, "never", _IMAGENET_MEAN, _IMAGENET_STD, short_side_of_crop=True)

_PROCESSORS: dict[str, tuple[_Family, ResizeRule]] = {
    "VivitImageProcessor": (_VIVIT, "pil"),
    "VivitVideoProcessor": (_VIVIT_VIDEO, "torchvision"),
    "VideoMAEFeatureExtractor": (_VIDEOMAE, "torchvision"),
    "VideoMAEImageProcessor": (_VIDEOMAE, "torchvision"),
    "VideoMAEImageProcessorFast": (_VIDEOMAE, "torchvision"),
    "VideoMAEImageProcessorPil": (_VIDEOMAE, "pil"),
    "VideoMAEVideoProcessor": (_VIDEOMAE, "torchvision"),
    "TimesformerVideoProcessor": (_TIMESFORMER, "torchvision"),
    "VJEPA2VideoProcessor": (_VJEPA2, "torchvision"),
}
_TYPE_KEYS = ("video_processor_type", "image_processor_type", "feature_extractor_type")


def read_hf_config(
    config: Mapping[str, Any], value_range: ValueRange, default_processor: str | None
) -> dict[str, Any]:
    """Fields of a `Preprocessing` that a processor configuration determines; see `Preprocessing.from_hf`."""
    if value_range not in get_args(ValueRange):
        raise ValueError(f'value_range must be "original" or "hf", got {shown(value_range)}')
    if not isinstance(config, Mapping):
        raise _error("", config, "a JSON object")
    family, rule = _processor(config, default_processor)
    fields: dict[str, Any] = {
        "resize": _resize(config, family) if _switch(config, "do_resize") else None,
        "crop": _crop(config, family) if _switch(config, "do_center_crop") else None,
        "resample": _resample(config),
        "resize_rule": rule,
    }
    if _switch(config, "do_flip_channel_order", default=False):
        raise _error("do_flip_channel_order", True, "false: models that read BGR are not supported")
    if value_range == "original" and family.original_factor is not None:
        return {**fields, "rescale_factor": family.original_factor, "offset": True, "mean": None, "std": None}
    rescales, normalises = _switch(config, "do_rescale"), _switch(config, "do_normalize")
    offset = family.offset == "always" and rescales
    if family.offset == "switch" and _switch(config, "offset"):
        if not rescales:
            raise _error("offset", True, "do_rescale to be true as well")
        offset = True
    return {
        **fields,
        "rescale_factor": _number(config, "rescale_factor", family.rescale_factor) if rescales else 1.0,
        "offset": offset,
        "mean": _triple(config, "image_mean", family.mean) if normalises else None,
        "std": _triple(config, "image_std", family.std) if normalises else None,
    }


def _error(key: str, found: object, expected: str) -> CheckpointError:
    where = f"preprocessor_config.json: {key}" if key else "preprocessor_config.json"
    return CheckpointError(f"{where} is {shown(found)}; expected {expected}")


def _processor(config: Mapping[str, Any], default: str | None) -> tuple[_Family, ResizeRule]:
    key = next((key for key in _TYPE_KEYS if config.get(key) is not None), None)
    name = default if key is None else config[key]
    known = ", ".join(sorted(_PROCESSORS))
    if name is None:
        raise CheckpointError(
            f"preprocessor_config.json names no processor (none of {', '.join(_TYPE_KEYS)}); "
            f"expected one of {known}"
        )
    if not isinstance(name, str) or name not in _PROCESSORS:
        raise _error(key or "the default processor", name, f"one of the supported processors: {known}")
    return _PROCESSORS[name]


def _get(config: Mapping[str, Any], key: str, default: Any) -> Any:
    value = config.get(key)
    return default if value is None else value


def _switch(config: Mapping[str, Any], key: str, *, default: bool = True) -> bool:
    value = config.get(key, default)
    if value is None:  # not the default: the processors of transformers 5 take it for false
        return False
    if not isinstance(value, bool):
        raise _error(key, value, "true or false")
    return value


def _side(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _error(key, value, "a whole number of pixels, at least 1")
    return value


def _resize(config: Mapping[str, Any], family: _Family) -> int | tuple[int, int]:
    if family.short_side_of_crop:
        return _crop(config, family)[0] * 256 // 224
    size = _get(config, "size", {"shortest_edge": family.short_side})
    if isinstance(size, int):
        return _side("size", size)
    if isinstance(size, Mapping):
        given = {key for key, value in size.items() if value is not None}
        if given == {"shortest_edge"}:
            return _side("size.shortest_edge", size["shortest_edge"])
        if given == {"height", "width"}:
            return _side("size.height", size["height"]), _side("size.width", size["width"])
    elif isinstance(size, (list, tuple)) and len(size) == 2:
        return _side("size[0]", size[0]), _side("size[1]", size[1])
    raise _error("size", size, 'a number, {"shortest_edge": s} or {"height": h, "width": w}')


def _crop(config: Mapping[str, Any], family: _Family) -> tuple[int, int]:
    size = _get(config, "crop_size", {"height": family.crop, "width": family.crop})
    if isinstance(size, int):
        return _side("crop_size", size), _side("crop_size", size)
    if isinstance(size, Mapping) and {key for key, value in size.items() if value is not None} == {
        "height",
        "width",
    }:
        return _side("crop_size.height", size["height"]), _side("crop_size.width", size["width"])
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return _side("crop_size[0]", size[0]), _side("crop_size[1]", size[1])
    raise _error("crop_size", size, 'a number or {"height": h, "width": w}')


def _resample(config: Mapping[str, Any]) -> str:
    value = _get(config, "resample", 2)
    if isinstance(value, str) and value.lower() in _RESAMPLES.values():
        return value.lower()
    if isinstance(value, int) and not isinstance(value, bool) and value in _RESAMPLES:
        return _RESAMPLES[value]
    name = _RESAMPLE_NAMES.get(value) if isinstance(value, int) else None
    raise _error("resample", f"{value} ({name})" if name else value, "2 (bilinear) or 3 (bicubic)")


def _number(config: Mapping[str, Any], key: str, default: float) -> float:
    value = _get(config, key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _error(key, value, "a number")
    return _float(key, value)


def _triple(
    config: Mapping[str, Any], key: str, default: tuple[float, float, float]
) -> tuple[float, float, float]:
    values = _get(config, key, default)
    if isinstance(values, (int, float)):
        values = (values,) * 3
    numbers = isinstance(values, (list, tuple)) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    )
    if not numbers or len(values) != 3:
        raise _error(key, values, "a number or one for each of the 3 channels")
    return _float(key, values[0]), _float(key, values[1]), _float(key, values[2])


def _float(key: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise _error(key, value, "a number that fits into a float") from None

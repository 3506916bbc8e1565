"""Preprocessing against the Hugging Face processors, and against its own definition."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from paths import DATA

from qora_vision.errors import CheckpointError, ModelFileError, VideoError
from qora_vision.video import Preprocessing, VideoReader
from qora_vision.video.resize import resize

# What the public checkpoint's preprocessor_config.json holds.
VIVIT = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "VivitImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "offset": True,
    "resample": 2,
    "rescale_factor": 0.00784313725490196,
    "size": {"shortest_edge": 256},
}
PLAIN = Preprocessing(resize=None, crop=None)


def _frames(name: str, indices: list[int]) -> NDArray[np.uint8]:
    with VideoReader(DATA / name) as reader:
        return reader.read(indices)


def _hf(class_name: str, config: dict[str, Any], frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(T, C, H, W) of a transformers processor."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not ours to fix
        try:
            processor_class = getattr(transformers, class_name)
        except (ImportError, AttributeError, RuntimeError) as error:
            pytest.skip(f"{class_name} cannot be imported: {error}")
        if processor_class.__name__ != class_name:
            pytest.skip(f"without torchvision, {class_name} is {processor_class.__name__}")
        known = {key: value for key, value in config.items() if not key.endswith("_type")}
        result = processor_class(**known)(list(frames), return_tensors="np")
    values = np.asarray(result["pixel_values"])
    return values[0]


# --- against transformers -----------------------------------------------------------------------------

VIVIT_CONFIGS: list[dict[str, Any]] = [
    {},
    VIVIT,
    {"resample": 3},
    {"size": {"height": 60, "width": 90}, "crop_size": {"height": 48, "width": 64}},
    {"size": {"shortest_edge": 101}, "crop_size": 75},
    {"do_resize": False},
    {"do_center_crop": False},
    {"do_normalize": False},
    {"do_rescale": False, "offset": False},
    {"offset": False, "rescale_factor": 1 / 255, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]},
    # Smaller than the crop: padded with zero bytes, on both sides or on one, by even and odd amounts.
    {"size": {"shortest_edge": 100}},
    {"size": {"height": 99, "width": 300}},
    {"size": {"height": 300, "width": 101}, "crop_size": {"height": 224, "width": 226}},
]


@pytest.mark.parametrize("config", VIVIT_CONFIGS, ids=[json.dumps(config)[:60] for config in VIVIT_CONFIGS])
@pytest.mark.parametrize(("name", "indices"), [("asl_eat_7frames.mp4", [0, 3, 6]), ("rot90.mov", [0, 2])])
def test_hf_range_equals_vivit_image_processor_bit_for_bit(
    config: dict[str, Any], name: str, indices: list[int]
) -> None:
    frames = _frames(name, indices)
    preprocessing = Preprocessing.from_hf(
        config, num_frames=len(frames), value_range="hf", default_processor="VivitImageProcessor"
    )
    np.testing.assert_array_equal(preprocessing.apply(frames), _hf("VivitImageProcessor", config, frames))


TORCHVISION_CONFIGS: list[dict[str, Any]] = [
    {},
    {"image_mean": [0.45, 0.45, 0.45], "image_std": [0.225, 0.225, 0.225]},
    {"resample": 3, "size": {"shortest_edge": 90}, "crop_size": {"height": 80, "width": 71}},
    {"size": {"shortest_edge": 101}, "crop_size": {"height": 224, "width": 120}},
    {"do_normalize": False},
]


@pytest.mark.parametrize("class_name", ["VideoMAEImageProcessor", "VideoMAEImageProcessorPil"])
@pytest.mark.parametrize("config", TORCHVISION_CONFIGS, ids=[json.dumps(c)[:60] for c in TORCHVISION_CONFIGS])
def test_videomae_processors(class_name: str, config: dict[str, Any]) -> None:
    """Bit for bit: the table repeats even torchvision's fused normalisation."""
    frames = _frames("asl_eat_7frames.mp4", [0, 6])
    preprocessing = Preprocessing.from_hf({**config, "image_processor_type": class_name}, num_frames=2)
    np.testing.assert_array_equal(preprocessing.apply(frames), _hf(class_name, config, frames))


# --- values -------------------------------------------------------------------------------------------


def test_the_two_ranges_of_vivit() -> None:
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    pixels = frames[0, ..., 0].astype(np.float64)
    for value_range, expected in (("original", pixels * 2 / 255 - 1), ("hf", 2 * (pixels / 127.5 - 1) - 1)):
        made = Preprocessing.from_hf(VIVIT, num_frames=1, value_range=value_range)  # type: ignore[arg-type]
        table = made.value_table()
        # Two roundings of values up to 2 before the shift, doubled by the division: 3 * 2^-24 * 2.
        np.testing.assert_allclose(table[0].reshape(16, 16), expected, rtol=0, atol=6 * 2.0**-24)
    original = Preprocessing.from_hf(VIVIT, num_frames=1)
    assert original.value_table()[:, [0, 255]].tolist() == [[-1.0, 1.0]] * 3
    hf = Preprocessing.from_hf(VIVIT, num_frames=1, value_range="hf").value_table()
    assert (hf[0, 0], hf[0, 255]) == (-3.0, 1.0)


def test_original_range_ignores_the_factor_of_early_checkpoints() -> None:
    early = {**VIVIT, "rescale_factor": 1 / 255}
    assert Preprocessing.from_hf(early, num_frames=32) == Preprocessing.from_hf(VIVIT, num_frames=32)


def test_values_layout_and_channel_order() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    preprocessing = Preprocessing(
        resize=None,
        crop=None,
        offset=False,
        rescale_factor=1 / 255,
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.6, 0.7),
    )
    got = preprocessing.apply(frames)
    assert (got.shape, got.dtype, got.flags.c_contiguous) == ((3, 3, 20, 30), np.float32, True)
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    expected = ((frames / 255 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    backwards = np.ascontiguousarray(frames[..., ::-1])
    np.testing.assert_array_equal(preprocessing.apply(backwards, channel_order="bgr"), got)


def test_fused_table_is_within_rounding_of_the_plain_formula() -> None:
    made = Preprocessing(
        resize_rule="torchvision",
        offset=False,
        rescale_factor=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    mean, std = np.array(made.mean)[:, None], np.array(made.std)[:, None]
    expected = (np.arange(256) / 255 - mean) / std
    # mean / factor and std / factor carry two roundings each of relative 2^-24, difference and quotient one.
    bound = 6 * 2.0**-24 * (np.arange(256) / 255 + mean) / std
    assert (np.abs(made.value_table() - expected) <= bound).all()


# --- geometry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((240, 320), (256, 341)),
        ((320, 240), (341, 256)),
        ((1080, 1920), (256, 455)),
        ((7, 7), (256, 256)),
        ((1, 3), (256, 768)),
    ],
)
def test_short_side_rule(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Preprocessing().resized_size(*size) == expected


def test_a_thread_of_pixels_is_refused() -> None:
    with pytest.raises(VideoError, match="long side would be 76800 pixels"):
        Preprocessing().apply(np.zeros((1, 1, 300, 3), np.uint8))


@pytest.mark.parametrize(("height", "width"), [(60, 100), (100, 60), (64, 64)])
def test_spatial_views_run_along_the_longer_side(height: int, width: int) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    preprocessing = Preprocessing(resize=None, crop=(48, 48), rescale_factor=1.0, offset=False)
    long = max(height, width)
    for view, start in enumerate([0, (long - 48) // 2, long - 48]):
        middle = (min(height, width) - 48) // 2
        top, left = (start, middle) if height > width else (middle, start)
        expected = frames[:, top : top + 48, left : left + 48].transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(preprocessing.apply(frames, view), expected)
    np.testing.assert_array_equal(preprocessing.apply(frames, "center"), preprocessing.apply(frames, 1))


@pytest.mark.parametrize(("rule", "before"), [("pil", 3), ("torchvision", 2), ("plain", 2)])
def test_small_frames_are_padded_with_zero_bytes(rule: Any, before: int) -> None:
    frames = np.full((1, 11, 30, 3), 255, np.uint8)
    preprocessing = Preprocessing(
        resize=None, resize_rule=rule, crop=(16, 20), rescale_factor=1.0, offset=False
    )
    expected = np.zeros((16, 20), np.float32)
    expected[before : before + 11] = 255
    np.testing.assert_array_equal(preprocessing.apply(frames)[0, 0], expected)


def test_views_of_one_resize_equal_views_made_alone() -> None:
    frames = np.random.default_rng(4).integers(0, 256, (2, 90, 160, 3), dtype=np.uint8)
    preprocessing = Preprocessing(resize=64, crop=(56, 56))
    whole = resize(frames, (64, 113))
    for view, left in enumerate([0, 28, 57]):
        np.testing.assert_array_equal(
            preprocessing.crop_views(frames, [0, 1, 2])[view], whole[:, 4:60, left : left + 56]
        )


@pytest.mark.parametrize("size", [None, (24, 24)])
@pytest.mark.parametrize("crop", [None, (16, 16)])
def test_views_stay_when_a_decoder_uses_its_frame_again(size: Any, crop: Any) -> None:
    frames = np.random.default_rng(5).integers(0, 256, (1, 24, 24, 3), dtype=np.uint8)
    views = Preprocessing(resize=size, crop=crop).crop_views(frames, ["center"])
    expected = [view.copy() for view in views]
    frames[:] = 0
    np.testing.assert_array_equal(views, expected)


def test_frames_of_different_sizes() -> None:
    frames = [np.full((40, 60, 3), 9, np.uint8), np.full((80, 50, 3), 200, np.uint8)]
    assert Preprocessing(resize=32, crop=(32, 32)).apply(frames).shape == (2, 3, 32, 32)
    assert Preprocessing(resize=(20, 30), crop=None).apply(frames).shape == (2, 3, 20, 30)
    with pytest.raises(VideoError, match="32 x 48, 51 x 32"):
        Preprocessing(resize=32, crop=None).apply(frames)
    with pytest.raises(VideoError, match="at least 1"):
        PLAIN.apply([])
    with pytest.raises(VideoError, match="frame 1"):
        PLAIN.apply([frames[0], frames[1].astype(np.float32)])  # type: ignore[list-item]


def test_unknown_views_are_refused() -> None:
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    for view in (3, -1, "left", True):
        with pytest.raises(ValueError, match="crop must be"):
            Preprocessing(resize=None, crop=(8, 8)).apply(frames, view)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="spatial views need a crop"):
        PLAIN.apply(frames, 0)


def test_threads_do_not_change_the_result() -> None:
    frames = np.random.default_rng(5).integers(0, 256, (5, 90, 160, 3), dtype=np.uint8)
    one = Preprocessing().apply(frames, num_threads=1)
    np.testing.assert_array_equal(Preprocessing().apply(frames, num_threads=2), one)


# --- configurations -----------------------------------------------------------------------------------


def test_round_trip_through_json() -> None:
    for made in (
        Preprocessing(),
        PLAIN,
        Preprocessing(resize=(3, 4), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)),
    ):
        assert Preprocessing.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_defaults_of_the_processor_classes() -> None:
    vivit = Preprocessing.from_hf(
        {"image_processor_type": "VivitImageProcessor"}, num_frames=32, value_range="hf"
    )
    assert (vivit.resize, vivit.crop, vivit.resize_rule, vivit.offset) == (256, (224, 224), "pil", True)
    assert (vivit.rescale_factor, vivit.mean) == (1 / 127.5, (0.5, 0.5, 0.5))
    mae = Preprocessing.from_hf({"feature_extractor_type": "VideoMAEFeatureExtractor"}, num_frames=16)
    assert (mae.resize, mae.crop, mae.resize_rule, mae.offset) == (224, (224, 224), "torchvision", False)
    assert (mae.rescale_factor, mae.std) == (1 / 255, (0.5, 0.5, 0.5))
    former = Preprocessing.from_hf({"video_processor_type": "TimesformerVideoProcessor"}, num_frames=8)
    assert former.mean == (0.485, 0.456, 0.406)
    assert former == Preprocessing.from_hf(
        {"video_processor_type": "TimesformerVideoProcessor", "size": None, "resample": None},
        num_frames=8,
        value_range="hf",
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (200, 200),
        ({"shortest_edge": 200}, 200),
        ({"height": 20, "width": 30}, (20, 30)),
        ([20, 30], (20, 30)),
    ],
)
def test_spellings_of_size(size: Any, expected: Any) -> None:
    assert Preprocessing.from_hf({**VIVIT, "size": size}, num_frames=32).resize == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "CLIPImageProcessor.*supported processors"),
        ({"image_processor_type": None}, "names no processor"),
        ({"image_processor_type": 3}, "3"),
        ({"size": {"longest_edge": 256}}, "longest_edge"),
        ({"size": {"shortest_edge": 0}}, "shortest_edge"),
        ({"size": "256"}, "256"),
        ({"crop_size": {"height": 224}}, "crop_size"),
        ({"crop_size": -1}, "crop_size"),
        ({"resample": 0}, "nearest"),
        ({"resample": "cubic"}, "cubic"),
        ({"do_resize": "yes"}, "do_resize"),
        ({"do_rescale": False}, "do_rescale to be true"),
        ({"do_flip_channel_order": True}, "BGR"),
        ({"rescale_factor": "1/255"}, "rescale_factor"),
        ({"rescale_factor": -1.0}, "positive"),
        ({"rescale_factor": float("nan")}, "finite"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"image_std": [0.5, 0.0, 0.5]}, "std must be positive"),
        ({"size": {"shortest_edge": 10**9}}, "65536"),
    ],
)
def test_wrong_processor_configs_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Preprocessing.from_hf({**VIVIT, **change}, num_frames=32, value_range="hf")


def test_a_config_that_is_no_object() -> None:
    with pytest.raises(CheckpointError, match="JSON object"):
        Preprocessing.from_hf([1, 2], num_frames=32)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="value_range"):
        Preprocessing.from_hf(VIVIT, num_frames=32, value_range="tanh")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"num_frames": 0},
        {"num_frames": True},
        {"sampling": "random"},
        {"stride": 0},
        {"resize": 0},
        {"resize": (4, 4, 4)},
        {"resample": "nearest"},
        {"resize_rule": "cv2"},
        {"resize_rule": "plain", "resample": "bicubic"},
        {"crop": (0, 4)},
        {"crop": 224},
        {"rescale_factor": float("inf")},
        {"offset": 1},
        {"mean": (0.5, 0.5, 0.5)},
        {"mean": (0.5, 0.5), "std": (0.5, 0.5)},
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, -0.5)},
    ],
)
def test_invalid_fields_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change)) + "|std|plain"):
        Preprocessing(**change)
    with pytest.raises(ModelFileError):
        Preprocessing.from_dict({**Preprocessing().to_dict(), **change})


def test_missing_and_unknown_fields_of_a_model_file_are_refused() -> None:
    fields = Preprocessing().to_dict()
    with pytest.raises(ModelFileError, match="fields"):
        Preprocessing.from_dict({**fields, "gamma": 2})
    del fields["crop"]
    with pytest.raises(ModelFileError, match="fields"):
        Preprocessing.from_dict(fields)
    with pytest.raises(ModelFileError):
        Preprocessing.from_dict("uniform")  # type: ignore[arg-type]

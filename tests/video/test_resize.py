"""The native resize against Pillow and torch, bit for bit, and against the written-out recipe."""

from __future__ import annotations

import math
import threading

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image

from qora_vision.video.resize import lookup, resize

Size = tuple[int, int]

# (height, width) of input and output: down, up, both, odd, one pixel, unchanged, more than one band of rows.
FIXED: list[tuple[Size, Size]] = [
    ((240, 320), (256, 341)),
    ((480, 640), (256, 341)),
    ((1080, 1920), (256, 455)),
    ((1280, 720), (455, 256)),
    ((1, 1), (5, 7)),
    ((5, 7), (1, 2)),
    ((1, 1), (1, 1)),
    ((64, 48), (64, 48)),
    ((64, 48), (64, 31)),
    ((97, 89), (31, 89)),
    ((3, 200), (200, 3)),
    ((2, 3), (301, 257)),
    ((700, 9), (33, 9)),
    ((500, 40), (90, 38)),
]


def _random_sizes(count: int) -> list[tuple[Size, Size]]:
    rng = np.random.default_rng(7)
    sides = np.exp(rng.uniform(0, math.log(260), (count, 4))).astype(int)
    return [((int(a), int(b)), (int(c), int(d))) for a, b, c, d in sides]


SIZES = FIXED + _random_sizes(60)


def _image(size: Size, seed: int = 0) -> NDArray[np.uint8]:
    """Noise, with a half that is only black and white: the extremes are where clipping and rounding show."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    image[: size[0] // 2] = np.where(image[: size[0] // 2] > 127, 255, 0)
    return image


def _recipe(image: NDArray[np.uint8], size: Size, resample: str, rule: str) -> NDArray[np.uint8]:
    """The documented fixed-point recipe in NumPy, columns first."""
    for axis in (1, 0):
        image = _recipe_axis(image, axis, size[axis], resample, rule)
    return image


def _recipe_axis(
    image: NDArray[np.uint8], axis: int, out: int, resample: str, rule: str
) -> NDArray[np.uint8]:
    n = image.shape[axis]
    scale = n / out
    stretch = max(scale, 1.0)
    support = stretch * (1 if resample == "bilinear" else 2)
    weights = np.zeros((out, n))
    for i in range(out):
        center = (i + 0.5) * scale
        low, high = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), n)
        row = [_filter((j - center + 0.5) * (1 / stretch), resample) for j in range(low, high)]
        weights[i, low:high] = np.array(row) / sum(row)
    bits = 22
    if rule == "torchvision":
        bits = 0
        while bits < 22 and int(0.5 + weights.max() * 2 ** (bits + 1)) < 2**15:
            bits += 1
    fixed = np.trunc(weights * 2**bits + np.copysign(0.5, weights)).astype(np.int64)
    sums = np.tensordot(fixed, image.astype(np.int64), axes=(1, axis)) + 2 ** (bits - 1)
    return np.moveaxis(np.clip(sums >> bits, 0, 255).astype(np.uint8), 0, axis)


def _filter(x: float, resample: str) -> float:
    x = abs(x)
    if resample == "bilinear":
        return max(0.0, 1.0 - x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def _rows_first(source: Size, size: Size) -> bool:
    return source[0] - size[0] > max(0, 2 * (source[1] - size[1]))


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_pil_rule_equals_pillow(resample: str) -> None:
    pillow_orders = int(PIL.__version__.split(".")[0]) >= 13
    flag = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[resample]
    compared = 0
    for source, size in SIZES:
        if _rows_first(source, size) and not pillow_orders:
            continue
        image = _image(source)
        expected = np.asarray(Image.fromarray(image).resize((size[1], size[0]), flag))
        got = resize(image, size, resample=resample)  # type: ignore[arg-type]
        np.testing.assert_array_equal(got, expected, err_msg=f"{source} -> {size}")
        compared += 1
    assert compared >= len(SIZES) // 2
    assert any(_rows_first(*sizes) for sizes in SIZES)


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_torchvision_rule_equals_torch(resample: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("torch uses its float path on this CPU")
    for source, size in SIZES:
        if min(*source, *size) == 1:
            continue  # torch mistakes the memory layout of images one pixel wide
        image = _image(source)
        planes = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
        result = torch.nn.functional.interpolate(planes, size, mode=resample, antialias=True)
        expected = result[0].permute(1, 2, 0).numpy()
        got = resize(image, size, resample=resample, rule="torchvision")  # type: ignore[arg-type]
        np.testing.assert_array_equal(got, expected, err_msg=f"{source} -> {size}")


@pytest.mark.parametrize("rule", ["pil", "torchvision"])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_the_recipe(resample: str, rule: str) -> None:
    for source, size in SIZES:
        if max(*source, *size) > 300 or (rule == "pil" and _rows_first(source, size)):
            continue
        got = resize(_image(source), size, resample=resample, rule=rule)  # type: ignore[arg-type]
        expected = _recipe(_image(source), size, resample, rule)
        np.testing.assert_array_equal(got, expected, err_msg=f"{source} -> {size}")


def test_plain_rule_is_two_taps_in_float() -> None:
    for source, size in SIZES:
        image = _image(source)
        got = resize(image, size, rule="plain")
        exact = image.astype(np.float64)
        for axis in (0, 1):
            n = source[axis]
            at = np.clip((np.arange(size[axis]) + 0.5) * (n / size[axis]) - 0.5, 0, None)
            low = np.minimum(at.astype(int), n - 1)
            high = np.minimum(low + 1, n - 1)
            part = np.expand_dims(at - low, [d for d in range(3) if d != axis])
            exact = exact.take(low, axis) * (1 - part) + exact.take(high, axis) * part
        # Within half a unit, plus what float32 positions (relative error 2^-22 at index n) can move it.
        slack = 255 * max(source) * 2.0**-21
        assert np.abs(got - exact).max() <= 0.5 + slack


def test_plain_rule_follows_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    image = _image((240, 320))
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = (
        torch.nn.functional.interpolate(planes, (256, 341), mode="bilinear")[0].round().permute(1, 2, 0)
    )
    got = resize(image, (256, 341), rule="plain")
    difference = np.abs(got.astype(int) - expected.numpy().astype(int))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= got.size // 1000


@pytest.mark.parametrize("rule", ["pil", "torchvision", "plain"])
@pytest.mark.parametrize(
    ("source", "size"), [((120, 160), (64, 85)), ((60, 40), (90, 71)), ((300, 40), (90, 38))]
)
def test_a_crop_equals_resizing_everything(source: Size, size: Size, rule: str) -> None:
    image = _image(source)
    whole = resize(image, size, rule=rule)  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    for _ in range(20):
        height, width = int(rng.integers(1, size[0] + 1)), int(rng.integers(1, size[1] + 1))
        top, left = int(rng.integers(0, size[0] - height + 1)), int(rng.integers(0, size[1] - width + 1))
        part = resize(image, size, rule=rule, crop=(top, left, height, width))  # type: ignore[arg-type]
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


@pytest.mark.parametrize("rule", ["pil", "torchvision", "plain"])
def test_a_clip_equals_its_frames_on_any_number_of_threads(rule: str) -> None:
    clip = np.stack([_image((90, 70), seed) for seed in range(5)])
    frames = np.stack([resize(frame, (64, 100), rule=rule) for frame in clip])  # type: ignore[arg-type]
    for threads in (1, 2, 3):
        got = resize(clip, (64, 100), rule=rule, num_threads=threads)  # type: ignore[arg-type]
        np.testing.assert_array_equal(got, frames)


def test_two_python_threads_at_once() -> None:
    clip = np.stack([_image((200, 150), seed) for seed in range(4)])
    expected = resize(clip, (64, 48))
    results: list[NDArray[np.uint8]] = []
    workers = [threading.Thread(target=lambda: results.append(resize(clip, (64, 48)))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_an_empty_clip_stays_empty() -> None:
    assert resize(np.zeros((0, 8, 8, 3), np.uint8), (4, 5)).shape == (0, 4, 5, 3)


@pytest.mark.parametrize(
    ("frames", "arguments", "message"),
    [
        (np.zeros((8, 8), np.uint8), {}, r"\(H, W, 3\)"),
        (np.zeros((8, 8, 4), np.uint8), {}, r"\(8, 8, 4\)"),
        (np.zeros((8, 8, 3), np.float32), {}, "float32"),
        (np.zeros((0, 8, 3), np.uint8), {}, "0 x 8"),
        (np.zeros((8, 8, 3), np.uint8), {"size": (0, 4)}, "0 x 4"),
        (np.zeros((8, 8, 3), np.uint8), {"size": (4, 70000)}, "65536"),
        (np.zeros((8, 8, 3), np.uint8), {"resample": "nearest"}, "nearest"),
        (np.zeros((8, 8, 3), np.uint8), {"rule": "cv2"}, "cv2"),
        (np.zeros((8, 8, 3), np.uint8), {"rule": "plain", "resample": "bicubic"}, "bicubic"),
        (np.zeros((8, 8, 3), np.uint8), {"crop": (0, 0, 5, 4)}, "inside the output of 4 x 4"),
        (np.zeros((8, 8, 3), np.uint8), {"crop": (-1, 0, 4, 4)}, "inside"),
        (np.zeros((8, 8, 3), np.uint8), {"crop": (0, 0, 0, 4)}, "inside"),
    ],
)
def test_wrong_arguments_are_refused(frames: NDArray[np.uint8], arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resize(frames, **{"size": (4, 4), **arguments})


@pytest.mark.parametrize("reverse", [False, True])
def test_lookup_reads_the_table_of_each_channel(reverse: bool) -> None:
    rng = np.random.default_rng(1)
    table = rng.standard_normal((3, 256), dtype=np.float32)
    frames = rng.integers(0, 256, (3, 9, 12, 3), dtype=np.uint8)[:, 2:8, 1:11]  # rows lie apart
    room = np.full((5, 3, 6, 10), 7.0, np.float32)
    lookup([frames[:1], frames[1:]], table, room[1:4], reverse_channels=reverse)
    for c in range(3):
        np.testing.assert_array_equal(room[1:4, c], table[c][frames[..., 2 - c if reverse else c]])
    assert (room[0] == 7.0).all()
    assert (room[4] == 7.0).all()


def test_lookup_refuses_what_does_not_fit() -> None:
    frames, table = np.zeros((2, 4, 5, 3), np.uint8), np.zeros((3, 256), np.float32)
    out = np.zeros((2, 3, 4, 5), np.float32)
    with pytest.raises(ValueError, match="2 frames do not fit"):
        lookup([frames], table, out[:1])
    with pytest.raises(ValueError, match="do not fit the output"):
        lookup([frames[:1], frames[1:, :3]], table, out)
    with pytest.raises(ValueError, match="output of shape"):
        lookup([frames], table, out.astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="table"):
        lookup([frames], table[:, :255], out)
    with pytest.raises(ValueError, match="contiguous rows"):
        lookup([frames[:, :, ::2]], table, out)
    with pytest.raises(ValueError, match="uint8"):
        lookup([frames.astype(np.int16)], table, out)  # type: ignore[arg-type]

"""The public API on a tiny model: arguments, results and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paths import DATA
from vivit_cases import CLIP, PROCESSOR, TINY, write_checkpoint

import qora_vision
from qora_vision import Prediction, VideoClassifier, VideoError
from qora_vision.tasks.prediction import Classes

CLIP_FILE = DATA / "asl_eat_7frames.mp4"


@pytest.fixture(scope="module")
def clf(tmp_path_factory: pytest.TempPathFactory) -> VideoClassifier:
    """The tiny model with its processor: 4 frames of 16 x 16, 11 classes."""
    directory = write_checkpoint(tmp_path_factory.mktemp("model"), processor=PROCESSOR)
    return qora_vision.load(directory)


@pytest.fixture(scope="module")
def video() -> NDArray[np.uint8]:
    """Thirty frames, wider than high, each unlike the others."""
    return np.random.default_rng(8).integers(0, 256, (30, 24, 40, 3), dtype=np.uint8)


def same(a: Prediction, b: Prediction) -> bool:
    return np.array_equal(a.logits, b.logits) and np.array_equal(a.embedding, b.embedding)


def test_a_prediction(clf: VideoClassifier, video: NDArray[np.uint8]) -> None:
    pred = clf.classify(video, top_k=4)
    assert len(pred) == len(pred.labels) == 4
    assert pred.logits.shape == (11,)
    assert pred.embedding.shape == (18,)
    assert {array.dtype for array in (pred.scores, pred.logits, pred.embedding)} == {np.dtype(np.float32)}
    exp = np.exp(pred.logits.astype(np.float64) - pred.logits.max())
    order = np.argsort(-exp)[:4]
    assert pred.indices.tolist() == order.tolist()
    assert pred.labels == [clf.labels[i] for i in order]
    np.testing.assert_allclose(pred.scores, (exp / exp.sum())[order], rtol=1e-6)
    assert list(pred) == list(zip(pred.labels, pred.scores.tolist(), strict=True))
    assert set(pred.timings) == {"preprocess", "forward"}
    assert min(pred.timings.values()) > 0
    described = json.loads(json.dumps(pred.to_dict()))
    assert described["timings"] == pred.timings
    assert [(c["label"], c["score"]) for c in described["predictions"]] == list(pred)
    assert [c["index"] for c in described["predictions"]] == order.tolist()


def test_scores_of_all_classes_sum_to_one_and_fall(clf: VideoClassifier, video: NDArray[np.uint8]) -> None:
    pred = clf.classify(video, top_k=11)
    assert sorted(pred.labels) == sorted(clf.labels)
    assert abs(float(pred.scores.astype(np.float64).sum()) - 1) < 1e-6
    assert (np.diff(pred.scores) <= 0).all()
    assert len(clf.classify(video)) == 5


@pytest.mark.parametrize("top_k", [0, -1, 12, 2.0, True, None, "3"])
def test_top_k_out_of_range(clf: VideoClassifier, top_k: object) -> None:
    with pytest.raises(ValueError, match="top_k must be from 1 to the 11 classes, got "):
        clf.classify("never opened.mp4", top_k=top_k)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), "0.5", True])
def test_a_least_score_is_a_number(clf: VideoClassifier, value: object) -> None:
    with pytest.raises(ValueError, match="min_score must be a number or None, got "):
        clf.classify("never opened.mp4", min_score=value)  # type: ignore[arg-type]


def test_ties_go_to_the_smaller_index() -> None:
    logits = np.tile(np.array([1, 3, 3, -1000, 3], np.float32), 80)
    pred = Classes([str(i) for i in range(400)]).best(logits, np.zeros(2, np.float32), 400, {})
    assert pred.indices.tolist() == sorted(range(400), key=lambda i: (-logits[i], i))
    assert pred.labels == [str(i) for i in pred.indices]
    assert pred.scores[-1] == 0.0


def test_preprocess_is_what_forward_is_fed(clf: VideoClassifier, video: NDArray[np.uint8]) -> None:
    pixel_values = clf.preprocess(video)
    assert pixel_values.shape == (1, 4, 3, 16, 16)
    assert pixel_values.dtype == np.float32
    pred = clf.classify(video)
    assert np.array_equal(clf.forward(pixel_values)[0], pred.logits)
    assert np.array_equal(clf.embed(video), pred.embedding)


def test_every_kind_of_source_gives_the_same(
    clf: VideoClassifier, video: NDArray[np.uint8], tmp_path: Path
) -> None:
    expected = clf.classify(video)
    assert same(clf.classify(iter(video)), expected)
    assert same(clf.classify(list(video)), expected)
    bgr = np.ascontiguousarray(video[..., ::-1])
    assert same(clf.classify(bgr, channel_order="bgr"), expected)
    assert not same(clf.classify(bgr), expected)
    for number, frame in enumerate(bgr):
        assert cv2.imwrite(str(tmp_path / f"frame{number}.png"), frame)
    assert same(clf.classify(tmp_path), expected)
    assert same(clf.classify(str(tmp_path)), expected)


def test_a_video_file(clf: VideoClassifier) -> None:
    capture = cv2.VideoCapture(str(CLIP_FILE))
    frames = [capture.read()[1] for _ in range(7)]
    capture.release()
    expected = clf.classify(frames, channel_order="bgr")
    assert same(clf.classify(CLIP_FILE), expected)
    assert same(clf.classify(str(CLIP_FILE)), expected)


def test_sampling(clf: VideoClassifier, video: NDArray[np.uint8]) -> None:
    """tests/video tests the rules; this test checks the default, uniform, and that the argument is used."""
    uniform, dense = [0, 9, 19, 29], [11, 13, 15, 17]
    for given, frames in (
        ({}, uniform),
        ({"sampling": "uniform"}, uniform),
        ({"sampling": "dense"}, dense),
        ({"sampling": "dense", "stride": 5}, [5, 10, 15, 20]),
        ({"sampling": [29, 0, 0, 7]}, [29, 0, 0, 7]),
        ({"sampling": np.array([3, 2, 1, 0])}, [3, 2, 1, 0]),
    ):
        assert np.array_equal(clf.preprocess(video, **given), clf.preprocess(video[frames])), given
    short = clf.preprocess(video[:2])
    assert np.array_equal(short, clf.preprocess(video[[0, 0, 0, 1]]))


def test_views_are_the_mean_of_separate_views(clf: VideoClassifier, video: NDArray[np.uint8]) -> None:
    clips = clf.preprocess(video, sampling="dense", views=(4, 3))
    assert clips.shape == (12, 4, 3, 16, 16)
    assert len({clip.tobytes() for clip in clips}) == 12
    separate = np.stack([clf.forward(clip[None])[0] for clip in clips])
    seen: list[tuple[int, int, str]] = []
    pred = clf.classify(video, sampling="dense", views=(4, 3), progress=lambda *step: seen.append(step))
    assert seen == [(done, 12, "views") for done in range(12)]
    np.testing.assert_allclose(pred.logits, separate.mean(axis=0), rtol=1e-6, atol=1e-6)
    assert np.array_equal(clf.embed(video, sampling="dense", views=(4, 3)), pred.embedding)
    # Windows of 4 frames with stride 2 start at 0, 7, 14 and 22 of 30; the centre crop is in the middle.
    for view, start in enumerate((0, 7, 14, 22)):
        window = clf.preprocess(video, sampling=[start + 2 * i for i in range(4)])
        assert np.array_equal(clips[3 * view + 1], window[0])


def test_several_clips_are_as_many_calls(clf: VideoClassifier) -> None:
    rng = np.random.default_rng(9)
    clips = rng.standard_normal((3, 4, 3, 16, 16), dtype=np.float32)
    logits = clf.forward(clips)
    assert logits.shape == (3, 11)
    assert logits.dtype == np.float32
    assert np.array_equal(logits, np.concatenate([clf.forward(clip[None]) for clip in clips]))
    strided = np.repeat(clips, 2, axis=0)[::2]
    assert np.array_equal(clf.forward(strided), logits)
    assert np.array_equal(clf.forward(np.asfortranarray(clips)), logits)


def test_inputs_are_not_changed(clf: VideoClassifier, video: NDArray[np.uint8]) -> None:
    clip, frames = CLIP.copy(), video.copy()
    clip.flags.writeable = frames.flags.writeable = False
    clf.forward(clip)
    clf.classify(frames)
    assert np.array_equal(clip, CLIP)
    assert np.array_equal(frames, video)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixel_values_must_be_finite(clf: VideoClassifier, value: float) -> None:
    clip = CLIP.copy()
    clip[0, -1, -1, -1, -1] = value
    with pytest.raises(VideoError, match="NaN or infinity"):
        clf.forward(clip)


@pytest.mark.parametrize(
    ("pixel_values", "message"),
    [
        (CLIP[0], r"\(B, T, C, H, W\) = \(B, 4, 3, 16, 16\) with B >= 1, got \(4, 3, 16, 16\)"),
        (CLIP[:0], r"got \(0, 4, 3, 16, 16\)"),
        (CLIP[:, :3], r"got \(1, 3, 3, 16, 16\)"),
        (CLIP.transpose(0, 2, 1, 3, 4), r"got \(1, 3, 4, 16, 16\)"),
        (CLIP[..., :8], r"got \(1, 4, 3, 16, 8\)"),
        (CLIP.astype(np.float64), "must be a float32 array, got float64"),
        (CLIP.astype(np.uint8), "got uint8; preprocess\\(\\) makes them"),
        (CLIP.tolist(), "must be a float32 array, got list"),
        (None, "got NoneType"),
    ],
)
def test_pixel_values_of_another_kind(clf: VideoClassifier, pixel_values: object, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        clf.forward(pixel_values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_order": "gbr"}, 'channel_order must be "rgb" or "bgr"'),
        ({"sampling": "random"}, "sampling must be one of"),
        ({"sampling": [0, 1]}, "expected 4 frame numbers, got 2"),
        ({"sampling": [0, 1, 2, 30]}, "frame 30 .* the clip has 30 frames"),
        ({"sampling": [0, 1, 2, -1]}, "count from 0"),
        ({"stride": 0}, "stride"),
        ({"views": (1, 2)}, "views must be"),
        ({"views": (0, 1)}, "views must be"),
        ({"views": 3}, "views must be"),
        ({"views": (2, 1), "sampling": [0, 1, 2, 3]}, "explicit indices make 1 temporal view"),
    ],
)
@pytest.mark.parametrize("method", ["classify", "embed", "preprocess"])
def test_options_that_do_not_exist(
    clf: VideoClassifier, video: NDArray[np.uint8], method: str, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(clf, method)(video, **options)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((4, 16, 16, 3), np.float32), "float32.*scale to 0..255"),
        (np.zeros((4, 3, 16, 16), np.uint8), "channels last"),
        (np.zeros((16, 16, 3), np.uint8), "add an axis"),
        (np.zeros((0, 16, 16, 3), np.uint8), "no frames"),
        ([], "no frames"),
        (7, "cannot read frames from int"),
        (DATA / "README.md", "README"),
    ],
    ids=str,
)
def test_sources_that_cannot_be_used(clf: VideoClassifier, frames: object, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        clf.classify(frames)  # type: ignore[arg-type]


def test_a_video_that_is_not_there(clf: VideoClassifier, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        clf.classify(tmp_path / "nowhere.mp4")
    with pytest.raises(VideoError):
        clf.classify(tmp_path)  # a folder without images


def test_two_threads_use_one_model(clf: VideoClassifier) -> None:
    rng = np.random.default_rng(10)
    clips = rng.standard_normal((2, 1, 4, 3, 16, 16), dtype=np.float32)
    expected = [clf.forward(clip) for clip in clips]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            if not np.array_equal(clf.forward(clips[number]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_of_a_model_and_of_the_process_change_no_bit() -> None:
    before = qora_vision.cpu_info()["threads"]
    try:
        expected = qora_vision.load(TINY, threads=1).forward(CLIP)
        for number in (1, 2, 3):
            qora_vision.set_num_threads(number)
            assert qora_vision.cpu_info()["threads"] == number
            assert np.array_equal(qora_vision.load(TINY).forward(CLIP), expected)
            assert np.array_equal(qora_vision.load(TINY, threads=2).forward(CLIP), expected)
        for number in (0, -1, 5000):
            with pytest.raises(ValueError, match="4096"):
                qora_vision.set_num_threads(number)
    finally:
        qora_vision.set_num_threads(before)


def test_what_a_model_says_of_itself(clf: VideoClassifier) -> None:
    isa = qora_vision.cpu_info()["isa"]
    assert clf.isa == isa
    assert repr(clf) == f"<VideoClassifier vivit: 11 classes, 4 frames, q4, compute='auto', isa='{isa}'>"
    assert clf.config.num_frames == clf.num_frames == 4
    assert clf.compute == "auto"
    assert clf.preprocessing.num_frames == 4
    # The weights of all linear layers, at least as bytes under auto and as float32 under exact.
    weights = 18 * 192 + 2 * (4 * 18 * 18 + 2 * 18 * 40) + 11 * 18
    exact = qora_vision.load(TINY, compute="exact")
    assert exact.weights_nbytes >= 4 * weights
    assert weights <= clf.weights_nbytes < exact.weights_nbytes


def test_models_that_can_be_loaded() -> None:
    models = qora_vision.list_models()
    names = [model["name"] for model in models]
    assert {"vivit", "videomae", "timesformer"} <= set(names)
    assert len(set(names)) == len(names)
    assert models[0]["hf_model_type"] == "vivit"
    assert "Arnab" in models[0]["title"]


def test_cpu_info() -> None:
    info = qora_vision.cpu_info()
    assert set(info) == {"name", "isas", "isa", "refused", "threads", "openmp"}
    assert info["isa"] in info["isas"] == qora_vision.available_isas()
    assert info["threads"] >= 1


@pytest.mark.parametrize("isa", ["sse9", "", "AVX2"])
def test_an_instruction_set_that_does_not_exist(isa: str) -> None:
    """Where it is asked for, at the first use; the choice is made once per process, so this needs another."""
    code = "import qora_vision as q, sys\ntry: q.load(sys.argv[1])\nexcept q.IsaError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(TINY)],
        env={**os.environ, "QORA_VISION_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    if isa:
        assert f"'{isa}'" in done.stdout
        assert "scalar" in done.stdout  # what there is instead
    else:
        assert not done.stdout  # empty is unset


def test_read_info(clf: VideoClassifier, tmp_path: Path) -> None:
    clf.save(tmp_path / "model.qora-vision")
    info = qora_vision.read_info(tmp_path / "model.qora-vision")
    assert isinstance(info, qora_vision.ModelInfo)
    assert info.quantization == "q4"
    assert info.labels == clf.labels
    assert info.provenance == clf.provenance


def test_every_public_name_is_there_and_documented() -> None:
    choices = {"Compute", "SamplingRule", "ValueRange", "Weights"}  # Literal types cannot have docstrings
    for name in set(qora_vision.__all__) - {"__version__"} - choices:
        assert getattr(qora_vision, name).__doc__, name
    for method in ("classify", "embed", "preprocess", "forward", "save"):
        assert getattr(VideoClassifier, method).__doc__, method

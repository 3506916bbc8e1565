"""Windows that slide over a video: which frames, at which times, in one pass; the segments they make."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from paths import CLIP, DATA

import qora_vision
from qora_vision import VideoError
from qora_vision.tasks.prediction import Classes
from qora_vision.video import Clock, Preprocessing, SlidingWindow, VideoReader, as_frames, iter_windows

# Frames are used as they are, and a byte becomes itself: the clip shows which frames it holds.
PLAIN = Preprocessing(num_frames=4, stride=2, resize=None, crop=None, rescale_factor=1.0, offset=False)


def numbered(count: int) -> np.ndarray:
    """Frames whose every byte is their number."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 2, 2, 3))


def shown(count: int, **options) -> list[list[int]]:
    """Frame numbers of each window over `count` frames."""
    windows = iter_windows(numbered(count), SlidingWindow(PLAIN, **options))
    return [window.clip[:, 0, 0, 0].astype(int).tolist() for window in windows]


def test_windows_take_every_stride_th_frame_and_start_a_hop_apart() -> None:
    assert shown(13, hop=3) == [[0, 2, 4, 6], [3, 5, 7, 9], [6, 8, 10, 12]]
    assert shown(10, stride=1, hop=2) == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]
    assert shown(20, stride=1, hop=7) == [[0, 1, 2, 3], [7, 8, 9, 10], [14, 15, 16, 17], [16, 17, 18, 19]]


def test_neighbours_overlap_by_half_unless_asked_otherwise() -> None:
    assert [window[0] for window in shown(20)] == [0, 3, 6, 9, 12, 13]


def test_a_last_window_ends_at_the_last_frame() -> None:
    assert shown(8, hop=3) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert shown(7, hop=3) == [[0, 2, 4, 6]]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0, 0, 0, 0]), (3, [0, 0, 1, 2]), (4, [0, 1, 2, 3]), (6, [0, 1, 3, 5])]
)
def test_a_video_shorter_than_a_window_is_one_window(count: int, expected: list[int]) -> None:
    """Spread over the existing frames: looping, as dense sampling does, would add a cut."""
    assert shown(count) == [expected]


def test_every_frame_lies_in_a_window_that_is_at_most_as_long_as_the_hop() -> None:
    for count, hop in itertools.product(range(1, 40), range(1, 7)):
        starts = [window[0] for window in shown(count, hop=hop)]
        assert starts[0] == 0
        assert all(later - earlier <= hop for earlier, later in itertools.pairwise(starts))
        assert starts[-1] + 7 >= count


def test_times_of_frames_without_stamps() -> None:
    window = SlidingWindow(PLAIN, stride=1, hop=4)
    times = [(each.start, each.end) for each in iter_windows(numbered(8), window, fps=2.0)]
    assert times == [(0.0, 2.0), (2.0, 4.0)]
    (only,) = iter_windows(numbered(1), SlidingWindow(PLAIN))
    assert (only.start, only.end) == (0.0, 1 / 25)


def test_times_are_those_of_the_container() -> None:
    """A video of variable frame rate: the stamps, not the number of frames, say when a window starts."""
    path = DATA / "var_fps_video.mp4"
    with VideoReader(path) as reader:
        stamps = [seconds for seconds, _ in reader.stream(lambda frame: None)]
    rule = Preprocessing(num_frames=4, resize=8, crop=(8, 8))
    windows = list(iter_windows(path, SlidingWindow(rule, stride=1, hop=10)))
    starts = [stamps[index] - stamps[0] for index in range(0, len(stamps) - 3, 10)]
    assert len(set(np.diff(starts).round(3))) > 1
    assert [window.start for window in windows[: len(starts)]] == pytest.approx(starts)
    assert all(window.end > window.start for window in windows)


def test_times_count_from_the_first_frame() -> None:
    """Parts of a recording keep the stamps of the whole."""
    clock = Clock(0.04)
    assert [clock.tick(stamp) for stamp in (5.0, 5.04, 5.24, None)] == pytest.approx([0.0, 0.04, 0.24, 0.28])


def test_times_count_from_the_start_of_the_container(tmp_path: Path) -> None:
    """As players count: sound may come before the first frame, and a transport stream starts anywhere."""
    import av

    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
        tone.sample_rate, tone.pts = 8000, 0
        container.mux(sound.encode(tone))
        for i in range(8):
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts, frame.time_base = 10 + i, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    rule = Preprocessing(num_frames=2, resize=16, crop=(16, 16))
    windows = list(iter_windows(path, SlidingWindow(rule, stride=1, hop=1)))
    assert windows[0].start == pytest.approx(1.0, abs=0.002)
    assert windows[-1].end == pytest.approx(1.8, abs=0.002)
    assert Clock(0.1, 5.0).tick(6.5) == 1.5 and Clock(0.1, 5.0).tick(4.9) == 0.0


def test_only_frames_between_start_and_end_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Preprocessing(num_frames=2, resize=8, crop=(8, 8))
    with VideoReader(CLIP) as reader:
        frames, fps = list(reader), reader.fps
    assert fps is not None
    every = list(iter_windows(CLIP, SlidingWindow(rule, stride=1, hop=1)))
    prepared = []
    prepare = SlidingWindow.prepare

    def counted(self: SlidingWindow, frame: np.ndarray) -> np.ndarray:
        prepared.append(1)
        return prepare(self, frame)

    monkeypatch.setattr(SlidingWindow, "prepare", counted)
    for source in (CLIP, np.stack(frames), iter(frames)):
        prepared.clear()
        span = (6.5 / fps, 11.2 / fps)
        part = list(iter_windows(source, SlidingWindow(rule, stride=1, hop=1), fps=fps, between=span))
        # Frame 6 is still on the screen, frame 11 comes before the end.
        assert len(prepared) == 6 and len(part) == 5
        for ours, theirs in zip(part, every[6:11], strict=True):
            assert ours.start == pytest.approx(theirs.start, abs=1e-3)
            assert np.array_equal(ours.clip, theirs.clip)
    for source in (CLIP, np.stack(frames), iter(frames)):
        with pytest.raises(VideoError, match="there is no frame from 99 s to the end: the last one"):
            list(iter_windows(source, SlidingWindow(rule), between=(99, None)))


@pytest.mark.parametrize(
    ("between", "message"),
    [
        ((-1, None), "start must be seconds, 0 or more, got -1"),
        (("1", None), "start must be seconds"),
        ((0, float("nan")), "end must be seconds"),
        ((2, 2), "end must be after start, got 2 and 2 seconds"),
    ],
)
def test_wrong_spans_are_refused_at_once(between: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        iter_windows(CLIP, SlidingWindow(PLAIN), between=between)


def test_absurd_time_stamps_still_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    source = as_frames(CLIP)
    stream = source.stream
    odd = itertools.cycle([float("nan"), 3.0, 3.0, -1.0, float("inf")])
    monkeypatch.setattr(
        source, "stream", lambda transform, wanted, since: stream(transform, lambda _: wanted(next(odd)))
    )
    rule = Preprocessing(num_frames=2, resize=8, crop=(8, 8))
    starts = [window.start for window in iter_windows(source, SlidingWindow(rule, stride=1, hop=1))]
    assert starts[0] == 0.0
    assert all(later > earlier for earlier, later in itertools.pairwise(starts))


def test_a_file_a_folder_and_its_frames_give_the_same_clips(tmp_path: Path) -> None:
    rule = Preprocessing(num_frames=4, resize=16, crop=(16, 16))
    with VideoReader(CLIP) as reader:
        frames = list(reader)
    sources = [CLIP, np.stack(frames), iter(frames)]
    clips = [[each.clip for each in iter_windows(source, SlidingWindow(rule, hop=9))] for source in sources]
    assert len(clips[0]) == 6
    for other in clips[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(clips[0], other, strict=True))


def test_an_endless_iterable_is_read_as_far_as_asked() -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield np.zeros((8, 8, 3), np.uint8)

    windows = iter_windows(endless(), SlidingWindow(PLAIN, stride=1, hop=2))
    assert len(list(itertools.islice(windows, 3))) == 3
    assert taken == 8


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (numbered(3), {"stride": 0}, "stride must be a whole number"),
        (numbered(3), {"hop": 1.5}, "hop must be a whole number"),
        (numbered(3), {"fps": 0}, "fps must be a positive number"),
        (numbered(3), {"fps": "3"}, "fps must be a positive number"),
        (numbered(3), {"fps": 10**400}, "fps must be a positive number"),
        (numbered(3), {"fps": 1e-320}, "fps must be a positive number"),
        (b"clip.mp4", {}, "got bytes"),
        (5, {}, "cannot read frames from int"),
        (np.zeros((2, 2, 3), np.uint8), {}, "expected a clip"),
        ("no-such-clip.mp4", {}, "no such video file"),
        (numbered(3), {"top_k": 8}, "top_k must be"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(tiny_model_file, source, options, message: str) -> None:
    model = qora_vision.load(tiny_model_file)
    with pytest.raises((ValueError, OSError), match=message):
        model.classify_windows(source, **options)


@pytest.mark.parametrize(("frames", "message"), [([], "no frames"), ([np.zeros((4, 4))], "frame 0 has")])
def test_wrong_frames_are_refused(tiny_model_file: Path, frames, message: str) -> None:
    with pytest.raises(qora_vision.VideoError, match=message):
        list(qora_vision.load(tiny_model_file).classify_windows(iter(frames)))


def test_classify_windows_says_what_classify_says_of_the_same_frames(tiny_model_file: Path) -> None:
    model = qora_vision.load(tiny_model_file)
    windows = list(model.classify_windows(CLIP, top_k=3, stride=3, hop=10))
    assert len(windows) == 5
    for number, (start, end, prediction) in enumerate(windows):
        first = min(10 * number, 47 - 10)
        expected = model.classify(CLIP, top_k=3, sampling=range(first, first + 10, 3))
        np.testing.assert_array_equal(prediction.logits, expected.logits)
        assert prediction.labels == expected.labels
        assert start == pytest.approx(first / 30, abs=2e-3)  # Matroska stamps whole milliseconds
        assert end == pytest.approx((first + 10) / 30, abs=2e-3)


def windows_of(*labels: str) -> Iterator[qora_vision.Window]:
    """Windows of 2 seconds, one second apart, with these best labels."""
    names = sorted(set(labels))
    for number, label in enumerate(labels):
        logits = np.array([1.0 if name == label else 0.0 for name in names], np.float32)
        prediction = Classes(names).best(logits, np.zeros(1, np.float32), 1, {})
        yield qora_vision.Window(float(number), number + 2.0, prediction)


def test_neighbours_with_one_label_are_one_segment() -> None:
    segments = list(qora_vision.join_windows(windows_of("a", "a", "b", "a", "a", "a")))
    assert [(each.start, each.end, each.label) for each in segments] == [
        (0.0, 2.5, "a"),
        (2.5, 3.5, "b"),
        (3.5, 7.0, "a"),
    ]
    assert [len(each.scores) for each in segments] == [2, 1, 3]
    assert segments[0].to_dict() == {
        "start": 0.0,
        "end": 2.5,
        "label": "a",
        "score": pytest.approx(np.e / (np.e + 1)),
        "windows": 2,
    }
    assert list(qora_vision.join_windows([])) == []


def test_a_segment_comes_as_soon_as_it_has_ended() -> None:
    windows = windows_of("a", "b", "b")
    assert next(qora_vision.join_windows(windows)).label == "a"
    assert len(list(windows)) == 1

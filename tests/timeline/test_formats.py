"""Files of segments, read back by the libraries that others read them with."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from qora_vision import Segment, format_tracks
from qora_vision.timeline.formats import FORMATS
from qora_vision.timeline.track import Track

SEGMENTS = (
    Segment(0.0, 1.5, "dog & <cat>", (0.5, 1.0)),
    Segment(1.5, 61.0405, 'Hund, "läuft"\n走る', (0.25,)),
    Segment(3600.0, 3725.5, "dog & <cat>", (1.0,)),
)
TRACK = Track("films/a b.mp4", SEGMENTS, fps=25.0, duration=4000.0)
OTHER = Track("https://host/films/b.mp4", SEGMENTS[:1], fps=30000 / 1001)
NAMES = ["dog & <cat>", 'Hund, "läuft" 走る', "dog & <cat>"]


def written(name: str, *tracks: Track) -> str:
    return FORMATS[name].write(tracks)


def test_csv_is_read_back() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", TRACK, OTHER))))
    assert [row["source"] for row in rows] == ["films/a b.mp4"] * 3 + ["https://host/films/b.mp4"]
    assert rows[1] == {
        "source": "films/a b.mp4",
        "start": "1.500",
        "end": "61.041",
        "label": 'Hund, "läuft"\n走る',
        "score": "0.2500",
        "windows": "1",
    }


def test_srt() -> None:
    assert written("srt", TRACK).splitlines() == [
        "1",
        "00:00:00,000 --> 00:00:01,500",
        "dog & <cat> (75 %)",
        "",
        "2",
        "00:00:01,500 --> 00:01:01,040",
        'Hund, "läuft" 走る (25 %)',
        "",
        "3",
        "01:00:00,000 --> 01:02:05,500",
        "dog & <cat> (100 %)",
    ]
    pysrt = pytest.importorskip("pysrt", reason="pysrt is not installed")
    items = pysrt.from_string(written("srt", TRACK))
    assert [(item.start.ordinal, item.end.ordinal) for item in items][2] == (3_600_000, 3_725_500)
    assert [item.text.rsplit(" (", 1)[0] for item in items] == NAMES


def test_vtt() -> None:
    text = written("vtt", TRACK)
    assert text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\ndog &amp; &lt;cat&gt; (75 %)\n\n")
    webvtt = pytest.importorskip("webvtt", reason="webvtt-py is not installed")
    cues = webvtt.from_string(text)
    assert [cue.start_in_seconds for cue in cues] == [0, 1, 3600] and len(cues) == 3


def test_subtitles_of_no_length_show_for_a_moment() -> None:
    track = Track("a.mp4", [Segment(2.0, 2.0, "x", (1.0,))])
    assert "00:00:02,000 --> 00:00:02,001" in written("srt", track)


def test_edl() -> None:
    text = written("edl", TRACK)
    assert text.splitlines()[:6] == [
        "TITLE: a b.mp4",
        "FCM: NON-DROP FRAME",
        "",
        "001  AX       V     C        00:00:00:00 00:00:01:13 00:00:00:00 00:00:01:13",
        "* FROM CLIP NAME: a b.mp4",
        "* COMMENT: dog & <cat> 75 %",
    ]
    # Records follow each other without gaps.
    assert "003  AX       V     C        01:00:00:00 01:02:05:13 00:01:01:01 00:03:06:14" in text
    # 29.97 frames a second count as 30.
    assert "00:00:00:00 00:00:01:15" in written("edl", OTHER)
    otio = pytest.importorskip("opentimelineio", reason="OpenTimelineIO is not installed")
    if "cmx_3600" not in otio.adapters.available_adapter_names():
        pytest.skip("the adapter for CMX 3600 is not installed")
    timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=25)
    clips = list(timeline.find_clips())
    assert [clip.source_range.start_time.value for clip in clips] == [0, 38, 90000]
    assert [clip.name for clip in clips] == ["a b.mp4"] * 3


def test_otio() -> None:
    otio = pytest.importorskip("opentimelineio", reason="OpenTimelineIO is not installed")
    timeline = otio.adapters.read_from_string(written("otio", TRACK), "otio_json")
    clips = list(timeline.find_clips())
    assert [clip.name for clip in clips] == [segment.label for segment in SEGMENTS]
    first, _, last = (clip.source_range for clip in clips)
    assert (first.start_time.value, first.duration.value, first.start_time.rate) == (0, 38, 25)
    assert last.start_time.to_seconds() == 3600 and last.duration.to_seconds() == 125.52
    assert clips[0].media_reference.target_url == (Path.cwd() / "films/a b.mp4").as_uri()
    assert clips[0].metadata["qora_vision"]["score"] == 0.75
    assert not timeline.tracks[0].find_children(descended_from_type=otio.schema.Gap)
    several = otio.adapters.read_from_string(written("otio", TRACK, OTHER), "otio_json")
    assert [each.name for each in several] == ["a b.mp4", "b.mp4"]
    assert next(iter(several[1].find_clips())).media_reference.target_url == OTHER.source


def test_boris() -> None:
    """A project as BORIS 8 reads it: its states start and stop in pairs."""
    project = json.loads(written("boris", TRACK, OTHER, TRACK))
    assert [item["code"] for item in project["behaviors_conf"].values()] == NAMES[:2]
    assert {item["type"] for item in project["behaviors_conf"].values()} == {"State event"}
    assert list(project["observations"]) == ["a b.mp4", "b.mp4", "a b.mp4 (2)"]
    observation = project["observations"]["a b.mp4"]
    times = [(time, code) for time, _, code, *_ in observation["events"]]
    assert times == [
        (0.0, NAMES[0]),
        (1.5, NAMES[0]),
        (1.5, NAMES[1]),
        (61.041, NAMES[1]),
        (3600.0, NAMES[0]),
        (3725.5, NAMES[0]),
    ]
    (path,) = observation["file"]["1"]
    assert Path(path).is_absolute() and observation["media_info"]["length"] == {path: 4000.0}
    assert project["observations"]["b.mp4"]["file"]["1"] == [OTHER.source]


def test_a_state_ends_before_the_same_state_starts_again() -> None:
    track = Track("a.mp4", [Segment(0.0, 1.0, "x", (1.0,)), Segment(1.0, 2.0, "x", (1.0,))])
    events = json.loads(written("boris", track))["observations"]["a.mp4"]["events"]
    assert [(event[0], bool(event[4])) for event in events] == [
        (0.0, True),
        (1.0, False),
        (1.0, True),
        (2.0, False),
    ]


def test_eaf(tmp_path: Path) -> None:
    text = written("eaf", TRACK)
    root = ElementTree.fromstring(text)
    times = [int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")]
    assert times == [0, 1500, 61040, 3_600_000, 3_725_500]
    assert [tier.get("TIER_ID") for tier in root.iter("TIER")] == NAMES[:2]
    pympi = pytest.importorskip("pympi", reason="pympi is not installed")
    path = tmp_path / "a.eaf"
    path.write_text(text, encoding="utf-8")
    read = pympi.Elan.Eaf(str(path))
    assert read.get_annotation_data_for_tier(NAMES[0]) == [
        (0, 1500, "0.7500"),
        (3_600_000, 3_725_500, "1.0000"),
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_no_segments_and_strange_labels(name: str) -> None:
    assert isinstance(written(name, Track("empty.mp4", [])), str)
    strange = Track("a\nb.mp4", [Segment(0.0, 1.0, "\x00\x1b[31m\u2028--> x", (1.0,))])
    text = written(name, strange)
    assert "\x00" not in text
    if name in ("srt", "vtt", "edl", "eaf"):
        assert "\x1b" not in text and "\u2028" not in text
    if name == "eaf":
        ElementTree.fromstring(text)


@pytest.mark.parametrize("name", ["boris", "eaf"])
def test_labels_that_look_the_same_stay_apart(name: str) -> None:
    labels = ["a\nb", "a b", "", "\x00", "a b (2)", "\u0645\u06cc\u200c\u062e"]
    track = Track("x.mp4", [Segment(float(i), i + 1.0, label, (1.0,)) for i, label in enumerate(labels)])
    text = written(name, track)
    if name == "eaf":
        names = [tier.get("TIER_ID") for tier in ElementTree.fromstring(text).iter("TIER")]
    else:
        project = json.loads(text)
        names = [item["code"] for item in project["behaviors_conf"].values()]
        events = project["observations"]["x.mp4"]["events"]
        assert [event[2] for event in events if event[4]] == names
    expected = ["a b", "a b (2)", "(no name)", "(no name) (2)", "a b (2) (2)", labels[-1]]
    assert names == expected


@pytest.mark.parametrize("name", FORMATS)
def test_many_segments_labels_and_videos_take_no_long_time(name: str) -> None:
    segments = [Segment(float(i), i + 1.0, f"label {i}", (1.0,)) for i in range(2000)]
    written(name, Track("a.mp4", segments))
    if FORMATS[name].several:
        written(name, *[Track("a.mp4", segments[:1])] * 2000)


@pytest.mark.parametrize(
    "segment",
    [
        Segment(math.nan, 1.0, "x", (1.0,)),
        Segment(0.0, math.inf, "x", (1.0,)),
        Segment(-1.0, 1.0, "x", (1.0,)),
        Segment(2.0, 1.0, "x", (1.0,)),
        Segment(0.0, 1.0, "x", ()),
        Segment(0.0, 1.0, "x", (math.nan,)),
        Segment(0.0, 1.0, 3, (1.0,)),
        Segment(0, 10**400, "x", (1.0,)),
        5,
    ],
)
def test_what_no_file_can_hold_is_refused(segment: Segment) -> None:
    with pytest.raises(ValueError, match="cannot write the segment"):
        Track("a.mp4", [segment])


def test_rates_that_are_none_are_refused_and_numbers_of_numpy_taken() -> None:
    for fps in (0, -25.0, math.nan, math.inf, "25"):
        with pytest.raises(ValueError, match="fps must be a positive number or None"):
            Track("a.mp4", [], fps=fps)  # type: ignore[arg-type]
    segment = Segment(np.float32(0), np.float64(1), "x", (np.float32(0.5),))
    for name in FORMATS:
        assert written(name, Track("a.mp4", [segment], fps=np.float32(25))) == written(
            name, Track("a.mp4", [Segment(0.0, 1.0, "x", (0.5,))], fps=25.0)
        )


def test_tracks_are_a_list_of_tracks() -> None:
    for wrong in (TRACK, "film.mp4", SEGMENTS):
        with pytest.raises(ValueError, match="tracks must be a list"):
            format_tracks(wrong, "csv")  # type: ignore[arg-type]


def test_overlapping_segments_are_in_the_order_of_their_starts() -> None:
    track = Track("a.mp4", [Segment(1.0, 2.0, "in", (1.0,)), Segment(0.0, 3.0, "out", (1.0,))])
    lines = written("vtt", track).splitlines()
    assert [line for line in lines if "-->" in line] == [
        "00:00:00.000 --> 00:00:03.000",
        "00:00:01.000 --> 00:00:02.000",
    ]
